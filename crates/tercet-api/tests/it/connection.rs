//! The PostgreSQL client: authentication, exchanges, prepared statements, errors, cancel, notifications; and the
//! pool's idle connections.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tercet_api::pool::{Counts, LeaseMode, Options, Pool, SessionState};
use tercet_postgres::{Connection, DatabaseError, Statement};

use crate::postgres::{Database, database};
use crate::service::on_one_thread;

async fn connect(database: &Database) -> Connection {
    Connection::connect(&database.target(), true).await.unwrap()
}

fn select(sql: &str, parameters: &[&str]) -> Statement {
    Statement::new(sql, parameters.iter().map(|value| Some(value.to_string().into())).collect())
}

async fn text(connection: &Connection, statement: &Statement) -> Result<String, DatabaseError> {
    let rows = connection.query(statement).await?;
    Ok(rows[0].text(0).unwrap_or("NULL").to_owned())
}

#[test]
fn authenticates_by_password_and_sends_parameters() {
    let database = database("");
    on_one_thread(async {
        let connection = connect(&database).await;
        let statement =
            select("select $1::text || ':' || $2::int + 1 || ':' || current_user", &["a'b", "41"]);
        for _ in 0..4 {
            assert_eq!(text(&connection, &statement).await.unwrap(), "a'b:42:authenticator");
        }
        let prepared =
            text(&connection, &"select count(*) from pg_prepared_statements".into()).await.unwrap();
        assert_eq!(prepared, "1", "a repeated statement is prepared once");
    });
}

#[test]
fn a_wrong_password_is_rejected() {
    let database = database("");
    let mut target = (*database.target()).clone();
    target.password = Some("wrong".to_owned());
    let error = on_one_thread(async { Connection::connect(&target.into(), true).await.unwrap_err() });
    assert_eq!(error.sqlstate.as_deref(), Some("28P01"));
}

#[test]
fn an_exchange_is_one_transaction_and_fails_alone() {
    let database = database("create table t (n int primary key); grant all on t to authenticator;");
    on_one_thread(async {
        let connection = connect(&database).await;
        let insert = |n: &str| select("insert into t values ($1)", &[n]);
        let (first, second, count) = (insert("1"), insert("2"), "select n from t".into());
        let (good, bad, after) = tokio::join!(
            connection.exchange([&first]),
            connection.exchange([&second, &first]),
            connection.query(&count),
        );
        good.unwrap();
        assert_eq!(bad.unwrap_err().code(), Some("23505"));
        assert_eq!(after.unwrap().len(), 1, "the failed exchange left nothing");
        assert!(connection.is_idle() && !connection.is_closed());
    });
}

#[test]
fn settings_end_with_the_exchange() {
    let database = database("");
    on_one_thread(async {
        let connection = connect(&database).await;
        let set = select("select set_config('role', 'anon', true), set_config('my.claim', $1, true)", &["x"]);
        let get = "select concat(current_user, ' ', current_setting('my.claim', true))".into();
        let (inside, outside) = tokio::join!(connection.exchange([&set, &get]), connection.query(&get));
        assert_eq!(inside.unwrap()[1][0].text(0), Some("anon x"));
        assert_eq!(outside.unwrap()[0].text(0), Some("authenticator "));
    });
}

#[test]
fn a_failed_prepare_leaves_the_connection_usable() {
    let database = database("");
    on_one_thread(async {
        let connection = connect(&database).await;
        let statement: Statement = "select n from missing".into();
        for _ in 0..3 {
            let (one, other) = tokio::join!(connection.query(&statement), connection.query(&statement));
            assert_eq!(one.unwrap_err().code(), Some("42P01"));
            assert_eq!(other.unwrap_err().code(), Some("42P01"));
        }
        database.psql("create table missing (n int); grant select on missing to authenticator;");
        for _ in 0..3 {
            assert!(connection.query(&statement).await.unwrap().is_empty());
        }
    });
}

#[test]
fn nul_is_rejected_in_parameters_and_sql() {
    let database = database("");
    on_one_thread(async {
        let connection = connect(&database).await;
        let error = connection.query(&select("select $1::text", &["a\0b"])).await.unwrap_err();
        assert_eq!(error.code(), Some("22021"));
        assert!(connection.query(&"select 'a\0b'".into()).await.is_err());
        assert_eq!(text(&connection, &"select 1".into()).await.unwrap(), "1");
    });
}

#[test]
fn cancel_stops_the_running_statement_only() {
    let database = database("");
    on_one_thread(async {
        let connection = connect(&database).await;
        let observer = Connection::connect(&database.superuser(), true).await.unwrap();
        let sleeping = connection.exchange([&"select pg_sleep(600)".into()]);
        let active = select(
            "select count(*) from pg_stat_activity where pid = $1::int and wait_event = 'PgSleep'",
            &[&connection.process_id().to_string()],
        );
        while text(&observer, &active).await.unwrap() != "1" {
            tokio::task::yield_now().await;
        }
        connection.cancel().await.unwrap();
        let next = connection.exchange([&"select 1".into()]);
        assert_eq!(sleeping.await.unwrap_err().code(), Some("57014"));
        assert!(next.await.is_ok());
    });
}

#[test]
fn notifications_arrive() {
    let database = database("");
    on_one_thread(async {
        let connection = connect(&database).await;
        let mut notifications = connection.listen("Some channel").await.unwrap();
        connection.query(&r#"notify "Some channel", 'reload schema'"#.into()).await.unwrap();
        let notification = notifications.recv().await.unwrap();
        assert_eq!((&*notification.channel, &*notification.payload), ("Some channel", "reload schema"));
        let kill = format!("select pg_terminate_backend({})", connection.process_id());
        database.psql(&kill);
        assert_eq!(notifications.recv().await, None, "the end of the connection ends the receiver");
        assert_eq!(connection.query(&"select 1".into()).await.unwrap_err().code(), Some("57P01"));
    });
}

#[test]
fn one_idle_connection_is_kept() {
    let database = database("");
    let options = Options {
        target: database.target(),
        size: 3,
        acquisition_timeout: Duration::from_secs(10),
        max_idletime: Duration::ZERO,
        max_lifetime: Duration::from_secs(1000),
        prepare: true,
        session: String::new(),
    };
    let counts = Arc::new(Counts::default());
    let open = || counts.open.load(Ordering::Relaxed);
    on_one_thread(async {
        let pool = Pool::new(options, Arc::clone(&counts), |error| panic!("lost: {error}"));
        let leases = [
            pool.lease(LeaseMode::Exclusive(SessionState::MayChange)).await.unwrap(),
            pool.lease(LeaseMode::Exclusive(SessionState::MayChange)).await.unwrap(),
        ];
        assert_eq!(open(), 2);
        drop(leases);
        // Idle connections are all closed in one turn of the event loop.
        let gone = async {
            while open() == 2 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), gone).await.expect("idle connections are closed");
        assert_eq!(open(), 1);
    });
}
