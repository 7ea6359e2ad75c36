//! SQL for a plan: one statement that does what was asked and answers with one row, its values always
//! parameters, its names always quoted, its text the same for requests of the same shape.
//!
//! It knows nothing of HTTP, and looks nothing up.

mod body;
mod call;
mod condition;
mod count;
mod fragment;
mod join;
mod payload;
mod read;
mod write;

use bytes::Bytes;

use crate::plan::{Command, Handler, StatementPlan};
use crate::postgres::{Row, Statement};
use crate::request::media_type::{MediaType, PlanFormat, PlanOption};
use crate::request::preferences::Count;

use fragment::Sql;

/// What the rows a command works on are called in every statement.
const SOURCE: &str = "pgrst_source";

/// What the rows a body is made of are called.
const BODY_ROWS: &str = "_postgrest_t";

/// What to send to PostgreSQL for a plan, and how to read what comes back.
#[derive(Debug)]
pub struct Query {
    /// The statement: one row, unless it explains.
    pub main: Statement,
    /// What to ask in the same transaction after it, for an estimate of the total number of rows.
    pub estimate: Option<Estimate>,
    /// How its rows are read.
    columns: Columns,
    /// Whether the body is hexadecimal digits for bytes.
    hexadecimal: bool,
}

/// An EXPLAIN whose number of rows is the total ([`Query::estimated_rows`]).
#[derive(Debug)]
pub struct Estimate {
    /// `EXPLAIN (FORMAT JSON)`: one row, one column.
    pub statement: Statement,
    /// Only needed if the total of [`Answer`] is greater than this.
    pub above: Option<i64>,
}

/// Which columns the main statement's row has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Columns {
    /// total, page, body, headers, status
    Read,
    /// total, page, location, body, headers, status, inserted
    Write,
    /// The lines of an execution plan.
    Explain,
}

/// What the main statement answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Rows there are in all, where they were counted.
    pub total: Option<i64>,
    /// Rows in the body, or affected.
    pub rows: i64,
    /// The columns of the new row's primary key and their values, for `Location`; `None` is null.
    pub location: Vec<(String, Option<String>)>,
    /// The body.
    pub body: Bytes,
    /// The setting `response.headers`.
    pub headers: Option<String>,
    /// The setting `response.status`.
    pub status: Option<String>,
    /// Rows that an upsert inserted, not updated, where it says.
    pub inserted: Option<i64>,
}

impl Query {
    /// The statement for a plan.
    pub fn new(plan: &StatementPlan) -> Self {
        let mut sql = Sql::new();
        let columns = if let MediaType::Plan { format, options, .. } = &plan.media_type {
            explain(&mut sql, *format, options);
            Columns::Explain
        } else if matches!(plan.command, Command::Write(_)) {
            Columns::Write
        } else {
            Columns::Read
        };
        match &plan.command {
            Command::Read => read::statement(&mut sql, plan),
            Command::Write(write) => write::statement(&mut sql, plan, write),
            Command::Call(call) => call::statement(&mut sql, plan, call),
        }
        Self {
            main: sql.into_statement(),
            estimate: estimate(plan),
            columns,
            hexadecimal: matches!(&plan.handler, Handler::Custom(handler) if handler.binary),
        }
    }

    /// Reads the rows of the main statement.
    pub fn answer(&self, rows: &[Row]) -> Answer {
        let Some(row) = rows.first() else { return Answer::default() };
        let text = |column: usize| row.text(column).map(str::to_owned);
        let number = |column: usize| row.text(column).and_then(|text| text.parse().ok());
        match self.columns {
            Columns::Explain => {
                let lines: Vec<&[u8]> = rows.iter().filter_map(|row| row.get(0)).map(AsRef::as_ref).collect();
                let mut body = lines.join(&b'\n');
                body.push(b'\n');
                Answer { body: body.into(), ..Answer::default() }
            }
            Columns::Read => Answer {
                total: number(0),
                rows: number(1).unwrap_or_default(),
                body: self.body(row.get(2)),
                headers: text(3),
                status: text(4),
                ..Answer::default()
            },
            Columns::Write => Answer {
                total: number(0),
                rows: number(1).unwrap_or_default(),
                location: row.text(2).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
                body: self.body(row.get(3)),
                headers: text(4),
                status: text(5),
                inserted: number(6),
            },
        }
    }

    /// Reads the total from the rows of [`Estimate::statement`].
    pub fn estimated_rows(rows: &[Row]) -> Option<i64> {
        let plan: serde_json::Value = serde_json::from_str(rows.first()?.text(0)?).ok()?;
        plan.get(0)?.get("Plan")?.get("Plan Rows")?.as_i64()
    }

    fn body(&self, column: Option<&Bytes>) -> Bytes {
        let body = column.cloned().unwrap_or_default();
        if !self.hexadecimal {
            return body;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default() as u8;
        body.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
    }
}

/// `EXPLAIN (…)`, see <https://www.postgresql.org/docs/current/sql-explain.html>.
fn explain(sql: &mut Sql, format: PlanFormat, options: &[PlanOption]) {
    sql.push(match format {
        PlanFormat::Json => "EXPLAIN (FORMAT JSON",
        PlanFormat::Text => "EXPLAIN (FORMAT TEXT",
    });
    for option in options {
        sql.push(match option {
            PlanOption::Analyze => ", ANALYZE",
            PlanOption::Verbose => ", VERBOSE",
            PlanOption::Settings => ", SETTINGS",
            PlanOption::Buffers => ", BUFFERS",
            PlanOption::Wal => ", WAL",
        });
    }
    sql.push(") ");
}

fn estimate(plan: &StatementPlan) -> Option<Estimate> {
    let above = match plan.count {
        Some(Count::Planned) => None,
        Some(Count::Estimated) => plan.max_rows,
        Some(Count::Exact) | None => return None,
    };
    if plan.explains() || !matches!(plan.command, Command::Read) {
        return None;
    }
    let mut sql = Sql::new();
    explain(&mut sql, PlanFormat::Json, &[]);
    count::rows(&mut sql, &plan.tree);
    Some(Estimate { statement: sql.into_statement(), above })
}
