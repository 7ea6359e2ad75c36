-- Relations of the exposed schemas: tables, views, materialised views, foreign tables and
-- partitioned tables (a partition is reached through its parent).
-- pg_relation_is_updatable answers with a bit per command: 4 update, 8 insert, 16 delete.
select c.oid,
       n.nspname,
       c.relname,
       c.relkind,
       obj_description(c.oid, 'pg_class'),
       case when c.relkind in ('r', 'p') then 28
            when c.relkind in ('v', 'f') then pg_relation_is_updatable(c.oid, true)
            else 0
       end
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = any($1::text[])
  and c.relkind in ('r', 'p', 'f', 'v', 'm')
  and not c.relispartition
order by n.nspname, c.relname
