//! Quoting: a text that PostgreSQL reads back as it is, whatever characters it has.

/// Adds a name as an identifier of SQL
/// (<https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS>).
#[inline]
pub fn push_identifier(sql: &mut String, name: &str) {
    sql.push('"');
    if memchr::memchr(b'"', name.as_bytes()).is_none() {
        sql.push_str(name);
    } else {
        sql.push_str(&name.replace('"', "\"\""));
    }
    sql.push('"');
}

/// A name as an identifier of SQL, see [`push_identifier`].
pub fn identifier(name: &str) -> String {
    let mut sql = String::with_capacity(name.len() + 2);
    push_identifier(&mut sql, name);
    sql
}

/// Adds a text as a string constant of SQL
/// (<https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-STRINGS>): as ` E'…'` where the meaning
/// of a backslash would depend on `standard_conforming_strings`, with a space before the `E`, as libpq's
/// `PQescapeLiteral` has it: no letter in front of it can become part of it.
pub fn push_literal(sql: &mut String, text: &str) {
    sql.push_str(if text.contains('\\') { " E'" } else { "'" });
    for character in text.chars() {
        if matches!(character, '\'' | '\\') {
            sql.push(character);
        }
        sql.push(character);
    }
    sql.push('\'');
}

/// A text as a string constant of SQL, see [`push_literal`].
pub fn literal(text: &str) -> String {
    let mut sql = String::with_capacity(text.len() + 2);
    push_literal(&mut sql, text);
    sql
}

/// A text as a value of `postgresql.conf`
/// (<https://www.postgresql.org/docs/current/config-setting.html#CONFIG-SETTING-CONFIGURATION-FILE>).
pub fn setting(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_backslashes_keep_their_place() {
        assert_eq!(identifier("shop"), r#""shop""#);
        assert_eq!(identifier(r#"a"b\c"#), r#""a""b\c""#);
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"it's \"), r" E'it''s \\'");
        assert_eq!(setting(r"/it's\here"), r"'/it''s\\here'");
    }
}
