//! Writes that are proved free of side effects are not followed by a reset. Every way to have PostgreSQL execute
//! user-defined code when it writes, checks and returns rows is attempted here, and everything that a proved write
//! itself leaves behind: the next request on the connection sees an unchanged session.
//!
//! Long because each attempt is spelled out.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tercet_api::schema::SchemaCache;
use tercet_postgres::{Connection, Target};

use crate::postgres::{Database, database};
use crate::service::{Client, Reply, Service, on_one_thread, wait_until};

const SCHEMA: &str = "
    create schema api;
    create schema private;
    grant usage on schema api, private to public;

    create function private.leak() returns boolean language plpgsql as $$
    begin
        perform set_config('app.secret', 'LEAK', false), pg_advisory_lock(42);
        return true;
    end
    $$;
    create function private.immutable(int) returns int language plpgsql immutable as $$
    begin
        perform private.leak();
        return $1;
    end
    $$;
    create function private.on_write() returns trigger language plpgsql as $$
    begin
        perform private.leak();
        perform nextval('private.numbers');
        execute 'create temporary table if not exists leaked (secret text)';
        execute 'listen leaked';
        return coalesce(new, old);
    end
    $$;
    create sequence private.numbers start 1000;
    grant usage on sequence private.numbers to public;

    create function api.residue() returns text language plpgsql as $$
    declare
        last text := 'none';
    begin
        begin
            last := lastval()::text;
        exception when object_not_in_prerequisite_state then
        end;
        return concat_ws(
            ' ',
            last,
            nullif(current_setting('app.secret', true), ''),
            (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()),
            (select count(*) from pg_class where relnamespace = pg_my_temp_schema()),
            (select count(*) from pg_listening_channels()),
            (select count(*) from pg_cursors where is_holdable),
            (select count(*) from pg_prepared_statements where from_sql),
            (select count(*) from pg_settings where source = 'session' and name = 'client_min_messages')
        );
    end
    $$;

    create type api.mood as enum ('happy', 'sad');
";

/// What `residue()` returns in an unchanged session.
const CLEAN: &str = "none 0 0 0 0 0 0";

/// A write: method, target, `Prefer`, body.
type Write = (&'static str, &'static str, &'static str, &'static str);

