//! Signatures, version 4: who sent a request, and that nothing of it was changed ("Authenticating Requests: Using the
//! Authorization Header" in Amazon's S3 API reference).

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::rand::SecureRandom as _;
use ring::{digest, hmac};

use super::request::{Request, Response};

/// All but the unreserved characters of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// How far a client's clock may be off, in seconds.
const CLOCK_SKEW: i64 = 15 * 60;

/// The only key that may be used, and its secret.
pub(super) struct Credentials {
    pub(super) key: String,
    pub(super) secret: String,
}

impl Credentials {
    /// Those in `credentials`; made there when there are none.
    pub(super) fn kept_in(folder: &Path) -> Result<Self> {
        let path = folder.join("credentials");
        if !path.exists() {
            let mut random = [0; 30];
            ring::rand::SystemRandom::new().fill(&mut random).ok().context("no randomness")?;
            fs::write(&path, format!("{} {}", hex(&random[..10]), hex(&random[10..])))?;
        }
        let text = fs::read_to_string(&path)?;
        let (key, secret) = text.split_once(' ').with_context(|| path.display().to_string())?;
        Ok(Self { key: key.to_owned(), secret: secret.to_owned() })
    }

    /// Checks a request's signature; the response if it is refused.
    pub(super) fn check(&self, request: &Request) -> Result<(), Response> {
        let malformed = || Response::error(400, "AuthorizationHeaderMalformed", "not signed by version 4");
        let Some(authorization) = request.header("authorization") else {
            return Err(Response::error(403, "AccessDenied", "the request is not signed"));
        };
        let fields = authorization.strip_prefix("AWS4-HMAC-SHA256 ").ok_or_else(malformed)?;
        let field = |name: &str| {
            let mut fields = fields.split(',').filter_map(|field| field.trim().split_once('='));
            fields.find(|(it, _)| *it == name).map(|(_, value)| value)
        };
        let (key, scope) = field("Credential").and_then(|it| it.split_once('/')).ok_or_else(malformed)?;
        let names = field("SignedHeaders").ok_or_else(malformed)?;
        let signature = field("Signature").and_then(unhex).ok_or_else(malformed)?;
        let date = request.header("x-amz-date").ok_or_else(malformed)?;
        let [day, _, service, "aws4_request"] = scope.split('/').collect::<Vec<_>>()[..] else {
            return Err(malformed());
        };
        let signed: Vec<&str> = names.split(';').collect();
        let all_signed = ["host", "x-amz-content-sha256", "x-amz-date"].iter().all(|it| signed.contains(it));
        if !all_signed || service != "s3" || !date.starts_with(day) {
            return Err(malformed());
        }
        if key != self.key {
            return Err(Response::error(403, "InvalidAccessKeyId", "there is no such access key"));
        }
        let time = jiff::Timestamp::strptime("%Y%m%dT%H%M%S%z", date.replace('Z', "+0000"))
            .map_err(|_| malformed())?;
        if (time.as_second() - jiff::Timestamp::now().as_second()).abs() > CLOCK_SKEW {
            return Err(Response::error(403, "RequestTimeTooSkewed", "the client's clock is off"));
        }
        let hash = hex(digest::digest(&digest::SHA256, &request.body).as_ref());
        let claimed = request.header("x-amz-content-sha256").unwrap_or_default();
        if claimed != hash {
            return Err(Response::error(400, "XAmzContentSHA256Mismatch", "the body has another SHA-256"));
        }
        let canonical = digest::digest(&digest::SHA256, canonical(request, &signed, &hash).as_bytes());
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(canonical.as_ref()));
        let mut derived = format!("AWS4{}", self.secret).into_bytes();
        for part in scope.split('/') {
            derived =
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &derived), part.as_bytes()).as_ref().into();
        }
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &derived), text.as_bytes(), &signature)
            .map_err(|_| Response::error(403, "SignatureDoesNotMatch", "the secret is another one"))
    }
}

/// The request in the form that is signed.
fn canonical(request: &Request, signed: &[&str], hash: &str) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
    let mut query: Vec<String> =
        request.query.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    query.sort();
    let mut text = format!("{}\n{}\n{}\n", request.method, request.path, query.join("&"));
    for name in signed {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}:{}", request.header(name).unwrap_or_default());
    }
    text + &format!("\n{}\n{hash}", signed.join(";"))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
