//! Examples of the repository, applied to machines as they stand.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::{Named, SHARED, Scenario, public_address};
use crate::command::output;

pub(super) const STAGES: &[Named] = &[("examples/fastapi as it stands", fastapi)];
pub(super) const BOOKSHOP: &[Named] =
    &[("examples/bookshop: a release and a rollback of one of two applications", bookshop)];

/// Copies an example, and returns its settings without the name.
fn copy(scenario: &Scenario<'_>, example: &str, name: &str) -> Result<String> {
    let folder = scenario.project.path();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(example);
    std::fs::remove_dir_all(folder.join("migrations"))?;
    output(std::process::Command::new("cp").arg("-rT").arg(&example).arg(folder))?;
    let settings = std::fs::read_to_string(example.join("tercet.toml"))?;
    // Nothing but the machines is added, and they have to stand behind the rest.
    let named = settings.replacen(&format!("name = {name:?}\n"), "", 1);
    ensure!(named != settings, "the example has another name");
    Ok(named)
}

fn fastapi(scenario: &Scenario<'_>) -> Result<()> {
    let named = copy(scenario, "fastapi", "links")?;
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

fn bookshop(scenario: &Scenario<'_>) -> Result<()> {
    let settings = copy(scenario, "bookshop", "bookshop")?;
    scenario.write_named("bookshop", SHARED, &settings)?;
    scenario.succeed("apply", &["--yes"])?;
    let page = scenario.get("/")?;
    ensure!(page.contains("<title>Bookshop</title>"), "{page}");
    let shelf = |expected: usize| -> Result<()> {
        let shown = scenario.get("/api/shelf")?;
        let body = shown.split_once("\r\n\r\n").context("no body")?.1;
        let books: Vec<serde_json::Value> = serde_json::from_str(body).with_context(|| shown.clone())?;
        ensure!(books.len() == expected, "{shown}");
        Ok(())
    };
    let order = || -> Result<()> {
        let url = format!("http://{}/orders", public_address());
        let mut curl = scenario.lab.at("internet")?;
        let placed =
            output(curl.args(["curl", "-sS", "--fail", "-m", "10", "--json", r#"{"book": 1}"#, &url]))?;
        ensure!(placed.contains("\"left\""), "{placed}");
        Ok(())
    };
    shelf(3)?;
    order()?;
    let plan = scenario.succeed("plan", &[])?;
    ensure!(plan.contains("nothing to do"), "{plan}");

    // An option of the data API is a release of it, and of nothing else.
    scenario.write_named("bookshop", SHARED, &format!("{settings}\n[api]\ndb-max-rows = 1\n"))?;
    let plan = scenario.succeed("plan", &[])?;
    ensure!(plan.contains("app-api-1") && !plan.contains("app-orders-1"), "{plan}");
    scenario.succeed("apply", &["--yes"])?;
    shelf(1)?;
    order()?;
    let said = scenario.fail("rollback", &["--yes"])?;
    ensure!(said.contains("--application NAME of api, orders"), "{said}");
    let said = scenario.fail("rollback", &["--yes", "--application", "orders"])?;
    ensure!(said.contains("there is no earlier release of orders"), "{said}");
    scenario.succeed("rollback", &["--yes", "--application", "api"])?;
    shelf(3)?;
    order()?;
    scenario.succeed("prove", &[])?;
    Ok(())
}
