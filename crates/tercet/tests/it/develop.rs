//! Developing a project: changes while it is up, `tercet migrate`, `tercet sql`, `tercet types`, the first minute on a terminal.

use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::{Value, json};

use crate::folder::{Folder, temporary};
use crate::guide;
use crate::http::get;
use crate::system::System;
use crate::tercet;

const NAME: &str = "name = 'shop'\n";
const BOOK: &str = "create table book (id int primary key, title text);\n\
                    insert into book values (1, 'Hyperion'), (2, 'Ulysses');\n\
                    grant select on book to anon;\n";

fn project(more: &[(&str, &str)]) -> Folder {
    let folder = Folder::with(&[("tercet.toml", NAME), ("migrations/0001_book.sql", BOOK)]);
    for (name, text) in more {
        folder.write(name, text);
    }
    if geteuid().is_root() {
        let owner = Command::new("chown").args(["-R", "daemon"]).arg(folder.path()).status().unwrap();
        assert!(owner.success());
    }
    folder
}

/// The next event with this name.
fn event(system: &mut System, name: &str) -> Value {
    system.wait_for_next(|line| line["event"] == name)
}

/// Waits until the answer to GET is this.
fn until(system: &System, target: &str, expected: &Value) {
    let mut connection = system.connect();
    while connection.get(target).value() != *expected {}
}

#[test]
fn new_migrations_are_served_and_changed_ones_explained() {
    let folder = project(&[("seeds/1_more.sql", "insert into book values (3, 'Dune');")]);
    let mut system = System::start(folder.path());
    assert_eq!(system.log_lines().filter(|line| line["event"] == "seeds_applied").count(), 1);
    // A browser gets a page with the project's name, other clients the description, with it, too.
    let page = system.ask(get("/").header("accept", "text/html,application/xhtml+xml,*/*;q=0.8"));
    assert!(page.body.contains("<h1>shop</h1>") && page.body.contains("href=\"docs\""), "{page:?}");
    let document = system.ask(get("/").header("accept", "*/*")).value();
    assert_eq!((&document["swagger"], &document["info"]["title"]), (&json!("2.0"), &json!("shop")));
    folder.write("migrations/0002_shelf.sql", "create table shelf (id int); grnt select on shelf to anon;");
    let failed = event(&mut system, "migrations_failed");
    assert!(failed["reason"].as_str().unwrap().contains("0002_shelf.sql:1:"), "{failed}");
    folder.write("migrations/0002_shelf.sql", "create table shelf (id int); grant select on shelf to anon;");
    assert_eq!(event(&mut system, "migrations_applied")["count"], 1);
    until(&system, "/shelf", &json!([]));
    folder.write("seeds/2_shelf.sql", "insert into shelf values (7);");
    assert_eq!(event(&mut system, "seeds_applied")["count"], 1);
    assert_eq!(system.ask(get("/shelf")).value(), json!([{"id": 7}]));

    folder.write("migrations/0002_shelf.sql", "create table shelf (id text); grant select on shelf to anon;");
    let failed = event(&mut system, "migrations_failed");
    assert!(failed["reason"].as_str().unwrap().contains("tercet migrate reset"), "{failed}");
    let status: Value =
        serde_json::from_str(&tercet::run(folder.path(), ["migrate", "status", "--json"])).unwrap();
    assert_eq!(status["migrations"][0]["state"], "applied");
    assert_eq!(status["migrations"][1]["state"], "changed");
    let check = tercet::run(folder.path(), ["migrate", "check", "--json"]);
    assert!(
        check.contains("the file of migration 2 is changed") && check.ends_with("exit code 1\n"),
        "{check}"
    );

    let reset = |name: &str| tercet::run(folder.path(), ["migrate", "reset", "--yes", name]);
    assert!(reset("other").contains("nothing was changed"));
    // What cannot be applied does not replace anything.
    folder.write("seeds/2_shelf.sql", "insert into shelv values (7);");
    let failed = reset("shop");
    assert!(failed.contains("the database is unchanged") && failed.ends_with("exit code 1\n"), "{failed}");
    assert_eq!(system.ask(get("/shelf")).value(), json!([{"id": 7}]));
    folder.write("seeds/2_shelf.sql", "insert into shelf values (8);");
    assert_eq!(reset("shop"), "2 migrations and 2 seeds applied to a new database\n");
    until(&system, "/shelf", &json!([{"id": "8"}]));
    assert_eq!(
        tercet::run(folder.path(), ["migrate", "check", "--json"]),
        "{\"migrations\":2,\"seeds\":2}\n"
    );
}

