//! Who may read the dashboard: a browser on this machine that was opened with the key of this run.
//!
//! The key in the URL is exchanged for a cookie, which other sites cannot make the browser send (SameSite=Strict). Cookies are
//! not separated by port: its path, which is random, too, keeps it from pages of other ports of this machine. The `Host` check
//! refuses names that resolve to loopback (DNS rebinding).

use std::net::SocketAddr;

use http::header::{COOKIE, HOST, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};

/// The characters of the key and of the path, each of six random bits: with them, the address fits into 60 columns of a
/// terminal.
const KEY_LENGTH: usize = 16;
const PATH_LENGTH: usize = 6;

/// The key of this run, and the address it is for.
#[derive(Clone)]
pub(super) struct Gate {
    address: SocketAddr,
    /// The path of the dashboard, between slashes; with a query, that is the key.
    pub(super) path: String,
    key: String,
}

impl Gate {
    /// A gate with a new key.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(super) fn new(address: SocketAddr) -> anyhow::Result<Self> {
        let random = tercet_database::Password::generate()?;
        let mut random = random.reveal().chars();
        let key = random.by_ref().take(KEY_LENGTH).collect();
        let path = format!("/{}/", random.take(PATH_LENGTH).collect::<String>());
        Ok(Self { address, path, key })
    }

    /// The address to open, with the key.
    pub(super) fn url(&self) -> String {
        format!("http://{}{}?{}", self.address, self.path, self.key)
    }

    /// The response to a request that gets nothing else; `None` for one that may read.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Option<Response<&'static str>> {
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let names = [self.address.to_string(), format!("localhost:{}", self.address.port())];
        if !names.iter().any(|name| name.eq_ignore_ascii_case(host)) {
            return Some(refusal(StatusCode::MISDIRECTED_REQUEST, "this address is for this machine only\n"));
        }
        if request.method() != Method::GET {
            return Some(refusal(
                StatusCode::METHOD_NOT_ALLOWED,
                "the dashboard changes nothing: GET only\n",
            ));
        }
        if let Some(key) = request.uri().query().filter(|_| request.uri().path() == self.path) {
            if !is_same(key.as_bytes(), self.key.as_bytes()) {
                return Some(refusal(StatusCode::FORBIDDEN, OTHER_KEY));
            }
            return Some(self.enter());
        }
        if self.has_cookie(request.headers()) {
            return None;
        }
        Some(refusal(StatusCode::FORBIDDEN, OTHER_KEY))
    }

    /// Exchanges the key for the cookie.
    fn enter(&self) -> Response<&'static str> {
        let mut response = refusal(StatusCode::SEE_OTHER, "");
        let name = self.cookie_name();
        let cookie = format!("{name}={}; Path={}; HttpOnly; SameSite=Strict", self.key, self.path);
        for (header, value) in [(LOCATION, &self.path), (SET_COOKIE, &cookie)] {
            if let Ok(value) = HeaderValue::from_str(value) {
                response.headers_mut().insert(header, value);
            }
        }
        response
    }

    fn has_cookie(&self, headers: &HeaderMap) -> bool {
        let name = self.cookie_name();
        let cookies = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
        cookies.flat_map(|line| line.split(';')).any(|cookie| {
            let value = cookie.trim().strip_prefix(&name).and_then(|rest| rest.strip_prefix('='));
            value.is_some_and(|value| is_same(value.as_bytes(), self.key.as_bytes()))
        })
    }

    /// Cookies are not separated by port: each dashboard on this machine has its own.
    fn cookie_name(&self) -> String {
        format!("tercet-{}", self.address.port())
    }
}

const OTHER_KEY: &str = "open the dashboard by the address that tercet printed: it has the key of this run\n";

fn refusal(status: StatusCode, text: &'static str) -> Response<&'static str> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response
}

/// Whether two secrets are the same, in a time that does not depend on where they differ.
fn is_same(given: &[u8], secret: &[u8]) -> bool {
    given.len() == secret.len() && given.iter().zip(secret).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(gate: &Gate, method: Method, target: &str, host: &str, cookie: &str) -> u16 {
        let request = Request::builder().method(method).uri(target).header(HOST, host).header(COOKIE, cookie);
        gate.answer(&request.body(()).unwrap()).map_or(200, |response| response.status().as_u16())
    }

    #[test]
    fn only_a_browser_with_the_key_or_its_cookie_gets_in() {
        let gate = Gate::new("127.0.0.1:4711".parse().unwrap()).unwrap();
        let (host, key) = ("127.0.0.1:4711", gate.key.clone());
        let cookie = format!("a=b; tercet-4711={key}");
        let path = &*gate.path;
        let (with_key, with_guess) = (format!("{path}?{key}"), format!("{path}?guess"));
        for (method, target, host, cookie, expected) in [
            (Method::GET, path, host, "", 403),
            (Method::GET, path, host, &*cookie, 200),
            (Method::GET, path, "localhost:4711", &*cookie, 200),
            (Method::GET, path, host, "tercet-4711=guess", 403),
            (Method::GET, &*with_key, host, "", 303),
            (Method::GET, &*with_guess, host, &*cookie, 403),
            // A name of another site that resolves to this machine.
            (Method::GET, path, "evil.example:4711", &*cookie, 421),
            (Method::GET, &*with_key, "evil.example:4711", "", 421),
            (Method::GET, path, "127.0.0.1", &*cookie, 421),
            (Method::POST, path, host, &*cookie, 405),
            (Method::HEAD, path, host, &*cookie, 405),
        ] {
            assert_eq!(
                status(&gate, method.clone(), target, host, cookie),
                expected,
                "{method} {target} {host}"
            );
        }
        let enter = gate.enter();
        let set = enter.headers()[SET_COOKIE].to_str().unwrap();
        assert!(set.ends_with(&format!("; Path={path}; HttpOnly; SameSite=Strict")), "{set}");
        assert_eq!(enter.headers()[LOCATION], *path);
    }
}
