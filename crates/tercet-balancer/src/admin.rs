//! The admin endpoints: `/live`, `/ready`, `/metrics` and `/servers` on the metrics address; on the Unix socket also the
//! control requests below.
//!
//! | request | effect |
//! |---|---|
//! | `GET /servers` | every server: backend pool, address, weight, state, counters, durations to the first byte by bucket |
//! | `POST /servers/NAME/drain` | takes it out of rotation; responds when it is idle, or after the drain time |
//! | `POST /servers/NAME/undrain` | puts it back into rotation |
//! | `POST /reload` | reloads the configuration file; 422 and the reason when it is refused |
//! | `GET /requests` | the latest requests, newest first |

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tercet_observe::admin::{self, Address, Admin, Answer, LocalFuture};
use tercet_observe::event::ProcessEvent;
use tokio::sync::oneshot;

use crate::metrics::{self, Readings};
use crate::server::{Server, Standing};
use crate::servers::Servers;
use crate::shared::Shared;

/// Mode of the Unix socket: a user who can write to it can take servers out of rotation.
const SOCKET_MODE: u32 = 0o600;
/// How often a drain checks whether the server is idle.
const DRAIN_POLL: Duration = Duration::from_millis(20);

struct Endpoint {
    shared: Arc<Shared>,
    /// Whether it accepts control requests, or is read-only.
    allows_control: bool,
}

/// Serves the configured admin addresses until it is dropped. An address that is in use or not permitted is logged
/// and skipped.
pub(crate) async fn serve(shared: Arc<Shared>) {
    let config = shared.config.load_full();
    let mut serving = tokio::task::JoinSet::new();
    let addresses = [
        config.admin.metrics.map(|address| (Address::Tcp(address), false)),
        config.admin.socket.clone().map(|path| (Address::Unix(path, SOCKET_MODE), true)),
    ];
    for (address, allows_control) in addresses.into_iter().flatten() {
        let named = match &address {
            Address::Tcp(address) => address.to_string(),
            Address::Unix(path, _) => path.display().to_string(),
        };
        let server = match admin::Server::bind(&address).await {
            Ok(server) => server,
            Err(error) => {
                let reason = format!("admin address {named}: {error}");
                shared.events.event(ProcessEvent::Failed { reason: &reason });
                continue;
            }
        };
        let named = server.local_addr().map_or(named, |address| address.to_string());
        let purpose = if allows_control { "admin" } else { "metrics" };
        shared.events.event(ProcessEvent::Listening { address: &named, purpose });
        serving.spawn_local(server.serve(Rc::new(Endpoint { shared: Arc::clone(&shared), allows_control })));
    }
    while serving.join_next().await.is_some() {}
}

impl Admin for Endpoint {
    fn ready(&self) -> LocalFuture<Result<(), String>> {
        let are_ready = self.shared.pools.are_ready();
        let ready = if are_ready { Ok(()) } else { Err("no server passes its health checks".to_owned()) };
        Box::pin(std::future::ready(ready))
    }

    fn metrics(&self) -> String {
        let Shared { metrics, limits, pools, bind_addresses, .. } = &*self.shared;
        let (bind_addresses, config) = (bind_addresses.load(), self.shared.config.load());
        let readings = Readings {
            connections: limits.connections(),
            lost_log_lines: self.shared.lost_log_lines(),
            maintenance: self.shared.is_in_maintenance(),
            spans: config.tracer.as_ref().map(|tracer| tracer.counts()),
            pools: &pools.all(),
            certificates: bind_addresses.certificates(),
            obtained: bind_addresses.obtained(),
        };
        metrics::encode(metrics, &readings)
    }

    fn other(&self, method: &Method, path: &str, _: &str, _: Bytes) -> LocalFuture<Option<Answer>> {
        let shared = Arc::clone(&self.shared);
        let allows_control = self.allows_control;
        let method = method.clone();
        let path = path.to_owned();
        Box::pin(async move {
            let parts: Vec<&str> = path.split('/').skip(1).collect();
            if !allows_control && (&method, &parts[..]) != (&Method::GET, &["servers"]) {
                return None;
            }
            match (&method, &parts[..]) {
                (&Method::GET, ["servers"]) => {
                    let of_pool = |pool: &Arc<Servers>| -> Vec<Value> {
                        pool.all().iter().map(|server| describe(pool, server)).collect()
                    };
                    let servers: Vec<Value> = shared.pools.all().iter().flat_map(of_pool).collect();
                    Some(Answer::json(StatusCode::OK, &json!({ "servers": servers })))
                }
                (&Method::POST, ["servers", name, "drain"]) => Some(drain(&shared, name).await),
                (&Method::POST, ["servers", name, "undrain"]) => {
                    let Some((pool, server)) = shared.pools.server_named(name) else {
                        return Some(unknown(name));
                    };
                    pool.set_draining(&server, false);
                    Some(Answer::json(StatusCode::OK, &describe(&pool, &server)))
                }
                (&Method::POST, ["reload"]) => Some(reload(&shared).await),
                (&Method::GET, ["requests"]) => {
                    Some(Answer::json(StatusCode::OK, &json!({ "requests": shared.recent.newest_first() })))
                }
                _ => None,
            }
        })
    }
}

async fn drain(shared: &Shared, name: &str) -> Answer {
    let Some((pool, server)) = shared.pools.server_named(name) else { return unknown(name) };
    pool.set_draining(&server, true);
    let idle = async {
        let mut poll = tokio::time::interval(DRAIN_POLL);
        while server.in_flight() > 0 {
            poll.tick().await;
        }
    };
    let drained = tokio::time::timeout(*shared.config.load().drain, idle).await.is_ok();
    let status = if drained { StatusCode::OK } else { StatusCode::GATEWAY_TIMEOUT };
    Answer::json(status, &describe(&pool, &server))
}

async fn reload(shared: &Shared) -> Answer {
    let (reply, outcome) = oneshot::channel();
    if shared.reload_requests.send(reply).await.is_err() {
        return Answer::text(StatusCode::NOT_IMPLEMENTED, "there is no configuration file to reload\n");
    }
    match outcome.await {
        Ok(Ok(())) => Answer::text(StatusCode::OK, "reloaded\n"),
        Ok(Err(reason)) => Answer::text(StatusCode::UNPROCESSABLE_ENTITY, reason),
        Err(_) => Answer::text(StatusCode::SERVICE_UNAVAILABLE, "the balancer is stopping\n"),
    }
}

fn unknown(name: &str) -> Answer {
    Answer::text(StatusCode::NOT_FOUND, format!("no server is named {name}\n"))
}

fn describe(pool: &Servers, server: &Server) -> Value {
    let state = match server.standing() {
        _ if server.draining.load(Ordering::Relaxed) => "draining",
        Standing::Up => "up",
        Standing::Silent => "silent",
        Standing::Ejected => "ejected",
        Standing::Down | Standing::Unreachable => "down",
    };
    let answers: Vec<u64> = server.responses.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    json!({
        "name": server.name,
        "pool": pool.pool,
        "address": server.address.to_string(),
        "backup": server.backup.load(Ordering::Relaxed),
        "weight": server.weight.load(Ordering::Relaxed),
        "state": state,
        "in_flight": server.in_flight(),
        "requests": server.requests.load(Ordering::Relaxed),
        "failures": server.failed.load(Ordering::Relaxed),
        "first_byte": server.latency.counts(),
        "answers": { "1xx": answers[0], "2xx": answers[1], "3xx": answers[2], "4xx": answers[3], "5xx": answers[4] },
    })
}
