-- Custom representations: implicit casts by function between a domain and json or text.
select format_type(c.castsource, null), format_type(c.casttarget, null), c.castfunc::regproc
from pg_cast c
join pg_type source on source.oid = c.castsource
join pg_type target on target.oid = c.casttarget
where c.castcontext = 'i'
  and c.castmethod = 'f'
  and has_function_privilege(c.castfunc, 'execute')
  and (
    source.typtype = 'd' and c.casttarget = any(array['json'::regtype, 'text'::regtype])
    or target.typtype = 'd' and c.castsource = any(array['json'::regtype, 'text'::regtype])
  )
