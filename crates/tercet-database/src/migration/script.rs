//! The text of a SQL file as PostgreSQL gets it, without what belongs to psql or would end the file's transaction.
//!
//! Reads tokens only (<https://www.postgresql.org/docs/current/sql-syntax-lexical.html>); PostgreSQL parses the statements.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// A part of a file that PostgreSQL cannot run in the file's transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// A command of psql: `\connect`.
    Psql(String),
    /// `COPY … FROM stdin`, whose rows follow in the file.
    CopyFromStdin,
    /// `BEGIN`, `COMMIT` or `ROLLBACK` within the file.
    TransactionControl(String),
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Psql(command) => write!(
                f,
                "{command} is a command of psql, not SQL; nothing of the file was applied; \
                 hint: remove it; make a dump by pg_dump --inserts --no-owner --no-privileges"
            ),
            Self::CopyFromStdin => f.write_str(
                "COPY … FROM stdin needs psql, since its rows are not SQL; nothing of the file was applied; \
                 hint: write INSERT; pg_dump does with --inserts or --rows-per-insert=1000",
            ),
            Self::TransactionControl(word) => write!(
                f,
                "{word} would end the transaction that the file runs in; nothing of the file was applied; \
                 hint: remove it: each file is one transaction. Put a part that needs another one into the next file",
            ),
        }
    }
}

/// Returns the text to send. A `begin` with its `commit` at the end is blanked, like pg_dump's `\restrict`
/// lines; positions stay the same.
///
/// # Errors
/// The byte offset of the first foreign part, and what it is.
pub(super) fn sendable(sql: &str) -> Result<Cow<'_, str>, (usize, Foreign)> {
    let mut scanner = Scanner { sql, at: 0, restrictions: Vec::new() };
    let mut statements = Vec::new();
    while let Some(statement) = scanner.statement()? {
        statements.push(statement);
    }
    let mut blank = scanner.restrictions;
    let controls: Vec<&Statement> =
        statements.iter().filter(|statement| statement.controls_transaction()).collect();
    match (&controls[..], statements.last()) {
        ([], _) => {}
        ([begin, commit], Some(last))
            if begin.begins_transaction() && commit.commits() && commit.span == last.span =>
        {
            blank.extend([begin.span.clone(), commit.span.clone()]);
        }
        ([control, ..], _) => {
            return Err((control.span.start, Foreign::TransactionControl(control.words[0].to_uppercase())));
        }
    }
    if blank.is_empty() {
        return Ok(sql.into());
    }
    let mut bytes = sql.as_bytes().to_vec();
    for span in blank {
        bytes[span].iter_mut().filter(|byte| !matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned().into())
}

/// The first words of a statement, in lower case, and its bytes with the semicolon.
struct Statement {
    words: Vec<String>,
    span: Range<usize>,
}

impl Statement {
    fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }

    fn begins_transaction(&self) -> bool {
        self.word(0) == "begin" || (self.word(0), self.word(1)) == ("start", "transaction")
    }

    fn commits(&self) -> bool {
        matches!(self.word(0), "commit" | "end") && !self.words.iter().any(|word| word == "prepared")
    }

    /// Whether it begins or ends a transaction; a savepoint does neither.
    fn controls_transaction(&self) -> bool {
        let to_savepoint = self.words.iter().any(|word| word == "to");
        self.begins_transaction()
            || self.commits()
            || (matches!(self.word(0), "rollback" | "abort") && !to_savepoint)
    }

    fn copies_from_stdin(&self) -> bool {
        self.word(0) == "copy" && self.words.windows(2).any(|pair| pair[0] == "from" && pair[1] == "stdin")
    }
}

struct Scanner<'a> {
    sql: &'a str,
    at: usize,
    /// The lines of `\restrict` and `\unrestrict`.
    restrictions: Vec<Range<usize>>,
}

