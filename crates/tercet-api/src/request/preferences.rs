//! The `Prefer` headers ([RFC 7240](https://www.rfc-editor.org/rfc/rfc7240)).

use std::fmt;

use http::HeaderMap;
use http::header::HeaderName;

use crate::error::RequestError;

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// The client's preferences; of several of one kind the first applies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preferences {
    /// `resolution=…`
    pub resolution: Option<Resolution>,
    /// `return=…`
    pub representation: Option<Representation>,
    /// `count=…`
    pub count: Option<Count>,
    /// `tx=…`, if the configuration allows clients to choose.
    pub transaction: Option<TransactionEnd>,
    /// `missing=…`
    pub missing: Option<Missing>,
    /// `handling=…`
    pub handling: Option<Handling>,
    /// `timezone=…`; PostgreSQL checks it.
    pub timezone: Option<String>,
    /// `max-affected=…`, in rows. Enforced only under [`Handling::Strict`].
    pub max_affected: Option<i64>,
    /// Unknown preferences, as written.
    pub invalid: Vec<String>,
}

impl Preferences {
    /// The maximum number of affected rows: `max-affected` under strict handling.
    pub fn enforced_max_affected(&self) -> Option<i64> {
        self.max_affected.filter(|_| self.handling == Some(Handling::Strict))
    }
}

/// Conflict resolution for existing rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// `resolution=merge-duplicates`: update them.
    MergeDuplicates,
    /// `resolution=ignore-duplicates`: leave them unchanged.
    IgnoreDuplicates,
}

/// What the response to a write contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Representation {
    /// `return=representation`: the rows.
    Full,
    /// `return=headers-only`: the row's `Location`.
    HeadersOnly,
    /// `return=minimal`: nothing.
    Minimal,
}

/// How the total number of rows is determined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// `count=exact`: count them.
    Exact,
    /// `count=planned`: the planner's estimate.
    Planned,
    /// `count=estimated`: count them unless the planner estimates many.
    Estimated,
}

/// How the transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionEnd {
    /// `tx=commit`
    Commit,
    /// `tx=rollback`
    Rollback,
}

/// The value of keys missing in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// `missing=default`: the default of the column.
    Default,
    /// `missing=null`: null.
    Null,
}

/// How unknown preferences are handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handling {
    /// `handling=strict`: reject the request.
    Strict,
    /// `handling=lenient`: ignore them.
    Lenient,
}

impl Preferences {
    /// Parses the `Prefer` headers. Clients may choose how the transaction ends only with `transaction_override`, and
    /// a time zone only with `time_zones`.
    pub fn from_headers(headers: &HeaderMap, transaction_override: bool, time_zones: bool) -> Self {
        let mut preferences = Self::default();
        let texts = headers.get_all(PREFER).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        for text in texts {
            for preference in elements(&text) {
                let written = Written::parse(preference);
                if !written.is_some_and(|written| preferences.accept(&written, time_zones)) {
                    preferences.invalid.push(preference.to_owned());
                }
            }
        }
        if !transaction_override && let Some(refused) = preferences.transaction.take() {
            preferences.invalid.push(refused.to_string());
        }
        preferences
    }

    /// Rejects unknown preferences under strict handling.
    ///
    /// # Errors
    /// PGRST122
    pub fn check(&self) -> Result<(), RequestError> {
        if self.handling == Some(Handling::Strict) && !self.invalid.is_empty() {
            return Err(RequestError::Preferences(self.invalid.clone()));
        }
        Ok(())
    }