#[test]
fn seeds_that_cannot_be_applied_are_reported() {
    let folder = project(&[]);
    let mut system = System::start(folder.path());
    folder.write("seeds/more.sql", "insert into book values (3, 'Dune');");
    // The database has rows that no seed knows of.
    event(&mut system, "seeds_ignored");
    let reset = tercet::run(folder.path(), ["migrate", "reset", "--yes", "shop"]);
    assert_eq!(reset, "1 migration and 1 seed applied to a new database\n");
    folder.write("seeds/wrong.sql", "insert into bok values (4, 'Emma');");
    let failed = event(&mut system, "seeds_failed");
    assert!(failed["reason"].as_str().unwrap().contains("seeds/wrong.sql:1:"), "{failed}");
    folder.write("seeds/wrong.sql", "insert into book values (4, 'Emma');");
    assert_eq!(event(&mut system, "seeds_applied")["count"], 1);
}

#[test]
fn a_changed_option_is_applied_without_a_lost_request() {
    let folder = project(&[]);
    let mut system = System::start(folder.path());
    folder.write("tercet.toml", &format!("{NAME}[api]\ndb-max-rows = 1\n[balancer]\nhsts = 'x'\n"));
    let refused = event(&mut system, "configuration_refused");
    assert!(refused["reason"].as_str().unwrap().contains("tercet.toml:5:"), "{refused}");

    let (over, address) = (AtomicBool::new(false), system.address);
    let (applied, requests) = std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut requests = 0;
            while !over.load(Ordering::Relaxed) {
                let answer = get("/book").send(address);
                assert_eq!(answer.status, 200, "{answer:?}");
                requests += 1;
            }
            requests
        });
        folder.write("tercet.toml", &format!("{NAME}[api]\ndb-max-rows = 1\n"));
        let applied = system.wait_for_next(|line| {
            line["event"] == "configuration_applied" || line["event"] == "configuration_refused"
        });
        over.store(true, Ordering::Relaxed);
        (applied, client.join().unwrap())
    });
    assert_eq!(applied["parts"], json!(["app-1", "app-2"]), "{applied}");
    assert!(requests > 0);
    assert_eq!(system.ask(get("/book?select=id")).value(), json!([{"id": 1}]));
    folder.write("tercet.toml", &format!("{NAME}[application]\nservers = 3\n"));
    assert_eq!(event(&mut system, "restart_required")["keys"], json!(["servers or ports"]));
}

#[test]
fn statements_run_as_the_owner_or_as_a_request() {
    let note = "create table note (owner text default current_setting('request.jwt.claims')::json ->> 'sub');\n\
                grant select, insert on note to authenticated;\n";
    let folder = project(&[("migrations/0002_note.sql", note)]);
    System::start(folder.path()).stop(Signal::TERM);
    let sql = |more: &[&str]| {
        let arguments = ["sql", "."].iter().chain(more).copied();
        let printed = tercet::run(folder.path(), arguments.chain(["-qAt"]));
        printed.trim_end().to_owned()
    };
    // The database is started for the command.
    assert_eq!(sql(&["--", "-c", "select current_user"]), "shop_owner");
    let claims = r#"{"sub": "ann \\ b"}"#;
    let insert = "insert into note default values returning owner, current_user";
    assert_eq!(sql(&["--claims", claims, "--", "-c", insert]), r"ann \ b|authenticated");
    let denied = sql(&["--role", "anon", "--", "-c", "select * from note"]);
    assert!(
        denied.contains("permission denied for table note") && denied.contains("exit code 1"),
        "{denied}"
    );
    assert!(sql(&["--claims", "[]", "--"]).ends_with("exit code 2"));
}