impl Scanner<'_> {
    /// The next statement; `None` at the end.
    fn statement(&mut self) -> Result<Option<Statement>, (usize, Foreign)> {
        let mut start = None;
        let mut words: Vec<String> = Vec::new();
        // Parentheses, and the body of a function in standard SQL (`begin atomic … end`), have semicolons of their own.
        let (mut parentheses, mut body) = (0_u32, 0_u32);
        while let Some(character) = self.rest().chars().next() {
            let began = self.at;
            match character {
                _ if self.rest().starts_with("--") => {
                    self.skip_until("\n", 2);
                    continue;
                }
                _ if self.rest().starts_with("/*") => {
                    self.skip_comment();
                    continue;
                }
                '\\' => self.psql_command(start.is_none())?,
                _ if character.is_whitespace() => {
                    self.at += character.len_utf8();
                    continue;
                }
                ';' if parentheses == 0 && body == 0 => {
                    self.at += 1;
                    if let Some(start) = start {
                        return self.finished(words, start).map(Some);
                    }
                    continue;
                }
                '\'' => self.skip_quoted('\'', false),
                '"' => self.skip_quoted('"', false),
                '$' => self.skip_dollar_quoted(),
                '(' => {
                    parentheses += 1;
                    self.at += 1;
                }
                ')' => {
                    parentheses = parentheses.saturating_sub(1);
                    self.at += 1;
                }
                _ if character.is_alphabetic() || character == '_' => {
                    let word = self.word();
                    if matches!(word.as_str(), "e" | "b" | "x" | "n") && self.rest().starts_with('\'') {
                        self.skip_quoted('\'', word == "e");
                    }
                    let previous = words.last().map(String::as_str);
                    match word.as_str() {
                        "atomic" if previous == Some("begin") => body += 1,
                        "case" if body > 0 => body += 1,
                        "end" if body > 0 => body -= 1,
                        _ => {}
                    }
                    words.push(word);
                }
                _ => self.at += character.len_utf8(),
            }
            if character != '\\' {
                start.get_or_insert(began);
            }
        }
        start.map(|start| self.finished(words, start)).transpose()
    }

    fn finished(&self, words: Vec<String>, start: usize) -> Result<Statement, (usize, Foreign)> {
        let statement = Statement { words, span: start..self.at };
        if statement.copies_from_stdin() {
            return Err((start, Foreign::CopyFromStdin));
        }
        Ok(statement)
    }

    fn rest(&self) -> &str {
        &self.sql[self.at..]
    }

    /// Skips `length` bytes and then everything up to the end of `end`.
    fn skip_until(&mut self, end: &str, length: usize) {
        let from = self.at + length;
        self.at = self.sql[from..].find(end).map_or(self.sql.len(), |found| from + found + end.len());
    }

    /// Comments in C's style can be nested.
    fn skip_comment(&mut self) {
        let mut depth = 0_u32;
        while let Some(character) = self.rest().chars().next() {
            if self.rest().starts_with("/*") {
                depth += 1;
                self.at += 2;
            } else if self.rest().starts_with("*/") {
                depth -= 1;
                self.at += 2;
                if depth == 0 {
                    return;
                }
            } else {
                self.at += character.len_utf8();
            }
        }
    }

    /// A doubled quote continues the text as if it were two texts.
    fn skip_quoted(&mut self, quote: char, escapes: bool) {
        self.at += 1;
        while let Some(character) = self.rest().chars().next() {
            self.at += character.len_utf8();
            if character == '\\' && escapes {
                self.at += self.rest().chars().next().map_or(0, char::len_utf8);
            } else if character == quote {
                return;
            }
        }
    }

    /// `$$…$$`, `$tag$…$tag$`, or a parameter such as `$1`.
    fn skip_dollar_quoted(&mut self) {
        let rest = self.rest();
        let name = rest[1..].find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len() - 1);
        let is_tag =
            rest[1 + name..].starts_with('$') && !rest[1..].starts_with(|c: char| c.is_ascii_digit());
        if is_tag {
            let tag = rest[..name + 2].to_owned();
            self.skip_until(&tag, tag.len());
        } else {
            self.at += 1;
        }
    }

    fn word(&mut self) -> String {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '$').unwrap_or(rest.len());
        let word = rest[..end].to_lowercase();
        self.at += end;
        word
    }

    fn psql_command(&mut self, between_statements: bool) -> Result<(), (usize, Foreign)> {
        let began = self.at;
        let line = self.rest().lines().next().unwrap_or_default().to_owned();
        let command = line.split_whitespace().next().unwrap_or_default().trim_end_matches(';').to_owned();
        if !between_statements || !matches!(command.as_str(), r"\restrict" | r"\unrestrict") {
            return Err((began, Foreign::Psql(command)));
        }
        self.at += line.len();
        self.restrictions.push(began..self.at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "the value is made for the call")]
    fn check(sql: &str, expected: Result<&str, (usize, Foreign)>) {
        assert_eq!(sendable(sql).as_deref(), expected.as_deref(), "{sql}");
    }

    #[test]
    fn sql_stays_as_it_is() {
        for sql in [
            "",
            "select 'a;\\connect b'; select \"begin;\" -- commit;\n",
            "select E'\\'; commit;'; select 1",
            "create function f() returns int language plpgsql as $x$ begin return 1; end; $x$;",
            "create function f() returns int begin atomic select case when true then 1 end; select 2; end; select 1;",
            "/* begin; /* nested */ commit; */ select $1; savepoint a; rollback to a; release a",
            "copy book to stdout; copy book from '/file'",
            "create rule r as on insert to t do also (select 1; select 2);",
            "do $$ begin commit; end $$",
        ] {
            check(sql, Ok(sql));
        }
    }

    #[test]
    fn a_surrounding_transaction_and_restrictions_of_pg_dump_are_blanked() {
        check("begin;\nselect 1;\ncommit;\n", Ok("      \nselect 1;\n       \n"));
        check("start transaction; select 'é'; end", Ok("                   select 'é';    "));
        check("set a = 1; begin; select 1; commit", Ok("set a = 1;        select 1;       "));
        check("\\restrict ab\nselect 1;\n\\unrestrict ab\n", Ok("            \nselect 1;\n              \n"));
    }

    #[test]
    fn foreign_parts_are_named() {
        let psql = |name: &str| Foreign::Psql(name.to_owned());
        check("\\connect other\nselect 1", Err((0, psql("\\connect"))));
        check("select 1 \\gexec", Err((9, psql("\\gexec"))));
        check("copy public.book (id) from stdin;\n1\n\\.\n", Err((0, Foreign::CopyFromStdin)));
        let control = |word: &str| Foreign::TransactionControl(word.to_owned());
        check("select 1; commit; select 2", Err((10, control("COMMIT"))));
        check("begin; select 1; commit; begin; select 2; commit;", Err((0, control("BEGIN"))));
        check("select 1; Rollback", Err((10, control("ROLLBACK"))));
    }
}
