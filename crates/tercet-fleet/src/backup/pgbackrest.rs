//! pgBackRest, the engine: its commands and its catalogue of backups. Nothing outside knows its words.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use jiff::Timestamp;
use serde::Deserialize;
use tercet_database::wal::Segment;

use super::record::{Backup, Kind};
use super::settings::{ACCOUNT, Settings};

/// How often a file and its copy are compared before they count as unequal.
const COPY_ATTEMPTS: u32 = 3;

/// pgBackRest for one cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PgBackRest<'s> {
    pub(crate) settings: &'s Settings,
}

/// The state of the repository.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    /// The system identifier of the cluster that is backed up now; `None` before the repository is initialised.
    pub(crate) cluster: Option<String>,
    /// The backups, oldest first.
    pub(crate) backups: Vec<Backup>,
}

/// One line of pgBackRest's log.
struct Line<'l> {
    level: &'l str,
    message: &'l str,
}

impl PgBackRest<'_> {
    /// Initialises the repository, or has it accept the backups of another cluster.
    ///
    /// # Errors
    /// pgBackRest's own.
    pub(crate) fn initialise(self, is_another_cluster: bool) -> Result<()> {
        let command = if is_another_cluster { "stanza-upgrade" } else { "stanza-create" };
        self.run(command, &[], &mut |_| {})
    }

    /// Waits until a segment of the write-ahead log that ends now is in the archive.
    pub(crate) fn check_archive(self) -> Result<()> {
        self.run("check", &[], &mut |_| {})
    }

    /// Makes a backup; `say` gets pgBackRest's lines. An incremental one reads all files, too: a page that the disk has
    /// damaged changes neither size nor time of its file.
    pub(crate) fn back_up(self, full: bool, say: &mut dyn FnMut(&str)) -> Result<()> {
        let kind: &[&str] = if full { &["--type=full"] } else { &["--type=incr", "--delta"] };
        // Without a number pgBackRest warns that nothing expires: that is done before.
        self.run("backup", &[kind, &["--repo1-retention-full=9999999"]].concat(), say)
    }

    /// Removes all but the last `count` full backups, the backups that depend on them, and the write-ahead log that no
    /// backup needs.
    pub(crate) fn expire(self, count: usize) -> Result<()> {
        self.run("expire", &[&format!("--repo1-retention-full={count}")], &mut |_| {})
    }

    /// Stores a segment of the write-ahead log again: the same text is accepted, and the error says why it was not stored.
    pub(crate) fn push(self, path: &str) -> Result<()> {
        self.run("archive-push", &[path], &mut |_| {})
    }

    /// The findings of pgBackRest's own comparison of the repository with its checksums, of which only the text counts, since
    /// the exit status is 0 in any case (pgbackrest#2502), and of the files of `backups` that the repository has twice.
    ///
    /// # Errors
    /// The comparison could not be made.
    pub(crate) fn verify(self, backups: &[Backup]) -> Result<Vec<String>> {
        let (text, log) = self.output("verify", &["--output=text", "--verbose"], "info")?;
        let text = String::from_utf8(text)?;
        let (_, status) = text.split_once("status: ").unwrap_or(("", &text));
        let mut found = Vec::new();
        if !status.starts_with("ok") {
            let says_nothing =
                |line: &&str| line.is_empty() || line.ends_with(": 0") || line.contains(", status: valid,");
            let lines = status.lines().map(str::trim).filter(|line| !says_nothing(line));
            found.extend(lines.map(str::to_owned));
            // The files are in the log alone.
            let files = log.lines().filter_map(|line| line.strip_prefix("INFO: invalid "));
            found.extend(files.map(|file| format!("invalid {file}")));
        }
        found.extend(self.unequal_copies(backups));
        Ok(found)
    }

    /// Manifests and catalogues that differ from their copy: one of the two is damaged, which pgBackRest does not report as
    /// long as it can read the other.
    fn unequal_copies(self, backups: &[Backup]) -> Vec<String> {
        let stanza = &self.settings.database;
        let catalogues = [format!("backup/{stanza}/backup.info"), format!("archive/{stanza}/archive.info")];
        let manifests = backups.iter().map(|it| format!("backup/{stanza}/{}/backup.manifest", it.id));
        let mut found = Vec::new();
        for path in catalogues.into_iter().chain(manifests) {
            // A backup that ends now writes one after the other.
            let mut attempts = (0..COPY_ATTEMPTS).map(|_| {
                Ok(self.content("repo-get", &["--raw", &path])?
                    == self.content("repo-get", &["--raw", &format!("{path}.copy")])?)
            });
            match attempts.find(|equal| !matches!(equal, Ok(false))) {
                None => found.push(format!("{path} differs from {path}.copy: one of them is damaged")),
                Some(Ok(_)) => {}
                Some(Err::<bool, anyhow::Error>(error)) => found.push(format!("{path}: {error:#}")),
            }
        }
        found
    }

    /// Reads the catalogue.
    ///
    /// # Errors
    /// The repository cannot be read.
    pub(crate) fn catalogue(self) -> Result<Catalogue> {
        let text = self.read("info", &["--output=json"])?;
        let refused = |error: anyhow::Error| anyhow!(self.with_refusal(&format!("{error:#}")));
        let mut catalogue = parse(&text).map_err(refused).context("pgbackrest info")?;
        for backup in catalogue.backups.iter_mut().filter(|it| it.is_damaged) {
            let text = self.read("info", &["--output=json", &format!("--set={}", backup.id)])?;
            backup.damage = damaged_files(&text);
        }
        Ok(catalogue)
    }

    /// The segments of the write-ahead log in the archive, of the cluster that is backed up now.
    ///
    /// # Errors
    /// The repository cannot be read.
    pub(crate) fn segments(self) -> Result<Vec<Segment>> {
        let path = format!("archive/{}", self.settings.database);
        let text = self.read("repo-ls", &["--recurse", "--output=json", "--filter=/[0-9A-F]{24}-", &path])?;
        let files: BTreeMap<String, serde_json::Value> = serde_json::from_str(&text)?;
        let latest = files.keys().filter_map(|path| history(path)).max();
        let names =
            files.keys().filter(|path| history(path) == latest).filter_map(|path| path.rsplit('/').next());
        Ok(names.filter_map(|name| name.get(..24)?.parse().ok()).collect())
    }

    /// The command by which PostgreSQL fetches a segment of the archive, into a cluster that is not the one of the
    /// configuration.
    pub(crate) fn restore_command(self) -> String {
        let stanza = &self.settings.database;
        format!(
            "/usr/bin/pgbackrest --stanza={stanza} --reset-pg1-host --pg1-path=\"$PWD\" archive-get %f \"%p\""
        )
    }

    /// Restores a backup's files into an empty folder, without anything that starts a recovery.
    pub(crate) fn restore(self, id: &str, folder: &str, say: &mut dyn FnMut(&str)) -> Result<()> {
        let (set, path) = (format!("--set={id}"), format!("--pg1-path={folder}"));
        // The backups' machine has the database's as host, and this is a cluster here.
        self.run("restore", &[&set, &path, "--reset-pg1-host", "--archive-mode=off", "--type=none"], say)
    }

    fn command(self, command: &str, options: &[&str]) -> Command {
        let mut words = vec!["/usr/bin/pgbackrest", command];
        let stanza = format!("--stanza={}", self.settings.database);
        words.push(&stanza);
        words.extend(options);
        // Root, the operator's agent, becomes the account of the backups.
        let mut process = if rustix::process::geteuid().is_root() {
            let mut process = Command::new("runuser");
            process.args(["-u", ACCOUNT, "--"]).args(words);
            process
        } else {
            let mut process = Command::new(words[0]);
            process.args(&words[1..]);
            process
        };
        process.current_dir("/").env("LC_ALL", "C").stdin(Stdio::null());
        process
    }

    /// Runs a command; its error is pgBackRest's.
    fn run(self, command: &str, options: &[&str], say: &mut dyn FnMut(&str)) -> Result<()> {
        let mut process = self
            .command(command, options)
            .args(["--log-level-console=info", "--log-level-stderr=off"])
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("/usr/bin/pgbackrest")?;
        let output = process.stdout.take().expect("standard output is piped");
        let mut errors: Vec<String> = Vec::new();
        let mut continues = false;
        for text in BufReader::new(output).lines() {
            let text = text?;
            match Line::parse(&text) {
                Some(line) => {
                    continues = line.level == "ERROR";
                    if continues {
                        errors.push(line.message.to_owned());
                    } else {
                        say(line.message);
                    }
                }
                // The rest of an error stands on lines of its own.
                None if continues => errors.push(text.trim().to_owned()),
                None => {}
            }
        }
        let status = process.wait()?;
        if status.success() {
            return Ok(());
        }
        ensure!(!errors.is_empty(), "pgbackrest {command} ended with {status}");
        bail!("pgbackrest {command}: {}", self.with_refusal(&errors.join("; ")))
    }

    /// Runs a command that prints a text.
    fn read(self, command: &str, options: &[&str]) -> Result<String> {
        Ok(String::from_utf8(self.content(command, options)?)?)
    }

    /// An error with the code by which an object store refused a request: pgBackRest begins with requests whose responses
    /// have no body, and so no code. One for a small file has.
    fn with_refusal(self, error: &str) -> String {
        let refused = error.contains("HTTP request failed with 403");
        if !refused || error.contains("<Code>") {
            return error.to_owned();
        }
        let file = format!("archive/{}/archive.info", self.settings.database);
        let output = self
            .command("repo-get", &["--raw", &file])
            .args(["--log-level-console=off", "--log-level-stderr=error"])
            .output();
        let text = output.map(|it| String::from_utf8_lossy(&it.stderr).into_owned()).unwrap_or_default();
        let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
        code.map_or(error.to_owned(), |(code, _)| {
            format!("the object store refuses the request, {code}: {error}")
        })
    }

    /// Runs a command that prints a result.
    fn content(self, command: &str, options: &[&str]) -> Result<Vec<u8>> {
        Ok(self.output(command, options, "error")?.0)
    }

    /// Runs a command that prints a result; returns its log at this level, too.
    fn output(self, command: &str, options: &[&str], level: &str) -> Result<(Vec<u8>, String)> {
        let output = self
            .command(command, options)
            .args(["--log-level-console=off", &format!("--log-level-stderr={level}")])
            .output()
            .context("/usr/bin/pgbackrest")?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            let lines: Vec<&str> =
                text.lines().map(|line| line.trim_start_matches("ERROR: ").trim()).collect();
            bail!("pgbackrest {command}: {}", self.with_refusal(&lines.join("; ")));
        }
        Ok((output.stdout, text))
    }
}

