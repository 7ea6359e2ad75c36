//! Renewal information (ARI, RFC 9773) for pebble, which has none in Debian 12: a directory that names it, beside the rest
//! of pebble's, and its answers.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::https_server::HttpsServer;

/// The directory, and the renewal information of all certificates.
pub(super) struct RenewalInformation {
    pub(super) server: HttpsServer,
    state: Arc<Mutex<State>>,
}

struct State {
    window: RangeInclusive<i64>,
    asked: Vec<String>,
}

impl RenewalInformation {
    /// Starts it, for an authority with this directory.
    pub(super) fn start(directory: Value) -> Self {
        let state = Arc::new(Mutex::new(State { window: 0..=0, asked: Vec::new() }));
        let shared = Arc::clone(&state);
        let server = HttpsServer::start(move |origin, path| {
            let Some(certificate) = path.strip_prefix("/renewal/") else {
                let mut directory = directory.clone();
                directory["renewalInfo"] = json!(format!("{origin}/renewal"));
                let head = "200 OK\r\ncontent-type: application/json".to_owned();
                return Some((head, directory.to_string()));
            };
            let mut state = shared.lock().unwrap();
            state.asked.push(certificate.to_owned());
            let time = |seconds| jiff::Timestamp::from_second(seconds).unwrap().to_string();
            let window = json!({ "start": time(*state.window.start()), "end": time(*state.window.end()) });
            let head = "200 OK\r\ncontent-type: application/json\r\nretry-after: 21600".to_owned();
            Some((head, json!({ "suggestedWindow": window }).to_string()))
        });
        Self { server, state }
    }

    /// Suggests this time, in seconds since 1970, for all certificates.
    pub(super) fn set_window(&self, window: RangeInclusive<i64>) {
        self.state.lock().unwrap().window = window;
    }

    /// The certificates that were asked for, by their identifiers (RFC 9773 section 4.1).
    pub(super) fn asked(&self) -> Vec<String> {
        self.state.lock().unwrap().asked.clone()
    }
}
