//! The keys that tokens of the data API are verified with, when the project keeps them itself: one, and from a rotation of
//! it until the old one is retired, two.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::json;
use tercet_config::Api;
use tercet_database::Password;
use tercet_machine::Secret;

use crate::operator_folder::{FOLDER, NEXT, RETIRING_KEY, SIGNING_KEY};
use crate::phase::{Phase, Record};

/// Base64 with or without padding, as the data API reads it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Whether the data API takes its secret as base64.
pub fn are_base64(api: &Api) -> bool {
    api.options.get("jwt-secret-is-base64").and_then(toml::Value::as_bool) == Some(true)
}

/// The data API's `jwt-secret` while two keys are accepted; `None` when the key in `.tercet/jwt-secret` is the only one.
/// Completes the end of an interrupted rotation first.
///
/// # Errors
/// A key cannot be read, or others may read it.
pub fn both(project: &Path, is_base64: bool) -> Result<Option<Secret>> {
    let record = Record::open(project)?;
    match files(project, &record).as_slice() {
        [_] => Ok(None),
        _ => accepted(project, &record, is_base64).map(Some),
    }
}

/// The data API's `jwt-secret`.
pub(crate) fn accepted(project: &Path, record: &Record, is_base64: bool) -> Result<Secret> {
    let read = |path: &PathBuf| Password::kept_in(path).with_context(|| path.display().to_string());
    let keys = files(project, record).iter().map(read).collect::<Result<Vec<_>>>()?;
    match keys.as_slice() {
        [key] => Ok(Secret::new(key.reveal())),
        keys => set(keys, is_base64),
    }
}

/// The files of the accepted keys, the newest first.
fn files(project: &Path, record: &Record) -> Vec<PathBuf> {
    let folder = project.join(FOLDER);
    let signing = project.join(SIGNING_KEY);
    match record.phase() {
        Some(Phase::AcceptBoth) => vec![folder.join(NEXT).join("jwt-secret"), signing],
        Some(Phase::AcceptNew) => vec![signing],
        _ if record.is_retiring_token_key() => vec![signing, folder.join(RETIRING_KEY)],
        _ => vec![signing],
    }
}

/// Several keys as a JSON Web Key Set (RFC 7517): a token needs to be signed with one of them.
fn set(keys: &[Password], is_base64: bool) -> Result<Secret> {
    let keys = keys.iter().map(|key| {
        let bytes = bytes(key, is_base64)?;
        Ok(json!({ "kty": "oct", "use": "sig", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(bytes) }))
    });
    let set = json!({ "keys": keys.collect::<Result<Vec<_>>>()? }).to_string();
    Ok(Secret::new(if is_base64 { STANDARD.encode(set) } else { set }))
}

/// A key as the data API understands it.
fn bytes(key: &Password, is_base64: bool) -> Result<Vec<u8>> {
    if !is_base64 {
        return Ok(key.reveal().as_bytes().to_vec());
    }
    let standard = key.reveal().replace('_', "/").replace('-', "+").replace('.', "=");
    BASE64.decode(standard).with_context(|| format!("{SIGNING_KEY} is not base64"))
}

/// Refuses a key that cannot sign: the owner of its private key issues the tokens.
pub(crate) fn check(project: &Path, api: &Api) -> Result<()> {
    let key = Password::kept_in(&project.join(SIGNING_KEY))?;
    let is_json = |bytes: &[u8]| serde_json::from_slice::<serde_json::Map<_, _>>(bytes).is_ok();
    if is_json(&bytes(&key, are_base64(api))?) {
        bail!(
            "{SIGNING_KEY} is a JSON Web Key or a set of them, which its issuer rotates\nhint: put the new set in it and apply"
        );
    }
    Ok(())
}
