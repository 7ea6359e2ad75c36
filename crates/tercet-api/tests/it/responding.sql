-- A small cinema, in two schemas.
create schema api;
create schema archive;
grant usage on schema api, archive to anon, authenticated;

create table api.films (id int primary key, title text not null);
insert into api.films values (1, 'Un'), (2, 'Deux'), (3, 'Trois');
grant select, insert, update, delete on api.films to anon;

create table archive.reels (id int primary key);
insert into archive.reels values (5);
grant select on archive.reels to anon;

create function api.double(n int) returns int immutable language sql as $$ select n * 2 $$;
create function api.nothing() returns void language sql as $$ $$;
create function api.teapot() returns text language plpgsql stable as $$
begin
  perform set_config('response.status', '418', true);
  perform set_config('response.headers', '[{"X-Pot": "full"}, {"Set-Cookie": "a=1"}, {"Set-Cookie": "b=2"}]', true);
  return 'short and stout';
end
$$;
