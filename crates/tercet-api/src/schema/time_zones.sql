-- The time zones a request may prefer.
select name from pg_timezone_names
