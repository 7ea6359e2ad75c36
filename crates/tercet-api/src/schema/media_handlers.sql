-- Custom media type handlers: a domain named like a media type, returned by an aggregate over a relation (or over any
-- element) or by a function.
with recursive base(oid, ancestor) as (
  select oid, typbasetype from pg_type where typtype = 'd'
  union all
  select base.oid, t.typbasetype
  from base
  join pg_type t on t.oid = base.ancestor and t.typtype = 'd'
),
media_types as (
  select oid,
         lower(typname) as name,
         typname as type_name,
         typnamespace,
         case typname when '*/*' then 'application/octet-stream' else lower(typname) end as answered,
         exists (
           select from base where base.oid = pg_type.oid and base.ancestor = 'bytea'::regtype
         ) as is_binary
  from pg_type
  where typtype = 'd'
    and (typname ~* '^[a-z0-9.-]+/[a-z0-9.+-]+$' or typname = '*/*')
)
select handler_schema.nspname,
       handler.proname,
       target_schema.nspname,
       target.typname,
       m.name,
       m.answered,
       m.is_binary
from media_types m
join pg_proc handler on handler.prorettype = m.oid and handler.prokind = 'a' and handler.pronargs = 1
join pg_namespace handler_schema on handler_schema.oid = handler.pronamespace
join pg_type target on target.oid = handler.proargtypes[0]
join pg_namespace target_schema on target_schema.oid = target.typnamespace
left join pg_class relation on relation.oid = target.typrelid
where handler_schema.nspname = any($1::text[])
  and (target.oid = 'anyelement'::regtype or relation.relkind in ('r', 'p', 'f', 'v', 'm'))
union all
select type_schema.nspname,
       m.type_name,
       routine_schema.nspname,
       routine.proname,
       m.name,
       m.answered,
       m.is_binary
from media_types m
join pg_namespace type_schema on type_schema.oid = m.typnamespace
join pg_proc routine on routine.prorettype = m.oid and routine.prokind = 'f' and not routine.proretset
join pg_namespace routine_schema on routine_schema.oid = routine.pronamespace
where routine_schema.nspname = any($1::text[])