    /// Applies a preference unless one of its kind is set; whether it is known.
    fn accept(&mut self, preference: &Written, time_zones: bool) -> bool {
        fn first<T>(slot: &mut Option<T>, value: T) -> bool {
            slot.get_or_insert(value);
            true
        }
        let Written { name, value } = preference;
        // RFC 5234 section 2.3: literals are case-insensitive.
        match (name.as_str(), value.to_ascii_lowercase().as_str()) {
            ("resolution", "merge-duplicates") => first(&mut self.resolution, Resolution::MergeDuplicates),
            ("resolution", "ignore-duplicates") => first(&mut self.resolution, Resolution::IgnoreDuplicates),
            ("return", "representation") => first(&mut self.representation, Representation::Full),
            ("return", "headers-only") => first(&mut self.representation, Representation::HeadersOnly),
            ("return", "minimal") => first(&mut self.representation, Representation::Minimal),
            ("count", "exact") => first(&mut self.count, Count::Exact),
            ("count", "planned") => first(&mut self.count, Count::Planned),
            ("count", "estimated") => first(&mut self.count, Count::Estimated),
            ("tx", "commit") => first(&mut self.transaction, TransactionEnd::Commit),
            ("tx", "rollback") => first(&mut self.transaction, TransactionEnd::Rollback),
            ("missing", "default") => first(&mut self.missing, Missing::Default),
            ("missing", "null") => first(&mut self.missing, Missing::Null),
            ("handling", "strict") => first(&mut self.handling, Handling::Strict),
            ("handling", "lenient") => first(&mut self.handling, Handling::Lenient),
            ("timezone", _) if time_zones && !value.is_empty() => first(&mut self.timezone, value.clone()),
            ("max-affected", rows) => match rows.parse() {
                Ok(rows) => first(&mut self.max_affected, rows),
                Err(_) => false,
            },
            _ => false,
        }
    }
}

/// A preference without its parameters; none is defined for those supported (RFC 7240 section 2).
struct Written {
    /// In lower case.
    name: String,
    /// Without quotes; empty if absent.
    value: String,
}

impl Written {
    /// `None` if the quoted value is not closed, or text follows it.
    fn parse(preference: &str) -> Option<Self> {
        let own = parts(preference, ';').next()?;
        let (name, value) = own.split_once('=').unwrap_or((own, ""));
        let value = value.trim_matches(WHITE);
        let value = match value.strip_prefix('"') {
            None => value.to_owned(),
            Some(quoted) => unquoted(quoted)?,
        };
        Some(Self { name: name.trim_matches(WHITE).to_ascii_lowercase(), value })
    }
}

/// White space around the parts of a header (RFC 9110 section 5.6.3).
const WHITE: [char; 2] = [' ', '\t'];

/// The elements of a list, without empty ones (RFC 9110 section 5.6.1.2).
fn elements(list: &str) -> impl Iterator<Item = &str> {
    parts(list, ',').map(|element| element.trim_matches(WHITE)).filter(|element| !element.is_empty())
}

/// The parts between separators outside quotes.
fn parts(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |character| {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            other => return other == separator && !is_quoted,
        }
        false
    })
}

/// The unquoted text; the closing quote must be the last character.
fn unquoted(quoted: &str) -> Option<String> {
    let mut text = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '\\' => text.push(characters.next()?),
            '"' => return characters.as_str().is_empty().then_some(text),
            character => text.push(character),
        }
    }
}

impl fmt::Display for Resolution {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::MergeDuplicates => "resolution=merge-duplicates",
            Self::IgnoreDuplicates => "resolution=ignore-duplicates",
        })
    }
}

impl fmt::Display for Representation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Full => "return=representation",
            Self::HeadersOnly => "return=headers-only",
            Self::Minimal => "return=minimal",
        })
    }
}

impl fmt::Display for Count {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Exact => "count=exact",
            Self::Planned => "count=planned",
            Self::Estimated => "count=estimated",
        })
    }
}

impl fmt::Display for TransactionEnd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Commit => "tx=commit",
            Self::Rollback => "tx=rollback",
        })
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Default => "missing=default",
            Self::Null => "missing=null",
        })
    }
}

impl fmt::Display for Handling {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Strict => "handling=strict",
            Self::Lenient => "handling=lenient",
        })
    }
}

