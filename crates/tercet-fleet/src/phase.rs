//! The phases of a rotation, and the record of the phase in force.

mod record;

use std::fmt;

use serde::{Deserialize, Serialize};

pub(crate) use self::record::{Record, clear};

/// The kinds of rotations, by what they replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The password of `authenticator`.
    Secrets,
    /// The certificates of PostgreSQL and of the application servers.
    Certificates,
    /// The authority those certificates are issued by.
    Authority,
    /// The key that tokens of the data API are signed with; the one before stays valid.
    TokenKeys,
    /// The key before is no longer valid.
    RetiredTokenKey,
}

/// A phase of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// PostgreSQL accepts application servers by their certificate alone.
    CertificateAlone,
    /// The same, with the new password.
    NewPassword,
    /// PostgreSQL requires the new password besides the certificate.
    BothFactors,
    /// New certificates of the same authority.
    NewCertificates,
    /// The new authority is trusted beside the old one.
    TrustBoth,
    /// The same, and certificates are those of the new one.
    NewIssuer,
    /// Only the new authority is trusted.
    TrustNew,
    /// Tokens of the new key are accepted beside those of the old one.
    AcceptBoth,
    /// Only tokens of the new key are accepted.
    AcceptNew,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Secrets, Self::Certificates, Self::Authority, Self::TokenKeys, Self::RetiredTokenKey];

    /// Its phases, in their order.
    pub(crate) fn phases(self) -> &'static [Phase] {
        match self {
            Self::Secrets => &[Phase::CertificateAlone, Phase::NewPassword, Phase::BothFactors],
            Self::Certificates => &[Phase::NewCertificates],
            Self::Authority => &[Phase::TrustBoth, Phase::NewIssuer, Phase::TrustNew],
            Self::TokenKeys => &[Phase::AcceptBoth],
            Self::RetiredTokenKey => &[Phase::AcceptNew],
        }
    }

    /// The message at its end.
    pub fn outcome(self) -> &'static str {
        match self {
            Self::Secrets => {
                "rotated: PostgreSQL asks for the new password and the certificate, and refuses the old password"
            }
            Self::Certificates => {
                "rotated: every server has a new certificate of the same authority. The old ones are valid until the dates in \
                 them: if a key was stolen, tercet rotate authority"
            }
            Self::Authority => {
                "rotated: certificates of the old authority are refused, and its key is deleted"
            }
            Self::TokenKeys => {
                "rotated: tercet token signs with the new key, in .tercet/jwt-secret; give it to each service of yours that signs \
                 tokens.\nTokens of the old key are accepted until they expire (an hour, by tercet token without --seconds): \
                 when the last one has, or at once if the old key was stolen, tercet rotate token-keys --retire"
            }
            Self::RetiredTokenKey => "retired: tokens of the old key are refused, and the key is deleted",
        }
    }
}

/// The argument of `tercet rotate`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secrets => "secrets",
            Self::Certificates => "certificates",
            Self::Authority => "authority",
            Self::TokenKeys => "token-keys",
            Self::RetiredTokenKey => "token-keys --retire",
        })
    }
}

impl Phase {
    /// The rotation it belongs to.
    pub(crate) fn kind(self) -> Kind {
        let mut kinds = Kind::ALL.into_iter();
        kinds.find(|kind| kind.phases().contains(&self)).expect("every phase is in the phases of a kind")
    }

    /// Its number in the rotation, from 1.
    pub(crate) fn number(self) -> usize {
        self.kind().phases().iter().take_while(|phase| **phase != self).count() + 1
    }

    pub(crate) fn next(self) -> Option<Self> {
        self.kind().phases().get(self.number()).copied()
    }
}
