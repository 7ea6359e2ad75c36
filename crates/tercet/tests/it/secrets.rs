//! No output of a running project contains a secret of it, and the programs that need one get it byte for byte.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::folder::Folder;
use crate::http::get;
use crate::own_program::SERVER;
use crate::processes::descendants;
use crate::system::System;
use crate::tercet;

/// In every secret, in letters that no encoding changes.
const MARK: &str = "hush";

/// Characters that mean something to a shell, to systemd, to TOML, JSON, URLs or PostgREST's configuration files.
const NASTY: &str = r#"hush $(PATH) $$(PATH) $HOME %n %25 "quoted" \n @:/?# `id` ${PATH} é"#;

/// The data API with every option that may hold a secret.
fn api_project() -> (Folder, Vec<String>) {
    let pair = rcgen::generate_simple_self_signed(["shop.test".to_owned()]).unwrap();
    let key = pair.signing_key.serialize_pem();
    let file = format!(
        "[balancer]\nlisten = ['127.0.0.1:0']\ntls-listen = ['127.0.0.1:0']\nredirect-to-https = false\n\
         certificates = [{{ certificate = 'shop.crt', key = 'shop.key' }}]\n\
         [api]\nlog-level = 'debug'\nlog-query = true\n\
         jwt-secret = '{NASTY}, and so on'\n[api.app.settings]\nnasty = '''{NASTY}'s'''\n"
    );
    let migration = "create function setting(name text) returns text language sql stable \
                     as $$ select current_setting(name) $$;\n\
                     create function whoami() returns text language sql stable as 'select current_user::text';\n\
                     grant execute on function setting, whoami to anon, authenticated;\n";
    let folder = Folder::with(&[
        ("tercet.toml", &file),
        ("shop.crt", &pair.cert.pem()),
        ("shop.key", &key),
        ("migrations/0001_setting.sql", migration),
    ]);
    let body = key.lines().nth(1).unwrap().to_owned();
    (folder, vec![MARK.to_owned(), body])
}

