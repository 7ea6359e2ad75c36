//! What PostgreSQL, or the way to it, says of a failure, for people: without the file, line and function of PostgreSQL's own
//! source, which sqlx's texts have.

use std::error::Error;

use sqlx::postgres::PgDatabaseError;

/// A statement failed, or there was no way to the database.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct SqlError {
    text: String,
    code: Option<String>,
}

impl SqlError {
    /// SQLSTATE, where PostgreSQL itself refused.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }
}

impl From<sqlx::Error> for SqlError {
    fn from(error: sqlx::Error) -> Self {
        match of_postgresql(&error) {
            Some(error) => Self { text: message(error), code: Some(error.code().to_owned()) },
            None => Self { text: error.to_string(), code: None },
        }
    }
}

/// PostgreSQL's own error, however sqlx has wrapped it.
fn of_postgresql(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(sqlx::Error::Database(error)) = error.downcast_ref() {
            return error.try_downcast_ref();
        }
        next = error.source();
    }
    None
}

/// What PostgreSQL says about an error, on one line.
pub(crate) fn message(error: &PgDatabaseError) -> String {
    let mut message = error.message().replace('\n', " ");
    for (name, text) in [("", error.detail()), ("in ", error.r#where()), ("hint: ", error.hint())] {
        if let Some(text) = text {
            message.push_str("; ");
            message.push_str(name);
            message.push_str(&text.replace('\n', " "));
        }
    }
    message
}
