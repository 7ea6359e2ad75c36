-- What the roles may do in a new database. Run once, as the superuser; psql's own notation for the names.
begin;

-- tercet's own schema: the record of migrations, and the watch over the schema. Never exposed.
create schema tercet;
revoke all on schema tercet from public;
grant usage, create on schema tercet to :"owner";

-- Requests may look into `public`, and find nothing there that a migration does not grant: no table by default,
-- and no function either, which PostgreSQL would open to everyone.
alter schema public owner to :"owner";
revoke all on schema public from public;
grant usage on schema public to anon, authenticated;
alter default privileges for role :"owner" revoke execute on functions from public;

-- Application servers listen for this and read the schema again.
create function tercet.schema_changed() returns event_trigger
  language plpgsql
  set search_path = pg_catalog
as $$
begin
  if tg_event = 'sql_drop'
     or exists (select from pg_event_trigger_ddl_commands() where schema_name is distinct from 'pg_temp')
  then
    notify pgrst, 'reload schema';
  end if;
end
$$;
create event trigger tercet_schema_changed on ddl_command_end execute function tercet.schema_changed();
create event trigger tercet_schema_dropped on sql_drop execute function tercet.schema_changed();

commit;
