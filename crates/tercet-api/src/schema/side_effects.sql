-- Relations of the exposed schemas that can be read by executing only PostgreSQL's own code, and no volatile
-- functions: reading them leaves the session unchanged. Unproved relations are omitted. Of the others: whether rows can
-- be inserted in the same way, and whether they can be inserted, updated and deleted. Defaults may call the few
-- volatile functions of `default_function`.
with recursive
member(class, oid, extension) as (
  select classid, objid, refobjid from pg_depend where refclassid = 'pg_extension'::regclass and deptype = 'e'
),
compiled(oid, extension) as (
  -- C functions of extensions: only a superuser or a trusted script can have created them.
  select p.oid, m.extension
  from pg_proc p
  join pg_language l on l.oid = p.prolang
  join member m on m.class = 'pg_proc'::regclass and m.oid = p.oid
  where p.oid >= 16384 and l.lanname in ('internal', 'c')
),
allowed_function(oid) as (
  -- Trusted functions: PostgreSQL's own, except those that parse a value of a type named at run time (a domain's
  -- checks are user-defined code) and those that execute their argument; and C functions of extensions.
  select p.oid
  from pg_proc p
  join pg_language l on l.oid = p.prolang
  where p.oid < 16384
    and p.provolatile <> 'v'
    and l.lanname in ('internal', 'c', 'sql')
    and p.proname !~ '_to_xml|_populate_record|_to_record|pg_input_'
    and 'cstring'::regtype <> all(p.proargtypes)
  union all
  select oid from compiled join pg_proc using (oid) where provolatile <> 'v'
),
default_function(oid) as (
  -- Volatile functions that change nothing in the session but what `lastval()` and `currval()` return.
  select p.oid
  from pg_proc p
  join pg_language l on l.oid = p.prolang
  where p.oid < 16384
    and l.lanname = 'internal'
    and p.proname in ('nextval', 'gen_random_uuid', 'uuidv4', 'uuidv7', 'clock_timestamp', 'random')
  union all
  select oid from allowed_function
),
support(class, object, function) as (
  -- Functions PostgreSQL calls implicitly: for operators, casts, ordering and type input and output, and for
  -- unqualified names in our statements. Neither the query tree nor dependencies contain them: `to_json` looks up a
  -- cast to json at run time, an index only its operator class.
  select 'pg_operator'::regclass, o.oid, f
  from pg_operator o
  cross join unnest(array[o.oprcode::oid, o.oprrest::oid, o.oprjoin::oid]) as f
  where o.oid >= 16384
  union all
  select 'pg_cast'::regclass, oid, castfunc from pg_cast where oid >= 16384
  union all
  select 'pg_opfamily'::regclass, amprocfamily, amproc from pg_amproc where oid >= 16384
  union all
  select 'pg_type'::regclass, r.rngtypid, f
  from pg_range r
  cross join unnest(array[r.rngcanonical::oid, r.rngsubdiff::oid]) as f
  where r.rngtypid >= 16384
  union all
  select 'pg_conversion'::regclass, oid, conproc from pg_conversion where oid >= 16384
  union all
  select 'pg_ts_template'::regclass, t.oid, f
  from pg_ts_template t
  cross join unnest(array[t.tmplinit::oid, t.tmpllexize::oid]) as f
  where t.oid >= 16384
  union all
  select 'pg_ts_parser'::regclass, t.oid, f
  from pg_ts_parser t
  cross join unnest(array[
    t.prsstart::oid, t.prstoken::oid, t.prsend::oid, t.prsheadline::oid, t.prslextype::oid
  ]) as f
  where t.oid >= 16384
  union all
  select null, null, f
  from pg_proc p
  left join pg_aggregate a on a.aggfnoid = p.oid
  cross join unnest(
    case
      when a.aggfnoid is null then array[p.oid]
      else array[
        a.aggtransfn::oid, a.aggfinalfn::oid, a.aggcombinefn::oid, a.aggserialfn::oid, a.aggdeserialfn::oid,
        a.aggmtransfn::oid, a.aggminvtransfn::oid, a.aggmfinalfn::oid
      ]
    end
  ) as f
  where p.oid >= 16384
    and p.proname = any(array[
      'avg', 'count', 'current_setting', 'json_agg', 'json_array_elements', 'json_build_array', 'json_build_object',
      'json_each_text', 'json_object_keys', 'json_strip_nulls', 'json_to_record', 'json_to_recordset', 'jsonb_agg',
      'jsonb_build_object', 'length', 'max', 'min', 'phraseto_tsquery', 'plainto_tsquery', 'row_to_json',
      'set_config', 'string_agg', 'string_to_array', 'substring', 'sum', 'to_json', 'to_jsonb', 'to_tsquery',
      'to_tsvector', 'unnest', 'websearch_to_tsquery'
    ])
),
overridden(is_so) as (
  -- If one of these may have side effects, nothing is proved, wherever it is used. An extension's C functions are
  -- trusted for the extension's own objects (many are volatile by default only), and elsewhere unless they are
  -- volatile.
  select exists (
           select
           from support s
           where s.function <> 0
             and s.function not in (select oid from allowed_function)
             and not exists (
               select
               from member m
               join compiled c on c.extension = m.extension
               where m.class = s.class and m.oid = s.object and c.oid = s.function
             )
         )
      -- One of PostgreSQL's own functions was replaced.
      or exists (
           select
           from pg_proc p
           join pg_language l on l.oid = p.prolang
           where p.oid < 16384 and l.lanname <> all(array['internal', 'c', 'sql'])
         )
      -- A cast type (plan/side_effects.rs) may resolve to another type by the search path.
      or exists (
           select
           from pg_type
           where oid >= 16384
             and typname = any(array[
               'bool', 'date', 'float4', 'float8', 'int2', 'int4', 'int8', 'json', 'jsonb', 'numeric', 'text',
               'timestamptz', 'uuid', 'varchar'
             ])
         )
      -- The response is set for all requests, by the configuration file, the connection string, a database or a role.
      or concat(current_setting('response.headers', true), current_setting('response.status', true)) <> ''
      or exists (
           select
           from pg_db_role_setting
           cross join unnest(setconfig) as setting
           where setdatabase in (0, (select oid from pg_database where datname = current_catalog))
             and setting ~* '^response\.'
         )
),
value_type(oid) as (
  -- Types whose input, output and comparison are PostgreSQL's or an extension's C code: no domains, no composite
  -- types.
  select t.oid
  from pg_type t
  where case when t.oid < 16384 then t.typtype in ('b', 'e', 'r', 'm', 'p')
             when t.typtype = 'b' then exists (select from member m where m.class = 'pg_type'::regclass and m.oid = t.oid)
             else t.typtype = 'e'
        end
),
plain_type(oid) as (
  select oid from value_type
  union
  select t.oid
  from pg_type t
  join value_type element on element.oid = t.typelem
  where t.typsubscript = 'array_subscript_handler'::regproc
),
-- Expressions evaluated when a relation is read, written, or written with defaults, as stored query trees
-- (src/backend/nodes/outfuncs.c).
expression(relation, purpose, tree) as (
  select r.ev_class, 'read', r.ev_action::text
  from pg_rewrite r
  join pg_class c on c.oid = r.ev_class and c.relkind = 'v'
  where r.ev_class >= 16384 and r.ev_type = '1'
  union all
  select polrelid, case when polcmd in ('*', 'r') then 'read' else 'write' end, polqual::text
  from pg_policy
  where polqual is not null
  union all
  select polrelid, 'write', polwithcheck::text from pg_policy where polwithcheck is not null
  union all
  select adrelid, case when a.attgenerated = '' then 'default' else 'write' end, adbin::text
  from pg_attrdef d
  join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
  union all
  select conrelid, 'write', conbin::text from pg_constraint where conrelid >= 16384 and conbin is not null
  union all
  select indrelid, 'write', tree
  from pg_index
  cross join unnest(array[indexprs::text, indpred::text]) as tree
  where indrelid >= 16384 and tree is not null
  union all
  select partrelid, 'write', partexprs::text from pg_partitioned_table where partexprs is not null
),
mentioned(relation, purpose, field, oid) as (
  select e.relation, e.purpose, found[1], found[2]::oid
  -- Many are the same: defaults like `now()`.
  from (select distinct tree from expression) t
  cross join regexp_matches(
    t.tree,
    ':(relid|funcid|winfnoid|aggfnoid|opno|resulttype|funcvariadictype) (\d+)',
    'g'
  ) as found
  join expression e on e.tree = t.tree
),
-- Expressions that may execute something else.
improper(relation, purpose) as (
  select relation, purpose
  from expression
  where tree ~ '\{(COERCETODOMAIN|TABLEFUNC|JSONEXPR|JSONTABLE|TABLESAMPLECLAUSE|NEXTVALUEEXPR) '
  union
  select relation, purpose
  from mentioned
  where field in ('funcid', 'winfnoid', 'aggfnoid')
    and oid not in (select oid from allowed_function)
    and not (purpose = 'default' and oid in (select oid from default_function))
  union
  select m.relation, m.purpose
  from mentioned m
  left join pg_operator o on o.oid = m.oid
  where m.field = 'opno'
    and (o.oid is null or o.oprcode::oid not in (select oid from allowed_function))
  union
  select relation, purpose from mentioned where field = 'resulttype' and oid not in (select oid from plain_type)
),
-- Other expressions of a relation: indexes, partitions, statistics, checks, virtual generated columns. PostgreSQL
-- evaluates only immutable functions of its own there.
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
  select relation from improper where purpose = 'read'
),
uses(relation, used) as (
  select relation, oid from mentioned where field = 'relid' and purpose = 'read'
  union
  select inhparent, inhrelid from pg_inherits
),
doubtful(relation) as (
  select relation from unproven
  union
  select uses.relation
  from doubtful
  join uses on uses.used = doubtful.relation
),
reference(source, target, has_action) as (
  select conrelid, confrelid, confupdtype not in ('a', 'r') or confdeltype not in ('a', 'r')
  from pg_constraint
  where contype = 'f'
),
-- Writing executes more than reading: defaults, checks, policies, rules, triggers.
unwritable(relation) as (
  select relation from doubtful
  union
  select relation from improper
  union
  -- All triggers but those of foreign keys and deferrable unique constraints, also disabled ones.
  select tgrelid
  from pg_trigger t
  join pg_proc p on p.oid = t.tgfoid
  where not (t.tgisinternal and p.oid < 16384 and p.proname ~ '^(RI_FKey_|unique_key_recheck$)')
  union
  select ev_class from pg_rewrite where ev_type <> '1'
  union
  select oid from pg_class where relam >= 16384
  union
  -- Our statements name the types of columns, and the search path may find another one.
  select a.attrelid
  from pg_attribute a
  join pg_type t on t.oid = a.atttypid
  left join pg_type element on element.oid = t.typelem and t.typsubscript = 'array_subscript_handler'::regproc
  join pg_type other on other.typname = coalesce(element.typname, t.typname) and other.oid >= 16384
  where a.attrelid >= 16384 and a.attnum > 0 and t.oid < 16384
  union
  select m.relation
  from mentioned m
  join doubtful on doubtful.relation = m.oid
  where m.field = 'relid' and m.purpose <> 'read'
  union
  -- A foreign key reads the other table.
  select source from reference join doubtful on doubtful.relation = reference.target
),
writes(relation, written) as (
  -- Some of a view's relations, in doubt all.
  select m.relation, m.oid
  from mentioned m
  join pg_class c on c.oid = m.relation and c.relkind = 'v'
  where m.field = 'relid'
  union
  select inhparent, inhrelid from pg_inherits
),
no_inserts(relation) as (
  select relation from unwritable
  union
  select writes.relation
  from no_inserts
  join writes on writes.written = no_inserts.relation
),
-- An update or a delete reads the tables with foreign keys to it, or writes them.
no_changes(relation) as (
  select relation
  from (
    select relation from no_inserts
    union
    select target from reference join doubtful on doubtful.relation = reference.source
  ) as start
  union
  select edge.relation
  from no_changes
  join (
    select relation, written from writes
    union
    select target, source from reference where has_action
  ) as edge on edge.written = no_changes.relation
)
select c.oid,
       no_inserts.relation is null,
       no_changes.relation is null
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
left join no_inserts on no_inserts.relation = c.oid
left join no_changes on no_changes.relation = c.oid
where n.nspname = any($1::text[])
  and c.relkind = any(array['r', 'p', 'v', 'm'])
  and not c.relispartition
  and not (select is_so from overridden)
  and not exists (select from doubtful where doubtful.relation = c.oid)
