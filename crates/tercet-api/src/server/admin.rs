//! What the admin endpoint tells of a data API.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use tercet_observe::admin::{Admin, Answer, LocalFuture};

use super::state::Shared;

pub(super) struct Api(pub(super) Arc<Shared>);

impl Admin for Api {
    fn ready(&self) -> Result<(), String> {
        if let Some(outage) = &*self.0.outage.load() {
            return Err(format!("the database cannot be reached: {}", outage.reason));
        }
        match self.0.settings.load().cache {
            Some(_) => Ok(()),
            None => Err("the schema cache is not loaded yet".to_owned()),
        }
    }

    fn metrics(&self) -> String {
        self.0.metrics.encode(&self.0.pools)
    }

    fn other(&self, method: &Method, path: &str, _: &str, _: Bytes) -> LocalFuture<Option<Answer>> {
        let settings = self.0.settings.load();
        let answer = match (method.as_str(), path) {
            ("GET", "/config") => Some(Answer::text(StatusCode::OK, settings.config.dump())),
            ("GET", "/schema_cache") => Some(match &settings.cache {
                Some(cache) => {
                    let (relations, relationships, functions) = cache.counts();
                    let counts = serde_json::json!({
                        "relations": relations,
                        "relationships": relationships,
                        "functions": functions,
                        "schemas": settings.config.db_schemas,
                    });
                    Answer::json(StatusCode::OK, &counts)
                }
                None => Answer::text(StatusCode::SERVICE_UNAVAILABLE, "not loaded yet\n"),
            }),
            _ => None,
        };
        Box::pin(std::future::ready(answer))
    }
}
