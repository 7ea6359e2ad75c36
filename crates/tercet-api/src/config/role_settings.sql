-- What the roles that a request may run as have set for themselves, in this database or in all. The login role may be
-- one of them (db-anon-role); its connections are older than what it has set since.
with role_setting as (
  select role.rolname, stored.setdatabase, unnest(stored.setconfig) as setting
  from pg_catalog.pg_roles as role
  join pg_catalog.pg_db_role_setting as stored on stored.setrole = role.oid
  where pg_catalog.pg_has_role(role.oid, 'member')
    and stored.setdatabase in (0, (select oid from pg_catalog.pg_database where datname = current_catalog))
), setting as (
  select rolname, setdatabase, split_part(setting, '=', 1) as name, substr(setting, strpos(setting, '=') + 1) as value
  from role_setting
)
select distinct on (setting.rolname, setting.name) setting.rolname, setting.name, setting.value
from setting
left join pg_catalog.pg_settings as known on known.name = setting.name
where (
    known.context = 'user' /* privilege */
    -- one that nothing has defined: anybody may set it
    or known.name is null and setting.name like '%.%'
  )
  -- of the login role's own those are left out that every request sets anew, and the options of the API
  and not (setting.rolname = current_user and (setting.name = 'search_path' or setting.name like 'pgrst.%'))
order by setting.rolname, setting.name, setting.setdatabase desc
