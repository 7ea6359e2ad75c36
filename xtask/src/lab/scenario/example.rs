//! An example of the repository, applied to machines as it stands.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::{Named, SHARED, Scenario, public_address};
use crate::command::output;

pub(super) const STAGES: &[Named] = &[("examples/fastapi as it stands", fastapi)];

fn fastapi(scenario: &Scenario<'_>) -> Result<()> {
    let folder = scenario.project.path();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/fastapi");
    std::fs::remove_dir_all(folder.join("migrations"))?;
    output(std::process::Command::new("cp").arg("-rT").arg(&example).arg(folder))?;
    let settings = std::fs::read_to_string(example.join("tercet.toml"))?;
    // Nothing but the machines is added, and they have to stand behind the rest.
    let named = settings.replacen("name = \"links\"\n", "", 1);
    ensure!(named != settings, "the example has another name");
    scenario.write_named("links", SHARED, &named)?;
    scenario.succeed("apply", &["--yes"])?;
    let url = format!("http://{}/links", public_address());
    let link = r#"{"url": "https://www.postgresql.org/docs/", "code": "pg"}"#;
    let mut curl = scenario.lab.at("internet")?;
    let made = output(curl.args(["curl", "-sS", "--fail", "-m", "10", "--json", link, &url]))?;
    ensure!(made.contains("\"pg\""), "{made}");
    for _ in 0..4 {
        let followed = scenario.get("/pg")?;
        ensure!(followed.contains("location: https://www.postgresql.org/docs/"), "{followed}");
    }
    let shown = scenario.get("/links/pg")?;
    let body = shown.split_once("\r\n\r\n").context("no body")?.1;
    let shown: serde_json::Value = serde_json::from_str(body).with_context(|| shown.clone())?;
    ensure!(shown["visits"] == 4, "{shown}");
    let plan = scenario.succeed("plan", &[])?;
    ensure!(plan.contains("nothing to do"), "{plan}");
    Ok(())
}
