-- Columns of all tables that no statement may give a value: views over them are no way around that.
select attrelid, attnum
from pg_attribute
where attgenerated <> '' or attidentity = 'a'
