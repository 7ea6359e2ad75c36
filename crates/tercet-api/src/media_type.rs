//! Media types, in `Accept` and `Content-Type` ([RFC 9110 §8.3](https://www.rfc-editor.org/rfc/rfc9110#section-8.3)).

use std::fmt;

/// A media type the API supports, or another one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MediaType {
    /// `application/json`
    Json,
    /// `application/geo+json`
    GeoJson,
    /// `text/csv`
    Csv,
    /// `text/plain`
    PlainText,
    /// `text/xml`
    Xml,
    /// `application/openapi+json`
    OpenApi,
    /// `application/x-www-form-urlencoded`
    Form,
    /// `application/octet-stream`
    OctetStream,
    /// `*/*`
    Any,
    /// `application/vnd.pgrst.array+json;nulls=stripped`
    ArrayStripped,
    /// `application/vnd.pgrst.object+json`
    Singular {
        /// `nulls=stripped`
        nulls_stripped: bool,
    },
    /// `application/vnd.pgrst.plan+…`
    Plan {
        /// The media type whose plan is requested.
        of: Box<MediaType>,
        /// The format.
        format: PlanFormat,
        /// The options, in PostgreSQL's order.
        options: Vec<PlanOption>,
    },
    /// Any other, as written, with parameters.
    Other(String),
}

/// The format of an execution plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PlanFormat {
    /// `+json`
    Json,
    /// `+text`
    Text,
}

/// An option of [EXPLAIN](https://www.postgresql.org/docs/current/sql-explain.html).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PlanOption {
    /// `analyze`
    Analyze,
    /// `verbose`
    Verbose,
    /// `settings`
    Settings,
    /// `buffers`
    Buffers,
    /// `wal`
    Wal,
}

impl MediaType {
    /// Parses a media type with its parameters; names are case-insensitive.
    pub fn parse(text: &str) -> Self {
        let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
        let parameter = |wanted: &str| {
            parameters.split(';').find_map(|parameter| {
                let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
                name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().trim_matches('"'))
            })
        };
        let nulls_stripped = parameter("nulls") == Some("stripped");
        let plan = |format| Self::Plan {
            of: Box::new(match parameter("for") {
                // the plan of a plan is the plan itself
                Some(of) => match Self::parse(of) {
                    Self::Plan { of, .. } => *of,
                    other => other,
                },
                None => Self::Json,
            }),
            format,
            options: {
                let wanted: Vec<&str> = parameter("options").unwrap_or_default().split('|').collect();
                PlanOption::NAMES
                    .into_iter()
                    .filter(|(name, _)| wanted.contains(name))
                    .map(|(_, option)| option)
                    .collect()
            },
        };
        match essence.trim().to_ascii_lowercase().as_str() {
            "application/geo+json" => Self::GeoJson,
            "text/csv" => Self::Csv,
            "text/plain" => Self::PlainText,
            "text/xml" => Self::Xml,
            "application/openapi+json" => Self::OpenApi,
            "application/x-www-form-urlencoded" => Self::Form,
            "application/octet-stream" => Self::OctetStream,
            "application/vnd.pgrst.plan" | "application/vnd.pgrst.plan+text" => plan(PlanFormat::Text),
            "application/vnd.pgrst.plan+json" => plan(PlanFormat::Json),
            "application/vnd.pgrst.object" | "application/vnd.pgrst.object+json" => {
                Self::Singular { nulls_stripped }
            }
            "application/vnd.pgrst.array" | "application/vnd.pgrst.array+json" if nulls_stripped => {
                Self::ArrayStripped
            }
            "application/json" | "application/vnd.pgrst.array" | "application/vnd.pgrst.array+json" => {
                Self::Json
            }
            "*/*" => Self::Any,
            _ => Self::Other(text.to_owned()),
        }
    }

    /// The media types of an `Accept` header, by preference: by `q`, then by specificity, then in order ([RFC 9110
    /// §12.5.1](https://www.rfc-editor.org/rfc/rfc9110#section-12.5.1)).
    pub fn accepted(accept: &str) -> Vec<Self> {
        let mut ranked: Vec<(f64, isize, String)> = accept
            .split(',')
            .map(|range| {
                let range: String = range.chars().filter(|c| *c != ' ').collect();
                let (text, weight) = range.split_once(";q=").unwrap_or((&range, "1"));
                let weight = weight.split(';').next().and_then(|weight| weight.parse().ok()).unwrap_or(1.0);
                let count = |wanted| text.matches(wanted).count().cast_signed();
                (weight, count(';') - count('*'), text.to_owned())
            })
            .collect();
        ranked.sort_by(|left, right| right.0.total_cmp(&left.0).then(right.1.cmp(&left.1)));
        ranked.iter().map(|(_, _, text)| Self::parse(text)).collect()
    }

    /// The `Content-Type` of a response with this media type.
    pub fn content_type(&self) -> String {
        match self {
            Self::OctetStream | Self::Other(_) => self.to_string(),
            _ => format!("{self}; charset=utf-8"),
        }
    }
}

