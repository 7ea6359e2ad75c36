use std::collections::BTreeMap;

use base64::Engine as _;
use expect_test::{Expect, expect};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::*;
use crate::config::ConfigSource;

const SECRET: &str = "a secret that is at least 32 bytes";

fn config(options: &[(&str, &str)]) -> Arc<Config> {
    let mut environment = BTreeMap::from([
        ("PGRST_DB_URI".to_owned(), "postgresql://me@/db".to_owned()),
        ("PGRST_DB_ANON_ROLE".to_owned(), "anon".to_owned()),
        ("PGRST_JWT_SECRET".to_owned(), SECRET.to_owned()),
    ]);
    for (name, value) in options {
        environment.insert(format!("PGRST_{}", name.to_uppercase().replace('-', "_")), (*value).to_owned());
    }
    Arc::new(ConfigSource { file: None, environment }.read().unwrap())
}

fn sign(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    format!("Bearer {}", jsonwebtoken::encode(&Header::default(), claims, &key).unwrap())
}

fn identify(config: &Arc<Config>, authorization: Option<&str>) -> String {
    let mut headers = HeaderMap::new();
    if let Some(authorization) = authorization {
        headers.insert(header::AUTHORIZATION, authorization.parse().unwrap());
    }
    let mut authenticator = Authenticator::default();
    let first = authenticator.identify(config, None, &headers);
    assert_eq!(
        first,
        authenticator.identify(config, None, &headers),
        "the result is the same from the cache"
    );
    match first {
        Ok(identity) => format!(
            "{} {} {}",
            identity.role,
            String::from_utf8_lossy(&identity.claims),
            if identity.authenticated { "authenticated" } else { "anonymous" }
        ),
        Err(error) => format!("{} {error} {}", error.code(), error.details().unwrap_or_default()),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
fn check(authorization: Option<&str>, expected: Expect) {
    expected.assert_eq(identify(&config(&[]), authorization).trim_end());
}

#[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
fn check_claims(options: &[(&str, &str)], claims: Value, expected: Expect) {
    expected.assert_eq(identify(&config(options), Some(&sign(&claims))).trim_end());
}

#[test]
fn takes_the_role_from_the_token_or_the_anonymous_role() {
    check(None, expect![[r#"anon {"role":"anon"} anonymous"#]]);
    check(Some("Basic abc"), expect![[r#"anon {"role":"anon"} anonymous"#]]);
    check_claims(&[], json!({"role": "me", "id": 1}), expect![[r#"me {"role":"me","id":1} authenticated"#]]);
    check_claims(&[], json!({"id": 1}), expect![[r#"anon {"id":1,"role":"anon"} anonymous"#]]);
    check_claims(
        &[("jwt-role-claim-key", ".x.y")],
        json!({"x": {"y": "me"}}),
        expect![[r#"me {"x":{"y":"me"},"role":"me"} authenticated"#]],
    );
    check_claims(
        &[("jwt-role-claim-key", "$.app.roles[0]")],
        json!({"app": {"roles": ["me", "other"]}}),
        expect![[r#"me {"app":{"roles":["me","other"]},"role":"me"} authenticated"#]],
    );
    let closed = config(&[("db-anon-role", "")]);
    assert_eq!(identify(&closed, None), "PGRST302 Anonymous access is disabled ");
    assert_eq!(identify(&closed, Some(&sign(&json!({})))), "PGRST302 Anonymous access is disabled ");
    assert_eq!(
        identify(&config(&[("jwt-secret", "")]), Some("Bearer x")),
        "PGRST300 Server lacks JWT secret "
    );
}

#[test]
fn rejects_malformed_and_forged_tokens() {
    check(Some("Bearer "), expect!["PGRST301 Empty JWT is sent in Authorization header"]);
    check(Some("Bearer a.b"), expect!["PGRST301 Expected 3 parts in JWT; got 2"]);
    check(Some("Bearer a.b.c.d"), expect!["PGRST301 Expected 3 parts in JWT; got 4"]);
    check(Some("bearer a.b.c"), expect!["PGRST301 JWT cryptographic operation failed"]);
    check(Some("Bearer e30.e30.e30"), expect!["PGRST301 JWT couldn't be decoded"]);
    check(
        Some("Bearer eyJhbGciOiJub25lIn0.e30."),
        expect![
            "PGRST301 Wrong or unsupported encoding algorithm JWT is unsecured but expected 'alg' was not 'none'"
        ],
    );
    let mut forged = sign(&json!({"role": "me"}));
    forged.replace_range(forged.len() - 4.., "AAAA");
    check(
        Some(&forged),
        expect!["PGRST301 No suitable key or wrong key type None of the keys was able to decode the JWT"],
    );
    let strong = Header::new(Algorithm::HS512);
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let other = jsonwebtoken::encode(&strong, &json!({}), &key).unwrap();
    check(
        Some(&format!("Bearer {other}")),
        expect!["PGRST301 No suitable key or wrong key type No suitable key was found to decode the JWT"],
    );
}

#[test]
fn checks_validity_and_audience_claims() {
    let now = now();
    let within_skew = identify(&config(&[]), Some(&sign(&json!({"exp": now - 20, "nbf": now + 20}))));
    assert!(within_skew.starts_with("anon "), "{within_skew}");
    check_claims(&[], json!({"exp": now - 40}), expect!["PGRST303 JWT expired"]);
    check_claims(&[], json!({"nbf": now + 40}), expect!["PGRST303 JWT not yet valid"]);
    check_claims(&[], json!({"iat": now + 40}), expect!["PGRST303 JWT issued at future"]);
    check_claims(&[], json!({"exp": "soon"}), expect!["PGRST303 The JWT 'exp' claim must be a number"]);
    let us = [("jwt-aud", "us")];
    check_claims(&us, json!({"aud": "them"}), expect!["PGRST303 JWT not in audience"]);
    check_claims(
        &us,
        json!({"aud": ["them", "us"]}),
        expect![[r#"anon {"aud":["them","us"],"role":"anon"} anonymous"#]],
    );
    check_claims(&us, json!({"aud": []}), expect![[r#"anon {"aud":[],"role":"anon"} anonymous"#]]);
    check_claims(&us, json!({}), expect![[r#"anon {"role":"anon"} anonymous"#]]);
    check_claims(
        &us,
        json!({"aud": 1}),
        expect!["PGRST303 The JWT 'aud' claim must be a string or an array of strings"],
    );
}

#[test]
fn accepts_secrets_keys_and_key_sets() {
    let claims = json!({"role": "me"});
    let base64 = base64::engine::general_purpose::STANDARD.encode(SECRET);
    let jwk = json!({"kty": "oct", "k": base64.trim_end_matches('='), "alg": "HS256", "kid": "1"});
    for (secret, is_base64) in [
        (SECRET.to_owned(), "false"),
        (base64, "true"),
        (jwk.to_string(), "false"),
        (json!({"keys": [{"kty": "what"}, jwk]}).to_string(), "false"),
    ] {
        let config = config(&[("jwt-secret", &secret), ("jwt-secret-is-base64", is_base64)]);
        assert_eq!(identify(&config, Some(&sign(&claims))), r#"me {"role":"me"} authenticated"#, "{secret}");
    }
    let refused = |secret: &[u8]| Keys::parse(secret).unwrap_err().to_string();
    assert_eq!(refused(b"short"), "the JWT secret must be at least 32 characters long");
    assert!(refused(br#"{"keys":[]}"#).starts_with("none of the JSON Web Keys"));
}

/// An ES512 signature (RFC 7518 section 3.4) of `{"alg":"ES512","kid":"5"}` and `{"role":"me"}`, made by OpenSSL.
const ES512: &str = "AGqwBcKDeU3kxKhlo3qaRJuOmBUTt__FkCHu2VF9yGcPNzvoLKkl-mVAPdEJ5y15BoZGUeLTION-MfnvSh5Aoy1WAQp0WO9dWGxHFtgjiGUllqhW5-UDb4qL-x3OBnZ5sw36NySIsvGnQoALDpeQ4xHWRELNY-YEp2Oc7dRWheC_yhNi";

/// The public key of the signature.
fn p521() -> Value {
    json!({
        "kty": "EC", "crv": "P-521", "alg": "ES512", "kid": "5", "use": "sig",
        "x": "AFdVu0LGEwL7AnM8QTblejOSZHMiDW7zp15pccd7N02Br9mjx6UoZobCKCT7TbHqcbVOGWJPYeLxr5bMZ158yOLB",
        "y": "AGSN4jp4n_VV1sp_fzvmAkgefR5udrxoIcnSuvWO_b5gZoiDKK_EBjUaP_5z6TbGycxJcJpqdpFomGSNkWMc6oG9",
    })
}

/// A token with that signature and the given header.
fn es512(header: &str) -> String {
    let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    format!("Bearer {}.{}.{ES512}", encode(header), encode(r#"{"role":"me"}"#))
}

#[test]
fn verifies_es512() {
    let config = config(&[("jwt-secret", &json!({ "keys": [p521()] }).to_string())]);
    let token = es512(r#"{"alg":"ES512","kid":"5"}"#);
    assert_eq!(identify(&config, Some(&token)), r#"me {"role":"me"} authenticated"#);
    let mut forged = token;
    forged.replace_range(forged.len() - 8.., "AAAAAAAA");
    assert!(identify(&config, Some(&forged)).starts_with("PGRST301 "));
    // one key verifies one algorithm, and only the signed text
    for header in [
        r#"{"alg":"ES256","kid":"5"}"#,
        r#"{"alg":"HS256","kid":"5"}"#,
        r#"{"alg":"ES512","kid":"6"}"#,
        r#"{"alg":"ES512"}"#,
    ] {
        assert!(identify(&config, Some(&es512(header))).starts_with("PGRST301 "), "{header}");
    }
}

#[test]
fn rejects_p521_keys_that_are_no_point_of_the_curve() {
    let mut jwk = p521();
    jwk["y"] = jwk["x"].clone();
    assert!(Keys::parse(jwk.to_string().as_bytes()).is_err());
    jwk["x"] = "AA".into();
    assert!(Keys::parse(jwk.to_string().as_bytes()).is_err());
}
