//! Rotations without machines: killed before every write, and with a real PostgreSQL in every pair of phases.

mod postgresql;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use expect_test::{Expect, expect};
use tercet_config::Origin;

use super::*;
use crate::authority::crash_point::WRITES;
use crate::desired::tests::{FOUR, SHARED};
use crate::operator_folder::SIGNING_KEY;
use crate::validity::Validity;

pub(super) fn topology(text: &str) -> Topology {
    tercet_config::parse(text, Origin { file: "tercet.toml", folder: "shop" }).expect("a valid file")
}

/// A project that was applied, and the secrets its machines have.
struct Applied {
    folder: tempfile::TempDir,
    topology: Topology,
    machines: Secrets,
}

impl Applied {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let topology = topology(text);
        let machines = Secrets::kept_in(folder.path(), &topology).unwrap();
        Self { folder, topology, machines }
    }

    /// Another folder with the same secrets.
    fn copy(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in self.texts() {
            let to = folder.path().join(path.strip_prefix(self.folder.path()).unwrap());
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::write(&to, text).unwrap();
            fs::set_permissions(&to, fs::metadata(&path).unwrap().permissions()).unwrap();
        }
        let machines = Secrets::kept_in(folder.path(), &self.topology).unwrap();
        Self { folder, topology: self.topology.clone(), machines }
    }

    /// What the folder says now.
    fn kept(&self) -> Secrets {
        Secrets::kept_in(self.folder.path(), &self.topology).unwrap()
    }

    /// Brings machines to new secrets, server after server: each pair of old and new has to work together.
    fn execute(&mut self, secrets: Secrets) {
        for (database, server) in
            [(&self.machines, &secrets), (&secrets, &self.machines), (&secrets, &secrets)]
        {
            assert!(
                lets_in(database, server),
                "generations {} and {}",
                database.generation,
                server.generation
            );
        }
        assert!(secrets.generation >= self.machines.generation);
        self.machines = secrets;
        assert!(self.accepts_new_tokens());
    }

    /// Whether the machines accept tokens of the key that signs, which `tercet token` reads as it is.
    fn accepts_new_tokens(&self) -> bool {
        let signing = fs::read_to_string(self.folder.path().join(SIGNING_KEY)).unwrap();
        let jwt = self.machines.jwt.reveal();
        jwt == signing || jwt.contains(&URL_SAFE_NO_PAD.encode(signing))
    }

    /// A `tercet rotate`, from its begin or from where the last one was killed.
    fn rotate(&mut self, kind: Kind) -> Result<()> {
        let topology = self.topology.clone();
        let project = self.folder.path().to_owned();
        if finish(&project)? == Some(kind) {
            return Ok(());
        }
        let mut rotation = Rotation::of(&project, &topology, kind)?;
        loop {
            let secrets = rotation.secrets()?;
            rotation.enter()?;
            self.execute(secrets);
            if !rotation.go_on()? {
                self.execute(rotation.secrets()?);
                return Ok(());
            }
        }
    }

    /// Every text that is kept, by its file.
    fn texts(&self) -> Vec<(PathBuf, String)> {
        let mut texts = Vec::new();
        let mut folders = vec![self.folder.path().join(".tercet")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    texts.push((path.clone(), fs::read_to_string(&path).unwrap()));
                }
            }
        }
        texts
    }
}

/// Whether PostgreSQL with the secrets of `database` and a server with those of `server` get on, on different machines.
fn lets_in(database: &Secrets, server: &Secrets) -> bool {
    (database.certificate_alone || database.authenticator == server.authenticator)
        && is_issued(&server.client.certificate, &database.authority)
        && is_issued(&database.server.certificate, &server.authority)
}

/// Whether a certificate names the key of one of the authorities (RFC 5280, section 4.2.1.1).
fn is_issued(certificate: &str, authorities: &str) -> bool {
    let der = |pem: &str| {
        STANDARD.decode(pem.lines().filter(|it| !it.contains("-----")).collect::<String>()).unwrap()
    };
    let certificate = der(certificate);
    let contains = |part: &[u8]| certificate.windows(part.len()).any(|it| it == part);
    authorities.split_inclusive("-----END CERTIFICATE-----").filter(|it| it.contains("BEGIN")).any(
        |authority| {
            // subjectKeyIdentifier: its identifier, an OCTET STRING in an OCTET STRING.
            let authority = der(authority);
            let begins = [0x06, 0x03, 0x55, 0x1d, 0x0e, 0x04, 0x16, 0x04, 0x14];
            let place =
                authority.windows(begins.len()).position(|it| it == begins).expect("a key identifier");
            contains(&authority[place + begins.len()..][..20])
        },
    )
}

