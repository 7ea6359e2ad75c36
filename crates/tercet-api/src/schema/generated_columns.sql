-- Generated columns of all tables: not writable, through views neither.
select attrelid, attnum
from pg_attribute
where attgenerated <> '' or attidentity = 'a'
