//! The data API's part of the admin endpoint: readiness, metrics, `/config` and `/schema_cache`.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use tercet_observe::LogHandle;
use tercet_observe::admin::{Admin, Answer, LocalFuture};
use tercet_observe::traces::Tracer;

use super::probe::Probe;
use super::state::Shared;

/// The admin endpoint of a data API.
pub(super) struct Api {
    pub(super) shared: Arc<Shared>,
    pub(super) probe: Probe,
    pub(super) log: LogHandle,
}

impl Admin for Api {
    fn ready(&self) -> LocalFuture<Result<(), String>> {
        let (shared, probe) = (Arc::clone(&self.shared), self.probe.clone());
        Box::pin(async move {
            if let Some(outage) = &*shared.outage.load() {
                return Err(format!("no connection to the database: {}", outage.reason));
            }
            if shared.settings.load().cache.is_none() {
                return Err("the schema cache is not loaded yet".to_owned());
            }
            probe.round_trip().await
        })
    }

    fn metrics(&self) -> String {
        let Shared { metrics, pools, bodies, tracer, .. } = &*self.shared;
        metrics.encode(pools, bodies, self.log.lost(), tracer.as_ref().map(Tracer::counts))
    }

    fn other(&self, method: &Method, path: &str, _: &str, _: Bytes) -> LocalFuture<Option<Answer>> {
        let settings = self.shared.settings.load();
        let answer = match (method.as_str(), path) {
            ("GET", "/config") => Some(Answer::text(StatusCode::OK, settings.config.dump())),
            ("GET", "/schema_cache") => Some(match &settings.cache {
                Some(cache) => Answer::json(StatusCode::OK, &cache.dump()),
                None => Answer::text(StatusCode::SERVICE_UNAVAILABLE, "the schema cache is not loaded yet\n"),
            }),
            _ => None,
        };
        Box::pin(std::future::ready(answer))
    }
}
