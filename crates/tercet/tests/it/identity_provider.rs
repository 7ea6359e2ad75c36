//! Tokens of an identity provider, whose keys are fetched by https.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::folder::Folder;
use crate::http::{Answer, get};
use crate::https_server::HttpsServer;
use crate::system::System;
use crate::tercet;

const MIGRATION: (&str, &str) = (
    "migrations/0001_whoami.sql",
    "create function whoami() returns text language sql stable as $$ select current_user::text $$;\n\
     grant execute on function whoami() to anon, authenticated;",
);

/// What the provider answers: the head's first lines and the body; nothing if it is down.
type Answers = Arc<Mutex<Option<(String, String)>>>;

/// An OpenID provider on localhost.
struct Provider {
    server: HttpsServer,
    answers: Answers,
    /// Its certificate, which clients must trust.
    certificate: PathBuf,
    _folder: tempfile::TempDir,
}

impl Provider {
    fn start() -> Self {
        let answers = Answers::default();
        let shared = Arc::clone(&answers);
        let server = HttpsServer::start(move |issuer, path| {
            let (head, keys) = shared.lock().unwrap().clone()?;
            if path != "/.well-known/openid-configuration" {
                return Some((head, keys));
            }
            let metadata = json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/keys") }).to_string();
            Some(("200 OK".to_owned(), metadata))
        });
        let folder = crate::folder::temporary();
        let certificate = folder.path().join("localhost.crt");
        std::fs::write(&certificate, &server.certificate).unwrap();
        Self { server, answers, certificate, _folder: folder }
    }

    fn issuer(&self) -> String {
        self.server.origin()
    }

    /// Answers with these keys from now on.
    fn has(&self, keys: &[Value]) {
        let body = json!({ "keys": keys }).to_string();
        *self.answers.lock().unwrap() = Some(("200 OK\r\ncache-control: max-age=3600".to_owned(), body));
    }

    fn redirects_to(&self, location: &str) {
        *self.answers.lock().unwrap() = Some((format!("302 Found\r\nlocation: {location}"), String::new()));
    }

    fn is_down(&self) {
        *self.answers.lock().unwrap() = None;
    }

    fn start_project(&self, folder: &Folder) -> System {
        let mut system = System::spawn_with(folder.path(), &[("SSL_CERT_FILE", &self.certificate)]);
        system.wait_until_up();
        system
    }
}

/// A key of the provider.
struct Key {
    id: &'static str,
    pair: rcgen::KeyPair,
}

impl Key {
    fn new(id: &'static str) -> Self {
        Self { id, pair: rcgen::KeyPair::generate().unwrap() }
    }

    /// As a JWK (RFC 7518 section 6.2).
    fn public(&self) -> Value {
        // An uncompressed point of P-256: a byte, and two coordinates.
        let point = self.pair.public_key_raw();
        let (x, y) = (base64url(&point[1..33]), base64url(&point[33..]));
        json!({ "kty": "EC", "crv": "P-256", "use": "sig", "kid": self.id, "x": x, "y": y })
    }

    fn token(&self, issuer: &str) -> String {
        let header = Header { kid: Some(self.id.to_owned()), ..Header::new(Algorithm::ES256) };
        let key = EncodingKey::from_ec_pem(self.pair.serialize_pem().as_bytes()).unwrap();
        let claims = json!({ "iss": issuer, "role": "authenticated" });
        format!("Bearer {}", jsonwebtoken::encode(&header, &claims, &key).unwrap())
    }
}

fn base64url(bytes: &[u8]) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)).collect();
    let value = |six: &[u8]| six.iter().fold(0, |value, bit| value << 1 | bit) << (6 - six.len());
    bits.chunks(6).map(|six| char::from(alphabet[usize::from(value(six))])).collect()
}

fn project(provider: &Provider) -> Folder {
    let file = format!("name = 'shop'\n[api]\njwt-issuer = '{}'\n", provider.issuer());
    Folder::with(&[MIGRATION, ("tercet.toml", &file)])
}

