//! Migrations against a real database.

use std::path::Path;

use expect_test::{Expect, expect};
use tercet_database::migration::Migrations;
use tercet_postgres::Target;

use crate::server::{Server, connect, value};

/// Applies `files` and compares the outcome: how many were new, or the error. What was said to be pending before must
/// be what is applied, and a changed or missing file be known by then.
async fn check(server: &Server, folder: &Path, files: &[(&str, &str)], expected: Expect) {
    for (name, sql) in files {
        std::fs::write(folder.join(name), sql).unwrap();
    }
    let migrations = Migrations::read(folder).unwrap();
    let pending = migrations.pending(&server.owner()).await;
    let pending = pending.map(|paths| paths.len() as u64).map_err(|error| error.to_string());
    let outcome = migrations.apply(&server.owner()).await;
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

#[tokio::test(flavor = "local")]
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

#[tokio::test(flavor = "local")]
async fn two_who_migrate_at_once_apply_each_file_once() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("1_a.sql"), "create table a (); select pg_sleep(0.01)").unwrap();
    let migrations = Migrations::read(folder.path()).unwrap();
    let owner = server.owner();
    let (one, other) = tokio::join!(migrations.apply(&owner), migrations.apply(&owner));
    one.unwrap();
    other.unwrap();
}

/// What sqlx's migrator wrote, as `pg_dump --inserts` shows it.
const WRITTEN_BY_SQLX: &str = r"
create table tercet.migrations (
    version bigint NOT NULL,
    description text NOT NULL,
    installed_on timestamp with time zone DEFAULT now() NOT NULL,
    success boolean NOT NULL,
    checksum bytea NOT NULL,
    execution_time bigint NOT NULL
);
INSERT INTO tercet.migrations VALUES (1, 'books', '2026-11-29 19:03:24.618597+00', true, '\x6dfce7b75fdca6f808147c6976e4a6e5ba0108761973df752c5042ed82edf9254256cd0ea96523e6648a56328744345d', 39346310);
INSERT INTO tercet.migrations VALUES (2, 'books index', '2026-11-29 19:03:24.683302+00', true, '\xac5fce07ccf5f9e38fe36aaef79a2306fa21c224f962f6691ff4b68f4679ce163d3a1045e0d6003af414ae1830d24aad', 35974487);
ALTER TABLE ONLY tercet.migrations ADD CONSTRAINT migrations_pkey PRIMARY KEY (version);
";

#[tokio::test(flavor = "local")]
async fn what_sqlx_applied_is_recognised_and_what_is_new_is_written_the_same_way() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let owner = connect(server.owner()).await;
    owner.simple_query(WRITTEN_BY_SQLX).await.unwrap();
    let files = [
        ("0001_books.sql", "create table books (id int primary key);\ninsert into books values (1);\n"),
        ("0002_books-index.sql", "-- no-transaction\ncreate index concurrently on books (id);\n"),
    ];
    check(&server, folder, &files, expect!["0 applied"]).await;
    check(
        &server,
        folder,
        &[("0003_more_books.sql", "create table more (at timestamptz)")],
        expect!["1 applied"],
    )
    .await;
    let record = "select concat_ws(' ', version, description, success, length(checksum), execution_time > 0, \
                  installed_on > now() - interval '1 minute') from tercet.migrations where version = 3";
    assert_eq!(value(&owner, record).await, "3 more books t 48 t t");

    owner.simple_query("update tercet.migrations set success = false where version = 2").await.unwrap();
    check(
        &server,
        folder,
        &[],
        expect!["migration 2 is recorded as failed in tercet.migrations; hint: delete the record if nothing of the migration is in the database"],
    )
    .await;
}

