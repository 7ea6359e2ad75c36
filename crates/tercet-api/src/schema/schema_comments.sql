-- Comments of the exposed schemas.
select nspname, obj_description(oid, 'pg_namespace')
from pg_namespace
where nspname = any($1::text[])
  and obj_description(oid, 'pg_namespace') is not null
