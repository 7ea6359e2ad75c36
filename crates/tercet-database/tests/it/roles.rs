//! Who gets in, and what each role may do.

use tercet_database::roles;
use tercet_postgres::{Connection, Target};

use crate::server::{NAME, Server, connect, value};

/// `Ok`, or the SQLSTATE with which PostgreSQL refuses.
async fn check(connection: &Connection, sql: &str, expected: Result<(), &str>) {
    let outcome = connection.simple_query(sql).await.map(drop);
    let code = outcome.map_err(|error| error.code().unwrap().to_owned());
    assert_eq!(code.as_ref().map_err(String::as_str).copied(), expected, "{sql}");
}

async fn refused(target: Target) -> String {
    let error = Connection::connect(&target.into(), false).await.unwrap_err();
    error.sqlstate.clone().unwrap_or_else(|| panic!("{error}"))
}

#[tokio::test(flavor = "local")]
async fn each_role_can_do_what_its_place_needs_and_nothing_else() {
    const DENIED: Result<(), &str> = Err("42501");
    let server = Server::start().await;
    let owner = connect(server.owner()).await;
    check(&owner, "create table books (id int generated always as identity, title text)", Ok(())).await;
    check(&owner, "create function one() returns int language sql return 1", Ok(())).await;
    let session = connect(server.authenticator()).await;
    check(&session, "set role anon; select from books", DENIED).await;
    check(&session, "set role authenticated; select from books", DENIED).await;
    check(&session, "set role authenticated; select one()", DENIED).await;
    check(&owner, "grant select on books to anon", Ok(())).await;
    check(&owner, "grant select, insert, update, delete on books to authenticated", Ok(())).await;
    check(&owner, "create role other", DENIED).await;
    check(&owner, "set role anon", DENIED).await;
    check(&owner, "copy (select 1) to program 'true'", DENIED).await;

    let session = connect(server.authenticator()).await;
    check(&session, "select from public.books", DENIED).await;
    check(&session, "set role \"book-shop_owner\"", DENIED).await;
    check(&session, "set role postgres", DENIED).await;
    check(&session, "create temporary table t ()", DENIED).await;
    check(&session, "set role anon; select from books", Ok(())).await;
    check(&session, "insert into books (title) values ('a')", DENIED).await;
    check(&session, "create table public.mine ()", DENIED).await;
    check(&session, "select from tercet.migrations", DENIED).await;
    check(&session, "set role authenticated; insert into books (title) values ('a')", Ok(())).await;
    check(&session, "update books set title = 'b'; delete from books", Ok(())).await;
    check(&session, "truncate books", DENIED).await;

    // A second start changes nothing, except that a person's own program begins as a request role.
    let again = |role| roles::prepare(|name| server.cluster.superuser(name), NAME, &server.passwords, role);
    check(
        &owner,
        "alter default privileges in schema public grant select on tables to authenticated",
        Ok(()),
    )
    .await;
    // A superuser's own grants and settings stay.
    let superuser = connect(server.cluster.superuser(NAME)).await;
    let additions = "create role editor; grant editor to authenticator; \
                     alter role authenticator set pgrst.db_max_rows = '3'; grant connect on database \"book-shop\" to editor";
    check(&superuser, additions, Ok(())).await;
    again(Some(roles::AUTHENTICATED)).await.unwrap();
    check(&owner, "create table private ()", Ok(())).await;
    let session = connect(server.authenticator()).await;
    check(&session, "select from books; select from private", Ok(())).await;
    check(&session, "set role anon; select from private", DENIED).await;
    again(None).await.unwrap();
    let session = connect(server.authenticator()).await;
    check(&session, "select from public.books", DENIED).await;
    let kept = "select concat_ws(' ', pg_has_role('authenticator', 'editor', 'member'), current_setting('pgrst.db_max_rows'), \
                has_database_privilege('editor', current_database(), 'connect'))";
    assert_eq!(value(&session, kept).await, "t 3 t");

    let wrong = tercet_database::Password::generate().unwrap();
    assert_eq!(refused(server.target(roles::AUTHENTICATOR, &wrong)).await, "28P01");
    assert_eq!(refused(Target { database: "postgres".to_owned(), ..server.authenticator() }).await, "28000");
    assert_eq!(refused(server.target("postgres", &server.passwords.owner)).await, "28000");
    assert_eq!(refused(server.target("anon", &server.passwords.owner)).await, "28000");
}

#[tokio::test(flavor = "local")]
async fn listeners_are_notified_of_a_changed_schema() {
    let server = Server::start().await;
    let listener = connect(server.authenticator()).await;
    let mut notifications = listener.listen("pgrst").await.unwrap();
    let owner = connect(server.owner()).await;
    for statement in ["create table books ()", "drop table books"] {
        owner.query(&statement.into()).await.unwrap();
        assert_eq!(notifications.recv().await.unwrap().payload, "reload schema");
    }
}
