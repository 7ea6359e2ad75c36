-- Views and functions are resources too: /region_summary, /rpc/search?query=…

create view region_summary with (security_invoker = true) as
select
    country.region,
    count(*) as countries,
    count(*) filter (where country.independent) as independent,
    count(*) filter (where country.landlocked) as landlocked,
    sum(country.area_km2) as area_km2
from country
group by country.region;
comment on view region_summary is 'The regions in numbers.';

create view language_reach with (security_invoker = true) as
select
    language.code,
    language.name,
    count(*) as countries,
    array_agg(country_language.country order by country_language.country) as country_codes
from language
join country_language on country_language.language = language.code
group by language.code;
comment on view language_reach is 'In how many countries a language is official.';

grant select on region_summary, language_reach to anon, authenticated;

-- Taking a country, it is also a column of /country: /country?select=name,neighbours(name)
create function neighbours(country) returns setof country rows 5
language sql stable
begin atomic
    select other.* from border join country as other on other.code = border.neighbour where border.country = $1.code;
end;
comment on function neighbours is 'The countries across a land border.';

create function search(query text) returns setof country rows 10
language sql stable
begin atomic
    select country.*
    from country
    where
        country.code = upper(query)
        or country.alpha3 = upper(query)
        or starts_with(lower(country.name), lower(query))
        or exists (
            select from translation
            where translation.country = country.code and starts_with(lower(translation.name), lower(query))
        )
        or exists (
            select from country_language
            where
                country_language.country = country.code
                and starts_with(lower(country_language.native_name), lower(query))
        )
    order by country.name;
end;
comment on function search is 'Countries by the start of their name in any language, or by code: /rpc/search?query=Allem';

create function route(origin text, destination text) returns table (step integer, code text, name text)
language plpgsql stable
as $$
declare
    -- The countries found so far, each with the one it was found from: a breadth-first search.
    previous jsonb := jsonb_build_object(origin, null);
    frontier text[] := array[origin];
    found_next jsonb;
    path text[];
begin
    while not previous ? destination and cardinality(frontier) > 0 loop
        select coalesce(jsonb_object_agg(reached.neighbour, reached.country), '{}')
        into found_next
        from (
            select distinct on (border.neighbour) border.neighbour, border.country
            from border
            where border.country = any (frontier) and not previous ? border.neighbour
            order by border.neighbour, border.country
        ) as reached;
        previous := previous || found_next;
        frontier := array(select jsonb_object_keys(found_next));
    end loop;
    while previous ? destination and destination is not null loop
        path := destination || path;
        destination := previous ->> destination;
    end loop;
    return query
        select (visited.place - 1)::integer, country.code, country.name
        from unnest(path) with ordinality as visited (code, place)
        join country on country.code = visited.code
        order by visited.place;
end;
$$;
comment on function route is
    'A way over land with the fewest borders, empty if there is none: /rpc/route?origin=PT&destination=MY';

revoke execute on function neighbours, search, route from public;
grant execute on function neighbours, search, route to anon, authenticated;
