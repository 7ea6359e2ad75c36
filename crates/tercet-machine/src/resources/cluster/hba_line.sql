select 'line ' || line_number || ' of pg_hba.conf: ' || concat_ws(' ', type, array_to_string(database, ','),
  array_to_string(user_name, ','), address, netmask, auth_method, array_to_string(options, ' '))
from pg_hba_file_rules
where error is null
  and type in ('host', {transport})
  and database && array['all', {database}]
  and user_name && array['all', {role}]
  and (address = 'all'
    or case when netmask is not null and family(address::inet) = family({client}::inet)
      then ({client}::inet & netmask::inet) = address::inet else false end)
order by line_number
limit 1;
