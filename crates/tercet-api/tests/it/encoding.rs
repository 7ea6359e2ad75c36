//! Requests and responses are UTF-8, whatever `client_encoding` a role, a database or a function sets.

use serde_json::json;

use crate::postgres::database;
use crate::service::{Client, Service, on_one_thread};

const SCHEMA: &str = "
    create schema api;
    grant usage on schema api to public;
    create table api.texts (id int primary key, t text);
    create table api.triggered (id int);

    create function api.local() returns text language plpgsql as $$
    begin
        insert into api.texts values (100, 'é');
        perform set_config('client_encoding', 'LATIN1', true);
        return 'é';
    end
    $$;
    create function api.of_session() returns text language plpgsql as $$
    begin
        perform set_config('client_encoding', 'LATIN1', false);
        return 'é';
    end
    $$;
    create function api.by_clause() returns text language plpgsql set client_encoding = 'LATIN1' as $$
    begin
        return 'é';
    end
    $$;
    create function api.on_write() returns trigger language plpgsql as $$
    begin
        perform set_config('client_encoding', 'WIN1252', true);
        return new;
    end
    $$;
    create trigger encode before insert on api.triggered for each row execute function api.on_write();
    create function api.before() returns void language plpgsql as $$
    begin
        perform set_config('client_encoding', 'LATIN1', true);
    end
    $$;
    create view api.shown as select id, api.of_session() as t from api.texts;
    grant select, insert on all tables in schema api to public;
";

/// \u{e9} is one byte in LATIN1; its two bytes in UTF-8 are two letters there.
const TEXT: &str = "é€ñ";

async fn writes_and_reads(client: &mut Client, id: u32) {
    let headers = [("content-type", "application/json"), ("prefer", "return=representation")];
    let body = json!({"id": id, "t": TEXT}).to_string();
    let written = client.request("POST", "/texts", &headers, &body).await.unwrap();
    assert_eq!((written.status, written.json()), (201, json!([{"id": id, "t": TEXT}])), "{written:?}");
    // Parsed, prepared, and executed as prepared.
    for _ in 0..3 {
        let read = client.request("GET", "/texts?t=eq.%C3%A9%E2%82%AC%C3%B1&limit=1", &[], "").await.unwrap();
        assert_eq!(read.json()[0]["t"], TEXT, "{read:?}");
    }
}

#[test]
fn role_and_database_encodings_have_no_effect() {
    let database = database(SCHEMA);
    let (login, role) = (format!("login_{}", database.name), format!("encoded_{}", database.name));
    database.psql(&format!(
        "create role {role} nologin;
         create role {login} login noinherit password 'secret';
         grant {role} to {login};
         alter role {role} set client_encoding = 'LATIN1';
         alter role {role} in database {0} set client_encoding = 'WIN1252';
         alter role {login} set client_encoding = 'LATIN1';
         alter database {0} set client_encoding = 'LATIN1';",
        database.name
    ));
    let uri = database.uri().replace("authenticator", &login);
    let service = Service::start(&uri, &[("db-anon-role", role.as_str()), ("db-pool", "1")]);
    on_one_thread(async {
        let mut client = Client::connect(service.address).await;
        for id in 1..4 {
            writes_and_reads(&mut client, id).await;
        }
    });
    let stored = database.psql("select distinct encode(convert_to(t, 'UTF8'), 'hex') from api.texts");
    assert_eq!(stored, "c3a9e282acc3b1");
}

#[test]
fn a_function_that_changes_it_fails_and_is_rolled_back() {
    let database = database(SCHEMA);
    let service = Service::start(&database.uri(), &[("db-pool", "1"), ("server-threads", "1")]);
    on_one_thread(async {
        let mut client = Client::connect(service.address).await;
        writes_and_reads(&mut client, 1).await;
        let headers = [("content-type", "application/json")];
        for _ in 0..3 {
            for (method, target, body) in [
                ("POST", "/rpc/local", ""),
                ("POST", "/rpc/of_session", ""),
                ("GET", "/rpc/of_session", ""),
                ("GET", "/shown", ""),
                ("POST", "/triggered", r#"{"id": 1}"#),
            ] {
                let reply = client.request(method, target, &headers, body).await.unwrap();
                assert_eq!(
                    (reply.status, &reply.json()["code"]),
                    (500, &json!("38000")),
                    "{target}: {reply:?}"
                );
                let read = client.request("GET", "/texts", &[], "").await.unwrap();
                assert_eq!(read.json(), json!([{"id": 1, "t": TEXT}]), "after {target}");
            }
            let reply = client.request("POST", "/rpc/by_clause", &headers, "").await.unwrap();
            assert_eq!((reply.status, reply.json()), (200, json!("é")), "for as long as it runs: {reply:?}");
        }
    });
    assert_eq!(database.psql("select count(*) from api.triggered"), "0");
}

#[test]
fn a_pre_request_function_cannot_change_it() {
    let database = database(SCHEMA);
    let service = Service::start(&database.uri(), &[("db-pool", "1"), ("db-pre-request", "api.before")]);
    on_one_thread(async {
        let mut client = Client::connect(service.address).await;
        for id in 1..4 {
            writes_and_reads(&mut client, id).await;
        }
    });
}
