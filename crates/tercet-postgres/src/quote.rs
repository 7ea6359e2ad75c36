//! Quoting of any text as an SQL identifier, an SQL string constant or a value of `postgresql.conf`.

/// Appends a name as an SQL identifier
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

/// A name as an SQL identifier, see [`push_identifier`].
pub fn identifier(name: &str) -> String {
    let mut sql = String::with_capacity(name.len() + 2);
    push_identifier(&mut sql, name);
    sql
}

/// Appends a text as an SQL string constant
/// (<https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-STRINGS>). A text with a backslash
/// becomes ` E'…'`, since its meaning would otherwise depend on `standard_conforming_strings`. As in libpq's
/// `PQescapeLiteral`, a space separates the `E` from a letter before it.
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

/// A text as an SQL string constant, see [`push_literal`].
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
