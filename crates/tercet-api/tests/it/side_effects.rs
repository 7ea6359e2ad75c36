//! Reads that are proved free of side effects are not followed by a reset. Every way to have PostgreSQL call
//! user-defined code implicitly when it reads, compares, casts and prints values is attempted here: the next request
//! sees an unchanged session.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use tercet_api::schema::SchemaCache;
use tercet_postgres::{Connection, Target};

use crate::postgres::{Database, database};
use crate::service::{Client, Service, on_one_thread};

const SCHEMA: &str = "
    create schema api;
    create schema private;
    grant usage on schema api, private to public;

    create function private.leak() returns boolean language plpgsql as $$
    begin
        perform set_config('app.secret', 'LEAK', false);
        return true;
    end
    $$;
    create function api.residue() returns text language sql as $$
        select concat(
            nullif(current_setting('app.secret', true), ''),
            (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid())
        )
    $$;

    create type api.mood as enum ('happy', 'sad');
    create domain api.suspicious as int check (private.leak());
    create type api.composite as (d api.suspicious);
    create table api.people (id int primary key, m api.mood, moods api.mood[], name text, good boolean);
    create table private.people (id int primary key, m api.mood);
    insert into api.people values (5, 'happy', '{sad}', 'name', true);
    insert into private.people values (5, 'happy');
";

