//! Tokens in the paths of HTTP-01 challenges: no path makes a token with another byte than those of base64url.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tercet_balancer::challenges::{is_challenge, token};

fuzz_target!(|path: &[u8]| {
    let prefixed = [&b"/.well-known/acme-challenge/"[..], path].concat();
    for path in [path, &prefixed[..]] {
        let Some(token) = token(path) else { continue };
        assert!(is_challenge(path) && path.ends_with(token.as_bytes()));
        assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
        assert!((1..=128).contains(&token.len()));
    }
});
