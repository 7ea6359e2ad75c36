-- Differs whenever an object of another name, form or kind is there: what is new has a later xmin, what is gone is not
-- counted. Temporary objects come and go with their sessions and are nobody else's.
with temporary as (
  select oid from pg_namespace where nspname ~ '^pg_(toast_)?temp_'
),
object as (
  select xmin from pg_class where relnamespace not in (select oid from temporary)
  union all
  select xmin from pg_type where typnamespace not in (select oid from temporary)
  union all
  select a.xmin from pg_attribute a join pg_class c on c.oid = a.attrelid
  where c.relnamespace not in (select oid from temporary)
  union all
  select xmin from pg_proc
  union all
  select xmin from pg_constraint
  union all
  select xmin from pg_namespace where oid not in (select oid from temporary)
)
select count(*), sum(xmin::text::bigint) from object