#[test]
fn types_are_those_of_the_schema() {
    let more = "create type kind as enum ('paper', 'e-book');\n\
                create table shelf (id bigint generated always as identity primary key, book int not null references book,\n\
                kind kind not null default 'paper', tags text[], \"a b\" jsonb);\n\
                create view titles as select title from book;\n\
                create function shelves(of int, kind kind default 'paper') returns setof shelf language sql stable\n\
                return null;\n";
    let folder = project(&[(
        "migrations/0002_more.sql",
        &more.replace("return null", "begin atomic select * from shelf; end"),
    )]);
    System::start(folder.path()).stop(Signal::TERM);
    let types = tercet::run(folder.path(), ["types", "typescript"]);
    for part in [
        "      shelf: {\n        Row: {\n          id: number;\n          book: number;\n          \
         kind: \"paper\" | \"e-book\";\n          tags: string[] | null;\n          \"a b\": Json | null;\n        };\n",
        "        Insert: {\n          id?: never;\n          book: number;\n          kind?: \"paper\" | \"e-book\";\n",
        "            foreignKeyName: \"shelf_book_fkey\";\n            columns: [\"book\"];\n            isOneToOne: false;\n",
        "    Views: {\n      titles: {\n",
        "shelves: { Args: { of: number; kind?: string }; Returns: Database[\"public\"][\"Tables\"][\"shelf\"][\"Row\"][] };",
    ] {
        assert!(types.contains(part), "{part}\n{types}");
    }
}

#[test]
fn the_data_outlives_a_renamed_folder_and_another_name_is_refused() {
    let folder = Folder::with(&[("shop/migrations/0001_book.sql", BOOK)]);
    let (old, new) = (folder.path().join("shop"), folder.path().join("store"));
    if geteuid().is_root() {
        assert!(Command::new("chown").args(["-R", "daemon"]).arg(folder.path()).status().unwrap().success());
    }
    System::start(&old).stop(Signal::TERM);
    std::fs::rename(&old, &new).unwrap();
    let system = System::start(&new);
    assert_eq!(system.ask(get("/book?select=id")).value(), json!([{"id": 1}, {"id": 2}]));
    system.stop(Signal::TERM);
    std::fs::write(new.join("tercet.toml"), "name = 'store'").unwrap();
    let refused = tercet::run(folder.path(), ["up", "store", "--json"]);
    assert!(
        refused.contains("that of the project shop") && refused.contains(r#"name = \"shop\""#),
        "{refused}"
    );
    std::fs::write(new.join("tercet.toml"), "").unwrap();
    System::start(&new).stop(Signal::TERM);
}

#[test]
fn the_last_words_of_a_part_say_why() {
    let folder = project(&[]);
    System::start(folder.path()).stop(Signal::TERM);
    let settings = folder.cluster().join("data/postgresql.auto.conf");
    let before = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, "shared_preload_libraries = 'missing'\n").unwrap();
    let said = tercet::run(folder.path(), ["up", "--json"]);
    let last: Value = serde_json::from_str(said.lines().rev().nth(1).unwrap()).unwrap();
    let message = last["message"].as_str().unwrap();
    assert!(
        message.starts_with("database did not start: ") && message.contains("FATAL:  could not access"),
        "{said}"
    );
    assert_eq!((&last["event"], &last["code"]), (&json!("failed"), &json!(1)));
    std::fs::write(&settings, before).unwrap();

    folder.write("tercet.toml", &format!("{NAME}[api]\njwt-secret = '@secrets/none'\n"));
    let said = tercet::run(folder.path(), ["up", "--json"]);
    assert!(said.contains("secrets/none") && said.ends_with("exit code 2\n"), "{said}");
    assert!(!said.contains("part_started"), "{said}");
    folder.write("short", "four");
    folder.write("tercet.toml", &format!("{NAME}[api]\njwt-secret = '@short'\n"));
    let said = tercet::run(folder.path(), ["up", "--json"]);
    assert!(said.contains("32 characters") && said.ends_with("exit code 2\n"), "{said}");
    let pair = "[balancer]\ncertificates = [{ certificate = 'no.crt', key = 'no.key' }]\n";
    folder.write("tercet.toml", &format!("{NAME}{pair}"));
    let said = tercet::run(folder.path(), ["up", "--json"]);
    assert!(said.contains("no.crt") && said.ends_with("exit code 2\n"), "{said}");
}

