//! The content of `tercet.toml`: one field for each key. The doc comments here are the keys' documentation: the
//! reference page and the JSON Schema are generated from them. `tercet-options` declares the options of the tiers.
//!
//! The module has the keys and the types of their values; [`Topology`](crate::Topology) interprets the values
//! together.

mod application;
mod balancer;

use schemars::JsonSchema;
use serde::Deserialize;
pub(crate) use tercet_options::Located;
use tercet_options::schema::OptionsOf;
use tercet_options::{Duration, Share, api};

pub(crate) use self::application::{Application, Applications, Grants};
pub(crate) use self::balancer::{Balancer, Certificate};

/// The file that a user writes. Every key has a default: the empty file is valid and means one balancer on
/// `127.0.0.1:8080`, two data API servers, and a PostgreSQL of its own.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct File {
    /// What the project is called: the database and its owner role are named after it. Lower case letters,
    /// digits, `_` and `-`, at most 40. Default: the name of the folder `tercet.toml` lies in.
    #[schemars(extend("examples" = ["bookshop"]))]
    pub(crate) name: Option<Located<String>>,
    /// Tier 1: where clients connect.
    #[serde(default)]
    pub(crate) balancer: Balancer,
    /// Tier 2: what answers the requests: the built-in data API, or your own program. Several applications have a section of
    /// their own each, `[application.NAME]`.
    #[serde(default)]
    pub(crate) application: Applications,
    /// The built-in data API. The keys are PostgREST's own, and so is their meaning.
    pub(crate) api: Option<Located<OptionsOf<api::Options>>>,
    /// Tier 3: PostgreSQL.
    #[serde(default)]
    pub(crate) database: Database,
    /// The machines that carry the tiers, one `[[machine]]` each. Without any, everything runs on this one.
    #[serde(default)]
    pub(crate) machine: Vec<Located<Machine>>,
    /// Backups of the database on machines: when they are made and checked, how long they are kept, and where. This
    /// section, or a machine with the tier `backup`, turns them on. Times are calendar expressions of systemd.time(7).
    pub(crate) backup: Option<Located<Backup>>,
    /// Metrics and traces for a monitoring system of your own.
    #[serde(default)]
    pub(crate) monitoring: Monitoring,
    /// Where the alerts of the machine with the tier `monitor` are sent.
    pub(crate) alerts: Option<Located<Alerts>>,
    /// The firewalls of the machines. They accept the edges of the topology, and the operator's ssh.
    #[serde(default)]
    pub(crate) firewall: Firewall,
    /// The operating system of the machines.
    #[serde(default)]
    pub(crate) system: System,
    /// Who can read the operator state that the machines keep, encrypted: the certificate authority, the passwords and
    /// the token secret in `.tercet/`. `tercet state push` and every `tercet apply` put it there, `tercet state pull`
    /// fetches it.
    #[serde(default)]
    pub(crate) state: State,
}

/// Tier 3: PostgreSQL.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Database {
    /// The folder of the migrations, `0001_title.sql` and so on, relative to `tercet.toml`. Default:
    /// `migrations`, if it exists.
    pub(crate) migrations: Option<Located<String>>,
    /// A PostgreSQL that already exists, as its owner's connection URL; tercet then runs none. A leading `@`
    /// names a file that holds it.
    #[schemars(extend("writeOnly" = true, "examples" = ["@secrets/database-url"]))]
    pub(crate) url: Option<Located<String>>,
    /// Whether the database is one that Supabase's schemas and clients expect: the schema `auth` with `uid()`, `jwt()`, `role()`,
    /// `email()` and `users`, and privileges on all tables of `public` for every request, which row-level security
    /// restricts. Default: false.
    pub(crate) supabase: Option<Located<bool>>,
    /// The port of tercet's own PostgreSQL. Default: 5432, or the next free one.
    #[schemars(range(min = 1))]
    pub(crate) port: Option<Located<u16>>,
    /// On machines, your own roles that keep privileged attributes, such as `replication` or `superuser`, and memberships in
    /// privileged roles. `tercet apply` takes them from every other role that is not tercet's.
    #[schemars(extend("examples" = [["monitoring"]]))]
    pub(crate) privileged_roles: Option<Vec<String>>,
    /// On machines, what PostgreSQL may connect to besides the edges of the topology, for foreign servers (postgres_fdw), LDAP or
    /// extensions: networks, ports, or both, and name servers if there are any. Default: nothing.
    #[schemars(extend("examples" = [["10.0.0.40:5432"]]))]
    pub(crate) egress: Option<Located<Vec<Located<String>>>>,
}

