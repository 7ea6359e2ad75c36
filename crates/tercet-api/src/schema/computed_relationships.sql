-- Computed relationships: functions from a row of one relation to rows of another. A function that returns no set, or
-- is declared with ROWS 1, is to-one.
select n.nspname,
       p.proname,
       source_schema.nspname,
       source.relname,
       target_schema.nspname,
       target.relname,
       not p.proretset or p.prorows = 1
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
join pg_class source on source.reltype = p.proargtypes[0] and source.relkind in ('r', 'p', 'f', 'v', 'm')
join pg_namespace source_schema on source_schema.oid = source.relnamespace
join pg_class target on target.reltype = p.prorettype and target.relkind in ('r', 'p', 'f', 'v', 'm')
join pg_namespace target_schema on target_schema.oid = target.relnamespace
where p.pronargs = 1
  and p.prokind = 'f'
  and source_schema.nspname = any($1::text[])
  and target_schema.nspname = any($1::text[])
order by n.nspname, p.proname