impl<'l> Line<'l> {
    /// `2026-11-29 22:30:00.123 P00   INFO: the message`.
    fn parse(text: &'l str) -> Option<Self> {
        let (_, rest) = text.split_once(" P")?;
        let (level, message) = rest.split_once(": ")?;
        let level = level.split_whitespace().next_back()?;
        let is_level = level.bytes().all(|byte| byte.is_ascii_uppercase());
        (is_level && text.starts_with(|c: char| c.is_ascii_digit())).then_some(Self { level, message })
    }
}

/// An entry of `pgbackrest info --output=json`.
#[derive(Deserialize)]
struct Stanza {
    #[serde(default)]
    backup: Vec<Entry>,
    #[serde(default)]
    db: Vec<Cluster>,
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
struct Status {
    code: u32,
    message: String,
}

#[derive(Deserialize)]
struct Cluster {
    id: u32,
    #[serde(rename = "system-id")]
    system: serde_json::Number,
}

#[derive(Deserialize)]
struct Entry {
    label: String,
    #[serde(rename = "type")]
    kind: String,
    prior: Option<String>,
    timestamp: Times,
    info: Sizes,
    #[serde(default)]
    error: bool,
    #[serde(default, rename = "error-list")]
    errors: Vec<String>,
    database: Reference,
}

#[derive(Deserialize)]
struct Reference {
    id: u32,
}

#[derive(Deserialize)]
struct Times {
    start: i64,
    stop: i64,
}

#[derive(Deserialize)]
struct Sizes {
    size: u64,
    repository: Repository,
}

#[derive(Deserialize)]
struct Repository {
    delta: u64,
}

/// The codes of a stanza without backups, and of one that does not exist yet.
const NO_BACKUPS: [u32; 2] = [1, 2];

fn parse(text: &str) -> Result<Catalogue> {
    let stanzas: Vec<Stanza> = serde_json::from_str(text)?;
    let Some(stanza) = stanzas.into_iter().next() else { return Ok(Catalogue::default()) };
    if stanza.status.code != 0 && !NO_BACKUPS.contains(&stanza.status.code) && stanza.backup.is_empty() {
        bail!("{}", stanza.status.message);
    }
    let last = stanza.db.iter().max_by_key(|it| it.id);
    let cluster = last.map(|it| it.system.to_string());
    let system = |id: u32| stanza.db.iter().find(|it| it.id == id).map(|it| it.system.to_string());
    let backups = stanza.backup.iter().map(|entry| {
        let time = |seconds| Timestamp::from_second(seconds).context("a time");
        Ok(Backup {
            id: entry.label.clone(),
            kind: if entry.kind == "full" { Kind::Full } else { Kind::Incremental },
            prior: entry.prior.clone(),
            started: time(entry.timestamp.start)?,
            finished: time(entry.timestamp.stop)?,
            size: entry.info.size,
            stored: entry.info.repository.delta,
            cluster: system(entry.database.id).unwrap_or_default(),
            is_damaged: entry.error,
            damage: Vec::new(),
        })
    });
    Ok(Catalogue { cluster, backups: backups.collect::<Result<_>>()? })
}

/// The history of clusters that a file of the archive belongs to: 2 in `15-2/0000000100000000/…`.
fn history(path: &str) -> Option<u32> {
    path.split('/').next()?.split_once('-')?.1.parse().ok()
}

/// The files of a backup whose pages were damaged when they were copied.
fn damaged_files(text: &str) -> Vec<String> {
    let stanzas: Vec<Stanza> = serde_json::from_str(text).unwrap_or_default();
    stanzas.into_iter().flat_map(|stanza| stanza.backup).flat_map(|entry| entry.errors).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn reads_the_catalogue() {
        let text = r#"[{"archive":[],"backup":[
            {"archive":{"start":"000000010000000000000002","stop":"000000010000000000000002"},"database":{"id":1,"repo-key":1},"error":false,
             "info":{"delta":100,"repository":{"delta":40},"size":100},"label":"20261129-030000F","prior":null,"reference":null,
             "timestamp":{"start":1795921200,"stop":1795921209},"type":"full"},
            {"archive":{"start":"000000010000000000000004","stop":"000000010000000000000004"},"database":{"id":1,"repo-key":1},"error":true,
             "info":{"delta":10,"repository":{"delta":4},"size":110},"label":"20261129-030000F_20261130-030000I","prior":"20261129-030000F",
             "reference":["20261129-030000F"],"timestamp":{"start":1796007600,"stop":1796007602},"type":"incr"}],
            "cipher":"none","db":[{"id":1,"repo-key":1,"system-id":7572814356243511234,"version":"15"}],"name":"shop",
            "status":{"code":0,"lock":{"backup":{"held":false}},"message":"ok"}}]"#;
        let catalogue = parse(text).unwrap();
        assert_eq!(catalogue.cluster.as_deref(), Some("7572814356243511234"));
        expect![[r#"
            20261129-030000F full 2026-11-29T03:00:09Z 100 40 damaged: false
            20261129-030000F_20261130-030000I incremental 2026-11-30T03:00:02Z 110 4 damaged: true
        "#]]
        .assert_eq(
            &catalogue
                .backups
                .iter()
                .map(|it| {
                    format!(
                        "{} {} {} {} {} damaged: {}\n",
                        it.id, it.kind, it.finished, it.size, it.stored, it.is_damaged
                    )
                })
                .collect::<String>(),
        );
        let none =
            r#"[{"backup":[],"db":[],"name":"shop","status":{"code":1,"message":"missing stanza path"}}]"#;
        assert_eq!(parse(none).unwrap().cluster, None);
        let unreadable = r#"[{"backup":[],"db":[],"name":"shop","status":{"code":99,"message":"other"}}]"#;
        assert_eq!(parse(unreadable).unwrap_err().to_string(), "other");
    }

    #[test]
    fn a_line_of_the_log_has_a_level() {
        let line =
            Line::parse("2026-11-29 22:30:00.123 P00  ERROR: [045]: WAL file exists: with another text")
                .unwrap();
        assert_eq!((line.level, line.message), ("ERROR", "[045]: WAL file exists: with another text"));
        assert!(Line::parse("            HINT: is it a copy?").is_none());
    }
}
