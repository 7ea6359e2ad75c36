//! The servers that are measured: the data API, and FastAPI over the same data in its two usual forms.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::bench::up::System;
use crate::bench::workload::{FASTAPI, SCHEMA};

/// A server of the bench, in the order of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    /// tercet's data API.
    Tercet,
    /// FastAPI under uvicorn with uvloop and httptools, which uvicorn picks where they are installed.
    Fast,
    /// FastAPI under uvicorn with what `pip install uvicorn` brings: asyncio and h11.
    Plain,
}

impl Server {
    pub(super) const ALL: [Self; 3] = [Self::Tercet, Self::Fast, Self::Plain];
    /// Those that tercet is held against.
    pub(super) const PEERS: [Self; 2] = [Self::Fast, Self::Plain];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Tercet => "tercet",
            Self::Fast => "FastAPI, uvloop and httptools",
            Self::Plain => "FastAPI, uvicorn by itself",
        }
    }

    /// Starts a whole system with it in `folder`; `python` is a virtual environment with FastAPI.
    pub(super) fn start(self, tercet: &Path, python: &Path, folder: &Path) -> Result<System> {
        fs::create_dir_all(folder)?;
        let bin = python.join("bin");
        let run = match self {
            Self::Tercet => String::new(),
            Self::Fast => format!(
                "{}/uvicorn peer:app --host {{host}} --port {{port}} --workers 2 --loop uvloop --http httptools \
                 --no-access-log",
                bin.display()
            ),
            Self::Plain => {
                fs::write(folder.join("serve.py"), include_str!("serve.py"))?;
                format!("{}/python serve.py {{host}} {{port}}", bin.display())
            }
        };
        let mut config = "[balancer]\nlisten = [\"127.0.0.1:0\"]\n[application]\nservers = 1\n".to_owned();
        if !run.is_empty() {
            fs::write(folder.join("peer.py"), FASTAPI)?;
            config.push_str(&format!("run = \"{run}\"\nhealth = \"/health\"\n"));
        }
        System::start(tercet, folder, &config, SCHEMA)
    }
}
