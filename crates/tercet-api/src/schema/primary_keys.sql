-- Primary keys of all tables, including those outside the exposed schemas, for the views over them.
select k.conrelid,
       array_to_json(k.conkey),
       (
         select json_agg(a.attname order by key.position)
         from unnest(k.conkey) with ordinality as key(attnum, position)
         join pg_attribute a on a.attrelid = k.conrelid and a.attnum = key.attnum
       )
from pg_constraint k
where k.contype = 'p'
  and k.connamespace <> all(array['pg_catalog'::regnamespace, 'information_schema'::regnamespace])
