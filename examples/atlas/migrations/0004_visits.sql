-- What people add to the atlas: each signed-in person keeps a list of visits, and sees and changes only their own.

create function person() returns text
language sql stable
return nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub';
comment on function person is 'Who asks: the "sub" of the token.';

create table visit (
    id bigint generated always as identity primary key,
    person text not null default person(),
    country text not null references country,
    visited_on date,
    note text check (length(note) <= 1000),
    unique (person, country, visited_on)
);
comment on table visit is 'Where people have been. Each person sees their own.';
create index on visit (country);

grant select, insert, update, delete on visit to authenticated;
revoke execute on function person from public;
grant execute on function person to authenticated;

-- Whatever a request asks for, these rows are all it can touch.
alter table visit enable row level security;
create policy "each person their own" on visit to authenticated
    using (person = person())
    with check (person = person());

create view progress with (security_invoker = true) as
select
    country.region,
    count(distinct visit.country) as visited,
    count(distinct country.code) as countries
from country
left join visit on visit.country = country.code
where country.independent
group by country.region;
comment on view progress is 'How much of each region the asking person has seen.';
grant select on progress to authenticated;
