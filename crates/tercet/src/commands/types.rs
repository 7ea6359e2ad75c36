//! `tercet types`: the types of a project's tables, views and functions for a programming language.

use std::io::Write as _;

use tercet_api::config::ConfigSource;
use tercet_api::{server, typescript};

use crate::cli;
use crate::commands::backup::here::block_on;
use crate::commands::backup::here::live::Live;
use crate::failure::{Failure, Outcome};
use crate::project::Project;

pub(crate) fn run(cli::Language::TypeScript(arguments): &cli::Language) -> Outcome {
    let project = Project::open(&arguments.folder)?;
    let Some(api) = project.topology.data_api() else {
        return Err(Failure::input_message(
            "types are those of the data API, and this project runs your own program",
        ));
    };
    // The options as environment variables of the data API, so that no file is needed.
    let mut environment = std::collections::BTreeMap::new();
    let schemas = api.options.get("db-schemas").and_then(toml::Value::as_str).unwrap_or("public");
    environment.insert("PGRST_DB_SCHEMAS".to_owned(), schemas.to_owned());
    if let Some(url) = &project.topology.database().url {
        environment.insert("PGRST_DB_URI".to_owned(), project.reveal(url)?);
        return block_on(print(ConfigSource { file: None, environment }));
    }
    let live = Live::open(&project)?;
    block_on(async {
        let serving = live.serve().await?;
        environment.insert("PGRST_DB_URI".to_owned(), serving.uri(&live.name));
        let printed = print(ConfigSource { file: None, environment }).await;
        serving.stop().await;
        printed
    })
}

async fn print(source: ConfigSource) -> Outcome {
    let cache = server::schema(&source).await.map_err(anyhow::Error::from)?;
    let config = source.read().map_err(|mistakes| anyhow::anyhow!(mistakes.lines()))?;
    Ok(std::io::stdout().write_all(typescript::declarations(&cache, &config.db_schemas).as_bytes())?)
}
