//! A website and the data API on one address, under `tercet up`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::balancer::process::eventually;
use crate::folder::Folder;
use crate::http::get;
use crate::system::System;

const SETTINGS: (&str, &str) = (
    "tercet.toml",
    "[[balancer.route]]\npath = \"/\"\nfiles = \"public\"\nfallback = \"index.html\"\n\n\
     [[balancer.route]]\npath = \"/api\"\nto = \"application\"\nstrip = true\n",
);
const BOOKS: (&str, &str) = (
    "migrations/0001_book.sql",
    "create table book (id int primary key);\ninsert into book values (1);\ngrant select on book to anon;\n",
);

#[test]
fn a_single_page_application_and_its_api_share_an_address() {
    let folder =
        Folder::with(&[SETTINGS, BOOKS, ("public/index.html", "<h1>Books</h1>"), ("public/app.js", "1")]);
    let system = System::start(folder.path());
    let ask = |target: &str| {
        let answer = system.ask(get(target));
        (answer.status, answer.header("x-served-by").map(str::to_owned), answer.body)
    };
    let page = (200, None, "<h1>Books</h1>".to_owned());
    assert_eq!([ask("/"), ask("/books/1")], [page.clone(), page]);
    assert_eq!(ask("/app.js"), (200, None, "1".to_owned()));
    assert_eq!(ask("/app.0123.js").0, 404);
    assert_eq!(ask("/tercet.toml").0, 404, "the project's files are not the website's");
    let mut servers: Vec<_> = (0..2)
        .map(|_| {
            let (status, server, body) = ask("/api/book");
            assert_eq!((status, body.as_str()), (200, "[{\"id\":1}]"));
            server.unwrap()
        })
        .collect();
    servers.sort();
    assert_eq!(servers, ["app-1", "app-2"]);
    assert_eq!(ask("/api/../tercet.toml").0, 400);
    // As a build tool does it.
    fs::remove_dir_all(folder.path().join("public")).unwrap();
    fs::create_dir(folder.path().join("public")).unwrap();
    fs::write(folder.path().join("public/index.html"), "<h1>New</h1>").unwrap();
    assert_eq!(ask("/").2, "<h1>New</h1>");
}

/// `ann`, whose password is `secret`.
const USERS: &str = "ann:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";

#[test]
fn a_website_has_a_password_error_pages_and_maintenance() {
    let settings = "[balancer]\ncompress = \"on\"\nerror-pages.folder = \"errors\"\n\n\
         [[balancer.route]]\npath = \"/\"\nfiles = \"public\"\nbasic-auth = { users = \"@secrets/users\" }\n\n\
         [[balancer.route]]\npath = \"/api\"\nstrip = true\n";
    let folder = Folder::with(&[
        ("tercet.toml", settings),
        (
            "migrations/0001_book.sql",
            "create table book (id int, title text);\ninsert into book select id, 'a title' from generate_series(1, 500) id;\ngrant select on book to anon;\n",
        ),
        ("public/index.html", "<h1>Books</h1>"),
        ("errors/401.html", "<h1>Who?</h1>"),
        ("errors/maintenance.html", "<h1>Soon</h1>"),
        ("secrets/users", USERS),
    ]);
    let users = folder.path().join("secrets/users");
    fs::set_permissions(&users, fs::Permissions::from_mode(0o600)).unwrap();
    if rustix::process::geteuid().is_root() {
        // `tercet up` becomes the owner of the folder, who has to be able to read the file.
        let owner = Some(65_534);
        for path in [folder.path(), &users] {
            std::os::unix::fs::chown(path, owner, None).unwrap();
        }
    }
    let system = System::start(folder.path());
    let html = |target: &'static str| get(target).header("accept", "text/html");
    let answer = system.ask(html("/"));
    assert_eq!((answer.status, answer.body.as_str()), (401, "<h1>Who?</h1>"));
    assert_eq!(answer.header("www-authenticate"), Some("Basic realm=\"restricted\", charset=\"UTF-8\""));
    let answer = system.ask(html("/").header("authorization", "Basic YW5uOnNlY3JldA=="));
    assert_eq!((answer.status, answer.body.as_str()), (200, "<h1>Books</h1>"));
    let answer = system.ask(get("/api/book").header("accept-encoding", "identity;q=0.5, gzip;q=0"));
    assert_eq!((answer.status, answer.header("vary").is_some()), (200, true), "{answer:?}");
    assert_eq!(answer.header("content-encoding"), None);

    let turn = |verb: &str| crate::tercet::run(folder.path(), ["maintenance", verb]);
    let file = "DIR/.tercet/maintenance";
    assert_eq!(turn("on"), format!("maintenance on: requests get 503 within a second ({file})\n"));
    eventually("it is on", || system.ask(html("/api/book")).status == 503);
    assert_eq!(system.ask(html("/api/book")).body, "<h1>Soon</h1>");
    assert_eq!(turn("on"), format!("maintenance on: requests get 503 within a second ({file})\n"));
    assert_eq!(turn("off"), format!("maintenance off: requests are served within a second ({file})\n"));
    eventually("it is off", || system.ask(get("/api/book")).status == 200);
    assert_eq!(turn("off"), format!("maintenance off: requests are served within a second ({file})\n"));
}

#[test]
fn maintenance_of_a_balancer_alone_is_a_file() {
    let folder =
        Folder::with(&[("balancer.toml", "servers = [\"127.0.0.1:1\"]\nmaintenance.file = \"off-duty\"\n")]);
    let turn =
        |verb: &str| crate::tercet::run(folder.path(), ["maintenance", verb, "--config", "balancer.toml"]);
    assert!(turn("on").ends_with("(off-duty)\n"));
    assert!(folder.path().join("off-duty").exists());
    turn("off");
    assert!(!folder.path().join("off-duty").exists());
    let refused = crate::tercet::run(folder.path(), ["maintenance", "on"]);
    assert!(refused.contains("there is no") && refused.ends_with("exit code 2\n"), "{refused}");
}

#[test]
fn a_folder_that_clients_must_not_read_is_refused() {
    for (prepare, expected) in [
        ("none", "public can't be opened: No such file or"),
        ("file", "public is no folder"),
        ("out", "public is a link out of the project's folder"),
        ("root", "which clients must not read"),
    ] {
        let folder = Folder::with(&[SETTINGS, BOOKS]);
        let public = folder.path().join("public");
        match prepare {
            "file" => fs::write(&public, "").unwrap(),
            "out" => std::os::unix::fs::symlink("/usr/share", &public).unwrap(),
            "root" => std::os::unix::fs::symlink(".", &public).unwrap(),
            _ => {}
        }
        let shown = folder.up_to_the_end();
        // It is wrapped.
        let shown = shown.replace("\n  │ ", " ");
        assert!(shown.contains(expected) && shown.contains("[[balancer.route]]"), "{prepare}: {shown}");
        assert!(shown.ends_with("exit code 2\n"), "{prepare}: {shown}");
        assert!(!folder.path().join(".tercet/postgresql").exists(), "{prepare}");
    }
}
