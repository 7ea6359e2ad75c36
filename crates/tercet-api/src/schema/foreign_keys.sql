-- Foreign keys of all tables, without the partitions' copies of their parent's keys. One-to-one: the referencing
-- columns form a primary or unique key.
select k.conname,
       k.conrelid,
       source_schema.nspname,
       source.relname,
       k.confrelid,
       target_schema.nspname,
       target.relname,
       array_to_json(k.conkey),
       array_to_json(k.confkey),
       (
         select json_agg(json_build_array(a.attname, b.attname) order by pair.position)
         from unnest(k.conkey, k.confkey) with ordinality as pair(source, target, position)
         join pg_attribute a on a.attrelid = k.conrelid and a.attnum = pair.source
         join pg_attribute b on b.attrelid = k.confrelid and b.attnum = pair.target
       ),
       exists (
         select
         from pg_constraint u
         where u.conrelid = k.conrelid
           and u.contype in ('p', 'u')
           and u.conkey @> k.conkey
           and u.conkey <@ k.conkey
       )
from pg_constraint k
join pg_class source on source.oid = k.conrelid
join pg_namespace source_schema on source_schema.oid = source.relnamespace
join pg_class target on target.oid = k.confrelid
join pg_namespace target_schema on target_schema.oid = target.relnamespace
where k.contype = 'f'
  and k.conparentid = 0
order by k.conrelid, k.conname
