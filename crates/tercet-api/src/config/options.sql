with role_setting as (
  select setdatabase as database, unnest(setconfig) as setting
  from pg_catalog.pg_db_role_setting
  where setrole = (select oid from pg_catalog.pg_roles where rolname = current_user)
    and setdatabase in (0, (select oid from pg_catalog.pg_database where datname = current_catalog))
), setting (database, name, value) as (
  select database, split_part(setting, '=', 1), substr(setting, strpos(setting, '=') + 1)
  from role_setting
  /* pre-config */
)
select distinct on (name) substr(name, length('pgrst.') + 1), value
from setting
where name = any($1::text[]) and value is not null
order by name, database desc nulls last
