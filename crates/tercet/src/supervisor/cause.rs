//! Why a program ended, from the last lines of its output: the error that it printed, and not what happens to come last, such
//! as a link to a manual, or the version of its interpreter.

/// The lines that explain PostgreSQL's errors, after the error itself.
const DETAILS: [&str; 2] = ["DETAIL:", "HINT:"];

/// The last error among these lines, else the last line; `None` if there are no lines.
pub(crate) fn cause(lines: &[String]) -> Option<String> {
    let Some(at) = lines.iter().rposition(|line| is_error(line)) else {
        return super::last_line(lines);
    };
    let details = lines[at + 1..].iter().take_while(|line| DETAILS.iter().any(|it| line.starts_with(it)));
    let words: Vec<String> =
        std::iter::once(&lines[at]).chain(details).map(|line| super::message(line)).collect();
    Some(words.join("; "))
}

/// Whether a line says what went wrong: `ModuleNotFoundError: …`, `ERROR:    …`, `error[E1]: …`, `panic: …`,
/// `django.core.exceptions.ImproperlyConfigured: …`. A stack's frames are indented.
fn is_error(line: &str) -> bool {
    if line.starts_with(char::is_whitespace) {
        return false;
    }
    let Some((before, _)) = line.split_once(": ") else { return false };
    let word = before.rsplit(char::is_whitespace).next().unwrap_or_default();
    let name = word.split('[').next().unwrap_or_default().to_ascii_lowercase();
    let is_exception = name.split('.').count() > 1
        && name.split('.').all(|part| {
            !part.is_empty()
                && part.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_')
                && !part.bytes().all(|it| it.is_ascii_digit())
        });
    let is_named = ["error", "exception", "fatal", "panic", "failed"].iter().any(|end| name.ends_with(end));
    is_named || (is_exception && before == word)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
    fn check(output: &str, expected: Expect) {
        let lines: Vec<String> = output.lines().map(str::to_owned).collect();
        expected.assert_eq(&cause(&lines).unwrap());
    }

    #[test]
    fn the_error_is_found_among_the_last_lines() {
        check("INFO: starting\nbye", expect!["bye"]);
        check(
            "Traceback (most recent call last):\n  File \"a.py\", line 1, in <module>\nsqlalchemy.exc.OperationalError: \
             (psycopg.OperationalError) connection failed\n(Background on this error at: https://sqlalche.me/e/20/e3q8)",
            expect!["sqlalchemy.exc.OperationalError: (psycopg.OperationalError) connection failed"],
        );
        check(
            "node:internal/modules/cjs/loader:1228\n  throw err;\n  ^\nError: Cannot find module 'pg'\nRequire stack:\n\
             - /shop/server.js\n    at Module._resolveFilename (node:internal/modules/cjs/loader:1225:15) {\n  \
             code: 'MODULE_NOT_FOUND'\n}\nNode.js v22.23.3",
            expect!["Error: Cannot find module 'pg'"],
        );
        check(
            "[2026-11-30 15:14:10 +0000] [7] [ERROR] Exception in worker process\nTraceback (most recent call last):\n  \
             File \"util.py\", line 371, in import_app\nModuleNotFoundError: No module named 'mysite.wsgj'\n\
             [2026-11-30 15:14:10 +0000] [7] [INFO] Worker exiting (pid: 7)\n\
             [2026-11-30 15:14:10 +0000] [6] [ERROR] Reason: Worker failed to boot.",
            expect!["ModuleNotFoundError: No module named 'mysite.wsgj'"],
        );
        check(
            "psycopg.errors.FeatureNotSupported: extension \"vector\" is not available\n\
             DETAIL:  Could not open extension control file.\n\
             HINT:  The extension must first be installed on the system where PostgreSQL is running.",
            expect![[
                r#"psycopg.errors.FeatureNotSupported: extension "vector" is not available; DETAIL:  Could not open extension control file.; HINT:  The extension must first be installed on the system where PostgreSQL is running."#
            ]],
        );
        check(
            "KeyError: 'SECRET_KEY'\nDuring handling of the above exception, another exception occurred:\n\
             django.core.exceptions.ImproperlyConfigured: Set SECRET_KEY",
            expect!["django.core.exceptions.ImproperlyConfigured: Set SECRET_KEY"],
        );
        check("thread 'main' panicked at src/main.rs:1:1:\nno port", expect!["no port"]);
        check(
            "ERROR:    Error loading ASGI app. Could not import module \"man\".",
            expect![[r#"ERROR:    Error loading ASGI app. Could not import module "man"."#]],
        );
    }

    #[test]
    fn no_output_has_no_cause() {
        assert_eq!(cause(&[]), None);
    }
}
