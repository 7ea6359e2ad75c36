-- The stored definitions of all views, from which column origins are read.
select c.oid, r.ev_action
from pg_class c
join pg_rewrite r on r.ev_class = c.oid and r.rulename = '_RETURN'
where c.relkind in ('v', 'm')
  and c.relnamespace <> all(array['pg_catalog'::regnamespace, 'information_schema'::regnamespace])