#[test]
fn a_database_that_is_not_there_and_a_failing_health_check_are_named() {
    let folder = Folder::with(&[("tercet.toml", "[database]\nurl = 'postgres://a@127.0.0.1:1/none'\n")]);
    let said = tercet::run(folder.path(), ["up", "--json"]);
    assert!(said.contains("cannot connect to 127.0.0.1:1") && said.ends_with("exit code 1\n"), "{said}");

    let server = "import http.server, os\n\
                  class Handler(http.server.BaseHTTPRequestHandler):\n    def do_GET(self): self.send_error(500)\n\
                  http.server.HTTPServer((os.environ['HOST'], int(os.environ['PORT'])), Handler).serve_forever()\n";
    let file = "[database]\nurl = 'postgres://a@127.0.0.1:1/none'\n[application]\nservers = 1\nrun = 'python3 server.py'\n\
                health = '/health'\nstart-timeout = '9s'\n";
    let folder = Folder::with(&[("tercet.toml", file), ("server.py", server)]);
    let said = tercet::run(folder.path(), ["up", "--json"]);
    assert!(
        said.contains("\"event\":\"part_not_ready\"") && said.contains("/health was answered 500"),
        "{said}"
    );
    assert!(said.contains("app-1 did not start: not ready within 9 s: http://127.0.0.1:"), "{said}");
}

#[test]
fn mistakes_are_json_for_scripts() {
    let folder = Folder::with(&[("tercet.toml", "nam = 1\n[api]\ndb-max-rows = 'x'\n")]);
    let said = tercet::run(folder.path(), ["up", "--json"]);
    let error: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    let mistake = &error["mistakes"][0];
    assert_eq!((&error["code"], &mistake["line"], &mistake["column"]), (&json!(2), &json!(1), &json!(1)));
    assert_eq!(mistake["hint"], "did you mean name?");
    let said = tercet::run(folder.path(), ["backup", "list", "--jsn", "--json"]);
    assert!(said.contains(r#""event":"failed""#) && said.ends_with("exit code 2\n"), "{said}");
}

/// Runs the guide's `pg_dump` in a folder of its own, for a database of another program.
fn dump_of_another(project: &Path, port: &str, command: &str) {
    let other = temporary();
    std::fs::create_dir(other.path().join("migrations")).unwrap();
    let script = format!(
        "set -e; psql -qc 'create database olddatabase' postgres; psql -qc 'create table old (id int)' olddatabase; {command}"
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).current_dir(other.path()).env("PGUSER", "postgres").env("PGPORT", port);
    shell.env("PGHOST", project.join(".tercet/postgresql/socket"));
    if geteuid().is_root() {
        let owner = std::fs::metadata(project).unwrap().uid();
        std::os::unix::fs::chown(other.path().join("migrations"), Some(owner), None).unwrap();
        shell.uid(owner);
    }
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    let dump = std::fs::read_to_string(other.path().join("migrations/0001_schema.sql")).unwrap();
    assert!(dump.contains("CREATE TABLE public.old"), "{dump}");
}

#[test]
fn the_commands_of_the_guide_work() {
    let folder = project(&[]);
    // The page's table: each row is owned by the one who writes it.
    let todo = "create table todo (id int generated always as identity, task text,\n\
                owner text default current_setting('request.jwt.claims', true)::json ->> 'sub');\n\
                grant select on todo to anon, authenticated; grant insert on todo to authenticated;\n";
    folder.write("migrations/0002_todo.sql", todo);
    folder.write("seeds/.keep", "");
    let mut system = System::start(folder.path());
    let database = system.wait_for(|line| line["event"] == "part_ready" && line["name"] == "database");
    let port = database["address"].as_str().unwrap().rsplit_once(':').unwrap().1.to_owned();
    for command in guide::to_run("develop.md") {
        let command = match &*command.text {
            "tercet migrate reset" => "tercet migrate reset --yes shop",
            // Of another server: here that of the project itself.
            dump if dump.starts_with("pg_dump ") => {
                dump_of_another(folder.path(), &port, dump);
                continue;
            }
            command => command,
        };
        let output = guide::shell(folder.path(), None, command);
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(folder.path().join("migrations/0003_add_shelves.sql").exists());
    let types = std::fs::read_to_string(folder.path().join("database.ts")).unwrap();
    assert!(types.contains("todo: {"), "{types}");
    drop(system);
}

/// The ports that a process has reserved (`up/ports.rs`), by its sockets with abstract names.
fn reserved(pid: Pid) -> Vec<u16> {
    let sockets: Vec<String> = std::fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero()))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok()?.to_str().map(str::to_owned))
        .filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let all = std::fs::read_to_string("/proc/net/unix").unwrap();
    let own = all
        .lines()
        .filter(|line| line.split_whitespace().nth(6).is_some_and(|it| sockets.iter().any(|s| s == it)));
    own.filter_map(|line| line.rsplit_once("@tercet-port-")?.1.parse().ok()).collect()
}

