-- The first migration. Each file of this folder runs once, in the order of its number and in a transaction of its
-- own, as the owner of the database. A file that has run is never changed: write the next one.

create function person() returns text
language sql stable
return nullif(current_setting('request.jwt.claims', true), '')::json ->> 'sub';
comment on function person is 'Who asks: the "sub" of the token, null without one.';

create table todo (
    id bigint generated always as identity primary key,
    task text not null check (task <> ''),
    done boolean not null default false,
    owner text default person(),
    created_at timestamptz not null default now()
);
comment on table todo is 'What is to be done: GET, POST, PATCH and DELETE /todo.';

-- Who may do what: nobody anything, until it is granted. A request without a token runs as anon; one with a token
-- as the role its "role" claim names.
grant select on todo to anon;
grant select, insert, update, delete on todo to authenticated;
grant execute on function person to authenticated;

-- And to which rows: everyone reads, who is signed in writes what is theirs. Without row-level security a grant is
-- for all rows.
alter table todo enable row level security;
create policy "everyone reads" on todo for select using (true);
create policy "the owner writes" on todo to authenticated
    using (owner = person()) with check (owner = person());

insert into todo (task) values ('read the first migration'), ('change it into your own');
