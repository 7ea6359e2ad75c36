//! The `[state]` section. It checks the formats of the recipients and of the fingerprint; only age can validate a
//! key.

use crate::file::{self, Located};
use crate::topology::State;
use tercet_options::Mistakes;

/// The prefixes of the public keys that state can be encrypted to.
const KINDS: [&str; 3] = ["age1", "ssh-ed25519 ", "ssh-rsa "];

pub(super) fn read(section: &file::State, mistakes: &mut Mistakes) -> State {
    let mut recipients: Vec<String> = Vec::new();
    for text in section.recipients.iter().flatten() {
        let recipient = recipient(text, mistakes);
        if recipients.contains(&recipient) {
            mistakes
                .add(text.span(), "recipients names this key twice", "again")
                .hint("leave one of the two out");
        }
        recipients.push(recipient);
    }
    let authority = section.authority.as_ref().map(|text| {
        let digits = text.strip_prefix("sha256:").unwrap_or_default();
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if digits.len() != 64 || !digits.bytes().all(is_digit) {
            mistakes
                .add(text.span(), "authority is no fingerprint", "not a fingerprint")
                .hint("write sha256: and 64 lower case digits, as `tercet state` prints them");
        }
        text.to_string()
    });
    State { recipients, authority }
}

/// A public key without the comment of an ssh key.
fn recipient(text: &Located<String>, mistakes: &mut Mistakes) -> String {
    if !KINDS.iter().any(|kind| text.starts_with(kind)) {
        mistakes
            .add(text.span(), "recipients has a text that is no public key", "not a public key")
            .hint("write what `tercet state identity` prints, age1…, or an ssh public key: ssh-ed25519 … or ssh-rsa …");
    }
    text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}
