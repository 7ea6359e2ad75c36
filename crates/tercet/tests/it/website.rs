//! A website and the data API on one address, under `tercet up`.

use std::fs;

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
