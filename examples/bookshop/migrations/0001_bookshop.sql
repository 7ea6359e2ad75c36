create table book (
    id int generated always as identity primary key,
    title text not null,
    author text not null,
    cents int not null check (cents > 0)
);

-- The data API serves the schema public: nothing in this one is a resource.
create schema orders;

create table orders.stock (
    book int primary key references book,
    copies int not null check (copies >= 0)
);

create table orders.placed (
    id bigint generated always as identity primary key,
    book int not null references book,
    copies int not null check (copies > 0),
    placed_at timestamptz not null default now()
);

create view shelf as
select book.id, title, author, cents, copies from book join orders.stock on stock.book = book.id;
comment on view shelf is 'The books and how many copies there are.';

-- What everyone may see by the data API.
grant select on shelf to anon;

-- What the program may do: its sessions begin as this role, and so do requests to the data API with a token.
grant usage on schema orders to authenticated;
grant select, update on orders.stock to authenticated;
grant select, insert on orders.placed to authenticated;

insert into book (title, author, cents) values
    ('The Left Hand of Darkness', 'Ursula K. Le Guin', 1090),
    ('Solaris', 'Stanisław Lem', 950),
    ('Kindred', 'Octavia E. Butler', 1200);
insert into orders.stock select id, 3 from book;
