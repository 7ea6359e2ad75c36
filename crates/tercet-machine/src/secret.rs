//! Text that must not be shown: no plan, log, error, unit file or argument list may contain it.
//!
//! A [`Secret`] cannot be printed, and it refuses to be serialised: a struct that contains one can be turned into
//! JSON only by [`Secret::json_of`], whose result is a secret again.

use std::cell::Cell;
use std::fmt;

use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};

thread_local! {
    /// Whether this thread is inside [`Secret::json_of`].
    static REVEALING: Cell<bool> = const { Cell::new(false) };
}

/// A password, a key, a token secret, or a text that contains one.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that must write it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The JSON of `value` with its secrets in plain text: for a private file or the agent's standard input.
    ///
    /// # Errors
    /// The value has no JSON form.
    pub fn json_of(value: &impl Serialize) -> serde_json::Result<Self> {
        /// Ends the scope also when a serialiser panics.
        struct Scope(bool);
        impl Drop for Scope {
            fn drop(&mut self) {
                REVEALING.set(self.0);
            }
        }
        let _scope = Scope(REVEALING.replace(true));
        serde_json::to_string(value).map(Self)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if REVEALING.get() {
            serializer.serialize_str(&self.0)
        } else {
            Err(S::Error::custom("a secret must not be shown"))
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_serialised_only_into_another_secret() {
        let secrets = vec![Secret::new("hush \"quoted\"")];
        assert_eq!(format!("{secrets:?}"), "[…]");
        let error = serde_json::to_string(&secrets).unwrap_err().to_string();
        assert_eq!(error, "a secret must not be shown");
        let json = Secret::json_of(&secrets).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Secret>>(json.reveal()).unwrap(), secrets);
        assert!(serde_json::to_string(&secrets).is_err(), "the scope has ended");
    }
}
