-- A fingerprint that differs whenever objects, their names or definitions differ: new rows have a later xmin, dropped
-- ones are not counted. Temporary objects are omitted, since they are visible to their session only.
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