/// The form in `Preference-Applied`.
impl fmt::Display for Preferences {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let timezone = self.timezone.as_ref().map(|zone| format!("timezone={zone}"));
        let max_affected = self.enforced_max_affected().map(|rows| format!("max-affected={rows}"));
        let parts: [Option<&dyn fmt::Display>; 8] = [
            self.resolution.as_ref().map(|it| it as _),
            self.missing.as_ref().map(|it| it as _),
            self.representation.as_ref().map(|it| it as _),
            self.count.as_ref().map(|it| it as _),
            self.transaction.as_ref().map(|it| it as _),
            self.handling.as_ref().map(|it| it as _),
            timezone.as_ref().map(|it| it as _),
            max_affected.as_ref().map(|it| it as _),
        ];
        for (index, part) in parts.into_iter().flatten().enumerate() {
            if index > 0 {
                formatter.write_str(", ")?;
            }
            part.fmt(formatter)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(prefer: &[&str], free: bool, expect: &Expect) {
        let headers = prefer.iter().map(|value| (PREFER, value.parse().unwrap())).collect();
        let preferences = Preferences::from_headers(&headers, free, free);
        expect.assert_eq(&format!("{preferences} | {}", preferences.invalid.join(", ")));
    }

    #[test]
    fn keeps_the_first_of_each_kind() {
        check(&[], true, &expect![" | "]);
        check(
            &["count=exact,    tx=commit   ,return=representation , missing=default, anything"],
            true,
            &expect!["missing=default, return=representation, count=exact, tx=commit | anything"],
        );
        check(
            &["resolution=ignore-duplicates", "resolution=merge-duplicates, count=planned"],
            true,
            &expect!["resolution=ignore-duplicates, count=planned | "],
        );
        check(&["tx=rollback"], false, &expect![" | tx=rollback"]);
    }

    #[test]
    fn reports_unknown_preferences() {
        check(&["timezone=America/Lima"], true, &expect!["timezone=America/Lima | "]);
        check(&["timezone=America/Lima"], false, &expect![" | timezone=America/Lima"]);
        check(&["handling=strict, max-affected=10"], true, &expect!["handling=strict, max-affected=10 | "]);
        check(&["handling=lenient, max-affected=10"], true, &expect!["handling=lenient | "]);
        check(&["max-affected=many, handling=strict"], true, &expect!["handling=strict | max-affected=many"]);
        check(
            &["Counts=exact, count, count=, =exact"],
            true,
            &expect![" | Counts=exact, count, count=, =exact"],
        );
    }

    /// RFC 7240 section 2: names in any case, values with and without quotes, white space around `=`, parameters.
    #[test]
    fn accepts_equivalent_notations() {
        for text in [
            "tx=rollback, count=exact",
            "TX=rollback,Count=Exact",
            "tx=\"rollback\", count=\"exact\"",
            "tx = rollback ,\tcount\t=\t\"exact\"",
            "tx=rollback;q=1, count=exact ; a=\"b,c;d\\\"\" ; e",
            ", ,tx=rollback;,,count=\"e\\xact\",",
        ] {
            check(&[text], true, &expect!["count=exact, tx=rollback | "]);
        }
        check(&["Tx=\"rollback\"", "count=exact;x"], true, &expect!["count=exact, tx=rollback | "]);
        check(&["timezone=\"America/Lima\";a"], true, &expect!["timezone=America/Lima | "]);
        check(
            &["handling=\"strict\", max-affected=\"1\""],
            true,
            &expect!["handling=strict, max-affected=1 | "],
        );
    }

    #[test]
    fn rejects_malformed_quotes() {
        check(&["tx=\"rollback"], true, &expect![[r#" | tx="rollback"#]]);
        check(&["tx=\"rollback\"x, count=exact"], true, &expect![[r#"count=exact | tx="rollback"x"#]]);
        check(&["tx=\"commit, tx=rollback\""], true, &expect![[r#" | tx="commit, tx=rollback""#]]);
    }
}
