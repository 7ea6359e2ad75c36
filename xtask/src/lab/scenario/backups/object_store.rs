//! Backups in an object store: the stand-in, where the internet would be.

use std::fs;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::super::{Named, ONE_MACHINE, Scenario, nothing_to_do};
use super::{backups, named};
use crate::lab::machines::{OBJECT_STORE, SWITCH, inside, plain};
use crate::lab::{kill, until};

pub(in super::super) const STAGES: &[Named] =
    &[("backups in an object store: made, checked, restored; a wrong secret is named", backed_up)];

/// The object store; killed when dropped.
struct ObjectStore {
    process: Child,
    folder: tempfile::TempDir,
}

impl ObjectStore {
    fn start(scenario: &Scenario<'_>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let [address, _] = inside(SWITCH);
        let mut command =
            scenario.lab.inside(std::env::current_exe()?.to_str().context("a path that is text")?);
        command.arg("s3").arg(folder.path()).args(["--listen", &format!("{}:443", plain(&address))]);
        let process =
            command.args(["--name", OBJECT_STORE]).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let store = Self { process, folder };
        until("the object store", Duration::from_secs(10), || {
            Ok(store.path("credentials").exists() && store.path("authority.crt").exists())
        })?;
        Ok(store)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for ObjectStore {
    fn drop(&mut self) {
        // The end of the lab ends it, too.
        let _ = kill(&mut self.process);
    }
}

fn backed_up(scenario: &Scenario<'_>) -> Result<()> {
    let store = ObjectStore::start(scenario)?;
    let certificate = fs::read_to_string(store.path("authority.crt"))?;
    scenario.on(
        "lb",
        &format!("cat > /usr/local/share/ca-certificates/lab.crt <<'.'\n{certificate}.\nupdate-ca-certificates >/dev/null 2>&1"),
    )?;
    let credentials = fs::read_to_string(store.path("credentials"))?;
    let (key, secret) = credentials.split_once(' ').context("a key and a secret")?;
    let secrets = scenario.project.path().join("secrets");
    fs::create_dir_all(&secrets)?;
    fs::write(secrets.join("s3-key"), key)?;
    fs::write(secrets.join("s3-secret"), secret)?;
    let section = format!(
        "[backup]\nto = \"s3://backups/shop?endpoint={OBJECT_STORE}&region=lab\"\nkey = \"@secrets/s3-key\"\nsecret = \"@secrets/s3-secret\"\n"
    );
    scenario.write(ONE_MACHINE, &section)?;
    scenario.succeed("apply", &["--yes"])?;
    until("a full backup that passed its check", Duration::from_secs(90), || {
        Ok(backups(scenario)?.iter().any(|it| it.kind == "full" && it.passed == Some(true)))
    })?;
    nothing_to_do(scenario)?;

    let before = scenario.sql_on("lb", "select clock_timestamp()")?;
    scenario.sql_on("lb", "delete from event")?;
    scenario.succeed("backup", &[])?;
    scenario.check_passes()?;
    let before = format!("{}:00", before.replacen(' ', "T", 1));
    scenario.succeed("restore", &["--to", &before, "--replace", "--yes", "shop"])?;
    let rows = scenario.sql_on("lb", "select count(*) from event")?;
    ensure!(rows == "1", "{rows} rows");

    // Nothing in the store can be read without the key, which can be printed for a safe place.
    let plain = crate::command::output(
        std::process::Command::new("grep")
            .args(["-rlaE", "CREATE TABLE|pg_class|event_pkey"])
            .arg(store.path("bucket")),
    )
    .unwrap_or_default();
    ensure!(plain.is_empty(), "not encrypted: {plain}");
    let mut print_key = scenario.lab.at("operator")?;
    print_key.arg(&scenario.tercet).args(["backup", "key"]).arg(scenario.project.path());
    let printed = crate::command::output(&mut print_key)?;
    let on_machine = scenario.on(
        "lb",
        "sed -n 's/^repo1-cipher-pass=//p' /etc/pgbackrest/pgbackrest.conf /etc/pgbackrest/conf.d/*",
    )?;
    ensure!(printed.contains(on_machine.trim()) && on_machine.trim().len() >= 32, "another key is printed");
    fs::write(secrets.join("s3-secret"), "wrong")?;
    let printed = scenario.fail("apply", &["--yes"])?;
    named(&printed, &["SignatureDoesNotMatch"])
}
