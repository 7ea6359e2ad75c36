with role_setting as (
  select role.rolname, unnest(role.rolconfig) as setting
  from pg_catalog.pg_auth_members as membership
  join pg_catalog.pg_roles as role on role.oid = membership.roleid
  where membership.member = (select oid from pg_catalog.pg_roles where rolname = current_user)
), setting as (
  select rolname, split_part(setting, '=', 1) as name, substr(setting, strpos(setting, '=') + 1) as value
  from role_setting
)
select setting.rolname, setting.name, setting.value
from setting
left join pg_catalog.pg_settings as known on known.name = setting.name
where known.context = 'user' /* privilege */
  -- one that nothing has defined: anybody may set it
  or known.name is null and setting.name like '%.%'
order by 1, 2
