-- Functions of a schema that the current role may execute, with their parameter types.
select p.oid::bigint,
       coalesce(
         (
           select json_agg(format_type(type, null) order by position)
           from unnest(coalesce(p.proallargtypes, p.proargtypes::oid[]), p.proargmodes)
                with ordinality as every(type, mode, position)
           where mode is null or mode in ('i', 'b', 'v')
         ),
         '[]'
       )
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
where n.nspname = $1
  and p.prokind = 'f'
  and has_function_privilege(p.oid, 'EXECUTE')
