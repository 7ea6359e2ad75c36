//! The examples, used as their README files describe.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::folder::temporary;
use crate::guide;
use crate::http::{get, request};
use crate::system::System;
use crate::tercet;

/// A copy of an example, so that nothing is left in it.
pub(crate) fn copy_of(example: &str) -> TempDir {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(example);
    let copy = temporary();
    copy_folder(&source, copy.path());
    copy
}

pub(crate) fn copy_folder(source: &Path, target: &Path) {
    for entry in source.read_dir().unwrap() {
        let entry = entry.unwrap();
        // What using the example leaves in it: .tercet, .venv, node_modules, …
        let name = entry.file_name();
        if name.to_str().is_none_or(|name| name.starts_with('.') || name == "node_modules") {
            continue;
        }
        let target = target.join(&name);
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A folder that `cargo xtask test` prepared for the tests.
pub(crate) fn made(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable);
    path.unwrap_or_else(|| panic!("{variable} is not set; hint: run the tests by cargo xtask test")).into()
}

fn token(folder: &Path, subject: &str) -> String {
    tercet::run(folder, ["token", "--subject", subject]).trim().to_owned()
}

#[test]
fn the_atlas_serves_the_postgrest_client() {
    let node = made("TERCET_TEST_NODE");
    let folder = copy_of("atlas");
    let system = System::start(folder.path());
    let output = Command::new("node")
        .arg(node.join("postgrest.mjs"))
        .arg(format!("http://{}", system.address))
        .args([token(folder.path(), "ann"), token(folder.path(), "ben")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout, b"all as expected\n");
}

#[test]
fn the_atlas_answers_the_requests_of_its_readme() {
    let folder = copy_of("atlas");
    let page = std::fs::read_to_string(folder.path().join("README.md")).unwrap();
    let system = System::start(folder.path());
    let mut asked = 0;
    for line in page.lines().filter(|line| line.starts_with("curl") && !line.contains("bearer")) {
        let Some((_, target)) = line.split_once("$A") else { continue };
        let target = target.trim_start_matches("\"'").split(['"', '\'']).next().unwrap();
        let answer = system.ask(get(target).header("accept", "*/*"));
        let expected =
            if target.starts_with("/visit") || target.starts_with("/progress") { 401 } else { 200 };
        assert_eq!(answer.status, expected, "{target}: {}", answer.body);
        assert!(answer.body.len() > 20, "{target}: {}", answer.body);
        asked += 1;
    }
    assert!(asked >= 10, "only {asked} requests are on the page");
}

/// Copies the virtual environment into the project: run by root, `tercet up` runs programs as a user who may not be able to
/// access the folder of this clone.
fn bring_environment(folder: &Path) {
    let (made, own) = (made("TERCET_TEST_PYTHON"), folder.join(".venv"));
    let copied = Command::new("cp").arg("-R").arg("-P").arg(&made).arg(&own).status().unwrap();
    assert!(copied.success());
    let script = own.join("bin/uvicorn");
    let text = std::fs::read_to_string(&script).unwrap();
    std::fs::write(&script, text.replace(made.to_str().unwrap(), own.to_str().unwrap())).unwrap();
}

#[test]
fn links_are_created_followed_counted_and_deleted() {
    let folder = copy_of("fastapi");
    bring_environment(folder.path());
    let mut system = System::start(folder.path());

    let made = system.ask(request("POST", "/links").json(r#"{"url": "https://example.com/", "code": "ex"}"#));
    assert_eq!((made.status, &made.value()["visits"]), (201, &0.into()), "{}", made.body);
    let again =
        system.ask(request("POST", "/links").json(r#"{"url": "https://example.org/", "code": "ex"}"#));
    assert_eq!((again.status, again.body.as_str()), (409, r#"{"detail":"the code ex is taken"}"#));
    let wrong = system.ask(request("POST", "/links").json(r#"{"url": "not a url"}"#));
    assert_eq!(wrong.status, 422, "{}", wrong.body);

    // Each server follows it once, and says so under the balancer's id of the request.
    for _ in 0..2 {
        let followed = system.ask(get("/ex"));
        assert_eq!((followed.status, followed.header("location")), (307, Some("https://example.com/")));
        let server = followed.header("x-served-by").unwrap();
        let at_balancer = system.wait_for(|line| line["target"] == "/ex" && line["upstream"] == server);
        let id = at_balancer["request_id"].as_str().unwrap();
        let printed = |line: &Value| line["message"].as_str().is_some_and(|text| text.contains(id));
        let at_server = system.wait_for(printed);
        assert_eq!(at_server["part"], server);
        assert!(at_server["message"].as_str().unwrap().contains("GET /ex 307"), "{at_server}");
    }

    assert_eq!(system.ask(get("/links/ex")).value()["visits"], 2);
    assert_eq!(system.ask(get("/links?limit=1")).value().as_array().unwrap().len(), 1);
    assert_eq!(system.ask(request("DELETE", "/links/ex")).status, 204);
    assert_eq!(system.ask(get("/ex")).status, 404);
}

#[test]
fn the_bookshop_shows_its_books_and_takes_orders() {
    let folder = copy_of("bookshop");
    bring_environment(folder.path());
    let system = System::start(folder.path());
    let page = system.ask(get("/"));
    assert!(page.status == 200 && page.body.contains("<title>Bookshop</title>"), "{}", page.body);
    let copies = || system.ask(get("/api/shelf?id=eq.1")).value()[0]["copies"].clone();
    assert_eq!(copies(), 3);
    let order = |copies: &str| {
        let body = format!(r#"{{"book": 1, "copies": {copies}}}"#);
        system.ask(request("POST", "/orders").json(&body))
    };
    let placed = order("2");
    assert_eq!((placed.status, placed.value()), (201, json!({"order": 1, "left": 1})), "{}", placed.body);
    let server = placed.header("x-served-by").unwrap();
    assert!(server.starts_with("app-orders-"), "{server}");
    assert_eq!((order("2").status, copies()), (409, 1.into()));
    assert_eq!(order("0").status, 422);
    let docs = system.ask(get("/api/").header("accept", "text/html"));
    assert!(docs.body.contains("<h1>bookshop</h1>") && docs.body.contains("href=\"docs\""), "{docs:?}");
    assert!(docs.header("x-served-by").unwrap().starts_with("app-api-"));
    // The tables of the orders are no resources, and no client may read that of the books.
    assert_eq!(system.ask(get("/api/placed")).status, 404);
    assert_eq!(system.ask(get("/api/book")).status, 401);
    assert_eq!(system.ask(get("/orders.py")).status, 404);
}

#[test]
fn the_guides_first_api_works() {
    let folder = temporary();
    let shop = folder.path().join("shop");
    tercet::run(folder.path(), ["init", "shop"]);
    let system = System::start(&shop);
    let todo = system.ask(get("/todo?select=task,owner&order=id"));
    assert_eq!(
        todo.value(),
        json!([
            {"task": "read the first migration", "owner": null},
            {"task": "change it into your own", "owner": null},
        ])
    );
    let task = || request("POST", "/todo").json(r#"{"task": "learn SQL"}"#);
    assert_eq!(system.ask(task()).status, 401);
    let bearer = format!("Bearer {}", token(&shop, "ann"));
    assert_eq!(system.ask(task().header("authorization", &bearer)).status, 201);
    let done =
        request("PATCH", "/todo?owner=eq.ann").json(r#"{"done": true}"#).header("authorization", &bearer);
    let done = system.ask(done.header("prefer", "return=representation"));
    assert_eq!(done.value()[0]["owner"], "ann", "{}", done.body);
    // The other rows have no owner, so Ann cannot delete them.
    let gone = request("DELETE", "/todo?id=gt.0").header("authorization", &bearer);
    assert_eq!(system.ask(gone.header("prefer", "count=exact")).header("content-range"), Some("*/1"));
    assert_eq!(system.ask(get("/todo")).value().as_array().unwrap().len(), 2);
}

/// The blocks of this language on a guide page.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in page.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(name)) if name == language => open = Some(String::new()),
            (Some(_), Some("")) => blocks.extend(open.take()),
            (Some(block), None) => block.extend([line, "\n"]),
            _ => {}
        }
    }
    blocks
}

#[test]
fn the_commands_of_the_guides_first_page_work() {
    let folder = temporary();
    let shop = folder.path().join("shop");
    let page = include_str!("../../../../docs/guide/first-api.md");
    let commands = guide::to_run("first-api.md");
    let mut commands = commands.iter().map(|it| &*it.text);
    let mut variables = String::new();
    let mut run = |address: &str, command: &str| {
        let binary = env!("CARGO_BIN_EXE_tercet");
        let functions = format!(
            "tercet() {{ '{binary}' \"$@\"; }}; curl() {{ command curl -s -w ' %{{http_code}}' \"$@\"; }}"
        );
        let command = command.replace("127.0.0.1:8080", address);
        let script = format!("{functions}\n{variables}{command}");
        if command.starts_with("TOKEN=") {
            variables.push_str(&format!("{command}\n"));
        }
        let output =
            tercet::command_of("sh").args(["-c", &script]).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(run("", commands.next().unwrap()).contains("start it with: tercet up shop"));
    assert_eq!(commands.next(), Some("tercet up shop"));
    let system = System::start(&shop);
    let address = system.address.to_string();
    let mut statuses = ["200", "401", "", "201", "204", "204", "200"].into_iter();
    for command in commands {
        if command == "tercet migrate reset shop" {
            assert!(run(&address, &format!("{command} --yes shop")).contains("2 migrations and 0 seeds"));
            continue;
        }
        let output = run(&address, command);
        if command == "tercet migrate new shelf shop" {
            let [shelf] = &blocks(page, "sql")[..] else { panic!() };
            std::fs::write(folder.path().join(output.trim()), shelf).unwrap();
            for server in ["app-1", "app-2"] {
                let serves = || {
                    let answer = system.ask(get("/shelf"));
                    answer.status == 200 && answer.header("x-served-by") == Some(server)
                };
                while !serves() {}
            }
            continue;
        }
        let status = statuses.next().unwrap();
        assert!(output.ends_with(status), "{command}: {output}");
    }
    assert_eq!(statuses.next(), None, "a command is missing");
}

#[test]
fn the_guides_pages_follow_each_other_in_one_folder() {
    let folder = temporary();
    let shop = folder.path().join("shop");
    tercet::run(folder.path(), ["init", "shop"]);
    let [shelf] = &blocks(include_str!("../../../../docs/guide/first-api.md"), "sql")[..] else { panic!() };
    std::fs::write(shop.join("migrations/0002_shelf.sql"), shelf).unwrap();
    let authorization = blocks(include_str!("../../../../docs/guide/authorization.md"), "sql");
    let notes = authorization.iter().find(|block| block.contains("create policy")).unwrap();
    std::fs::write(shop.join("migrations/0003_note.sql"), notes).unwrap();
    let system = System::start(&shop);
    let answer = system.ask(get("/todo?select=task,shelf(name)&order=id"));
    assert_eq!(answer.value()[0], json!({"task": "read the first migration", "shelf": null}));
    let [ann, ben] = ["ann", "ben"].map(|name| format!("Bearer {}", token(&shop, name)));
    let note = request("POST", "/note").json(r#"{"text": "mine"}"#).header("authorization", &ann);
    assert_eq!(system.ask(note).status, 201);
    for command in guide::to_run("authorization.md") {
        let output = guide::shell(&shop, None, &format!("{}; printf %s \"$TOKEN\"", command.text));
        let bearer = format!("Bearer {}", String::from_utf8(output.stdout).unwrap());
        assert_eq!(system.ask(get("/note").header("authorization", &bearer)).status, 200, "{}", command.text);
    }
    let notes =
        |bearer: &str| system.ask(get("/note?select=person,text").header("authorization", bearer)).value();
    assert_eq!(notes(&ann), json!([{"person": "ann", "text": "mine"}]));
    assert_eq!(notes(&ben), json!([]));
}
