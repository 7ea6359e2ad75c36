//! Programs that bring migrations of their own tools: alembic, Django, knex.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::examples::{copy_folder, made};
use crate::folder::{Folder, temporary};
use crate::http::{get, request};
use crate::system::System;
use crate::tercet;

/// A copy of a program with the packages it needs: run by root, `tercet up` runs it as a user who may not be able to access
/// the folder of this clone.
fn program(name: &str, packages: &Path, into: &str) -> TempDir {
    let copy = temporary();
    copy_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(name), copy.path());
    let copied =
        Command::new("cp").args(["-R", "-P"]).arg(packages).arg(copy.path().join(into)).status().unwrap();
    assert!(copied.success());
    copy
}

#[test]
fn fastapi_with_alembic() {
    let folder = program("alembic", &made("TERCET_TEST_PROGRAMS"), ".venv");
    let mut system = System::start(folder.path());
    system.wait_for(|line| line["event"] == "migrate_finished");
    assert_eq!(system.ask(get("/health")).body, r#"{"greeting":"hello","secret":16}"#);
    // It writes as `authenticated`, with the default privileges on what the owner has created.
    assert_eq!(system.ask(request("POST", "/books/Dune")).body, r#"[1,"authenticated"]"#);
    assert!(!system.log().contains("four words"));
    system.stop(rustix::process::Signal::TERM);
    // It is repeated at each start.
    let system = System::start(folder.path());
    assert_eq!(system.ask(request("POST", "/books/Emma")).body, r#"[2,"authenticated"]"#);
    drop(system);

    let path = folder.path().join("alembic/versions/0002_wrong.py");
    std::fs::write(
        path,
        "revision = '2'\ndown_revision = '0001'\ndef upgrade():\n    raise Exception('no such day')\n",
    )
    .unwrap();
    let failed = tercet::run(folder.path(), ["up", "--json"]);
    assert!(
        failed.contains("migrate failed: exit status 1; its last output: Exception: no such day"),
        "{failed}"
    );
    assert!(failed.ends_with("exit code 1\n") && !failed.contains("app-1 started"), "{failed}");
    std::fs::remove_file(folder.path().join("app.env")).unwrap();
    let failed = tercet::run(folder.path(), ["up", "--json"]);
    assert!(
        failed.contains("env-file in [application] names it") && failed.ends_with("exit code 2\n"),
        "{failed}"
    );
}

#[test]
fn django_with_gunicorn() {
    let folder = program("django", &made("TERCET_TEST_PROGRAMS"), ".venv");
    let system = System::start(folder.path());
    assert_eq!(system.ask(get("/add/milk")).value(), serde_json::json!({"id": 1, "count": 1}));
    assert_eq!(system.ask(get("/add/eggs")).value(), serde_json::json!({"id": 2, "count": 2}));
    assert_eq!(system.ask(get("/static/notes.css")).header("x-served-by"), None);
    // Django compares the origin of a form with the host and the scheme that the balancer forwards.
    let token = system.ask(get("/token"));
    let cookie = token.header("set-cookie").unwrap().split(';').next().unwrap();
    let origin = format!("http://{}", system.address);
    let form = || request("POST", "/add/bread").header("cookie", cookie).header("origin", &origin);
    assert_eq!(system.ask(form()).status, 403);
    let sent = system.ask(form().header("x-csrftoken", &token.body));
    assert_eq!(sent.value(), serde_json::json!({"id": 3, "count": 3}));
    // A command of the program connects as the owner, as its migration does.
    let script =
        "from django.db import connection as c; c.ensure_connection(); print(c.settings_dict['USER'])";
    let manage = ["run", "--", ".venv/bin/python", "manage.py", "shell", "--no-imports", "-c", script];
    assert_eq!(tercet::run(folder.path(), manage), "notes_owner\n");
    drop(system);
    let refused = tercet::run(folder.path(), manage);
    assert!(refused.contains("notes is not up") && refused.ends_with("exit code 1\n"), "{refused}");
}

#[test]
fn node_with_knex() {
    let folder = program("knex", &made("TERCET_TEST_NODE").join("node_modules"), "node_modules");
    let system = System::start(folder.path());
    assert_eq!(system.ask(get("/oolong")).value(), serde_json::json!([{"id": 1, "name": "oolong"}]));
}

#[test]
fn a_migration_that_takes_long_says_what_it_waits_for() {
    let config = "name = 'waits'\n[application]\nservers = 1\nmigrate = 'sh migrate.sh'\n\
                  run = 'python3 -m http.server --bind {host} {port}'\n";
    let script = "echo 'Error: no answer' >&2\necho 'see the manual' >&2\nread line < continue\n";
    let folder = Folder::with(&[("tercet.toml", config), ("migrate.sh", script)]);
    let pipe = folder.path().join("continue");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut system = System::spawn(folder.path());
    let event = system.wait_for(|line| line["event"] == "still_running");
    assert_eq!(event["message"], "migrate is still running after 8 s; its last output: Error: no answer");
    std::fs::write(&pipe, "go\n").unwrap();
    system.wait_until_up();
}