const POST: Write = ("POST", "/t", "return=minimal", r#"{"id": 7, "n": 7}"#);
const POST_ALL: Write = ("POST", "/t", "return=representation", r#"[{"id": 7, "n": 7}, {"id": 8, "n": 8}]"#);
const UPSERT: Write = ("POST", "/t", "resolution=merge-duplicates", r#"{"id": 1, "n": 7}"#);
const PUT: Write = ("PUT", "/t?id=eq.1", "return=representation", r#"{"id": 1, "n": 7}"#);
const PATCH: Write = ("PATCH", "/t?id=eq.1", "return=representation", r#"{"n": 7}"#);
const DELETE: Write = ("DELETE", "/t?id=eq.1", "return=minimal", "");

/// A definition that makes the table `api.t (id int primary key, n int)` execute user-defined code, and the writes
/// that do.
const ATTEMPTS: [(&str, &str, &[Write]); 34] = [
    (
        "a trigger for rows",
        "create trigger t before insert or update or delete on api.t for each row execute function private.on_write();",
        &[POST, POST_ALL, UPSERT, PUT, PATCH, DELETE],
    ),
    (
        "a trigger for statements",
        "create trigger t after insert or update or delete on api.t execute function private.on_write();",
        &[POST, PATCH, DELETE],
    ),
    (
        "a trigger for updates",
        "create trigger t after update on api.t for each row execute function private.on_write();",
        &[UPSERT, PUT, PATCH],
    ),
    (
        "a deferred constraint trigger",
        "create constraint trigger t after insert or update or delete on api.t deferrable initially deferred
             for each row execute function private.on_write();",
        &[POST, UPSERT, PATCH, DELETE],
    ),
    (
        "a trigger whose condition is a function",
        "create function private.condition() returns trigger language plpgsql as $$ begin return null; end $$;
         create trigger t after insert on api.t for each row when (private.leak())
             execute function private.condition();",
        &[POST],
    ),
    (
        "a rule",
        "create rule r as on delete to api.t do also select private.leak();",
        &[DELETE],
    ),
    ("a default by a function", "alter table api.t add leaked boolean default private.leak();", &[POST, POST_ALL]),
    (
        "a default by a built-in function",
        "alter table api.t add leaked text default pg_try_advisory_lock(42)::text;",
        &[POST],
    ),
    (
        "a default by a function of the sequence",
        "create function private.next() returns bigint language sql as $$
             select nextval('private.numbers') where private.leak()
         $$;
         alter table api.t add leaked bigint default private.next();",
        &[POST],
    ),
    ("a check", "alter table api.t add check (private.leak());", &[POST, PATCH]),
    (
        "a check by a built-in function",
        "alter table api.t add check (pg_try_advisory_lock(42)) not valid;",
        &[POST, UPSERT, PATCH],
    ),
    (
        "a domain's check",
        "create domain api.checked as int check (private.leak());
         alter table api.t add leaked api.checked default null;",
        &[("POST", "/t", "return=minimal", r#"{"id": 7, "n": 7, "leaked": 1}"#)],
    ),
    (
        "a domain in a domain, in an array",
        "create domain api.checked as int check (private.leak());
         create domain api.wrapped as api.checked;
         alter table api.t add leaked api.wrapped[];",
        &[("POST", "/t", "return=minimal", r#"{"id": 7, "n": 7, "leaked": [1]}"#)],
    ),
    (
        "a composite type with a domain",
        "create domain api.checked as int check (private.leak());
         create type api.pair as (one api.checked);
         alter table api.t add leaked api.pair;",
        &[("POST", "/t", "return=minimal", r#"{"id": 7, "n": 7, "leaked": {"one": 1}}"#)],
    ),
    (
        "a policy for inserts",
        "alter table api.t enable row level security;
         create policy r on api.t for select using (true);
         create policy w on api.t for insert with check (private.leak());",
        &[POST, POST_ALL],
    ),
    (
        "policies by a built-in function",
        "alter table api.t enable row level security;
         create policy r on api.t for select using (true);
         create policy w on api.t for insert with check (pg_try_advisory_lock(42));
         create policy u on api.t for update using (pg_try_advisory_lock(42)) with check (true);
         create policy d on api.t for delete using (pg_try_advisory_lock(42));",
        &[POST, PATCH, DELETE],
    ),
    (
        "a policy's query",
        "create view private.shown as select private.leak();
         grant select on private.shown to public;
         alter table api.t enable row level security;
         create policy r on api.t for select using (true);
         create policy w on api.t for insert with check (exists (select from private.shown where leak));",
        &[POST],
    ),
    (
        "a generated column",
        "alter table api.t add leaked int generated always as (private.immutable(n)) stored;",
        &[POST, PATCH],
    ),
    ("an index of an expression", "create index on api.t (private.immutable(n));", &[POST, PATCH]),
    ("an index of some rows", "create index on api.t (n) where private.immutable(n) > 0;", &[POST, PATCH]),
    (
        "an operator class",
        "create function private.compare(api.mood, api.mood) returns int language plpgsql immutable as
         $$ begin perform private.leak(); return enum_cmp($1, $2); end $$;
         create operator class api.mood_ops for type api.mood using btree as
             operator 1 < (anyenum, anyenum), operator 2 <= (anyenum, anyenum), operator 3 = (anyenum, anyenum),
             operator 4 >= (anyenum, anyenum), operator 5 > (anyenum, anyenum),
             function 1 private.compare(api.mood, api.mood);
         alter table api.t add m api.mood;
         create index on api.t (m api.mood_ops);
         insert into api.t values (3, 3, 'sad');",
        &[("POST", "/t", "return=minimal", r#"{"id": 7, "n": 7, "m": "happy"}"#)],
    ),
    (
        "an exclusion constraint",
        "create function private.same(int, int) returns boolean language plpgsql immutable as
         $$ begin perform private.leak(); return $1 = $2; end $$;
         create operator api.=== (leftarg = int, rightarg = int, function = private.same, commutator = operator(api.===));
         create operator class api.int_ops for type int using btree as
             operator 1 <, operator 2 <=, operator 3 api.===, operator 4 >=, operator 5 >, function 1 btint4cmp(int, int);
         alter table api.t add exclude using btree (n api.int_ops with operator(api.===));",
        &[POST, PATCH],
    ),
    (
        "a partition's trigger",
        "alter table api.t rename to other;
         create table api.t (id int primary key, n int) partition by hash (id);
         create table private.part partition of api.t for values with (modulus 1, remainder 0);
         grant all on api.t to public;
         insert into api.t values (1, 1);
         create trigger t before insert or update or delete on private.part
             for each row execute function private.on_write();",
        &[POST, PATCH, DELETE],
    ),
    (
        "an inherited table's trigger",
        "create table private.child () inherits (api.t);
         insert into private.child values (1, 1);
         create trigger t before update or delete on private.child for each row execute function private.on_write();",
        &[PATCH, DELETE],
    ),
    (
        "a trigger of a table with a foreign key",
        "create table private.child (id int references api.t on delete cascade on update cascade);
         insert into private.child values (1);
         create trigger t before update or delete on private.child for each row execute function private.on_write();",
        &[("PATCH", "/t?id=eq.1", "return=representation", r#"{"id": 5}"#), DELETE],
    ),
    (
        "the default of a foreign key",
        "insert into api.t values (2, 2);
         create table private.child (id int default private.immutable(2) references api.t on delete set default);
         insert into private.child values (1);",
        &[DELETE],
    ),
    (
        "an index of a table with a foreign key",
        "create table private.child (id int references api.t);
         create index on private.child (private.immutable(id)) where private.immutable(3) > 0;",
        &[DELETE],
    ),
    (
        "an index of the table that is referenced",
        "create table private.parent (id int primary key);
         insert into private.parent values (7);
         create index on private.parent (private.immutable(id)) where private.immutable(3) > 0;
         alter table api.t add foreign key (n) references private.parent not valid;",
        &[POST],
    ),
    (
        "a view of a table with a trigger",
        "alter table api.t set schema private;
         create view api.t as select * from private.t;
         create trigger t before insert or update or delete on private.t
             for each row execute function private.on_write();
         grant all on api.t to public;",
        &[POST, PATCH, DELETE],
    ),
    (
        "a view's trigger",
        "alter table api.t set schema private;
         create view api.t as select id, n from private.t;
         create trigger t instead of insert or update or delete on api.t
             for each row execute function private.on_write();
         grant all on api.t to public;",
        &[POST, PATCH, DELETE],
    ),
    (
        "a view's default and its check",
        "alter table api.t set schema private;
         alter table private.t add leaked boolean;
         create view api.t as select * from private.t where n < 100 with check option;
         alter view api.t alter leaked set default private.leak();
         grant all on api.t to public;",
        &[POST],
    ),
    (
        "a computed column",
        "create function api.computed(api.t) returns boolean language sql as 'select private.leak()';",
        &[
            ("POST", "/t?select=id,computed", "return=representation", r#"{"id": 7, "n": 7}"#),
            ("POST", "/t?select=computed", "return=headers-only", r#"{"id": 7, "n": 7}"#),
            ("PATCH", "/t?computed=is.true", "return=minimal", r#"{"n": 7}"#),
            ("DELETE", "/t?id=eq.1&or=(computed.is.true,n.eq.1)", "return=minimal", ""),
        ],
    ),
    (
        "functions by other names",
        "create function api.json_to_record(json) returns setof record language plpgsql as
         $$ begin perform private.leak(); return query select 7, 7; end $$;
         create function api.now() returns timestamptz language plpgsql as
         $$ begin perform private.leak(); return clock_timestamp(); end $$;
         alter table api.t add at timestamptz default pg_catalog.now();",
        &[POST, ("POST", "/t", "missing=default", r#"{"id": 7, "n": 7}"#)],
    ),
    (
        "a default that another function is found for",
        "create function api.now() returns timestamptz language plpgsql as
         $$ begin perform private.leak(); return clock_timestamp(); end $$;
         alter table api.t add at timestamptz default pg_catalog.now();",
        &[
            ("POST", "/t?columns=id,n,at", "missing=default", r#"{"id": 7, "n": 7}"#),
            ("PATCH", "/t?id=eq.1&columns=n,at", "missing=default", r#"{"n": 7}"#),
        ],
    ),
];

const TABLE: &str = "
    create table api.t (id int primary key, n int);
    insert into api.t values (1, 1);
    grant all on api.t to public;
";

/// On one connection, where pg_catalog is not the first schema.
const OPTIONS: [(&str, &str); 4] = [
    ("db-pool", "1"),
    ("server-threads", "1"),
    ("db-extra-search-path", "pg_catalog"),
    ("db-tx-end", "commit-allow-override"),
];

async fn write(client: &mut Client, (method, target, prefer, body): Write) -> Reply {
    let headers = [("content-type", "application/json"), ("prefer", prefer)];
    client.request(method, target, &headers, body).await.unwrap()
}

/// What the next request sees, on a shared connection.
async fn residue(client: &mut Client) -> String {
    residue_by("GET", client).await
}

/// What the next request sees, on a connection of its own for `POST`.
async fn residue_by(method: &str, client: &mut Client) -> String {
    let reply = client.request(method, "/rpc/residue", &[], "").await.unwrap();
    reply.json().as_str().unwrap_or_else(|| panic!("{reply:?}")).to_owned()
}

/// The exposed relations, and for each whether reads, inserts and all writes are proved free of side effects.
fn proved(database: &Database) -> BTreeMap<String, (bool, bool, bool)> {
    let cache = on_one_thread(async {
        let target = Arc::new(Target::parse(&database.uri(), &BTreeMap::new()).unwrap());
        let connection = Connection::connect(&target, false).await.unwrap();
        SchemaCache::load(&connection, &["api".to_owned()]).await.unwrap()
    });
    let relations = cache.relations("api");
    relations
        .map(|relation| {
            let free = relation.side_effect_free;
            (relation.name.to_string(), (free.reads, free.inserts, free.changes))
        })
        .collect()
}

#[test]
fn user_defined_code_leaves_an_unchanged_session() {
    for (what, definitions, writes) in ATTEMPTS {
        let database = database(&format!("{SCHEMA}{TABLE}{definitions}"));
        let service = Service::start(&database.uri(), &OPTIONS);
        on_one_thread(async {
            let mut client = Client::connect(service.address).await;
            let last = &writes[writes.len() - 1];
            // Parsed, prepared, and executed as prepared; the last is committed.
            let ends = ["tx=rollback"; 3];
            let all = writes.iter().flat_map(|attempt| ends.map(|end| (attempt, end)));
            for (attempt, end) in all.chain([(last, "tx=commit")]) {
                let prefer = format!("{}, {end}", attempt.2);
                let headers = [("content-type", "application/json"), ("prefer", prefer.as_str())];
                let written = client.request(attempt.0, attempt.1, &headers, attempt.3).await.unwrap();
                // PostgreSQL rejects writes to tables with rules in a common table expression.
                let is_rejected = what == "a rule" && written.body.contains("0A000");
                assert!(written.status < 300 || is_rejected, "{what}: {attempt:?}: {written:?}");
                assert_eq!(residue(&mut client).await, CLEAN, "{what}: {attempt:?}: {written:?}");
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
         create extension btree_gist;
         create table api.plain (id int primary key, c citext, h hstore, m api.mood, list text[], j jsonb);
         create index on api.plain using gin (list);
         create index on api.plain (lower(c::text)) where id > 0;
         create table api.numbered (id bigint generated always as identity primary key, n serial, at timestamptz default now());
         create table api.random (id uuid primary key default gen_random_uuid(), r float default random(),
             at timestamptz default clock_timestamp(), who text not null default current_user,
             sub text default current_setting('request.jwt.claims', true)::json ->> 'sub');
         create table api.checked (n int check (n between 1 and 10), t varchar(10) check (t ~ '^a'),
             twice int generated always as (n * 2) stored, unique (n) deferrable initially deferred,
             exclude using gist (n with =));
         create table api.policed (id int, owner text);
         alter table api.policed enable row level security;
         create policy own on api.policed using (owner = current_setting('request.jwt.claims', true)::json ->> 'sub');
         create table api.parts (id int primary key) partition by range (id);
         create table private.part partition of api.parts for values from (0) to (10);
         create view api.shown as select id, m from api.plain where id > 0 with check option;

         create table api.customers (id int primary key);
         create table api.purchases (id int primary key, customer_id int references api.customers deferrable initially deferred);
         create table api.lines (id int primary key, purchase_id int references api.purchases on delete cascade);
         create table private.audit (line_id int references api.lines on delete set null);
         create trigger t after insert or update on private.audit for each row execute function private.on_write();

         create table private.secrets (id int primary key);
         alter table private.secrets enable row level security;
         create policy p on private.secrets using (private.leak());
         create table api.of_secrets (id int references private.secrets);
         create table api.overlooked (id int, d inet);
         create domain api.inet as pg_catalog.text;"
    ));
    let all = (true, true, true);
    let expected = [
        ("checked", all),
        ("customers", all),
        // A delete of a line updates private.audit, which has a trigger; one of a purchase deletes lines.
        ("lines", (true, true, false)),
        ("numbered", all),
        ("of_secrets", (true, false, false)),
        ("overlooked", (true, false, false)),
        ("parts", all),
        ("plain", all),
        ("policed", all),
        ("purchases", (true, true, false)),
        ("random", all),
        ("shown", all),
    ];
    assert_eq!(proved(&database), expected.map(|(name, free)| (name.to_owned(), free)).into());
}

/// A service with tables that draw numbers, and clients' requests on its one connection.
fn numbered() -> (Database, Service) {
    let database = database(&format!(
        "{SCHEMA}
         create table api.t (id bigint generated always as identity primary key, n int unique);
         create table api.s (id serial primary key, n int check (n < 100));
         create table api.checked (id serial primary key, n int references api.t (n) deferrable initially deferred);
         grant all on all tables in schema api to public;
         grant usage on all sequences in schema api to public;"
    ));
    assert_eq!(proved(&database).values().collect::<Vec<_>>(), [&(true, true, true); 3]);
    let service = Service::start(&database.uri(), &OPTIONS);
    (database, service)
}

#[test]
fn the_numbers_that_defaults_draw_are_not_seen() {
    let (_database, service) = numbered();
    on_one_thread(async {
        let mut client = Client::connect(service.address).await;
        for _ in 0..4 {
            for (attempt, status) in [
                (("POST", "/t", "return=minimal", r#"{}"#), 201),
                (("POST", "/s", "return=representation", r#"[{"n": 1}, {"n": 2}]"#), 201),
                (("POST", "/s", "return=headers-only", r#"{"n": 1}"#), 201),
                (("POST", "/s", "tx=rollback", r#"{"n": 1}"#), 201),
                (("POST", "/s", "missing=default", r#"{"n": 1}"#), 201),
                (("POST", "/s?on_conflict=id", "resolution=merge-duplicates", r#"{"n": 1}"#), 201),
                // It fails after it has drawn a number.
                (("POST", "/s", "return=minimal", r#"{"n": 100}"#), 400),
                (("POST", "/s", "tx=rollback", r#"{"n": 100}"#), 400),
                // The commit fails, with or without a transaction block.
                (("POST", "/checked", "return=minimal", r#"{"n": 5}"#), 409),
                (("POST", "/checked", "tx=rollback", r#"{"n": 5}"#), 409),
                (("PATCH", "/s?id=gt.0", "return=minimal", r#"{"n": 3}"#), 204),
                (("PATCH", "/s?id=gt.0", "handling=strict, max-affected=1", r#"{"n": 3}"#), 400),
            ] {
                for method in ["GET", "POST"] {
                    let written = write(&mut client, attempt).await;
                    assert_eq!(written.status, status, "{attempt:?}: {written:?}");
                    assert_eq!(residue_by(method, &mut client).await, CLEAN, "{attempt:?}, {method}");
                }
            }
            let accept = [
                ("accept", "application/vnd.pgrst.object+json"),
                ("content-type", "application/json"),
                ("prefer", "return=representation"),
            ];
            for (body, status) in [(r#"{"n": 1}"#, 201), (r#"[{"n": 1}, {"n": 2}]"#, 406)] {
                let written = client.request("POST", "/s", &accept, body).await.unwrap();
                assert_eq!(written.status, status, "{written:?}");
                assert_eq!(residue(&mut client).await, CLEAN, "{written:?}");
            }
        }
    });
}

#[test]
fn a_cancelled_write_leaves_an_unchanged_session() {
    let (database, service) = numbered();
    let waits = || database.psql("select count(*) from pg_locks where not granted") != "0";
    on_one_thread(async {
        for _ in 0..4 {
            let connection = Connection::connect(&database.superuser(), false).await.unwrap();
            connection.query(&"begin".into()).await.unwrap();
            connection.query(&"insert into api.t (n) values (50)".into()).await.unwrap();
            let mut leaving = Client::connect(service.address).await;
            // It has drawn a number, and waits for the other transaction.
            let written = write(&mut leaving, ("POST", "/t", "return=minimal", r#"{"n": 50}"#));
            let waiting = async {
                while !waits() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                reply = written => panic!("{reply:?}"),
                () = waiting => {}
            }
            drop(leaving);
            let mut client = Client::connect(service.address).await;
            assert_eq!(residue(&mut client).await, CLEAN);
            connection.query(&"rollback".into()).await.unwrap();
        }
    });
}

/// The schema changes while a request's body is received: what was proved when the request arrived does not count.
#[test]
fn a_proof_ends_with_the_schema_it_is_of() {
    let database = database(&format!("{SCHEMA}{TABLE}"));
    let service = Service::start(&database.uri(), &OPTIONS);
    let body = r#"{"id": 7, "n": 7}"#;
    let mut slow = std::net::TcpStream::connect(service.address).unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head = format!(
        "POST /t HTTP/1.1\r\nhost: api\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{{",
        body.len()
    );
    slow.write_all(head.as_bytes()).unwrap();
    // Its head has been received when a later request is answered, as there is one thread.
    on_one_thread(async {
        let mut client = Client::connect(service.address).await;
        assert_eq!(write(&mut client, ("POST", "/t", "tx=rollback", body)).await.status, 201);
    });
    database.psql(
        "create trigger t before insert on api.t for each row execute function private.on_write();
         create view api.after as select 1 as n;
         grant select on api.after to public;
         notify pgrst, 'reload schema'",
    );
    wait_until("the schema is loaded", || service.get("/after").status == 200);
    slow.write_all(&body.as_bytes()[1..]).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut slow, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    on_one_thread(async {
        let mut client = Client::connect(service.address).await;
        assert_eq!(residue(&mut client).await, CLEAN);
    });
}

/// Nothing is proved while the response is set for all requests of a role.
#[test]
fn a_roles_response_settings_apply() {
    let database = database(&format!("{SCHEMA}{TABLE}"));
    assert_eq!(proved(&database)["t"], (true, true, true));
    let role = format!("responding_{}", database.name);
    database.psql(&format!(
        r#"create role {role};
           grant {role} to authenticator;
           alter role {role} in database {} set response.headers = '[{{"X-Role": "responds"}}]';"#,
        database.name
    ));
    assert_eq!(proved(&database)["t"], (false, false, false));
    let options = [("db-anon-role", role.as_str()), ("server-threads", "1")];
    let service = Service::start(&database.uri(), &options);
    on_one_thread(async {
        let mut client = Client::connect(service.address).await;
        for attempt in [("GET", "/t", "", ""), PATCH, POST, DELETE] {
            let reply = write(&mut client, attempt).await;
            assert_eq!(reply.header("x-role"), Some("responds"), "{attempt:?}: {reply:?}");
        }
    });
    database.psql(&format!("drop role {role}"));
}

/// The answers of the plain form, on tables and with preferences of all kinds, are those of the general form.
#[test]
fn answers_are_those_of_the_general_form() {
    let schema = "
        create table api.t (id int primary key, n numeric default 1.50, f float8, b boolean, at timestamptz, m api.mood,
            list text[], j jsonb, c char(3), \"odd \"\"name\" text);
        grant all on api.t to public;
        -- Rows and a column that may be written and not read.
        create table api.guarded (id int, n int, hidden int);
        insert into api.guarded values (1, 1, 1), (2, 20, 2);
        alter table api.guarded enable row level security;
        create policy read on api.guarded for select using (n < 10);
        create policy write on api.guarded for update using (true);
        create policy remove on api.guarded for delete using (true);
        create policy add on api.guarded for insert with check (true);
        grant insert, update, delete, select (id, n) on api.guarded to public;
        -- A primary key that may not be read.
        create table api.keyed (id int primary key, n int);
        insert into api.keyed values (1, 1);
        grant insert, update, delete, select (n) on api.keyed to public;
    ";
    let plain = database(&format!("{SCHEMA}{schema}"));
    // The same with a trigger that does nothing.
    let general = database(&format!(
        "{SCHEMA}{schema}
         create function private.nothing() returns trigger language plpgsql as $$ begin return null; end $$;
         create trigger t after insert on api.t execute function private.nothing();
         create trigger guarded after insert on api.guarded execute function private.nothing();
         create trigger keyed after insert on api.keyed execute function private.nothing();"
    ));
    for relation in ["t", "guarded", "keyed"] {
        assert_eq!((proved(&plain)[relation].2, proved(&general)[relation].1), (true, false));
    }
    let services = [&plain, &general].map(|database| Service::start(&database.uri(), &OPTIONS));
    let full = r#"{"id": 1, "n": 2.10, "f": "NaN", "b": true, "at": "2026-11-30T12:00:00+02:00", "m": "sad", "list": ["a", null],
        "j": {"b": 1, "a": [1.0]}, "c": "x", "odd \"name": "é\"\\\n"}"#;
    let mut cases: Vec<(&str, &str, &str, &str, &str)> = Vec::new();
    let accepts = [
        "application/json",
        "application/vnd.pgrst.object+json",
        "text/csv",
        "application/vnd.pgrst.array+json;nulls=stripped",
    ];
    let returns = [
        "return=minimal",
        "return=headers-only",
        "return=representation",
        "return=representation, count=exact",
        "return=representation, missing=default",
        "return=representation, tx=rollback",
        "resolution=merge-duplicates, return=representation",
        "resolution=ignore-duplicates, return=representation",
        "resolution=ignore-duplicates",
    ];
    for accept in accepts {
        for prefer in returns {
            cases.push(("POST", "/t", accept, prefer, full));
            cases.push(("POST", "/t", accept, prefer, full));
            cases.push((
                "POST",
                "/t?select=key:id,m,j&columns=id,m",
                accept,
                prefer,
                r#"[{"id": 2, "m": "happy", "x": 1}, {"id": 3}]"#,
            ));
            cases.push(("PATCH", "/t?id=gt.1&order=id.desc", accept, prefer, r#"{"n": 5}"#));
            cases.push(("PATCH", "/t?id=gt.1", accept, prefer, r#"{"n": 5, "m": "sad"}"#));
            cases.push(("PATCH", "/t?id=gt.1", accept, prefer, "{}"));
            cases.push(("PATCH", "/t?id=eq.77", accept, prefer, r#"{"n": 5}"#));
            cases.push(("POST", "/t", accept, prefer, "[]"));
            cases.push(("POST", "/t", accept, prefer, r#"{"id": 4, "m": "wrong"}"#));
            cases.push(("POST", "/t?select=id::text,id2:id::text", accept, prefer, r#"{"id": 5}"#));
            cases.push(("PUT", "/t?id=eq.6", accept, prefer, r#"{"id": 6, "n": 1}"#));
            cases.push(("PUT", "/t?id=eq.6", accept, prefer, r#"{"id": 7, "n": 1}"#));
            cases.push(("DELETE", "/t?id=lt.3&select=*", accept, prefer, ""));
            cases.push((
                "DELETE",
                "/t?id=gt.0&select=id,n",
                accept,
                "handling=strict, max-affected=1, return=representation",
                "",
            ));
            cases.push(("DELETE", "/t", accept, prefer, ""));
            let undone = format!("{prefer}, tx=rollback").leak();
            for target in ["/guarded", "/guarded?id=eq.2", "/guarded?select=id", "/guarded?hidden=is.null"] {
                cases.push(("PATCH", target, accept, undone, r#"{"n": 50}"#));
                cases.push(("PATCH", target, accept, undone, r#"{"n": 5}"#));
                cases.push(("DELETE", target, accept, undone, ""));
                cases.push(("POST", target, accept, undone, r#"{"id": 3, "n": 50}"#));
            }
            for target in ["/keyed?select=n", "/keyed?select=id", "/keyed"] {
                cases.push(("POST", target, accept, undone, r#"{"id": 3, "n": 50}"#));
                cases.push(("PATCH", target, accept, undone, r#"{"n": 5}"#));
            }
        }
    }
    let answers = services.map(|service| {
        on_one_thread(async {
            let mut client = Client::connect(service.address).await;
            let mut answers = Vec::new();
            for (method, target, accept, prefer, body) in &cases {
                let headers = [("content-type", "application/json"), ("accept", accept), ("prefer", prefer)];
                let Reply { status, mut headers, body } =
                    client.request(method, target, &headers, body).await.unwrap();
                headers.remove("date");
                // Rows are returned in the order they are found in.
                let parts =
                    body.split(['{', '\n']).map(|part| part.trim_matches(['[', ']', ',', ' ']).to_owned());
                let mut rows: Vec<_> = parts.collect();
                rows.sort();
                answers.push((status, headers, rows));
            }
            answers
        })
    });
    for ((case, plain), general) in cases.iter().zip(&answers[0]).zip(&answers[1]) {
        assert_eq!(plain, general, "{case:?}");
    }
    assert!(answers[0].iter().filter(|(status, ..)| *status < 300).count() > cases.len() / 3);
}
