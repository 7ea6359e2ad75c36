-- Functions that requests can call: all input parameters are named, or there is a single unnamed one of a type that
-- takes a whole body.
with recursive base(oid, ancestor, next) as (
  select oid, oid, typbasetype from pg_type where typtype = 'd'
  union all
  select base.oid, t.oid, t.typbasetype
  from base
  join pg_type t on t.oid = base.next
)
select n.nspname,
       p.proname,
       obj_description(p.oid, 'pg_proc'),
       coalesce(arguments.list, '[]'),
       result_schema.nspname,
       coalesce(composite.relname, result.typname),
       p.proretset,
       result.typtype = 'c' or coalesce(p.proargmodes::text[] && '{t,b,o}', false),
       result.oid <> p.prorettype,
       p.provolatile,
       p.provariadic <> 0,
       coalesce(settings.list, '[]'),
       p.oid::bigint
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
left join base on base.oid = p.prorettype and base.next = 0
join pg_type result on result.oid = coalesce(base.ancestor, p.prorettype)
join pg_namespace result_schema on result_schema.oid = result.typnamespace
left join pg_class composite on composite.oid = result.typrelid
left join lateral (
  select json_agg(
           json_build_array(
             coalesce(argument.name, ''),
             format_type(argument.type, null),
             -- a plain `bit` or `character` would truncate the value to length 1; the parameter has no length
             case argument.type
               when 'bit'::regtype then 'bit varying'
               when 'bit[]'::regtype then 'bit varying[]'
               when 'character'::regtype then 'character varying'
               when 'character[]'::regtype then 'character varying[]'
               else format_type(argument.type, null)
             end,
             argument.number <= p.pronargs - p.pronargdefaults,
             coalesce(argument.mode = 'v', false)
           )
           order by argument.number
         ) as list,
         count(*) filter (where coalesce(argument.name, '') = '') as unnamed,
         count(*) as total,
         min(argument.type::bigint)::oid as first_type
  from (
    select name, type, mode, row_number() over (order by position) as number
    from unnest(p.proargnames, coalesce(p.proallargtypes, p.proargtypes::oid[]), p.proargmodes)
         with ordinality as every(name, type, mode, position)
    where mode is null or mode in ('i', 'b', 'v')
  ) argument
) arguments on true
left join lateral (
  select json_agg(
           json_build_array(
             substr(setting, 1, strpos(setting, '=') - 1),
             substr(setting, strpos(setting, '=') + 1)
           )
         ) as list
  from unnest(p.proconfig) setting
) settings on true
where n.nspname = any($1::text[])
  and p.prokind = 'f'
  and result.oid <> all(array['trigger'::regtype, 'event_trigger'::regtype])
  and (
    coalesce(arguments.unnamed, 0) = 0
    or arguments.unnamed = 1
       and arguments.total = 1
       and arguments.first_type = any(
         array['bytea'::regtype, 'json'::regtype, 'jsonb'::regtype, 'text'::regtype, 'xml'::regtype]
       )
  )
order by n.nspname, p.proname, p.pronargs, p.oid