#[test]
fn ports_that_are_taken_after_they_were_chosen_are_replaced() {
    let folder = project(&[]);
    let mut system = System::spawn(folder.path());
    event(&mut system, "preparing");
    let ports = reserved(system.own_pid());
    assert!(ports.len() >= 7, "{ports:?}");
    let taken: Vec<TcpListener> =
        ports.iter().filter_map(|port| TcpListener::bind(("127.0.0.1", *port)).ok()).collect();
    assert_eq!(taken.len(), ports.len());
    system.wait_until_up();
    let moved: Vec<String> = system
        .log_lines()
        .filter(|line| line["event"] == "port_in_use")
        .map(|line| line["name"].as_str().unwrap().to_owned())
        .collect();
    for part in ["database", "app-1", "app-2", "balancer"] {
        assert!(moved.iter().any(|name| name == part), "{part}: {moved:?}");
    }
    assert_eq!(system.ask(get("/book?select=id")).status, 200);
}

#[test]
fn a_terminal_with_sixty_columns_gets_one_line_a_part() {
    let folder = project(&[]);
    let mut terminal = Command::new("script")
        .args(["--quiet", "--return", "--command"])
        .arg(format!("stty cols 60; exec {} up", env!("CARGO_BIN_EXE_tercet")))
        .arg("/dev/null")
        .current_dir(folder.path())
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut shown = String::new();
    let mut output = terminal.stdout.take().unwrap();
    let mut bytes = [0; 4096];
    let pid = loop {
        let count = output.read(&mut bytes).unwrap();
        assert_ne!(count, 0, "{shown}");
        shown.push_str(&String::from_utf8_lossy(&bytes[..count]));
        let stop = shown.split_once("Ctrl-C, or kill ").and_then(|(_, rest)| rest.split_once('\r'));
        if let Some((pid, _)) = stop {
            break Pid::from_raw(pid.parse().unwrap()).unwrap();
        }
    };
    kill_process(pid, Signal::INT).unwrap();
    assert!(terminal.wait().unwrap().success(), "{shown}");
    // The progress of preparations is overwritten.
    let start = shown.find("  ✓ database").unwrap();
    let lines: Vec<&str> = shown[start..].lines().take_while(|line| !line.contains("Ctrl-C")).collect();
    assert!(lines.iter().all(|line| line.chars().count() <= 60), "{lines:#?}");
    assert!(lines.len() <= 17, "{lines:#?}");
    let owner = std::fs::metadata(folder.path().join(".tercet/log/database.log")).unwrap();
    assert!(owner.size() > 0);
}