impl PlanOption {
    const NAMES: [(&'static str, Self); 5] = [
        ("analyze", Self::Analyze),
        ("verbose", Self::Verbose),
        ("settings", Self::Settings),
        ("buffers", Self::Buffers),
        ("wal", Self::Wal),
    ];

    /// The name in a request.
    pub fn name(self) -> &'static str {
        match self {
            Self::Analyze => "analyze",
            Self::Verbose => "verbose",
            Self::Settings => "settings",
            Self::Buffers => "buffers",
            Self::Wal => "wal",
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Json => "application/json",
            Self::GeoJson => "application/geo+json",
            Self::Csv => "text/csv",
            Self::PlainText => "text/plain",
            Self::Xml => "text/xml",
            Self::OpenApi => "application/openapi+json",
            Self::Form => "application/x-www-form-urlencoded",
            Self::OctetStream => "application/octet-stream",
            Self::Any => "*/*",
            Self::ArrayStripped => "application/vnd.pgrst.array+json;nulls=stripped",
            Self::Singular { nulls_stripped: true } => "application/vnd.pgrst.object+json;nulls=stripped",
            Self::Singular { nulls_stripped: false } => "application/vnd.pgrst.object+json",
            Self::Other(text) => text,
            Self::Plan { of, format, options } => {
                let format = match format {
                    PlanFormat::Json => "json",
                    PlanFormat::Text => "text",
                };
                write!(formatter, "application/vnd.pgrst.plan+{format}; for=\"{of}\"")?;
                for (index, option) in options.iter().enumerate() {
                    formatter.write_str(if index == 0 { "; options=" } else { "|" })?;
                    formatter.write_str(option.name())?;
                }
                return Ok(());
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(accept: &str, expect: &Expect) {
        let types: Vec<_> = MediaType::accepted(accept).iter().map(MediaType::content_type).collect();
        expect.assert_eq(&types.join(" / "));
    }

    #[test]
    fn ranks_accepted_media_types() {
        check("text/csv, */*; q=0.01", &expect!["text/csv; charset=utf-8 / */*; charset=utf-8"]);
        check(
            "*/*, text/csv, application/json;q=0.5",
            &expect!["text/csv; charset=utf-8 / */*; charset=utf-8 / application/json; charset=utf-8"],
        );
        check(
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            &expect!["text/html / application/xhtml+xml / application/xml / */*; charset=utf-8"],
        );
        check("text/csv;q=x", &expect!["text/csv; charset=utf-8"]);
    }

    #[test]
    fn parses_vendor_types() {
        check(
            "application/vnd.pgrst.object+json;nulls=stripped",
            &expect!["application/vnd.pgrst.object+json;nulls=stripped; charset=utf-8"],
        );
        check(
            "ApplicatIon/vnd.PgRsT.object+json",
            &expect!["application/vnd.pgrst.object+json; charset=utf-8"],
        );
        check("application/vnd.pgrst.array", &expect!["application/json; charset=utf-8"]);
        check(
            "application/vnd.pgrst.array+json; nulls=stripped",
            &expect!["application/vnd.pgrst.array+json;nulls=stripped; charset=utf-8"],
        );
        check(
            "application/vnd.pgrst.plan;",
            &expect![[r#"application/vnd.pgrst.plan+text; for="application/json"; charset=utf-8"#]],
        );
        check(
            "application/vnd.pgrst.plan+json; for=\"text/csv\"; options=wal|analyze|x",
            &expect![[
                r#"application/vnd.pgrst.plan+json; for="text/csv"; options=analyze|wal; charset=utf-8"#
            ]],
        );
        check("application/vnd.twkb;x=1", &expect!["application/vnd.twkb;x=1"]);
        check("application/octet-stream", &expect!["application/octet-stream"]);
    }
}