/// A machine and the tiers it carries.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Machine {
    /// What the machine is called, here and in logs.
    #[schemars(extend("examples" = ["lb"]))]
    pub(crate) name: Option<Located<String>>,
    /// How OpenSSH reaches it: `user@host`, or a name in your `~/.ssh/config`.
    #[schemars(extend("examples" = ["root@203.0.113.10"]))]
    pub(crate) ssh: Option<Located<String>>,
    /// The private address the tiers use among themselves.
    #[schemars(extend("examples" = ["10.0.0.10"]))]
    pub(crate) address: Option<Located<String>>,
    /// What it carries: one or more of `balancer`, `application`, `database`, `backup`, `monitor`. The backups may share a
    /// machine with anything but the database. The monitor notices the failure of every machine but its own.
    #[schemars(extend("examples" = [["balancer"]]))]
    pub(crate) tiers: Option<Located<Vec<Located<Tier>>>>,
}

/// Who can read the operator state that the machines keep, and whose word for it counts.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct State {
    /// The public keys it is encrypted to, one for each operator: age's (`age1…`; `tercet state identity` makes one), or
    /// those of ssh keys (`ssh-ed25519 …`, `ssh-rsa …`). Without any, `tercet state push` asks for a passphrase and
    /// `tercet apply` does not push.
    #[schemars(extend("examples" = [["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"]]))]
    pub(crate) recipients: Option<Vec<Located<String>>>,
    /// The fingerprint of the certificate authority that signs it: state with another signature is never pulled.
    /// `tercet state push` prints it.
    #[schemars(extend("examples" = ["sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"]))]
    pub(crate) authority: Option<Located<String>>,
}

/// A tier.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Tier {
    /// Where clients connect.
    Balancer,
    /// What answers requests.
    Application,
    /// PostgreSQL.
    Database,
    /// The backups of the database.
    Backup,
    /// Prometheus and Alertmanager, which watch all machines.
    Monitor,
}

/// The firewalls of the machines.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Firewall {
    /// The networks that ssh is accepted from, in place of the address that the operator connects from at the apply: with
    /// another address than that, an operator is locked out. `["anywhere"]` accepts it from every address, if sshd accepts
    /// keys only.
    #[schemars(extend("examples" = [["203.0.113.0/24", "2001:db8::/32"]]))]
    pub(crate) ssh_from: Option<Located<Vec<Located<String>>>>,
}

/// The operating system of the machines.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct System {
    /// How long a machine keeps its logs, in days or weeks, as far as journald has room: 10 % of the disk, at most 4 GiB.
    /// Default: `4 weeks`.
    #[schemars(extend("examples" = ["4 weeks"]))]
    pub(crate) keep_logs: Option<Located<String>>,
    /// Whether sshd accepts keys only, and no passwords. Default: false, sshd stays as it is.
    pub(crate) ssh_keys_only: Option<bool>,
    /// Whether the machines install the distribution's security updates each day (unattended-upgrades). An update of PostgreSQL
    /// restarts it. Default: false, updates are left to you.
    pub(crate) security_updates: Option<bool>,
}

