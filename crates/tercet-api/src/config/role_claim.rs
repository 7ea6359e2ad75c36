//! `jwt-role-claim-key`: the path to the role in a token's claims. It is a JSONPath that starts with `$`, or a path
//! in PostgREST's older syntax (<https://docs.postgrest.org/en/latest/references/auth.html#jwt-role-extraction>).

mod json_path;

use serde_json::Value;
use winnow::ascii::{dec_int, dec_uint, multispace0};
use winnow::combinator::{alt, delimited, eof, opt, preceded, repeat, separated_pair, terminated};
use winnow::prelude::*;
use winnow::token::take_while;

use self::json_path::JsonPath;

/// The path to the role.
#[derive(Clone, Debug, PartialEq)]
pub struct RoleClaim {
    text: String,
    path: Path,
}

#[derive(Clone, Debug, PartialEq)]
enum Path {
    /// A JSONPath (RFC 9535); the first node it selects is the role.
    Json(JsonPath),
    /// The syntax of PostgREST before version 16.
    Steps(Vec<Step>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// `.name` or `."any name"`.
    Key(String),
    /// `[0]`
    Index(usize),
    /// `[1:]`: characters of a string; a negative index counts from the end.
    Slice(Option<i64>, Option<i64>),
    /// `[?(@ == "text")]`: the first string of an array for which the comparison is true.
    First(Comparison, String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    StartsWith,
    EndsWith,
    Contains,
}

impl Default for RoleClaim {
    fn default() -> Self {
        Self { text: ".\"role\"".to_owned(), path: Path::Steps(vec![Step::Key("role".to_owned())]) }
    }
}

impl RoleClaim {
    /// Parses a path; `None` if it is malformed.
    pub fn parse(text: &str) -> Option<Self> {
        let path = if text.starts_with('$') {
            Path::Json(JsonPath::parse(text)?)
        } else {
            Path::Steps(terminated(repeat(1.., step), eof).parse(text).ok()?)
        };
        Some(Self { text: text.to_owned(), path })
    }

    /// The path as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The role in the claims, if there is one; a value that is not a string is formatted as JSON.
    pub fn find(&self, claims: &Value) -> Option<String> {
        let found = match &self.path {
            Path::Json(path) => (*path.find(claims).first()?).clone(),
            Path::Steps(steps) => steps.iter().try_fold(claims.clone(), |at, step| step.walk(&at))?,
        };
        Some(match found {
            Value::String(role) => role,
            other => other.to_string(),
        })
    }
}

impl Step {
    fn walk(&self, at: &Value) -> Option<Value> {
        match (self, at) {
            (Self::Key(key), Value::Object(object)) => object.get(key).cloned(),
            (Self::Index(index), Value::Array(array)) => array.get(*index).cloned(),
            (Self::First(comparison, text), Value::Array(array)) => array
                .iter()
                .find(|item| item.as_str().is_some_and(|item| comparison.holds(item, text)))
                .cloned(),
            (Self::Slice(start, end), Value::String(text)) => Some(Value::String(slice(text, *start, *end))),
            _ => None,
        }
    }
}

impl Comparison {
    fn holds(self, item: &str, text: &str) -> bool {
        match self {
            Self::Equal => item == text,
            Self::NotEqual => item != text,
            Self::StartsWith => item.starts_with(text),
            Self::EndsWith => item.ends_with(text),
            Self::Contains => item.contains(text),
        }
    }
}

fn slice(text: &str, start: Option<i64>, end: Option<i64>) -> String {
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let place =
        |at: i64| usize::try_from(if at < 0 { length + at } else { at }.clamp(0, length)).unwrap_or(0);
    let (start, end) = (place(start.unwrap_or(0)), place(end.unwrap_or(length)));
    text.chars().skip(start).take(end.saturating_sub(start)).collect()
}

fn step(input: &mut &str) -> ModalResult<Step> {
    alt((
        preceded('.', alt((quoted, name))).map(Step::Key),
        delimited('[', dec_uint::<_, usize, _>, ']').map(Step::Index),
        delimited('[', separated_pair(opt(dec_int), ':', opt(dec_int)), ']')
            .map(|(start, end)| Step::Slice(start, end)),
        delimited("[?(@", (delimited(multispace0, comparison, multispace0), quoted), ")]")
            .map(|(comparison, text)| Step::First(comparison, text)),
    ))
    .parse_next(input)
}

fn name(input: &mut &str) -> ModalResult<String> {
    take_while(1.., |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '@'))
        .map(str::to_owned)
        .parse_next(input)
}

fn quoted(input: &mut &str) -> ModalResult<String> {
    delimited('"', take_while(0.., |c: char| c != '"'), '"').map(str::to_owned).parse_next(input)
}

fn comparison(input: &mut &str) -> ModalResult<Comparison> {
    alt((
        "==^".value(Comparison::EndsWith),
        "==".value(Comparison::Equal),
        "!=".value(Comparison::NotEqual),
        "^==".value(Comparison::StartsWith),
        "*==".value(Comparison::Contains),
    ))
    .parse_next(input)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
    fn check(path: &str, claims: &str, expected: Expect) {
        let claims = serde_json::from_str(claims).unwrap();
        let found = RoleClaim::parse(path).map(|path| path.find(&claims));
        expected.assert_eq(&format!("{found:?}"));
    }

    #[test]
    fn paths_lead_to_roles() {
        check(".role", r#"{"role":"me"}"#, expect![[r#"Some(Some("me"))"#]]);
        check(
            r#"."https://x/role".a[1]"#,
            r#"{"https://x/role":{"a":[1,"me"]}}"#,
            expect![[r#"Some(Some("me"))"#]],
        );
        check(".role", r#"{"role":7}"#, expect![[r#"Some(Some("7"))"#]]);
        check(".role", "{}", expect!["Some(None)"]);
        let roles = r#"{"roles":["other","admin_1","x_admin"]}"#;
        check(r#".roles[?(@ == "other")]"#, roles, expect![[r#"Some(Some("other"))"#]]);
        check(r#".roles[?(@ != "other")]"#, roles, expect![[r#"Some(Some("admin_1"))"#]]);
        check(r#".roles[?(@ ^== "admin")]"#, roles, expect![[r#"Some(Some("admin_1"))"#]]);
        check(r#".roles[?(@ ==^ "admin")]"#, roles, expect![[r#"Some(Some("x_admin"))"#]]);
        check(r#".roles[?(@ *== "_ad")]"#, roles, expect![[r#"Some(Some("x_admin"))"#]]);
        check(".roles[0][1:]", roles, expect![[r#"Some(Some("ther"))"#]]);
        check(".roles[0][:-1]", roles, expect![[r#"Some(Some("othe"))"#]]);
        check("$.roles[0]", roles, expect![[r#"Some(Some("other"))"#]]);
        check("$.roles[9]", roles, expect!["Some(None)"]);
        for malformed in ["role", "", ".", ".role[", ".role[?(@ = \"a\")]", ".a b", "$.a["] {
            check(malformed, "{}", expect!["None"]);
        }
    }
}