/// A definition, and the reads that execute it.
const ATTEMPTS: [(&str, &str, &[&str]); 19] = [
    (
        "a cast to json",
        "create function private.cast(api.mood) returns json language plpgsql as
         $$ begin perform private.leak(); return '1'; end $$;
         create cast (api.mood as json) with function private.cast(api.mood);
         create view api.to_json as select to_json(m) from private.people;
         create view api.built as select jsonb_build_object('m', m), json_build_array(m) from private.people;",
        &["/people", "/people?select=moods", "/to_json", "/built"],
    ),
    (
        "a cast to json of rows in a view",
        "create function private.cast(api.mood) returns json language plpgsql as
         $$ begin perform private.leak(); return '1'; end $$;
         create cast (api.mood as json) with function private.cast(api.mood);
         create view api.rows as select json_agg(p), to_jsonb(array_agg(p.m)) from private.people p;",
        &["/rows"],
    ),
    (
        "a cast to text",
        "create function private.cast(api.mood) returns text language sql as $$ select 'm' where private.leak() $$;
         create cast (api.mood as text) with function private.cast(api.mood);
         create view api.quoted as select quote_nullable(m) from private.people;",
        &["/people?select=m::text", "/quoted"],
    ),
    (
        "an implicit cast",
        "create function private.cast(api.mood) returns text language sql as $$ select 'm' where private.leak() $$;
         create cast (api.mood as text) with function private.cast(api.mood) as implicit;",
        &["/people?m=like.h*", "/people?m=match.h"],
    ),
    (
        "a cast by a built-in function",
        "create cast (bigint as boolean) with function pg_try_advisory_lock(bigint);
         create view api.locked as select sum(id)::boolean from private.people;",
        &["/locked"],
    ),
    (
        "an operator by a built-in function",
        "create operator public.~~ (leftarg = int, rightarg = int, function = pg_try_advisory_lock);
         create view api.locked as select id operator(public.~~) id as it from private.people;",
        &["/people?id=like.5", "/locked"],
    ),
    (
        "an operator that reads a domain",
        "create operator api.<~ (leftarg = anyelement, rightarg = jsonb, function = jsonb_populate_record);
         create view api.read as select (null::api.composite operator(api.<~) '{\"d\": 1}'::jsonb) is null as it;",
        &["/read"],
    ),
    (
        "an operator with a user-defined estimator",
        "create function private.estimate(internal, oid, internal, int) returns float8 language internal as 'eqsel';
         create operator api.=~ (leftarg = int, rightarg = int, function = int4eq, restrict = private.estimate);",
        &["/people"],
    ),
    (
        "input functions by name",
        "create view api.domain as
             select domain_in('1'::cstring, 'api.suspicious'::regtype::oid, -1) is null as it;
         create view api.list as
             select array_to_string(array_in('{1}'::cstring, 'api.suspicious'::regtype::oid, -1), ',') as it;
         create view api.row as
             select record_in('(1)'::cstring, 'api.composite'::regtype::oid, -1) is null as it;",
        &["/domain", "/list", "/row"],
    ),
    (
        "a value of a type named at run time",
        "create view api.cast as select (('{1}'::text)::api.suspicious[])::text as it;
         create view api.composite_cast as select (('(1)'::text)::api.composite)::text as it;
         create view api.populated as select json_populate_record(null::api.composite, '{\"d\": 1}') is null as it;",
        &["/cast", "/composite_cast", "/populated"],
    ),
    (
        "an aggregate of built-in functions",
        "create aggregate api.sum (boolean)
             (sfunc = int8inc_any, stype = bigint, initcond = '0', finalfunc = pg_try_advisory_lock);
         create view api.summed as select api.sum(true) as it;",
        &["/people?select=good.sum()", "/summed"],
    ),
    (
        "an aggregate over rows",
        "create function private.step(json, api.people) returns json language plpgsql as
         $$ begin perform private.leak(); return '[]'; end $$;
         create aggregate api.json_agg (api.people) (sfunc = private.step, stype = json);
         create aggregate api.jsonb_agg (api.people) (sfunc = private.step, stype = json);",
        &["/people?id=eq.5", "/people?select=*,id.count()"],
    ),
    (
        "a function by another name",
        "create function api.to_json(api.mood) returns json language internal as 'enum_out';
         create function api.to_tsvector(api.mood) returns tsvector language plpgsql as
         $$ begin perform private.leak(); return ''; end $$;",
        &["/people?m=fts.x"],
    ),
    (
        "a user-defined operator class",
        "create function private.before(api.mood, api.mood) returns boolean language plpgsql as
         $$ begin return private.leak() and enum_cmp($1, $2) < 0; end $$;
         create function private.same(api.mood, api.mood) returns boolean language plpgsql as
         $$ begin return private.leak() and enum_cmp($1, $2) = 0; end $$;
         create function private.compare(api.mood, api.mood) returns int language plpgsql as
         $$ begin perform private.leak(); return enum_cmp($1, $2); end $$;
         create operator api.< (leftarg = api.mood, rightarg = api.mood, function = private.before);
         create operator api.<= (leftarg = api.mood, rightarg = api.mood, function = private.before);
         create operator api.= (leftarg = api.mood, rightarg = api.mood, function = private.same);
         create operator api.>= (leftarg = api.mood, rightarg = api.mood, function = private.before);
         create operator api.> (leftarg = api.mood, rightarg = api.mood, function = private.before);
         create operator class api.mood_ops default for type api.mood using btree as
             operator 1 api.<, operator 2 api.<=, operator 3 api.=, operator 4 api.>=, operator 5 api.>,
             function 1 private.compare(api.mood, api.mood);
         insert into api.people values (6, 'sad'), (7, 'happy'), (8, 'sad');",
        &["/people?order=m", "/people?m=gt.happy", "/people?select=m.max()"],
    ),
    (
        "a range",
        "create function private.difference(float8, float8) returns float8 language plpgsql immutable as
         $$ begin perform private.leak(); return $1 - $2; end $$;
         create type api.span as range (subtype = float8, subtype_diff = private.difference);
         create table api.spans (s api.span);
         insert into api.spans select api.span(n, n + 10) from generate_series(1, 200) n;
         create index on api.spans using gist (s);
         analyze api.spans;
         create view api.overlapping as select 1 as it from api.spans where s && '[3,7]';",
        &["/spans?s=ov.[2,3]", "/overlapping"],
    ),
    (
        "a type named like a built-in one",
        "create domain api.text as pg_catalog.text check (private.leak());",
        &["/people?select=id::text"],
    ),
    (
        "a replaced built-in function",
        "create or replace function pg_catalog.upper(pg_catalog.text) returns pg_catalog.text
             language plpgsql immutable strict as $$ begin perform private.leak(); return $1; end $$;
         create view api.upper as select pg_catalog.upper(name) as it from api.people;",
        &["/upper"],
    ),
    (
        "a type with its own output function",
        "create type api.odd;
         create function private.odd_in(cstring) returns api.odd language internal immutable strict as 'int8in';
         create function private.odd_out(api.odd) returns cstring language internal as 'int8out';
         create type api.odd (input = private.odd_in, output = private.odd_out, like = bigint);
         create table api.odds (o api.odd);
         insert into api.odds values ('1');",
        &["/odds"],
    ),
    (
        "a policy, a trigger's function and an index's",
        "create function private.immutable(text) returns text language plpgsql immutable as
         $$ begin perform private.leak(); return $1; end $$;
         create table api.indexed (name text);
         insert into api.indexed values ('a');
         create index on api.indexed (private.immutable(name));
         create table api.partitioned (name text) partition by hash (private.immutable(name));
         create table private.part partition of api.partitioned for values with (modulus 1, remainder 0);
         create table api.hidden (name text);
         alter table api.hidden enable row level security;
         create policy p on api.hidden using (coalesce(private.leak(), row(private.leak())::text <> ''));",
        &["/indexed?name=eq.a", "/partitioned?name=eq.a", "/hidden"],
    ),
];

