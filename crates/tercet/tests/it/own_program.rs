//! `tercet up` with a user's own program.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::folder::Folder;
use crate::http::get;
use crate::processes::descendants;
use crate::system::System;

/// A server that starts a process in a new session, and answers with its address and database URL.
pub(crate) const SERVER: &str = r#"
import http.server, json, os, subprocess, sys
subprocess.Popen(["sleep", "1000"], start_new_session=True)

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = json.dumps([os.environ.get(n) for n in ("HOST", "DATABASE_URL")] + [os.environ["PORT"] == sys.argv[1]])
        self.send_response(200 if self.path == "/health" or self.path == "/" else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())
    def log_message(self, *arguments):
        pass

print("\x1b[2Jready\x07", flush=True)
http.server.ThreadingHTTPServer((os.environ["HOST"], int(sys.argv[1])), Handler).serve_forever()
"#;

/// A server with one event loop, which `/block/SECONDS` blocks. It records the requests it receives.
const EVENT_LOOP: &str = r#"
import asyncio, os, sys, time

async def serve(reader, writer):
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, target = head.split(" ")[:2]
            if target.startswith("/"):
                with open("executed", "a") as executed:
                    executed.write(method + " " + target + "\n")
            if target.startswith("/block/"):
                time.sleep(int(target.split("/")[2]))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()

async def main():
    server = await asyncio.start_server(serve, os.environ["HOST"], int(os.environ["PORT"]))
    await server.serve_forever()

asyncio.run(main())
"#;

/// No database is reached, so the URL may lead nowhere.
const CONFIG: &str = "
[database]
url = 'postgres://shop@127.0.0.1:1/shop'
[application]
run = 'python3 server.py {port}'
health = '/health'
";

fn folder() -> Folder {
    Folder::with(&[("tercet.toml", CONFIG), ("server.py", SERVER)])
}

/// What the servers below a process have started.
fn sleepers(ancestor: Pid) -> Vec<Pid> {
    let below = descendants(ancestor).into_iter();
    below.filter(|(_, name)| name.starts_with("sleep ")).map(|(pid, _)| pid).collect()
}

#[test]
fn it_gets_its_address_and_leaves_nothing_behind() {
    let folder = folder();
    let mut system = System::start(folder.path());
    let body = system.ask(get("/")).body;
    assert_eq!(body, r#"["127.0.0.1", "postgres://shop@127.0.0.1:1/shop", true]"#);
    let printed = system.wait_for(|line| line["part"] == "app-1" && line["event"].is_null());
    assert_eq!(printed["message"], "\u{1b}[2Jready\u{7}");

    // The program's subreaper is killed: the program is killed with it, and both are restarted. The process in the other
    // session outlives the subreaper, and this test has to kill it.
    let orphans = sleepers(system.pid("app-1"));
    system.kill("app-1");
    for orphan in orphans {
        kill_process(orphan, Signal::KILL).unwrap();
    }
    system.wait_until_ready("app-1");

    assert_eq!(sleepers(system.own_pid()).len(), 2, "{:?}", descendants(system.own_pid()));
    system.kill_and_wait();
}

#[test]
fn it_is_stopped_with_everything_it_started() {
    let folder = folder();
    let system = System::start(folder.path());
    let sleepers = sleepers(system.own_pid());
    assert_eq!(sleepers.len(), 2, "{:?}", descendants(system.own_pid()));
    let (code, log) = system.stop(Signal::INT);
    assert_eq!(code, Some(0), "{log:#?}");
    for pid in sleepers {
        assert!(test_kill_process(pid).is_err(), "{pid} is still there");
    }
}

#[test]
fn a_file_of_secrets_that_other_users_can_read_is_named() {
    let config = CONFIG.replace("python3 server.py {port}", "python3 -m http.server --bind {host} {port}");
    let config = config.replace("health = '/health'", "env-file = '@app.env'");
    let folder = Folder::with(&[("tercet.toml", &config), ("app.env", "SECRET=1")]);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(folder.path().join("app.env"), mode).unwrap();
    if rustix::process::geteuid().is_root() {
        let owned = std::process::Command::new("chown").args(["-R", "daemon"]).arg(folder.path()).status();
        assert!(owned.unwrap().success());
    }
    let mut system = System::start(folder.path());
    let warning = system.wait_for(|line| line["event"] == "secret_readable");
    assert_eq!((&warning["file"], &warning["level"]), (&"app.env".into(), &"warn".into()));
}

#[test]
fn a_blocking_request_is_answered_and_no_other_request_fails() {
    let config = CONFIG.replace("health = '/health'\n", "").replace(" {port}", "");
    let folder = Folder::with(&[("tercet.toml", &config), ("server.py", EVENT_LOOP), ("executed", "")]);
    // Started by root, it runs as another user.
    let world_writable = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(folder.path().join("executed"), world_writable).unwrap();
    let system = System::start(folder.path());
    let mut asked = Vec::new();
    for seconds in [1, 3, 10] {
        let target = format!("/block/{seconds}");
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let others: Vec<_> = (0..6)
                .map(|client| {
                    let (address, over) = (system.address, &over);
                    scope.spawn(move || {
                        let mut asked = Vec::new();
                        while !over.load(Ordering::SeqCst) {
                            let target = format!("/{seconds}/{client}/{}", asked.len());
                            assert_eq!(get(&target).send(address).status, 200, "{target}");
                            asked.push(target);
                        }
                        asked
                    })
                })
                .collect();
            assert_eq!(system.ask(get(&target)).status, 200);
            over.store(true, Ordering::SeqCst);
            asked.extend(others.into_iter().flat_map(|other| other.join().unwrap()));
        });
        asked.push(target);
    }
    let mut executed: Vec<String> = std::fs::read_to_string(folder.path().join("executed"))
        .unwrap()
        .lines()
        .map(|line| line.strip_prefix("GET ").unwrap().to_owned())
        .collect();
    executed.sort();
    asked.sort();
    assert_eq!(executed, asked, "each was done, and once");
}
