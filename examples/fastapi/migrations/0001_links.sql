create table link (
    code text primary key check (code ~ '^[a-z0-9]{1,32}$'),
    url text not null check (length(url) <= 2000),
    created_at timestamptz not null default now()
);
comment on table link is 'A short code and where it leads.';

create table visit (
    id bigint generated always as identity primary key,
    code text not null references link on delete cascade,
    request_id text,
    visited_at timestamptz not null default now()
);
comment on table visit is 'Each time a code was followed.';
create index on visit (code);

-- What the program may do: DATABASE_URL signs it in as this role.
grant select, insert, delete on link to authenticated;
grant select, insert on visit to authenticated;
