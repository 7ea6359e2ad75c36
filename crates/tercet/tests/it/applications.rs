//! Several applications under `tercet up`: a data API, a program and a website on one address.

use std::process::Command;

use rustix::process::geteuid;
use serde_json::{Value, json};

use crate::balancer::process::eventually;
use crate::folder::Folder;
use crate::http::{Request, get};
use crate::system::System;
use crate::tercet;

const BOOKS: &str = "create table book (id int primary key);\ninsert into book values (1), (2);\n\
                     grant select on book to anon;\n\
                     create function whoami() returns text language sql stable as 'select current_user || '':'' || session_user';\n\
                     grant execute on function whoami to anon;\n";

/// A program that answers with what it was started with.
const SHOP: &str = r#"
import http.server, json, os

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        names = ("GREETING", "DATABASE_URL")
        body = json.dumps([self.path, *(os.environ.get(name) for name in names)]).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        if self.path != "/health":
            print("shop answers", self.path, flush=True)

http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"#;

const SETTINGS: &str = "name = 'shop'
[application.api]
[application.shop]
run = 'python3 shop.py'
servers = 3
health = '/health'
env = { GREETING = 'hello' }
[[balancer.route]]
path = '/api'
to = 'api'
strip = true
[[balancer.route]]
path = '/shop'
to = 'shop'
[[balancer.route]]
host = 'shop.test'
to = 'shop'
[[balancer.route]]
files = 'public'
";

fn project(settings: &str) -> Folder {
    let folder = Folder::with(&[
        ("tercet.toml", settings),
        ("migrations/0001_book.sql", BOOKS),
        ("shop.py", SHOP),
        ("public/index.html", "<h1>Books</h1>"),
    ]);
    if geteuid().is_root() {
        let owner = Command::new("chown").args(["-R", "daemon"]).arg(folder.path()).status().unwrap();
        assert!(owner.success());
    }
    folder
}

/// Sends a request that is answered with 200, and returns the server.
fn server(system: &System, request: Request<'_>) -> String {
    let answer = system.ask(request);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.header("x-served-by").unwrap().to_owned()
}

#[test]
fn each_is_reached_by_its_routes_in_strict_round_robin() {
    let folder = project(SETTINGS);
    let mut system = System::start(folder.path());
    assert_eq!(system.ask(get("/api/book")).value(), json!([{"id": 1}, {"id": 2}]));
    assert_eq!(system.ask(get("/shop/7")).value()[0], "/shop/7");
    assert_eq!(system.ask(get("/7").host("shop.test")).value()[0], "/7");
    // The host precedes the path.
    assert_eq!(system.ask(get("/api/book").host("shop.test")).value()[0], "/api/book");
    let page = system.ask(get("/"));
    assert_eq!((page.body.as_str(), page.header("x-served-by")), ("<h1>Books</h1>", None));
    assert_eq!(system.ask(get("/7")).status, 404);

    // The order of one does not depend on requests to the other.
    let (mut api, mut shop) = (Vec::new(), Vec::new());
    for round in 0..12 {
        api.push(server(&system, get("/api/book")));
        if round % 3 != 1 {
            shop.push(server(&system, get("/shop")));
        }
        shop.push(server(&system, get("/").host("shop.test")));
    }
    for (servers, count) in [(&api, 2), (&shop, 3)] {
        let mut first = servers[..count].to_vec();
        first.sort();
        first.dedup();
        assert_eq!(first.len(), count, "{servers:?}");
        assert!(servers.iter().zip(&servers[count..]).all(|(one, next)| one == next), "{servers:?}");
    }
    assert!(
        api.iter().all(|it| it.starts_with("app-api-")) && shop.iter().all(|it| it.starts_with("app-shop-"))
    );

    // One that is killed comes back; meanwhile the others answer.
    system.kill("app-shop-2");
    for _ in 0..6 {
        server(&system, get("/shop"));
        server(&system, get("/api/book"));
    }
    system.wait_until_ready("app-shop-2");
    eventually("it gets requests", || server(&system, get("/shop")) == "app-shop-2");
    looked_at(&mut system, &folder);
}