/// What a rotation of a kind is to make another, of the secrets before and after.
fn is_replaced(kind: Kind, before: &Secrets, after: &Secrets) -> bool {
    let certificates = before.client.certificate != after.client.certificate
        && before.server.certificate != after.server.certificate
        && before.client.key != after.client.key;
    match kind {
        Kind::Secrets => before.authenticator != after.authenticator,
        Kind::Certificates => certificates && before.authority == after.authority,
        Kind::Authority => {
            certificates
                && !is_issued(&before.client.certificate, &after.authority)
                && !is_issued(&after.client.certificate, &before.authority)
                && after.authorities.len() == 1
                && Validity::of(&after.authority).is_ok()
        }
        Kind::TokenKeys => after.jwt.reveal().contains(&URL_SAFE_NO_PAD.encode(before.jwt.reveal())),
        Kind::RetiredTokenKey => !after.jwt.reveal().starts_with('{') && before.jwt.reveal().starts_with('{'),
    }
}

#[test]
fn every_rotation_interrupted_before_any_write_completes() {
    // And with an apply in the middle.
    for (kind, apply) in Kind::ALL.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        let mut first = Applied::new(FOUR);
        if kind == Kind::RetiredTokenKey {
            first.rotate(Kind::TokenKeys).unwrap();
        }
        let mut kills = 0;
        loop {
            let mut applied = first.copy();
            let (before, texts) = (applied.kept(), applied.texts());
            WRITES.set(Some(kills));
            let killed = applied.rotate(kind);
            WRITES.set(None);
            match &killed {
                Ok(()) => {}
                Err(error) => assert_eq!(format!("{error:#}"), "killed"),
            }
            assert!(applied.accepts_new_tokens());
            if apply {
                let kept = applied.kept();
                applied.execute(kept);
            }
            // An apply may have finished it: its end is only about the folder.
            let record = Record::read(applied.folder.path()).unwrap();
            let is_over = record.phase().is_none() && record.generation > before.generation;
            if killed.is_err() && !is_over {
                applied.rotate(kind).unwrap();
            }
            let after = applied.kept();
            assert_eq!(after.generation, before.generation + kind.phases().len() as u64);
            assert!(is_replaced(kind, &before, &after), "{kind}, killed before write {kills}");
            assert_eq!(note(applied.folder.path()).unwrap().is_some(), kind == Kind::TokenKeys);
            assert!(!applied.folder.path().join(FOLDER).join(NEXT).exists());
            if kind != Kind::TokenKeys {
                let old: BTreeSet<&String> = texts.iter().map(|(_, text)| text).collect();
                for (path, text) in applied.texts() {
                    let kept = texts.iter().any(|it| it.0 == path && it.1 == text);
                    assert!(kept || !old.contains(&text), "{} is in {}", text, path.display());
                }
            }
            if killed.is_ok() {
                break;
            }
            kills += 1;
        }
        assert!(kills >= 4, "{kind} was killed {kills} times only");
    }
}

#[test]
fn rotations_do_not_overlap_and_a_copy_of_before_is_behind() {
    let refused = |applied: &Applied, kind| {
        let error = Rotation::of(applied.folder.path(), &applied.topology, kind).expect_err("a refusal");
        format!("{error:#}")
    };
    let applied = Applied::new(FOUR);
    assert!(refused(&applied, Kind::RetiredTokenKey).contains("no token key to retire"));
    let project = applied.folder.path();
    let mut rotation = Rotation::of(project, &applied.topology, Kind::Secrets).unwrap();
    assert!(refused(&applied, Kind::Secrets).contains("another tercet rotate works on it"));
    // Not confirmed: nothing is left.
    rotation.secrets().unwrap();
    rotation.abandon().unwrap();
    assert_eq!(applied.kept().generation, 0);
    assert!(!project.join(FOLDER).join(NEXT).exists());

    rotation = Rotation::of(project, &applied.topology, Kind::Secrets).unwrap();
    rotation.secrets().unwrap();
    rotation.enter().unwrap();
    drop(rotation);
    assert_eq!(
        refused(&applied, Kind::Authority),
        "a rotation is in phase 1 of 3\nhint: tercet rotate secrets goes on with it"
    );
    let identity = |secrets: &Secrets| crate::identity::Identity {
        project: secrets.project.clone(),
        name: "shop".to_owned(),
        machine: "db".to_owned(),
        tiers: vec!["database".to_owned()],
        authority: secrets.authorities[0].clone(),
        generation: secrets.generation,
        since: "2026-11-29T12:00:00Z".to_owned(),
        data: None,
    };
    let (old, new) = (&applied.machines, applied.kept());
    new.check(&identity(old), false).unwrap();
    let error = old.check(&identity(&new), false).unwrap_err().to_string();
    assert!(error.contains("secrets are of generation 1"), "{error}");
}

#[test]
fn machines_know_the_authority_that_follows_theirs() {
    let mut applied = Applied::new(FOUR);
    let project = applied.folder.path().to_owned();
    let topology = applied.topology.clone();
    let mut told = vec![applied.machines.authorities[0].clone()];
    let mut rotation = Rotation::of(&project, &topology, Kind::Authority).unwrap();
    rotation.enter().unwrap();
    loop {
        let secrets = rotation.secrets().unwrap();
        // Whatever phase a machine was left in, the old authority's or the new one's.
        assert!(told.iter().all(|it| secrets.authorities.contains(it)), "{:?}", secrets.authorities);
        told.push(secrets.authorities[0].clone());
        if !rotation.go_on().unwrap() {
            break;
        }
    }
    applied.machines = applied.kept();
    assert_eq!(applied.machines.authorities, told[1..2]);
    assert_ne!(told[0], told[1]);
}

