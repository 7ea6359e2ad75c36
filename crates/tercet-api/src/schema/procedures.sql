-- Procedures of the exposed schemas: requests cannot call them, but errors mention them.
select distinct n.nspname, p.proname
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
where n.nspname = any($1::text[]) and p.prokind = 'p'