/// What the commands say of it, and what its servers connect to the database as.
fn looked_at(system: &mut System, folder: &Folder) {
    let run = |arguments: &[&str]| tercet::run(folder.path(), arguments.iter().copied());
    let state: Value = serde_json::from_str(&run(&["status", "--json"])).unwrap();
    let parts = state["up"]["parts"].as_array().unwrap().iter();
    let mut names: Vec<&str> = parts.map(|part| part["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    let servers = ["app-api-1", "app-api-2", "app-shop-1", "app-shop-2", "app-shop-3"];
    assert_eq!(names, [&servers[..], &["balancer", "database"]].concat());
    assert_eq!(state["servers"].as_array().unwrap().len(), 5, "{state}");
    system.wait_for(|line| line["message"] == "shop answers /shop/7");
    let logs = run(&["logs", "--tier", "application", "--since", "-1h"]);
    assert!(logs.contains("shop answers /shop/7"), "{logs}");
    let id = system.ask(get("/api/book")).header("x-request-id").unwrap().to_owned();
    system.wait_for(|line| line["request_id"] == *id);
    let traced = run(&["trace", &id]);
    assert!(
        traced.starts_with("GET /api/book → 200 by app-api-") && traced.contains(" PostgreSQL "),
        "{traced}"
    );
    let greeting = ["--", "sh", "-c", "echo $GREETING"];
    for application in [&[][..], &["--application", "shop"], &["--application=api"]] {
        let shown = run(&[&["run"], application, &greeting].concat());
        let expected = if application == ["--application=api"] { "\n" } else { "hello\n" };
        assert_eq!(shown, expected, "{application:?}");
    }
    let unknown = run(&[&["run", "--application", "shp"], &greeting[..]].concat());
    assert!(unknown.contains("tercet.toml has api, shop") && unknown.ends_with("exit code 2\n"), "{unknown}");
    assert!(run(&["types", "typescript"]).contains("book: {"));
    assert!(run(&["token"]).starts_with("ey"));

    // A program's sessions begin as a request role. Those of the data API have none before a request.
    let sql = |url: &str, query: &str| {
        let output = Command::new("psql").args([url, "-Atc", query]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let shop = system.ask(get("/shop")).value()[2].as_str().unwrap().to_owned();
    assert_eq!(sql(&shop, "select current_user"), "authenticated");
    let file = std::fs::read_to_string(folder.path().join(".tercet/run/app-api-1.toml")).unwrap();
    let options: toml::Table = toml::from_str(&file).unwrap();
    assert_eq!(sql(options["db-uri"].as_str().unwrap(), "select current_user"), "authenticator");
    assert_eq!(system.ask(get("/api/rpc/whoami")).value(), "anon:authenticator");
}

#[test]
fn a_change_of_one_restarts_its_servers_and_no_others() {
    let folder = project(SETTINGS);
    let mut system = System::start(folder.path());
    let change = |system: &mut System, text: &str| {
        folder.write("tercet.toml", text);
        system.wait_for_next(|line| {
            ["configuration_applied", "configuration_refused", "restart_required"]
                .contains(&line["event"].as_str().unwrap_or_default())
        })
    };
    let api = change(&mut system, &format!("{SETTINGS}[api]\ndb-max-rows = 1\n"));
    assert_eq!(api["parts"], json!(["app-api-1", "app-api-2"]), "{api}");
    assert_eq!(system.ask(get("/api/book")).value(), json!([{"id": 1}]));
    let settings = SETTINGS.replace("hello", "good day");
    let both = change(&mut system, &settings);
    assert_eq!(both["parts"], json!(["app-api-1", "app-api-2", "app-shop-1", "app-shop-2", "app-shop-3"]));
    assert_eq!(system.ask(get("/shop")).value()[1], "good day");
    // The route of one.
    let route = change(&mut system, &settings.replace("'/shop'", "'/store'"));
    assert_eq!(route["parts"], json!(["balancer"]), "{route}");
    eventually("the route is another", || system.ask(get("/store/1")).status == 200);
    assert_eq!(system.ask(get("/shop/1")).status, 404);
    // One that does not start again keeps nothing from the other, whose change is applied.
    let broken = settings.replace("shop.py", "none.py").replace("'/shop'", "'/store'");
    let applied = change(&mut system, &format!("{broken}[api]\ndb-max-rows = 1\n"));
    assert_eq!(applied["parts"], json!(["app-api-1", "app-api-2"]), "{applied}");
    let refused = system.wait_for(|line| line["event"] == "configuration_refused");
    assert!(refused["reason"].as_str().unwrap().contains("app-shop-1 did not start"), "{refused}");
    assert_eq!(system.ask(get("/api/book")).value(), json!([{"id": 1}]));
    server(&system, get("/store"));
    let more =
        change(&mut system, &broken.replace("[[balancer", "[application.blog]\nrun = 'x'\n[[balancer"));
    assert_eq!(more["event"], "configuration_refused", "{more}");
    let fewer = change(&mut system, &settings.replace("servers = 3", "servers = 1"));
    assert_eq!(fewer["keys"], json!(["servers or ports"]), "{fewer}");
}

#[test]
fn programs_migrate_in_the_order_of_the_file_before_any_server() {
    let migrate =
        |name: &str| format!("migrate = '''sh -c 'echo {name} >> order; test -n \"$DATABASE_URL\"' '''\n");
    let settings = format!(
        "name = 'shop'\n[application.shop]\nrun = 'python3 shop.py'\nservers = 1\n{}\
         [application.blog]\nrun = 'python3 shop.py'\nservers = 1\nenv-file = 'blog.env'\n{}\
         [[balancer.route]]\nto = 'shop'\n[[balancer.route]]\npath = '/blog'\nto = 'blog'\n",
        migrate("shop"),
        migrate("blog"),
    );
    let folder = project(&settings);
    let missing = folder.up_to_the_end();
    assert!(missing.contains("env-file in [application.blog] names it"), "{missing}");
    folder.write("blog.env", "GREETING=welcome\n");
    let system = System::start(folder.path());
    assert_eq!(std::fs::read_to_string(folder.path().join("order")).unwrap(), "shop\nblog\n");
    let events: Vec<Value> = system.log_lines().filter(|line| line["event"].is_string()).collect();
    let place = |event: &str| events.iter().rposition(|line| line["event"] == event).unwrap();
    let first =
        events.iter().position(|it| it["event"] == "part_started" && it["name"] != "database").unwrap();
    assert!(place("migrate_finished") < first, "{events:?}");
    assert_eq!(system.ask(get("/blog")).value()[1], "welcome");
    assert_eq!(system.ask(get("/x")).value()[1], Value::Null);
    assert!(folder.path().join(".tercet/log/migrate-blog.log").exists());
    // It is wrapped.
    let asked = tercet::run(folder.path(), ["run", "--", "true"]).replace("\n  │ ", " ");
    assert!(
        asked.contains("--application NAME of shop, blog") && asked.ends_with("exit code 2\n"),
        "{asked}"
    );
    let none = tercet::run(folder.path(), ["token"]);
    assert!(none.contains("tokens are for the data API"), "{none}");
}

#[test]
fn one_that_does_not_start_is_named() {
    let folder = project(&SETTINGS.replace("shop.py", "none.py"));
    let said = tercet::run(folder.path(), ["up", "--json"]);
    assert!(
        said.contains("app-shop-") && said.contains("did not start: ") && said.contains("none.py"),
        "{said}"
    );
    assert!(said.ends_with("exit code 1\n"), "{said}");
}