/// The exposed relations that are proved free of side effects.
fn proved(database: &Database) -> Vec<String> {
    let cache = on_one_thread(async {
        let target = Arc::new(Target::parse(&database.uri(), &BTreeMap::new()).unwrap());
        let connection = Connection::connect(&target, false).await.unwrap();
        SchemaCache::load(&connection, &["api".to_owned()]).await.unwrap()
    });
    let proved = cache.relations("api").filter(|relation| relation.side_effect_free.reads);
    let mut proved: Vec<_> = proved.map(|relation| relation.name.to_string()).collect();
    proved.sort();
    proved
}

#[test]
fn user_defined_code_leaves_an_unchanged_session() {
    for (what, definitions, targets) in ATTEMPTS {
        let database = database(&format!(
            "{SCHEMA}{definitions}
             grant select on all tables in schema api, private to public;"
        ));
        let options = [
            ("db-pool", "1"),
            ("server-threads", "1"),
            ("db-aggregates-enabled", "true"),
            ("db-extra-search-path", "public, pg_catalog"),
        ];
        let service = Service::start(&database.uri(), &options);
        on_one_thread(async {
            let mut client = Client::connect(service.address).await;
            for target in targets {
                // Parsed, prepared, and executed as prepared.
                for _ in 0..4 {
                    let read = client.request("GET", target, &[], "").await.unwrap();
                    assert!(read.status < 500, "{what}: {target}: {read:?}");
                    let residue = client.request("GET", "/rpc/residue", &[], "").await.unwrap();
                    assert_eq!(residue.json(), json!("0"), "{what}: {target}: {read:?}");
                }
            }
        });
    }
}

#[test]
fn ordinary_relations_are_proved() {
    let database = database(&format!(
        "{SCHEMA}
         create extension citext;
         create extension hstore;
         create extension pg_trgm;
         create table api.extended (c citext, h hstore, list citext[]);
         create table api.policed (id int, owner text);
         alter table api.policed enable row level security;
         create policy own on api.policed using (owner = current_setting('request.jwt.claims', true)::json ->> 'sub');
         create view api.shown as select upper(name), to_json(m), count(*) from api.people group by name, m;
         create function api.about(api.people) returns text language sql stable as $$ select $1.name $$;
         create view api.now as select clock_timestamp();
         create table api.doubtful (s api.suspicious);"
    ));
    assert_eq!(proved(&database), ["extended", "people", "policed", "shown"]);
}