#[tokio::test(flavor = "local")]
async fn times_mean_the_same_everywhere_and_what_is_no_statement_is_refused_by_its_file() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let owner = connect(server.owner()).await;
    let session = "alter database \"book-shop\" set timezone to 'Asia/Tokyo'; alter database \"book-shop\" set datestyle to 'German'";
    owner.simple_query(session).await.unwrap();
    let times =
        "create table times as select '2026-01-02 03:00'::timestamptz as at, '02/03/2026'::date as day";
    check(&server, folder, &[("1_times.sql", times)], expect!["1 applied"]).await;
    let at = "select (at at time zone 'UTC')::time || ' ' || extract(month from day) from times";
    assert_eq!(value(&owner, at).await, "03:00:00 2");
    check(&server, folder, &[("2_copy.sql", "copy times from stdin;")], expect!["FOLDER/2_copy.sql:1:1: COPY … FROM stdin needs psql, since its rows are not SQL; nothing of the file was applied; hint: write INSERT; pg_dump does with --inserts or --rows-per-insert=1000"]).await;
    check(
        &server,
        folder,
        &[("2_copy.sql", "select 1;\0")],
        expect![[r#"FOLDER/2_copy.sql: invalid byte sequence for encoding "UTF8": 0x00"#]],
    )
    .await;
    let deferred = "create table pairs (id int primary key, of int references pairs deferrable initially deferred);\n\
                    insert into pairs values (1, 2);";
    check(&server, folder, &[("2_copy.sql", deferred)], expect![[r#"FOLDER/2_copy.sql: insert or update on table "pairs" violates foreign key constraint "pairs_of_fkey"; Key (of)=(2) is not present in table "pairs"."#]]).await;
}

#[tokio::test(flavor = "local")]
async fn errors_say_nothing_of_postgresqls_own_source() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("1_books.sql"), "create table books (id int)").unwrap();
    let migrations = Migrations::read(folder.path()).unwrap();
    let nowhere = migrations.apply(&server.cluster.superuser("nowhere")).await.unwrap_err();
    let text = nowhere.to_string();
    assert!(text.starts_with("migrations could not be applied: cannot connect to "), "{text}");
    assert!(
        text.ends_with(
            ".s.PGSQL.PORT: FATAL: database \"nowhere\" does not exist (SQLSTATE 3D000)"
                .replace("PORT", &server.cluster.port().to_string())
                .as_str()
        ),
        "{text}"
    );
    assert!(nowhere.is_no_database());
    let stranger = Target { user: "stranger".to_owned(), ..server.owner() };
    let refused = migrations.apply(&stranger).await.unwrap_err();
    assert!(refused.to_string().contains("stranger"), "{refused}");
    for error in [nowhere, refused] {
        let told = format!("{error} {error:?}");
        for source in [".c\"", "at line", "routine", "InitPostgres", "auth_failed", "file:"] {
            assert!(!told.contains(source), "{source} in {told}");
        }
    }
}

#[tokio::test(flavor = "local")]
async fn files_of_other_tools_fit_or_are_refused_as_a_whole() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let dump =
        "\u{feff}\\restrict abc\nset search_path = '';\nbegin;\ncreate table public.a (id int);\ncommit;\n";
    check(&server, folder, &[("1_dump.sql", dump)], expect!["1 applied"]).await;
    // The dump's settings do not reach the next file.
    check(&server, folder, &[("2_b.sql", "create table b (id int);")], expect!["1 applied"]).await;
    let copy = "create table d (id int);\ncopy d from stdin;\n1\n\\.\n";
    check(
        &server,
        folder,
        &[("3_c.sql", "create table c ();"), ("4_d.sql", copy)],
        expect!["FOLDER/4_d.sql:2:1: COPY … FROM stdin needs psql, since its rows are not SQL; nothing of the file was applied; hint: write INSERT; pg_dump does with --inserts or --rows-per-insert=1000"],
    )
    .await;
    check(&server, folder, &[("4_d.sql", "select 1; commit; select 1")], expect!["FOLDER/4_d.sql:1:11: COMMIT would end the transaction that the file runs in; nothing of the file was applied; hint: remove it: each file is one transaction. Put a part that needs another one into the next file"]).await;
    check(&server, folder, &[("4_d.sql", "create index concurrently on b (id)")], expect!["FOLDER/4_d.sql: CREATE INDEX CONCURRENTLY cannot run inside a transaction block; hint: put the statement alone into a file whose first line is -- no-transaction"]).await;
    let two = "-- no-transaction\ncreate index concurrently on b (id);\nselect 1;";
    check(&server, folder, &[("4_d.sql", two)], expect!["FOLDER/4_d.sql: CREATE INDEX CONCURRENTLY cannot run inside a transaction block; hint: a file with -- no-transaction has one statement: move the others to files of their own"]).await;
    check(&server, folder, &[("4_d.sql", "select 1")], expect!["1 applied"]).await;
}