/// Metrics and traces for a monitoring system of your own.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Monitoring {
    /// The private address that a Prometheus of yours scrapes the machines from, instead of a machine with the tier `monitor`. Every
    /// machine gets the exporters, open to this address alone; `tercet monitoring export` writes what the Prometheus needs.
    #[schemars(extend("examples" = ["10.0.0.99"]))]
    pub(crate) prometheus: Option<Located<String>>,
    /// The URL of an OpenTelemetry collector, which the balancer and the data API send traces of requests to (OTLP, protobuf over HTTP);
    /// `/v1/traces` is appended. Default: no traces are sent.
    #[schemars(extend("format" = "collector url", "examples" = ["http://10.0.0.90:4318"]))]
    pub(crate) otlp: Option<Located<String>>,
    /// The share of requests that are traced, of those whose client does not decide it (`traceparent`). Default: `1%`.
    #[schemars(extend("examples" = ["0.1%"]))]
    pub(crate) otlp_sample: Option<Located<Share>>,
    /// Requests that take at least this long are always traced, and so are those that are answered with a status of 500 or more.
    /// Default: `1s`.
    #[schemars(extend("examples" = ["500ms"]))]
    pub(crate) otlp_slow: Option<Located<Duration>>,
}

/// Where alerts are sent.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Alerts {
    /// The receivers: `webhook:URL` gets Alertmanager's JSON by POST, `ntfy:URL` is a topic of an ntfy server, `mail:ADDRESS` needs
    /// `smtp`. In place of a URL, `@path` names a file that holds it.
    #[schemars(extend("writeOnly" = true, "examples" = [["webhook:@secrets/on-call", "ntfy:https://ntfy.sh/shop-7f3a", "mail:ops@example.com"]]))]
    pub(crate) to: Option<Located<Vec<Located<String>>>>,
    /// A URL that the monitor sends a POST to each minute, as long as it works (a dead man's switch): the service behind it calls you
    /// when nothing comes any more. A leading `@` names a file that holds it.
    #[schemars(extend("writeOnly" = true, "examples" = ["@secrets/heartbeat"]))]
    pub(crate) heartbeat: Option<Located<String>>,
    /// The mail server that takes mail for all addresses: `smtps://USER:PASSWORD@HOST` (port 465), or `smtp://USER:PASSWORD@HOST:587` with
    /// STARTTLS. A leading `@` names a file that holds it.
    #[schemars(extend("writeOnly" = true, "examples" = ["@secrets/smtp"]))]
    pub(crate) smtp: Option<Located<String>>,
}

/// Backups of the database on machines.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Backup {
    /// When full backups are made. Default: `Sun 03:00`.
    #[schemars(extend("examples" = ["Sun 03:00"]))]
    pub(crate) full: Option<Located<String>>,
    /// When incremental backups are made, of what has changed since the last backup. Default: `*-*-* 03:00`, each day.
    #[schemars(extend("examples" = ["*-*-* 03:00"]))]
    pub(crate) incremental: Option<Located<String>>,
    /// How far back the database can be restored to, in days or weeks. Default: `4 weeks`. The last backup that passed
    /// its check is kept longer than that if need be.
    #[schemars(extend("examples" = ["4 weeks"]))]
    pub(crate) keep: Option<Located<String>>,
    /// When the latest backup is checked: restored, recovered to the end of the archive, and verified. Default:
    /// `*-*-* 05:00`, each day. `never` needs `allow-unchecked`.
    #[schemars(extend("examples" = ["*-*-* 05:00"]))]
    pub(crate) check: Option<Located<String>>,
    /// Whether `check` may be `never`. Default: false.
    pub(crate) allow_unchecked: Option<Located<bool>>,
    /// An object store with Amazon's S3 protocol, instead of a machine with the tier `backup`: bucket, folder, endpoint
    /// and region. Backups there are encrypted.
    #[schemars(extend("examples" = ["s3://bucket/shop?endpoint=s3.example.com&region=eu-central-1"]))]
    pub(crate) to: Option<Located<String>>,
    /// The access key of the object store. A leading `@` names a file that holds it.
    #[schemars(extend("writeOnly" = true, "examples" = ["@secrets/s3-key"]))]
    pub(crate) key: Option<Located<String>>,
    /// The secret key of the object store. A leading `@` names a file that holds it.
    #[schemars(extend("writeOnly" = true, "examples" = ["@secrets/s3-secret"]))]
    pub(crate) secret: Option<Located<String>>,
}