fn whoami(system: &System, token: &str) -> Answer {
    whoami_at(system.address, token)
}

fn whoami_at(address: SocketAddr, token: &str) -> Answer {
    get("/rpc/whoami").header("authorization", token).send(address)
}

#[test]
fn a_rotation_of_the_keys_refuses_no_token_and_a_restart_needs_no_provider() {
    let provider = Provider::start();
    let (old, new) = (Key::new("old"), Key::new("new"));
    provider.has(&[old.public()]);
    let folder = project(&provider);
    let mut system = provider.start_project(&folder);
    let issuer = provider.issuer();
    assert_eq!(whoami(&system, &old.token(&issuer)).body, "\"authenticated\"");
    // The project's own tokens name no issuer.
    let own = format!("Bearer {}", tercet::run(folder.path(), ["token"]).trim());
    assert_eq!(whoami(&system, &own).body, "\"authenticated\"");
    // A token of another issuer, although by the same key.
    let other = whoami(&system, &old.token("https://localhost"));
    assert_eq!((other.status, other.value()["code"].as_str()), (401, Some("PGRST303")), "{other:?}");

    // No request waits until the keys expire, and none is refused meanwhile, however many there are at once.
    provider.has(&[new.public(), json!({ "kty": "oct", "kid": "symmetric", "k": "c2VjcmV0" })]);
    let (token, address) = (new.token(&issuer), system.address);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..16).map(|_| scope.spawn(|| whoami_at(address, &token))).collect();
        for one in all {
            let answer = one.join().unwrap();
            assert_eq!((answer.status, &*answer.body), (200, "\"authenticated\""), "{answer:?}");
        }
    });
    // The provider does not have the old one any more; a key that can also sign is none of a provider.
    assert_eq!(whoami(&system, &old.token(&issuer)).status, 401);
    let header = Header { kid: Some("symmetric".to_owned()), ..Header::default() };
    let claims = json!({ "iss": issuer, "role": "authenticated" });
    let forged = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(b"secret")).unwrap();
    assert_eq!(whoami(&system, &format!("Bearer {forged}")).status, 401);
    assert!(system.log().contains("jwt-aud is not set"), "{}", system.log());

    // Each server may keep the keys after it has answered.
    for name in ["app-1", "app-2"] {
        let kept = folder.path().join(format!(".tercet/{name}-provider-keys.json"));
        assert!(std::fs::read_to_string(kept).unwrap().contains("\"new\""), "{name}");
    }
    drop(system);
    provider.is_down();
    let mut system = provider.start_project(&folder);
    system.wait_for(|line| line["event"] == "jwks_fetch_failed");
    assert_eq!(whoami(&system, &token).body, "\"authenticated\"");
}

#[test]
fn without_keys_a_token_is_answered_503_and_nothing_else_is() {
    let provider = Provider::start();
    provider.redirects_to("https://example.com/keys");
    let folder = project(&provider);
    let mut system = provider.start_project(&folder);
    let failed = system.wait_for(|line| line["event"] == "jwks_fetch_failed");
    assert_eq!(
        failed["reason"],
        format!(
            "{}/keys: redirects to \"https://example.com/keys\", which is not followed",
            provider.issuer()
        )
    );
    let key = Key::new("a");
    let answer = whoami(&system, &key.token(&provider.issuer()));
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{answer:?}");
    assert_eq!(answer.value()["message"], "The keys of the identity provider could not be fetched yet");
    assert_eq!(system.ask(get("/rpc/whoami")).body, "\"anon\"");
    let own = format!("Bearer {}", tercet::run(folder.path(), ["token"]).trim());
    assert_eq!(whoami(&system, &own).body, "\"authenticated\"");
    // The servers try again by themselves.
    provider.has(&[key.public()]);
    for name in ["app-1", "app-2"] {
        system.wait_for(|line| line["event"] == "jwks_fetched" && line["part"] == name);
    }
    assert_eq!(whoami(&system, &key.token(&provider.issuer())).body, "\"authenticated\"");
}
