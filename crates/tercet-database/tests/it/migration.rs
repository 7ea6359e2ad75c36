//! Migrations against a real database.

use std::path::Path;

use expect_test::{Expect, expect};
use tercet_database::migration::Migrations;

use crate::server::Server;

/// Applies `files` and compares the outcome: how many were new, or the error. What was said to be pending before must
/// be what is applied, and a changed or missing file be known by then.
async fn check(server: &Server, folder: &Path, files: &[(&str, &str)], expected: Expect) {
    for (name, sql) in files {
        std::fs::write(folder.join(name), sql).unwrap();
    }
    let migrations = Migrations::read(folder).unwrap();
    let pending = migrations.pending(&server.owner_url().parse().unwrap()).await;
    let pending = pending.map(|paths| paths.len() as u64).map_err(|error| error.to_string());
    let outcome = migrations.apply(&server.owner_url()).await;
    match (&pending, &outcome) {
        (Ok(pending), Ok(count)) => assert_eq!(pending, count),
        (Err(before), outcome) => assert_eq!(*before, outcome.as_ref().unwrap_err().to_string()),
        (Ok(pending), Err(_)) => assert!(*pending > 0),
    }
    let outcome = match outcome {
        Ok(count) => format!("{count} applied"),
        Err(error) => error.to_string().replace(&folder.display().to_string(), "FOLDER"),
    };
    expected.assert_eq(&outcome);
}

#[tokio::test]
async fn each_file_is_applied_once_and_a_mistake_is_named_by_file_line_and_column() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    check(&server, folder, &[], expect!["0 applied"]).await;
    check(
        &server,
        folder,
        &[("1_books.sql", "create table books (id int primary key);\ninsert into books values (1);")],
        expect!["1 applied"],
    )
    .await;
    check(&server, folder, &[], expect!["0 applied"]).await;
    check(
        &server,
        folder,
        &[("2_authors.sql", "create table authors (id int);\n\ninsert into autors values (1);")],
        expect![[r#"FOLDER/2_authors.sql:3:13: relation "autors" does not exist"#]],
    )
    .await;
    // Nothing of the failed file was kept, so its table can be made now.
    check(
        &server,
        folder,
        &[("2_authors.sql", "create table authors (id int);"), ("3_more.sql", "insert into books\nvalues (1);")],
        expect![[
            r#"FOLDER/3_more.sql: duplicate key value violates unique constraint "books_pkey"; Key (id)=(1) already exists."#
        ]],
    )
    .await;
    check(&server, folder, &[("3_more.sql", "insert into books values (2);")], expect!["1 applied"]).await;
    check(
        &server,
        folder,
        &[("4_index.sql", "-- no-transaction\ncreate index concurrently on books (id);")],
        expect!["1 applied"],
    )
    .await;
    check(
        &server,
        folder,
        &[("1_books.sql", "create table books (id bigint primary key);")],
        expect![
            "FOLDER/1_books.sql: it has been applied already, and its text was different then; hint: put the old text back, and write what is new as a migration of its own"
        ],
    )
    .await;
    std::fs::remove_file(folder.join("1_books.sql")).unwrap();
    check(
        &server,
        folder,
        &[],
        expect![
            "migration 1 has been applied already, and its file is no longer in FOLDER; hint: put it back"
        ],
    )
    .await;
}

#[tokio::test]
async fn two_who_migrate_at_once_apply_each_file_once() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("1_a.sql"), "create table a (); select pg_sleep(0.01)").unwrap();
    let migrations = Migrations::read(folder.path()).unwrap();
    let url = server.owner_url();
    let (one, other) = tokio::join!(migrations.apply(&url), migrations.apply(&url));
    one.unwrap();
    other.unwrap();
}

#[tokio::test]
async fn errors_say_nothing_of_postgresqls_own_source() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("1_books.sql"), "create table books (id int)").unwrap();
    let migrations = Migrations::read(folder.path()).unwrap();
    let url = server.owner_url();
    let (rest, _) = url.rsplit_once('/').unwrap();
    let nowhere = migrations.apply_as(&server.cluster.superuser("nowhere")).await.unwrap_err();
    assert_eq!(nowhere.to_string(), "migrations could not be applied: database \"nowhere\" does not exist");
    assert!(nowhere.is_no_database());
    let host = rest.rsplit_once('@').unwrap().1;
    let refused = migrations.apply(&format!("postgres://nobody:wrong@{host}/postgres")).await.unwrap_err();
    assert!(refused.to_string().contains("nobody"), "{refused}");
    for error in [nowhere, refused] {
        let told = format!("{error} {error:?}");
        for source in [".c\"", "at line", "routine", "InitPostgres", "auth_failed", "file:"] {
            assert!(!told.contains(source), "{source} in {told}");
        }
    }
}
