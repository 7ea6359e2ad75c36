select json_build_object(
  'identifier', (select system_identifier::text from pg_control_system()),
  'checksums', current_setting('data_checksums') = 'on',
  'roles', (
    select coalesce(json_object_agg(r.rolname, json_build_object(
      'login', r.rolcanlogin,
      'inherit', r.rolinherit,
      'bootstrap', r.oid = 10,
      'powers', array_remove(array[
        case when r.rolsuper then 'superuser' end, case when r.rolcreatedb then 'createdb' end,
        case when r.rolcreaterole then 'createrole' end, case when r.rolreplication then 'replication' end,
        case when r.rolbypassrls then 'bypassrls' end], null),
      'member_of', (
        select coalesce(json_agg(g.rolname order by g.rolname), '[]')
        from pg_auth_members m join pg_roles g on g.oid = m.roleid where m.member = r.oid),
      'verifier', r.rolpassword,
      'settings', (
        select coalesce(json_object_agg(split_part(s, '=', 1), substr(s, strpos(s, '=') + 1)), '{}')
        from pg_db_role_setting d, unnest(d.setconfig) s where d.setrole = r.oid and d.setdatabase = 0)
    )), '{}') from pg_authid r where r.rolname !~ '^pg_'),
  'databases', (
    select coalesce(json_object_agg(d.datname, json_build_object(
      'owner', pg_get_userbyid(d.datdba),
      'connect', (
        select coalesce(json_agg(distinct coalesce(g.rolname, 'public')), '[]')
        from aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a left join pg_roles g on g.oid = a.grantee
        where a.privilege_type = 'CONNECT' and a.grantee <> d.datdba)
    )), '{}') from pg_database d where not d.datistemplate));
