//! No mistake in a `tercet.toml` shows a secret of it, however it is written and whatever else is wrong.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use miette::{GraphicalReportHandler, GraphicalTheme};
use tercet_config::{Origin, Server};

const ORIGIN: Origin<'_> = Origin { file: "tercet.toml", folder: "shop" };

fn report(text: &str) -> String {
    let mistakes =
        tercet_config::parse(text, ORIGIN).err().unwrap_or_else(|| panic!("no mistake in:\n{text}"));
    let mut shown = String::new();
    GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_width(200)
        .render_report(&mut shown, &mistakes)
        .unwrap();
    shown + &format!("{mistakes:?}")
}

/// Ways to write a secret, right and wrong. A mistake on the next line shows the lines around it.
const SECRETS: &[&str] = &[
    "[api]\njwt-secret = 'hush'",
    "api.jwt-secret = 'hush'",
    "api = { jwt-secret = 'hush' }",
    "api = { \"jwt-secret\" = 'hush' }",
    "[api]\njwt-secret = '''\none\nhush\n'''",
    "[api]\njwt-secret = ['hush']",
    "[api]\njwt-secret = { value = 'hush' }",
    "[api.app.settings]\nkey = 'hush'",
    "[api.app.settings]\nkey = '@hush'",
    "[api.app.settings]\nkey = { a = 'hush' }",
    "[api]\napp.settings.key = 'hush'",
    "[api]\napp.settings = 'hush'",
    "api.app = { settings = { key = 'hush' } }",
    "[database]\nurl = 'postgres://u:hush@h/d'",
    "[database]\nurl = 'mysql://u:hush@h/d'",
    "[database]\nurl = ['postgres://u:hush@h/d']",
    "database = { url = 'postgres://u:hush@h/d' }",
    // Keys that do not exist and may have been meant to be one of those.
    "[api]\njwt_secret = 'hush'",
    "[api]\njwt-secert = 'hush'",
    "[api]\ndb-uri = 'postgres://u:hush@h/d'",
    "[database]\npassword = 'hush'",
    "[database]\nurls = ['postgres://u:hush@h/d']",
    "[application]\nenv = { TOKEN = 'hush' }",
    "url = 'postgres://u:hush@h/d'",
    "[databse]\nurl = 'postgres://u:hush@h/d'",
    "[[machine]]\npassword = 'hush'",
    "[balancer]\ncertificates = [{ key = '-----BEGIN PRIVATE KEY-----hush', certificate = 'a' }]",
    "[balancer]\ncertificates = { key = '-----BEGIN PRIVATE KEY-----hush', certificate = 'a' }",
    "[balancer]\nkey = '''\n-----BEGIN PRIVATE KEY-----\nhush\n'''",
    "[state]\nrecipients = ['AGE-SECRET-KEY-1hush']",
    "[state]\nrecipients = ['age-secret-key-1hush']",
    "[state]\nrecipients = 'AGE-SECRET-KEY-1hush'",
    "[state]\n# recipients = ['AGE-SECRET-KEY-1hush']",
    "[alerts]\nto = ['webhook:ftp://h/hush']",
    "[alerts]\nto = ['hush:https://h/hush']",
    "[alerts]\nto = 'webhook:https://h/hush'",
    "[alerts]\nheartbeat = 'ftp://h/hush'",
    "[alerts]\nsmtp = 'https://u:hush@h'",
    "[backup]\nkey = 'hush'",
    "[backup]\nsecret = ['hush']",
    // Former ones.
    "# jwt-secret = 'hush'",
    "[database]\n  #url = 'postgres://u:hush@h/d'",
];

/// Texts that are not TOML.
const BROKEN: &[&str] = &[
    "[api]\njwt-secret = 'hush",
    "[api]\njwt-secret = hush",
    "[api]\njwt-secret = \"a\\hush\"",
    "[api]\njwt-secret = 'a'hush'",
    "[api]\njwt-secret = '''\nhush\n",
    "[api]\njwt-secret = \"\"\"\nx = hush\n",
    "[api\njwt-secret = 'hush'",
    "[api]\njwt-secret == 'hush'",
    "[api]\njwt-secret 'hush' =",
    "[api]\njwt-secret: 'hush'",
    "api = { jwt-secret = 'hush', }}",
    "[api.app.settings]\nkey = 'hush",
    "[api.app.settings]\nkey = hush",
    "[database]\nurl = 'postgres://u:hush@h/d",
    "[database]\nurl = postgres://u:hush@h/d",
    "[database]\nurl = postgres://u:p?x=hush@h/d",
    "[database]\npasswort = hush",
    "[state]\nrecipients = ['AGE-SECRET-KEY-1hush'",
    "[api]\njwt-secret = 'hush'\njwt-secret = 'hush again'",
];

