-- Columns of the relations of the exposed schemas, in order.
-- For a domain, the column's type is the base type and the nominal type the domain itself.
with recursive domain(oid, base, not_null) as (
  select oid, typbasetype, typnotnull from pg_type where typtype = 'd'
  union all
  select domain.oid, t.typbasetype, domain.not_null or t.typnotnull
  from domain
  join pg_type t on t.oid = domain.base and t.typtype = 'd'
)
select a.attrelid,
       a.attnum,
       a.attname,
       description.description,
       not (a.attnotnull or coalesce(domain.not_null, false)),
       case
         when t.typtype = 'd' and base.typnamespace = 'pg_catalog'::regnamespace
           then format_type(base.oid, null)
         when t.typtype <> 'd' and t.typnamespace = 'pg_catalog'::regnamespace
           then format_type(a.atttypid, null)
         else format_type(a.atttypid, a.atttypmod)
       end,
       format_type(a.atttypid, a.atttypmod),
       case
         when t.typtype = 'd' and t.typbasetype in ('varchar'::regtype, 'bpchar'::regtype) and t.typtypmod > 0
           then t.typtypmod - 4
         when a.atttypid in ('varchar'::regtype, 'bpchar'::regtype) and a.atttypmod > 0
           then a.atttypmod - 4
         when a.atttypid in ('bit'::regtype, 'varbit'::regtype) and a.atttypmod > 0
           then a.atttypmod
       end,
       case
         when a.attidentity = 'd' then (
           select format('nextval(%L)', format('%I.%I', sequence_schema.nspname, sequence.relname))
           from pg_depend d
           join pg_class sequence on sequence.oid = d.objid and sequence.relkind = 'S'
           join pg_namespace sequence_schema on sequence_schema.oid = sequence.relnamespace
           where d.refclassid = 'pg_class'::regclass
             and d.refobjid = a.attrelid
             and d.refobjsubid = a.attnum
             and d.deptype = 'i'
           limit 1
         )
         when a.attgenerated <> '' then null
         when initial.adbin is not null then pg_get_expr(initial.adbin, initial.adrelid)
         when t.typdefaultbin is not null then pg_get_expr(t.typdefaultbin, 0)
       end,
       labels.list,
       -- the columns of a view are checked against their origins later; triggers accept any column
       case
         when c.relkind = 'm' then false
         when c.relkind = 'v' then pg_column_is_updatable(c.oid, a.attnum, true)
         else a.attgenerated = '' and a.attidentity <> 'a'
       end,
       c.relkind = 'v' and exists (
         select from pg_trigger g where g.tgrelid = c.oid and g.tgtype & 64 <> 0
       ),
       format_type(a.atttypid, -1)
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
join pg_type t on t.oid = a.atttypid
left join (domain join pg_type base on base.oid = domain.base and base.typtype <> 'd') on domain.oid = t.oid
left join pg_attrdef initial on initial.adrelid = a.attrelid and initial.adnum = a.attnum and a.atthasdef
left join pg_description description
  on description.objoid = a.attrelid
  and description.classoid = 'pg_class'::regclass
  and description.objsubid = a.attnum
left join (
  select enumtypid, json_agg(enumlabel order by enumsortorder) as list
  from pg_enum
  -- the JSON of a custom representation has an unknown form
  where not exists (
    select from pg_cast
    where castsource = enumtypid and casttarget = 'json'::regtype and castmethod = 'f'
  )
  group by enumtypid
) labels on labels.enumtypid = coalesce(base.oid, t.oid)
where n.nspname = any($1::text[])
  and c.relkind in ('r', 'p', 'f', 'v', 'm')
  and not c.relispartition
order by a.attrelid, a.attnum
