//! The `Prefer` headers ([RFC 7240](https://www.rfc-editor.org/rfc/rfc7240)).

use std::fmt;

use http::HeaderMap;
use http::header::HeaderName;

use crate::error::RequestError;

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// What a client prefers; of a preference given twice the first counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preferences {
    /// `resolution=…`
    pub resolution: Option<Resolution>,
    /// `return=…`
    pub representation: Option<Representation>,
    /// `count=…`
    pub count: Option<Count>,
    /// `tx=…`, only where the configuration lets clients choose.
    pub transaction: Option<TransactionEnd>,
    /// `missing=…`
    pub missing: Option<Missing>,
    /// `handling=…`
    pub handling: Option<Handling>,
    /// `timezone=…`; PostgreSQL says whether it knows it.
    pub timezone: Option<String>,
    /// `max-affected=…`, rows. Only enforced under [`Handling::Strict`].
    pub max_affected: Option<i64>,
    /// Preferences that are not understood, as written.
    pub invalid: Vec<String>,
}

impl Preferences {
    /// Rows a request may affect at most: `max-affected` where handling is strict.
    pub fn enforced_max_affected(&self) -> Option<i64> {
        self.max_affected.filter(|_| self.handling == Some(Handling::Strict))
    }
}

/// What to do with rows that exist already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// `resolution=merge-duplicates`: update them.
    MergeDuplicates,
    /// `resolution=ignore-duplicates`: leave them.
    IgnoreDuplicates,
}

/// What a write answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Representation {
    /// `return=representation`: the rows.
    Full,
    /// `return=headers-only`: where the row is.
    HeadersOnly,
    /// `return=minimal`: nothing.
    Minimal,
}

/// How the total number of rows is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// `count=exact`: count them.
    Exact,
    /// `count=planned`: what the planner thinks.
    Planned,
    /// `count=estimated`: count them unless the planner thinks there are many.
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

/// What a key that is missing in the body means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// `missing=default`: the default of the column.
    Default,
    /// `missing=null`: null.
    Null,
}

/// What to do about preferences that are not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handling {
    /// `handling=strict`: refuse the request.
    Strict,
    /// `handling=lenient`: ignore them.
    Lenient,
}

impl Preferences {
    /// What the `Prefer` headers say. A client may choose how the transaction ends only under `transaction_override`, and a
    /// time zone only under `time_zones`.
    pub fn from_headers(headers: &HeaderMap, transaction_override: bool, time_zones: bool) -> Self {
        let mut preferences = Self::default();
        let texts = headers.get_all(PREFER).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        for text in texts {
            for preference in text.split(',').map(str::trim) {
                if !preferences.accept(preference, time_zones) {
                    preferences.invalid.push(preference.to_owned());
                }
            }
        }
        if !transaction_override && let Some(refused) = preferences.transaction.take() {
            preferences.invalid.push(refused.to_string());
        }
        preferences
    }

    /// Refuses preferences that are not understood, where the client wants that.
    ///
    /// # Errors
    /// PGRST122
    pub fn check(&self) -> Result<(), RequestError> {
        if self.handling == Some(Handling::Strict) && !self.invalid.is_empty() {
            return Err(RequestError::Preferences(self.invalid.clone()));
        }
        Ok(())
    }

    /// Takes one preference over, unless its kind came before; whether it is understood.
    fn accept(&mut self, preference: &str, time_zones: bool) -> bool {
        fn first<T>(slot: &mut Option<T>, value: T) -> bool {
            slot.get_or_insert(value);
            true
        }
        match preference {
            "resolution=merge-duplicates" => first(&mut self.resolution, Resolution::MergeDuplicates),
            "resolution=ignore-duplicates" => first(&mut self.resolution, Resolution::IgnoreDuplicates),
            "return=representation" => first(&mut self.representation, Representation::Full),
            "return=headers-only" => first(&mut self.representation, Representation::HeadersOnly),
            "return=minimal" => first(&mut self.representation, Representation::Minimal),
            "count=exact" => first(&mut self.count, Count::Exact),
            "count=planned" => first(&mut self.count, Count::Planned),
            "count=estimated" => first(&mut self.count, Count::Estimated),
            "tx=commit" => first(&mut self.transaction, TransactionEnd::Commit),
            "tx=rollback" => first(&mut self.transaction, TransactionEnd::Rollback),
            "missing=default" => first(&mut self.missing, Missing::Default),
            "missing=null" => first(&mut self.missing, Missing::Null),
            "handling=strict" => first(&mut self.handling, Handling::Strict),
            "handling=lenient" => first(&mut self.handling, Handling::Lenient),
            other => match other.split_once('=') {
                Some(("timezone", zone)) if time_zones => first(&mut self.timezone, zone.to_owned()),
                Some(("max-affected", rows)) => match rows.parse() {
                    Ok(rows) => first(&mut self.max_affected, rows),
                    Err(_) => false,
                },
                _ => false,
            },
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

/// As the response says them in `Preference-Applied`.
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
    fn understands_only_what_can_be_done() {
        check(&["timezone=America/Lima"], true, &expect!["timezone=America/Lima | "]);
        check(&["timezone=America/Lima"], false, &expect![" | timezone=America/Lima"]);
        check(&["handling=strict, max-affected=10"], true, &expect!["handling=strict, max-affected=10 | "]);
        check(&["handling=lenient, max-affected=10"], true, &expect!["handling=lenient | "]);
        check(&["max-affected=many, handling=strict"], true, &expect!["handling=strict | max-affected=many"]);
        check(&["Count=exact"], true, &expect![" | Count=exact"]);
    }
}
