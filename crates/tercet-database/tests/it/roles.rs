//! Who gets in, and what each role may do.

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use tercet_database::roles;

use crate::server::{NAME, Server};

/// `Ok`, or the SQLSTATE with which PostgreSQL refuses.
async fn check(connection: &mut PgConnection, sql: &'static str, expected: Result<(), &str>) {
    let outcome = sqlx::raw_sql(sql).execute(&mut *connection).await.map(drop);
    let code = outcome.map_err(|error| error.as_database_error().unwrap().code().unwrap().into_owned());
    assert_eq!(code.as_ref().map_err(String::as_str).copied(), expected, "{sql}");
}

async fn refused(options: PgConnectOptions) -> String {
    let error = options.connect().await.unwrap_err();
    error.as_database_error().unwrap_or_else(|| panic!("{error}")).code().unwrap().into_owned()
}

#[tokio::test]
async fn each_role_can_do_what_its_place_needs_and_nothing_else() {
    const DENIED: Result<(), &str> = Err("42501");
    let server = Server::start().await;
    let mut owner = server.owner().connect().await.unwrap();
    check(&mut owner, "create table books (id int generated always as identity, title text)", Ok(())).await;
    check(&mut owner, "create function one() returns int language sql return 1", Ok(())).await;
    let mut session = server.authenticator().connect().await.unwrap();
    check(&mut session, "set role anon; select from books", DENIED).await;
    check(&mut session, "set role authenticated; select from books", DENIED).await;
    check(&mut session, "set role authenticated; select one()", DENIED).await;
    check(&mut owner, "grant select on books to anon", Ok(())).await;
    check(&mut owner, "grant select, insert, update, delete on books to authenticated", Ok(())).await;
    check(&mut owner, "create role other", DENIED).await;
    check(&mut owner, "set role anon", DENIED).await;
    check(&mut owner, "copy (select 1) to program 'true'", DENIED).await;

    let mut session = server.authenticator().connect().await.unwrap();
    check(&mut session, "select from public.books", DENIED).await;
    check(&mut session, "set role \"book-shop_owner\"", DENIED).await;
    check(&mut session, "set role postgres", DENIED).await;
    check(&mut session, "create temporary table t ()", DENIED).await;
    check(&mut session, "set role anon; select from books", Ok(())).await;
    check(&mut session, "insert into books (title) values ('a')", DENIED).await;
    check(&mut session, "create table public.mine ()", DENIED).await;
    check(&mut session, "select from tercet.migrations", DENIED).await;
    check(&mut session, "set role authenticated; insert into books (title) values ('a')", Ok(())).await;
    check(&mut session, "update books set title = 'b'; delete from books", Ok(())).await;
    check(&mut session, "truncate books", DENIED).await;
    session.close().await.unwrap();

    // A second start changes nothing, except that a person's own program begins as a request role.
    let again = |role| roles::prepare(|name| server.cluster.superuser(name), NAME, &server.passwords, role);
    check(
        &mut owner,
        "alter default privileges in schema public grant select on tables to authenticated",
        Ok(()),
    )
    .await;
    again(Some(roles::AUTHENTICATED)).await.unwrap();
    check(&mut owner, "create table private ()", Ok(())).await;
    let mut session = server.authenticator().connect().await.unwrap();
    check(&mut session, "select from books; select from private", Ok(())).await;
    check(&mut session, "set role anon; select from private", DENIED).await;
    again(None).await.unwrap();
    let mut session = server.authenticator().connect().await.unwrap();
    check(&mut session, "select from public.books", DENIED).await;

    let wrong = tercet_database::Password::generate().unwrap();
    assert_eq!(refused(server.options(roles::AUTHENTICATOR, &wrong)).await, "28P01");
    assert_eq!(refused(server.authenticator().database("postgres")).await, "28000");
    assert_eq!(refused(server.options("postgres", &server.passwords.owner)).await, "28000");
    assert_eq!(refused(server.options("anon", &server.passwords.owner)).await, "28000");
}

#[tokio::test]
async fn whoever_listens_hears_of_a_changed_schema() {
    let server = Server::start().await;
    let mut listener = sqlx::postgres::PgListener::connect_with(
        &sqlx::postgres::PgPoolOptions::new().connect_with(server.authenticator()).await.unwrap(),
    )
    .await
    .unwrap();
    listener.listen("pgrst").await.unwrap();
    let mut owner = server.owner().connect().await.unwrap();
    for statement in ["create table books ()", "drop table books"] {
        sqlx::query(statement).execute(&mut owner).await.unwrap();
        assert_eq!(listener.recv().await.unwrap().payload(), "reload schema");
    }
}
