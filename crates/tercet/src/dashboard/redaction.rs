//! Removes credentials from text that is shown in a browser: tokens, passwords in URLs, values of parameters with a secret's
//! name, and the project's own secrets.

use std::path::Path;

/// Written in place of a secret.
const REDACTED: &str = "[redacted]";

/// The shortest secret that is looked for: a shorter one would be found by chance.
const SHORTEST: usize = 8;

/// Names whose value, after `=` or `:`, is a secret.
const NAMES: [&str; 12] = [
    "access_token",
    "api_key",
    "api-key",
    "apikey",
    "authorization",
    "cookie",
    "key",
    "passwd",
    "password",
    "pwd",
    "secret",
    "token",
];

/// Knows a project's own secrets.
#[derive(Debug, Default)]
pub(crate) struct Redaction {
    secrets: Vec<String>,
}

impl Redaction {
    /// Knows the content of these files, as far as they can be read.
    pub(crate) fn of(files: impl IntoIterator<Item = impl AsRef<Path>>) -> Self {
        let mut redaction = Self::default();
        for file in files {
            redaction.add(std::fs::read_to_string(file).unwrap_or_default().trim());
        }
        redaction
    }

    /// Adds a secret.
    pub(crate) fn add(&mut self, secret: &str) {
        if secret.len() >= SHORTEST {
            self.secrets.push(secret.to_owned());
        }
    }

    /// The text without credentials.
    pub(crate) fn apply(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            if text.contains(secret) {
                text = text.replace(secret, REDACTED);
            }
        }
        without_named(&without_tokens(&without_url_passwords(&text)))
    }
}

/// `scheme://user:password@host` without the password (RFC 3986, section 3.2.1).
fn without_url_passwords(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(|c: char| c == '/' || c == '"' || c.is_whitespace()).unwrap_or(after.len());
        let (authority, following) = after.split_at(end);
        match authority.rsplit_once('@').and_then(|(user, host)| Some((user.split_once(':')?.0, host))) {
            Some((user, host)) => out.extend([user, ":", REDACTED, "@", host]),
            None => out.push_str(authority),
        }
        rest = following;
    }
    out + rest
}

/// Without JSON Web Tokens: three parts in base64url, of which the first is a JSON object (RFC 7519, section 3).
fn without_tokens(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("eyJ") {
        let (before, token) = rest.split_at(at);
        out.push_str(before);
        let is_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '=');
        let end = token.find(|c: char| !is_token(c)).unwrap_or(token.len());
        let (token, following) = token.split_at(end);
        out.push_str(if token.contains('.') { REDACTED } else { token });
        rest = following;
    }
    out + rest
}

/// Without the values of parameters, fields and headers whose name is that of a secret.
fn without_named(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    let mut from = 0;
    while let Some((at, name)) = NAMES
        .iter()
        .filter_map(|name| Some((lower[from..].find(name)? + from, *name)))
        .min_by_key(|(at, name)| (*at, usize::MAX - name.len()))
    {
        from = at + name.len();
        let is_word = |c: char| c.is_ascii_alphanumeric();
        // `monkey=1` has no secret, `x-api-key: 1` has.
        if lower[..at].chars().next_back().is_some_and(is_word) {
            continue;
        }
        let after = text[from..].trim_start_matches(['"', '\\', '\'', ' ']);
        let Some(value) = after.strip_prefix([':', '=']) else { continue };
        let is_header = after.starts_with(':') && matches!(name, "authorization" | "cookie");
        let mut value = value.trim_start_matches(' ');
        let is_escaped = value.starts_with('\\');
        value = value.trim_start_matches('\\');
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
        value = &value[usize::from(quote.is_some())..];
        for scheme in ["bearer ", "basic "] {
            let (said, credentials) = value.split_at_checked(scheme.len()).unwrap_or_default();
            if said.eq_ignore_ascii_case(scheme) {
                value = credentials;
            }
        }
        let start = text.len() - value.len();
        let ends =
            |c: char| matches!(c, '&' | '"' | '\'' | '\\' | ',' | ';' | '}' | ')') || c.is_whitespace();
        let length = match quote {
            // In a JSON text that is itself in quotes.
            Some(_) if is_escaped => value.find(['\\', '"']),
            Some(quote) => closing(value, quote),
            None if is_header => value.find(['\r', '\n']),
            None => value.find(ends),
        };
        let end = start + length.unwrap_or(value.len());
        if start < end && !text[start..end].starts_with("[redacted") {
            out.push_str(&text[done..start]);
            out.push_str(REDACTED);
            done = end;
            from = end;
        }
    }
    out + &text[done..]
}

/// The position of the quote that ends a value; one after a backslash is in it.
fn closing(value: &str, quote: char) -> Option<usize> {
    let mut is_escaped = false;
    value.char_indices().find_map(|(at, character)| {
        let ends = character == quote && !is_escaped;
        is_escaped = character == '\\' && !is_escaped;
        ends.then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_removed_and_other_text_stays() {
        let mut redaction = Redaction::default();
        redaction.add("the generated password");
        redaction.add("short");
        for (text, expected) in [
            ("GET /todo?select=key,token&id=eq.1", "GET /todo?select=key,token&id=eq.1"),
            ("GET /x?apikey=abc&id=1", "GET /x?apikey=[redacted]&id=1"),
            ("Authorization: Bearer abc.def", "Authorization: Bearer [redacted]"),
            ("Authorization: Token abc def", "Authorization: [redacted]"),
            ("Cookie: a=1; session=xyz", "Cookie: [redacted]"),
            ("password='correct horse', next", "password='[redacted]', next"),
            (r#"{"password":"p\"w two","a":1}"#, r#"{"password":"[redacted]","a":1}"#),
            (r#"{\"password\":\"one two\",\"a\":1}"#, r#"{\"password\":\"[redacted]\",\"a\":1}"#),
            ("got eyJhbGciOi.eyJyb2xl.c2ln here", "got [redacted] here"),
            ("eyJust a word", "eyJust a word"),
            (
                "postgres://me:pa@ss@host/db and http://host/a:b@c",
                "postgres://me:[redacted]@host/db and http://host/a:b@c",
            ),
            ("it said the generated password!", "it said [redacted]!"),
            ("a short monkey=1 ähnlich", "a short monkey=1 ähnlich"),
            ("token=", "token="),
        ] {
            assert_eq!(redaction.apply(text), expected);
        }
    }
}
