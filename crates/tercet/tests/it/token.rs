//! `tercet token`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use expect_test::{Expect, expect};
use jsonwebtoken::{DecodingKey, Validation};
use serde_json::Value;

use crate::folder::Folder;
use crate::http::get;
use crate::system::System;
use crate::tercet;

/// The claims of the token printed for `arguments`, verified with what `.tercet/jwt-secret` or `secret` holds.
fn claims(folder: &Path, arguments: &[&str], secret: Option<&str>) -> Value {
    let token = tercet::run(folder, [&["token"], arguments].concat());
    let kept = || fs::read_to_string(folder.join(".tercet/jwt-secret")).unwrap();
    let key = DecodingKey::from_secret(secret.map_or_else(kept, str::to_owned).as_bytes());
    let validation = Validation { validate_aud: false, ..Validation::default() };
    jsonwebtoken::decode::<Value>(token.trim(), &key, &validation).unwrap().claims
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
fn check_refused(text: &str, expected: Expect) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tercet.toml"), text).unwrap();
    expected.assert_eq(&tercet::run(folder.path(), ["token"]));
}

#[test]
fn a_project_has_a_secret_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tercet.toml"), "").unwrap();
    let claims = claims(folder.path(), &["--subject", "ann", "--seconds", "60"], None);
    assert_eq!(claims["sub"], "ann");
    assert_eq!(claims["role"], "authenticated");
    assert_eq!(claims["exp"].as_u64().unwrap(), claims["iat"].as_u64().unwrap() + 60);
    let mode = |path| fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(".tercet"), mode(".tercet/jwt-secret")), (0o700, 0o600));
}

#[test]
fn the_secret_of_the_file_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[api]\njwt-secret = \"@secret\"\njwt-aud = \"shop\"\n";
    fs::write(folder.path().join("tercet.toml"), text).unwrap();
    fs::write(folder.path().join("secret"), "a secret of more than 32 characters\n").unwrap();
    let claims = claims(folder.path(), &["--role", "editor"], Some("a secret of more than 32 characters"));
    assert_eq!(
        (&claims["role"], &claims["aud"], &claims["sub"]),
        (&"editor".into(), &"shop".into(), &Value::Null)
    );
    assert!(!folder.path().join(".tercet").exists());
}

#[test]
fn there_is_no_token_without_a_secret_to_sign_with() {
    check_refused(
        "[application]\nrun = \"./server\"\n",
        expect![[r#"
              × tokens are for the data API, and this project runs your own program

            exit code 2
        "#]],
    );
    check_refused(
        "[api]\njwt-secret = '{\"kty\": \"EC\"}'\n",
        expect![[r#"
              × jwt-secret is a JWK or JWK set: the service that has its private key
              │ issues the tokens

            exit code 2
        "#]],
    );
    check_refused(
        "nmae = \"shop\"\n",
        expect![[r#"
          × tercet.toml has a mistake

        Error:
          × unknown key nmae at the top of the file
           ╭─[tercet.toml:1:1]
         1 │ nmae = ******
           · ──┬─
           ·   ╰── unknown
           ╰────
          help: did you mean name?

        exit code 2
    "#]],
    );
    let folder = tempfile::tempdir().unwrap();
    expect![[r#"
          × there is no shop/tercet.toml
          │ hint: tercet init shop writes one; an empty file will do

        exit code 2
    "#]]
    .assert_eq(&tercet::run(folder.path(), ["token", "shop"]));
}

/// Between `tercet rotate token-keys` and `--retire`, `tercet up` in the same folder accepts both as well.
#[test]
fn tokens_of_the_previous_key_are_accepted_until_it_is_retired() {
    let function = "create function whoami() returns text language sql as 'select current_user::text';
                    grant execute on function whoami to authenticated;";
    let folder = Folder::with(&[("migrations/0001_whoami.sql", function)]);
    let key = |path: &str, text: &str| {
        folder.write(path, text);
        fs::set_permissions(folder.path().join(path), fs::Permissions::from_mode(0o600)).unwrap();
    };
    let tokens = [
        "the first key of the project, long enough",
        "another key, of no project, long enough",
        "the second key of the project, long enough",
    ]
    .map(|text| {
        key(".tercet/jwt-secret", text);
        format!("Bearer {}", tercet::run(folder.path(), ["token"]).trim())
    });
    key(".tercet/fleet/retiring-jwt-secret", "the first key of the project, long enough");
    key(".tercet/fleet/rotation.json", r#"{"generation":1,"running":null,"retiring_token_key":true}"#);
    let system = System::start(folder.path());
    let statuses = tokens.map(|token| system.ask(get("/rpc/whoami").header("authorization", &token)).status);
    assert_eq!(statuses, [200, 401, 200]);
}

#[test]
fn there_is_nothing_to_rotate_without_machines() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tercet.toml"), "").unwrap();
    expect![[r#"
          × tercet.toml names no machines
          │ hint: add a [[machine]] for each; `tercet up` runs everything on this one

        exit code 2
    "#]]
    .assert_eq(&tercet::run(folder.path(), ["rotate", "token-keys", "--yes"]));
}
