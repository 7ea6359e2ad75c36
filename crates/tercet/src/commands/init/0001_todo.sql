-- The first migration. Each file of this folder runs once, in the order of its number and in a transaction of its
-- own, as the owner of the database. A file that has run is never changed: write the next one.

create function person() returns text
language sql stable
return nullif(current_setting('request.jwt.claims', true), '')::json ->> 'sub';
comment on function person is 'The user of the request: the "sub" of the token, null without a token.';

create table todo (
    id bigint generated always as identity primary key,
    task text not null check (task <> ''),
    done boolean not null default false,
    owner text default person(),
    created_at timestamptz not null default now()
);
comment on table todo is 'Tasks: GET, POST, PATCH and DELETE /todo.';

-- Privileges: no role has any until it is granted. A request without a token runs as anon; one with a token as the
-- role in its "role" claim.
grant select on todo to anon;
grant select, insert, update, delete on todo to authenticated;
grant execute on function person to authenticated;

-- Row-level security: every request can read all rows; users can change their own. Without it, a grant is for all rows.
alter table todo enable row level security;
create policy "everyone reads" on todo for select using (true);
create policy "the owner writes" on todo to authenticated
    using (owner = person()) with check (owner = person());

insert into todo (task) values ('read the first migration'), ('change it into your own');
