create table item (
    id int primary key,
    category_id int not null,
    name text not null,
    price numeric(8, 2) not null,
    in_stock boolean not null
);
create table customer (id int primary key, name text not null);
create table purchase (
    id int primary key,
    customer_id int not null references customer,
    placed_at timestamptz not null
);
create table line (
    id int primary key,
    purchase_id int not null references purchase,
    item_id int not null references item,
    amount int not null
);
create table visit (
    id bigint generated always as identity primary key,
    item_id int not null references item,
    note text not null
);

insert into item
select id, 1 + id % 50, 'item ' || id, (id * 7919 % 100000) / 100.0, id % 3 > 0 from generate_series(1, 10000) id;
insert into customer select id, 'customer ' || id from generate_series(1, 2000) id;
insert into purchase
select id, 1 + id % 2000, timestamptz '2026-01-01' + id * interval '1 minute' from generate_series(1, 10000) id;
insert into line select id, 1 + id % 10000, 1 + id * 31 % 10000, 1 + id % 5 from generate_series(1, 30000) id;

create index on item (category_id, price);
create index on purchase (customer_id);
create index on line (purchase_id);

grant select on item, customer, purchase, line to anon, authenticated;
grant insert on visit to anon, authenticated;
