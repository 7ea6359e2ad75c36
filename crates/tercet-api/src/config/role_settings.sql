-- What the roles that a request may run as have set for themselves. The login role may be one of them
-- (db-anon-role); its connections are older than what it has set since.
with role as (
  select role.oid, role.rolname
  from pg_catalog.pg_auth_members as membership
  join pg_catalog.pg_roles as role on role.oid = membership.roleid
  where membership.member = (select oid from pg_catalog.pg_roles where rolname = current_user)
  union
  select oid, rolname from pg_catalog.pg_roles where rolname = current_user
), role_setting as (
  select role.rolname, unnest(pg_roles.rolconfig) as setting
  from role
  join pg_catalog.pg_roles on pg_roles.oid = role.oid
), setting as (
  select rolname, split_part(setting, '=', 1) as name, substr(setting, strpos(setting, '=') + 1) as value
  from role_setting
)
select setting.rolname, setting.name, setting.value
from setting
left join pg_catalog.pg_settings as known on known.name = setting.name
where (
    known.context = 'user' /* privilege */
    -- one that nothing has defined: anybody may set it
    or known.name is null and setting.name like '%.%'
  )
  -- of the login role's own those are left out that every request sets anew, and the options of the API
  and not (setting.rolname = current_user and (setting.name = 'search_path' or setting.name like 'pgrst.%'))
order by 1, 2