#[test]
fn is_shown_by_no_mistake() {
    for text in SECRETS {
        for (before, after) in [("nmae = 1\n", ""), ("", "\nnmae = 1"), ("", "\n= broken")] {
            let text = format!("{before}{text}{after}\n");
            let report = report(&text);
            assert!(!report.contains("hush"), "{text}\n{report}");
        }
    }
    for text in BROKEN {
        let report = report(text);
        assert!(!report.contains("hush"), "{text}\n{report}");
    }
}

#[test]
fn is_not_repeated_by_a_hint() {
    for text in ["[api]\njwt-secret = 1234567890", "[api.app.settings]\npin = 1234567890"] {
        let report = report(text);
        assert!(!report.contains("1234567890"), "{report}");
    }
}

#[test]
fn a_harmless_value_is_shown_where_the_text_is_broken() {
    let report = report("[balancer]\npolicy = round-robin\n");
    assert!(report.contains("policy = round-robin"), "{report}");
}

#[test]
fn is_not_in_the_debug_form_of_a_topology() {
    let text =
        "api.jwt-secret = 'hush'\napi.app.settings.key = 'hush'\ndatabase.url = 'postgres://u:hush@h/d'\n";
    let topology = tercet_config::parse(text, ORIGIN).unwrap();
    assert!(!format!("{topology:?}").contains("hush"));
    let Server::Api(api) = &topology.applications()[0].server else { unreachable!() };
    assert_eq!(api.options["app"]["settings"]["key"].as_str(), Some("hush"));
}

/// The paths in all examples of `schema` that name a secret's file.
fn named_in(schema: &serde_json::Value, found: &mut BTreeSet<PathBuf>) {
    match schema {
        serde_json::Value::String(text) => {
            found.extend(text.split_once("@secrets/").map(|(_, name)| Path::new("secrets").join(name)));
        }
        serde_json::Value::Array(values) => values.iter().for_each(|it| named_in(it, found)),
        serde_json::Value::Object(fields) => fields.values().for_each(|it| named_in(it, found)),
        _ => {}
    }
}

#[test]
fn each_file_with_a_secret_is_known() {
    let machines = "machine = [
        { name = 'one', ssh = 'one', address = '10.0.0.10', tiers = ['balancer', 'application', 'monitor'] },
        { name = 'two', ssh = 'two', address = '10.0.0.11', tiers = ['database'] },
    ]
    [balancer]
    certificates = [{ certificate = 'shop.crt', key = 'secrets/shop.key' }]
    domains = ['shop.example']
    acme = { directory = 'zerossl', eab = { kid = 'kid', hmac-key-file = 'secrets/hmac' } }
    route = [{ path = '/', basic-auth = { users = '@secrets/users' } }]
    [backup]
    to = 's3://bucket/shop?endpoint=s3.example.com&region=eu-central-1'
    key = '@secrets/s3-key'
    secret = '@secrets/s3-secret'
    [alerts]
    to = ['webhook:@secrets/on-call', 'ntfy:@secrets/topic', 'mail:ops@example.com']
    heartbeat = '@secrets/heartbeat'
    smtp = '@secrets/smtp'
    ";
    let own = "[application]\nrun = 'app'\nenv-file = '@secrets/app.env'\n";
    let existing = "[api]\njwt-secret = '@secrets/jwt'\n[database]\nurl = '@secrets/database-url'\n";
    let files: BTreeSet<PathBuf> = [format!("{machines}{own}"), existing.to_owned()]
        .iter()
        .flat_map(|text| {
            let topology = tercet_config::parse(text, ORIGIN).unwrap();
            topology.secret_files().into_iter().map(Path::to_owned).collect::<Vec<_>>()
        })
        .collect();
    let names = ["hmac", "shop.key", "topic"].map(|name| Path::new("secrets").join(name));
    let mut expected = BTreeSet::from(names);
    expected.insert("tercet.toml".into());
    // A key that names a secret's file has an example of it.
    named_in(&tercet_config::json_schema(), &mut expected);
    assert_eq!(files, expected);
}
