//! Requests share connections and nothing else: whatever other requests do on the same connections (fail, time out,
//! disconnect, leave settings), a request has its own role, claims, settings and transaction.

use std::rc::Rc;

use serde_json::json;

use crate::postgres::database;
use crate::service::{Choices, Client, Reply, Service, bearer, on_one_thread};

const SCHEMA: &str = r"
    do $$
    begin
        for number in 0..9 loop
            execute format('create role isolated_%s nologin', number);
            execute format('grant isolated_%s to authenticator', number);
        end loop;
    end
    $$;
    alter role isolated_7 set statement_timeout = '20ms';
    alter role isolated_8 set app.kind = 'eight';
    create schema api;
    grant usage on schema api to public;

    create view api.me as select
        current_user as role,
        current_setting('request.jwt.claims')::json ->> 'id' as id,
        current_setting('request.headers')::json ->> 'x-tag' as tag,
        nullif(current_setting('app.kind', true), '') as kind,
        nullif(current_setting('app.leak', true), '') as leak,
        to_regclass('pg_temp.leaked') is not null as leaked_table,
        pg_sleep((current_setting('request.headers')::json ->> 'x-sleep')::float) is null as slept;
    grant select on api.me to public;

    create table api.notes (id text primary key, owner text not null default current_user);
    alter table api.notes enable row level security;
    create policy own on api.notes using (owner = current_user) with check (owner = current_user);
    grant select, insert on api.notes to public;

    create function api.leak(value text) returns void language plpgsql as $$
    begin
        perform set_config('app.leak', value, false);
        perform set_config('role', 'isolated_0', false);
        create temporary table if not exists leaked (secret text);
        perform pg_advisory_lock(hashtext(value));
    end
    $$;
    create function api.fail() returns void language plpgsql as $$
    begin
        perform set_config('app.leak', 'from a failure', false);
        raise exception 'as asked';
    end
    $$;
";

const CLIENTS: u64 = 24;
const REQUESTS: u64 = 200;

#[test]
fn thousands_of_requests_on_few_connections_are_isolated() {
    let database = database(SCHEMA);
    let service =
        Service::start(&database.uri(), &[("db-pool", "4"), ("db-tx-end", "commit-allow-override")]);
    let inserted: u64 = on_one_thread(async {
        let service = Rc::new(service);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| tokio::task::spawn_local(client(Rc::clone(&service), number)))
            .collect();
        let mut inserted = 0;
        for client in clients {
            inserted += client.await.unwrap();
        }
        inserted
    });
    let kept: u64 = database.psql("select count(*) from api.notes").parse().unwrap();
    assert_eq!(kept, inserted, "exactly the rows answered 201 exist");
    let wrong =
        database.psql("select count(*) from api.notes where owner <> 'isolated_' || split_part(id, '-', 3)");
    assert_eq!(wrong, "0");
    assert_eq!(database.psql("select count(*) from pg_locks where locktype = 'advisory'"), "0");
}

/// Whether it is the role with a statement timeout, and the timeout occurred.
fn timed_out(role: u64, reply: &Reply) -> bool {
    role == 7 && reply.status == 500 && reply.json()["code"] == "57014"
}

/// One client's requests, each with another role; returns the number of rows reported as inserted.
async fn client(service: Rc<Service>, number: u64) -> u64 {
    let mut choices = Choices(number);
    let mut client = Client::connect(service.address).await;
    let mut inserted = 0;
    for request in 0..REQUESTS {
        let role = choices.next(10);
        let id = format!("{number}-{request}-{role}");
        let name = format!("isolated_{role}");
        let token = bearer(&name, &id);
        let mut headers = vec![("authorization", token.as_str()), ("x-tag", id.as_str())];
        match choices.next(10) {
            0 => {
                let body = json!({"value": id}).to_string();
                let headers = [headers.as_slice(), &[("content-type", "application/json")]].concat();
                let reply = client.request("POST", "/rpc/leak", &headers, &body).await.unwrap();
                assert!(reply.status == 204 || timed_out(role, &reply), "{reply:?}");
            }
            1 => {
                let reply = client.request("POST", "/rpc/fail", &headers, "").await.unwrap();
                assert!(reply.json()["code"] == "P0001" || timed_out(role, &reply), "{reply:?}");
            }
            2 => {
                // Disconnects during the request.
                headers.push(("x-sleep", "0.05"));
                let mut leaving = Client::connect(service.address).await;
                let asked = leaving.request("GET", "/me", &headers, "");
                let _ = tokio::time::timeout(std::time::Duration::from_millis(choices.next(10)), asked).await;
            }
            3 | 4 => {
                let rolls_back = choices.next(2) == 0;
                let prefer = if rolls_back { "tx=rollback" } else { "tx=commit" };
                let headers =
                    [headers.as_slice(), &[("prefer", prefer), ("content-type", "application/json")]]
                        .concat();
                let body = json!({"id": id}).to_string();
                let reply = client.request("POST", "/notes", &headers, &body).await.unwrap();
                assert!(reply.status == 201 || timed_out(role, &reply), "{reply:?}");
                inserted += u64::from(reply.status == 201 && !rolls_back);
            }
            5 => {
                let reply = client.request("GET", "/notes?select=owner", &headers, "").await.unwrap();
                if timed_out(role, &reply) {
                    continue;
                }
                let owners = reply.json();
                let all_own = owners.as_array().unwrap().iter().all(|note| note["owner"] == name.as_str());
                assert!(all_own, "{name} sees {owners}");
            }
            _ => {
                headers.push(("x-sleep", if choices.next(20) == 0 { "0.03" } else { "0" }));
                let reply = client.request("GET", "/me", &headers, "").await.unwrap();
                if timed_out(role, &reply) {
                    continue;
                }
                let kind = if role == 8 { json!("eight") } else { json!(null) };
                let expected = json!([{
                    "role": name, "id": id, "tag": id, "kind": kind,
                    "leak": null, "leaked_table": false, "slept": false,
                }]);
                assert_eq!(reply.json(), expected);
            }
        }
    }
    inserted
}
