//! A headless Chromium, driven by the Chrome DevTools Protocol.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

/// The longest that a condition of the page may take to hold.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A colour scheme that the viewer prefers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scheme {
    Light,
    Dark,
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// A page in a browser. Closed when dropped.
pub(super) struct Browser {
    process: Child,
    _profile: TempDir,
    socket: WebSocket<TcpStream>,
    session: String,
    last: u64,
    /// Messages of the console, and violations of the content security policy.
    complaints: Vec<String>,
}

impl Browser {
    /// Opens the page.
    pub(super) fn open(url: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut process = Command::new("chromium")
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ])
            .args(["--remote-debugging-port=0", "--window-size=1280,900", "--disable-background-networking"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("this test needs Chromium: apt-get install chromium");
        let mut errors = BufReader::new(process.stderr.take().unwrap());
        let mut said = String::new();
        let endpoint = loop {
            said.clear();
            assert_ne!(errors.read_line(&mut said).unwrap(), 0, "Chromium has ended");
            if let Some(endpoint) = said.trim().strip_prefix("DevTools listening on ") {
                break endpoint.to_owned();
            }
        };
        // The pipe must be drained.
        std::thread::spawn(move || drop(errors.lines().map_while(Result::ok).last()));
        let address = endpoint.strip_prefix("ws://").unwrap().split('/').next().unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(2 * TIMEOUT)).unwrap();
        let (socket, _) = tungstenite::client(&endpoint, stream).unwrap();
        let mut browser = Self {
            process,
            _profile: profile,
            socket,
            session: String::new(),
            last: 0,
            complaints: Vec::new(),
        };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attached = browser
            .call("Target.attachToTarget", &json!({ "targetId": target["targetId"], "flatten": true }));
        attached["sessionId"].as_str().unwrap().clone_into(&mut browser.session);
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.call(domain, &json!({}));
        }
        browser.call("Page.navigate", &json!({ "url": url }));
        browser.wait_for("document.readyState === 'complete' && location.search === ''");
        browser
    }

    /// Waits until an expression is true in the page.
    pub(super) fn wait_for(&mut self, condition: &str) {
        let deadline = TIMEOUT.as_millis();
        let expression = format!(
            "new Promise((done) => {{ const end = Date.now() + {deadline};
               const look = () => ({condition}) ? done('') : Date.now() > end ? done(document.body.innerText) : setTimeout(look, 20);
               look(); }})"
        );
        let shown = self.evaluate(&expression);
        assert_eq!(shown, "", "{condition}: {:?}", self.complaints);
    }

    /// The value of an expression in the page.
    pub(super) fn evaluate(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut answer = self.call("Runtime.evaluate", &parameters);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// Shows the page in another size and colour scheme.
    pub(super) fn show(&mut self, width: u32, height: u32, scheme: Scheme) {
        let mobile = width < 600;
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme.name() }]);
        self.call("Emulation.setEmulatedMedia", &json!({ "features": features }));
        self.evaluate(
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))",
        );
    }

    /// Prefers reduced motion.
    pub(super) fn reduce_motion(&mut self) {
        let features = json!([{ "name": "prefers-reduced-motion", "value": "reduce" }]);
        self.call("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// Takes a picture of the whole page; it is kept in the folder that `TERCET_SCREENSHOTS` names.
    pub(super) fn screenshot(&mut self, width: u32, scheme: Scheme) {
        let taken = self.call("Page.captureScreenshot", &json!({ "captureBeyondViewport": true }));
        let picture =
            base64::engine::general_purpose::STANDARD.decode(taken["data"].as_str().unwrap()).unwrap();
        assert!(picture.len() > 10_000, "{} bytes", picture.len());
        if let Some(folder) = std::env::var_os("TERCET_SCREENSHOTS") {
            let name = format!("dashboard-{width}-{}.png", scheme.name());
            std::fs::write(std::path::Path::new(&folder).join(name), picture).unwrap();
        }
    }

    /// What the browser said about the page: errors and warnings.
    pub(super) fn complaints(&self) -> Vec<String> {
        self.complaints.clone()
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.last += 1;
        let id = self.last;
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = self.session.clone().into();
        }
        self.socket.send(Message::text(message.to_string())).unwrap();
        loop {
            let Message::Text(text) = self.socket.read().expect(method) else { continue };
            let mut message: Value = serde_json::from_str(&text).unwrap();
            if message["id"] == id {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].take();
            }
            if matches!(message["method"].as_str(), Some("Runtime.exceptionThrown" | "Log.entryAdded")) {
                self.complaints.push(message.to_string());
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
