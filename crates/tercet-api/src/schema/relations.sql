-- Relations of the exposed schemas: tables, views, materialised views, foreign tables and partitioned tables, without
-- partitions. pg_relation_is_updatable returns a bit per command: 4 update, 8 insert, 16 delete; it fails for a
-- foreign table whose wrapper has no handler.
select c.oid,
       n.nspname,
       c.relname,
       c.relkind,
       obj_description(c.oid, 'pg_class'),
       case when c.relkind in ('r', 'p') then 28
            when c.relkind = 'v' or wrapper.fdwhandler <> 0 then pg_relation_is_updatable(c.oid, true)
            else 0
       end
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
left join pg_foreign_table foreign_table on foreign_table.ftrelid = c.oid
left join pg_foreign_server server on server.oid = foreign_table.ftserver
left join pg_foreign_data_wrapper wrapper on wrapper.oid = server.srvfdw
where n.nspname = any($1::text[])
  and c.relkind in ('r', 'p', 'f', 'v', 'm')
  and not c.relispartition
order by n.nspname, c.relname
