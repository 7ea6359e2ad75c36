-- Relations of the exposed schemas that can be read without running any code but PostgreSQL's own, and of
-- that nothing volatile: reading them leaves the session as it was. What cannot be proved is left out.
with recursive
foreign_code(oid) as (
  -- Functions in languages in which anything can be written. Those in C are an extension's: they are trusted
  -- to be what an operator or a type needs, not when they are called by name.
  select p.oid
  from pg_proc p
  join pg_language l on l.oid = p.prolang
  where p.oid >= 16384 and l.lanname <> all(array['internal', 'c'])
),
overridden(is_so) as (
  -- What our statements call, compare and cast by is PostgreSQL's own, whatever the search path.
  select exists (select from pg_operator where oprcode in (select oid from foreign_code))
      or exists (select from pg_amproc where amproc::oid in (select oid from foreign_code))
      or exists (select from pg_cast where castfunc in (select oid from foreign_code) and castsource < 16384)
      or exists (
           select
           from pg_proc p
           left join pg_aggregate a on a.aggfnoid = p.oid
           where p.oid >= 16384
             and p.proname = any(array[
               'avg', 'count', 'current_setting', 'json_agg', 'json_build_object', 'json_object_keys',
               'json_strip_nulls', 'length', 'max', 'min', 'phraseto_tsquery', 'plainto_tsquery', 'row_to_json',
               'set_config', 'string_agg', 'substring', 'sum', 'to_json', 'to_jsonb', 'to_tsquery', 'to_tsvector',
               'unnest', 'websearch_to_tsquery'
             ])
             and (p.oid in (select oid from foreign_code)
               or a.aggtransfn::oid in (select oid from foreign_code)
               or a.aggfinalfn::oid in (select oid from foreign_code))
         )
),
plain_type(oid) as (
  -- Types that PostgreSQL or an extension in C reads, writes and compares: no domains, no composite types.
  select t.oid
  from pg_type t
  left join pg_type element on element.oid = t.typelem and t.typcategory = 'A'
  where case when element.oid is null then t.typtype in ('b', 'e') or t.oid < 16384 and t.typtype in ('r', 'm', 'p')
             else element.typtype in ('b', 'e') or element.oid < 16384 and element.typtype in ('r', 'm', 'p')
        end
),
allowed_function(oid) as (
  -- Some are stable and still run what they are given, or read values of any type.
  select oid
  from pg_proc
  where oid < 16384
    and provolatile <> 'v'
    and proname !~ '_to_xml|_populate_record|_to_record|pg_input_'
),
-- What is evaluated when a relation is read, as PostgreSQL keeps it (src/backend/nodes/outfuncs.c).
expression(relation, tree) as (
  select r.ev_class, r.ev_action::text
  from pg_rewrite r
  join pg_class c on c.oid = r.ev_class and c.relkind = 'v'
  where r.ev_class >= 16384 and r.ev_type = '1'
  union all
  select polrelid, polqual::text from pg_policy where polqual is not null and polcmd in ('*', 'r')
),
mentioned(relation, field, oid) as (
  select e.relation, found[1], found[2]::oid
  from expression e
  cross join regexp_matches(
    e.tree,
    ':(relid|funcid|winfnoid|aggfnoid|opno|resulttype|funcvariadictype) (\d+)',
    'g'
  ) as found
),
-- What else a relation hangs on: expressions of indexes, partitions and statistics, checks, columns that are generated
-- when they are read. Of PostgreSQL's own functions only immutable ones are evaluated there.
part(relation, class, object) as (
  select oid, 'pg_class'::regclass::oid, oid from pg_class where oid >= 16384
  union all
  select indrelid, 'pg_class'::regclass::oid, indexrelid from pg_index where indrelid >= 16384
  union all
  select conrelid, 'pg_constraint'::regclass::oid, oid from pg_constraint where conrelid <> 0
  union all
  select stxrelid, 'pg_statistic_ext'::regclass::oid, oid from pg_statistic_ext
  union all
  select adrelid, 'pg_attrdef'::regclass::oid, d.oid
  from pg_attrdef d
  join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
  where a.attgenerated <> ''
  union all
  select r.ev_class, 'pg_rewrite'::regclass::oid, r.oid
  from pg_rewrite r
  join pg_class c on c.oid = r.ev_class and c.relkind = 'v'
  where r.ev_type = '1'
  union all
  select polrelid, 'pg_policy'::regclass::oid, oid from pg_policy where polcmd in ('*', 'r')
),
unproven(relation) as (
  select oid from pg_class where relkind <> all(array['r', 'p', 'v', 'm']) or oid < 16384 and relkind = 'v'
  union
  select p.relation
  from part p
  join pg_depend d on d.classid = p.class and d.objid = p.object
  where d.refclassid = 'pg_proc'::regclass and d.refobjid >= 16384
  union
  select attrelid
  from pg_attribute
  where attrelid >= 16384 and attnum > 0 and not attisdropped
    and atttypid not in (select oid from plain_type)
  union
  select relation from expression where tree ~ '\{(COERCETODOMAIN|TABLEFUNC|JSONEXPR|JSONTABLE|TABLESAMPLECLAUSE|NEXTVALUEEXPR) '
  union
  select relation
  from mentioned
  where field in ('funcid', 'winfnoid', 'aggfnoid') and oid not in (select oid from allowed_function)
  union
  select m.relation
  from mentioned m
  left join pg_operator o on o.oid = m.oid
  where m.field = 'opno'
    and (o.oid is null or o.oid < 16384 and o.oprcode::oid not in (select oid from allowed_function))
  union
  select relation from mentioned where field = 'resulttype' and oid not in (select oid from plain_type)
),
uses(relation, used) as (
  select relation, oid from mentioned where field = 'relid'
  union
  select inhparent, inhrelid from pg_inherits
),
doubtful(relation) as (
  select relation from unproven
  union
  select uses.relation
  from doubtful
  join uses on uses.used = doubtful.relation
)
select c.oid
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = any($1::text[])
  and c.relkind = any(array['r', 'p', 'v', 'm'])
  and not c.relispartition
  and not (select is_so from overridden)
  and not exists (select from doubtful where doubtful.relation = c.oid)