/// The refusal of a rotation.
#[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
fn check_refused(text: &str, kind: Kind, expected: Expect) {
    let applied = Applied::new(text);
    let error = Rotation::of(applied.folder.path(), &applied.topology, kind).expect_err("a refusal");
    expected.assert_eq(&format!("{error:#}\n"));
}

#[test]
fn secrets_of_other_owners_are_not_rotated() {
    let url = format!(
        "database.url = 'postgres://shop@db.example/shop'\n{}",
        FOUR.replace(r#"{ name = "db""#, r#"#{ name = "db""#)
    );
    check_refused(
        &url,
        Kind::Secrets,
        expect![[r#"
            tercet does not run this database, [database] url names it: its passwords and certificates are not tercet's to rotate
            hint: let the database have two roles that may do the same, put the URL of the other one in place and apply; then change the password of the first
        "#]],
    );
    check_refused(
        &url,
        Kind::Authority,
        expect![[r#"
            tercet does not run this database, [database] url names it: its passwords and certificates are not tercet's to rotate
            hint: let the database have two roles that may do the same, put the URL of the other one in place and apply; then change the password of the first
        "#]],
    );
    let named = format!("api.jwt-secret = 'a secret of more than 32 characters'\n{FOUR}");
    check_refused(
        &named,
        Kind::TokenKeys,
        expect![[r#"
        tercet.toml names the key itself, by jwt-secret
        hint: make it a JSON Web Key Set with the new key and the old one (kty oct) and apply; take the old one out when its last token has expired, and apply again
    "#]],
    );
    check_refused(
        &format!("application.run = 'server'\n{FOUR}"),
        Kind::TokenKeys,
        expect![[r#"
        this project runs your own program, and tokens are for the data API
    "#]],
    );
}

#[test]
fn a_runbook_lists_all_phases() {
    let check = |text: &str, kind, expected: Expect| {
        let applied = Applied::new(text);
        let rotation = Rotation::of(applied.folder.path(), &applied.topology, kind).unwrap();
        expected.assert_eq(&rotation.runbook());
    };
    check(
        FOUR,
        Kind::Secrets,
        expect![[r#"
        rotate secrets, which begins with phase 1:
          phase 1 of 3: PostgreSQL on db lets app-1, app-2 in by their certificate alone
          phase 2 of 3: the new password: PostgreSQL on db, then app-1, app-2, one after the other
          phase 3 of 3: PostgreSQL on db asks for the certificate and the new password; the old one is deleted
    "#]],
    );
    check(
        SHARED,
        Kind::Secrets,
        expect![[r#"
        rotate secrets, which begins with phase 1:
          phase 1 of 3: PostgreSQL on one lets app-1, app-2 in by their certificate alone; those on its own machine change to TLS: app-1
          phase 2 of 3: the new password: PostgreSQL on one, then app-1, app-2, one after the other
          phase 3 of 3: PostgreSQL on one asks for the certificate and the new password; the old one is deleted; those on its own machine change back from TLS: app-1
    "#]],
    );
    check(
        FOUR,
        Kind::Certificates,
        expect![[r#"
        rotate certificates, which begins with phase 1:
          phase 1 of 1: new certificates of the same authority: PostgreSQL on db, then app-1, app-2, one after the other
    "#]],
    );
    check(
        FOUR,
        Kind::Authority,
        expect![[r#"
        rotate authority, which begins with phase 1:
          phase 1 of 3: the new authority is trusted beside the old one: PostgreSQL on db, then app-1, app-2, one after the other
          phase 2 of 3: certificates of the new authority: PostgreSQL on db, then app-1, app-2, one after the other
          phase 3 of 3: the old authority is no longer trusted: PostgreSQL on db, then app-1, app-2, one after the other; its key is deleted
    "#]],
    );
    check(
        FOUR,
        Kind::TokenKeys,
        expect![[r#"
        rotate token-keys, which begins with phase 1:
          phase 1 of 1: tokens of the new key are accepted beside those of the old one: app-1, app-2, one after the other
    "#]],
    );
}

#[test]
fn token_keys_in_base64_stay_in_base64() {
    let mut applied = Applied::new(&format!("api.jwt-secret-is-base64 = true\n{FOUR}"));
    let before = applied.machines.jwt.reveal().to_owned();
    let mut rotation = Rotation::of(applied.folder.path(), &applied.topology, Kind::TokenKeys).unwrap();
    rotation.enter().unwrap();
    applied.machines = rotation.secrets().unwrap();
    let json = STANDARD.decode(applied.machines.jwt.reveal()).unwrap();
    let set: serde_json::Value = serde_json::from_slice(&json).unwrap();
    // 32 random bytes in base64url are the key of the set as they are.
    assert_eq!(set["keys"][1]["k"], before);
    assert_eq!(set["keys"].as_array().unwrap().len(), 2);
}