#[test]
fn the_data_api_uses_its_secrets_and_shows_none() {
    let (folder, mut secrets) = api_project();
    let mut system = System::start(folder.path());
    for name in ["owner", "authenticator"] {
        let password = std::fs::read_to_string(folder.path().join(".tercet/secrets").join(name)).unwrap();
        secrets.push(password.trim().to_owned());
    }
    let address = system
        .log_lines()
        .find(|event| event["event"] == "part_ready" && event["name"] == "balancer")
        .and_then(|event| event["address"].as_str()?.split(',').next()?.parse().ok())
        .unwrap();

    let setting = get("/rpc/setting?name=app.settings.nasty").send(address);
    assert_eq!(serde_json::from_str::<Value>(&setting.body).unwrap(), format!("{NASTY}'s"), "{setting:?}");
    let token = tercet::run(folder.path(), ["token"]);
    let bearer = format!("Bearer {}", token.trim());
    let signed_in = get("/rpc/whoami").header("authorization", &bearer).send(address);
    assert_eq!((signed_in.status, signed_in.body.as_str()), (200, r#""authenticated""#));
    let refused = get("/rpc/whoami").header("authorization", "Bearer a.b.c").send(address);
    assert_eq!(refused.status, 401);

    processes_show_nothing(&system, &secrets);
    files_show_nothing(&folder.path().join(".tercet"), &secrets);
    let configuration = admin(&folder, "/config");
    assert!(configuration.contains("app.settings.nasty"), "{configuration}");
    shows_nothing(&configuration, &secrets);
    system.wait_for(|line| line["part"] == "balancer");
    let (code, log) = system.stop(Signal::TERM);
    assert_eq!(code, Some(0), "{log:#?}");
    shows_nothing(&format!("{log:?}"), &secrets);
    files_show_nothing(&folder.path().join(".tercet"), &secrets);
}

#[test]
fn only_the_program_gets_its_url() {
    // Delimiters in a password have to be percent-encoded.
    let password = NASTY.replace(['@', '/', '?', '#'], "");
    let url = format!("postgres://shop:{password}@127.0.0.1:1/shop");
    let folder = Folder::with(&[
        (
            "tercet.toml",
            &format!(
                "[database]\nurl = '{url}'\n[application]\nrun = 'python3 server.py {{port}}'\nhealth = '/health'\n"
            ),
        ),
        ("server.py", SERVER),
    ]);
    let system = System::start(folder.path());
    let got: Vec<Value> = serde_json::from_str(&system.ask(get("/")).body).unwrap();
    assert_eq!(got[1], url);
    let secrets = [MARK.to_owned()];
    processes_show_nothing(&system, &secrets);
    files_show_nothing(&folder.path().join(".tercet"), &secrets);
    let (code, log) = system.stop(Signal::TERM);
    assert_eq!(code, Some(0), "{log:#?}");
    shows_nothing(&format!("{log:?}"), &secrets);
}

#[test]
fn a_url_that_cannot_be_used_is_not_shown() {
    let cases = [
        ("postgres://u:hush@127.0.0.1:1/shop", true),
        ("postgres://u:hush@[::1/shop", true),
        ("postgres://u:hush/x@127.0.0.1/shop", true),
        ("postgres://u:1/hush@127.0.0.1/shop", true),
        ("postgres://u:x?hush=y@127.0.0.1/shop", true),
        ("postgres://u:x?sslmode=hush@127.0.0.1/shop", true),
        ("postgres://u:hush@127.0.0.1:99999/shop", true),
        ("postgres://u:hush@no such host/shop", true),
        ("postgres://u:%00hush@127.0.0.1:1/shop", true),
        ("postgres://u:1/hush@127.0.0.1/shop", false),
        ("postgres://u:x?hush=y@127.0.0.1/shop", false),
        ("postgres://u:x?sslmode=hush@127.0.0.1/shop", false),
        ("postgres://u:hush@127.0.0.1:99999/shop", false),
    ];
    std::thread::scope(|scope| {
        for (url, with_migration) in cases {
            scope.spawn(move || is_not_shown(url, with_migration));
        }
    });
}

fn is_not_shown(url: &str, with_migration: bool) {
    let config = format!("[database]\nurl = '{url}'\n[application]\nservers = 1\n");
    let folder = Folder::with(&[("tercet.toml", &config)]);
    if with_migration {
        folder.write("migrations/0001_one.sql", "select 1");
    }
    let printed = folder.up_to_the_end();
    assert!(printed.contains("exit code"), "{url}: {printed}");
    shows_nothing(&printed, &[MARK.to_owned()]);
    files_show_nothing(&folder.path().join(".tercet"), &[MARK.to_owned()]);
}

#[track_caller]
fn shows_nothing(text: &str, secrets: &[String]) {
    for secret in secrets {
        assert!(!text.contains(secret.as_str()), "{secret} is in:\n{text}");
    }
}

/// No argument list of `tercet up` and its children has one, and none of them leaves its memory on disk (core(5)).
fn processes_show_nothing(system: &System, secrets: &[String]) {
    let processes = descendants(system.own_pid());
    assert!(processes.len() >= 3, "{processes:?}");
    shows_nothing(&format!("{processes:?}"), secrets);
    for pid in processes.keys() {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", pid.as_raw_nonzero()));
        // A short-lived one may be gone.
        let Ok(limits) = limits else { continue };
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{pid:?} {}: {core}", processes[pid]);
    }
}

/// Every file with a secret in it is its owner's alone, and no log has one.
fn files_show_nothing(folder: &Path, secrets: &[String]) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.symlink_metadata().unwrap();
        if metadata.is_dir() {
            files_show_nothing(&path, secrets);
        } else if metadata.is_file() && !path.starts_with(folder.join("postgresql")) {
            let contents = std::fs::read(&path).unwrap();
            let text = String::from_utf8_lossy(&contents);
            if secrets.iter().any(|secret| text.contains(secret.as_str())) {
                assert!(path.extension().is_none_or(|kind| kind != "log"), "{}", path.display());
                assert_eq!(metadata.permissions().mode() & 0o077, 0, "{}", path.display());
            }
        }
    }
}

/// The response of a data API server's admin endpoint.
fn admin(folder: &Folder, target: &str) -> String {
    let file = std::fs::read_to_string(folder.path().join(".tercet/run/app-1.toml")).unwrap();
    let port = file.lines().find_map(|line| line.strip_prefix("admin-server-port = ")).unwrap();
    get(target).send(format!("127.0.0.1:{port}").parse().unwrap()).body
}
