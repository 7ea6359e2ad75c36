-- The catalogue as one JSON value, without the migrations: their table may be missing.
select json_build_object(
    'at', to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'system_identifier', (select system_identifier::text from pg_control_system()),
    'preload_libraries', current_setting('shared_preload_libraries'),
    'databases', (select coalesce(json_agg(datname order by datname), '[]') from pg_database where not datistemplate),
    'roles', (select coalesce(json_agg(rolname order by rolname), '[]') from pg_roles where rolname !~ '^pg_'),
    'tables', (
        select coalesce(json_object_agg(quote_ident(nspname) || '.' || quote_ident(relname), reltuples::float8), '{}')
        from pg_class join pg_namespace on pg_namespace.oid = relnamespace
        where relkind in ('r', 'm') and nspname not in ('pg_catalog', 'information_schema', 'tercet')
            and nspname !~ '^pg_(toast|temp)'
    )
)
