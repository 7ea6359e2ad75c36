//! SQL for a plan: one statement that does what was asked, its values always parameters, its names always quoted,
//! its text the same for requests of the same shape.
//!
//! It knows nothing of HTTP, and looks nothing up.

mod assertion;
mod body;
mod call;
mod condition;
mod count;
mod fragment;
mod join;
mod payload;
mod read;
mod rows;
mod write;

use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;
use tercet_postgres::{Row, Rows, Stage, Statement};

use crate::error::StatementError;
use crate::plan::{Command, Handler, StatementPlan};
use crate::request::media_type::{MediaType, PlanFormat, PlanOption};
use crate::request::preferences::Count;

use fragment::Sql;
use rows::Columns;

/// What the rows a command works on are called in every statement.
const SOURCE: &str = "pgrst_source";

/// What the rows a body is made of are called.
const BODY_ROWS: &str = "_postgrest_t";

/// What to send to PostgreSQL for a plan, and how to read what comes back.
#[derive(Debug)]
pub struct Query {
    /// The statement that does what is asked.
    pub main: Statement,
    /// How its rows are read.
    form: Form,
    /// What SQL says of the response, where the rows have no room for it.
    settings: Option<Statement>,
    /// An EXPLAIN in the same transaction, whose number of rows is the total.
    estimate: Option<Estimate>,
    /// Whether the body is hexadecimal digits for bytes.
    hexadecimal: bool,
    /// Where in the main statement it is asserted what the schema cache says, in bytes.
    assertions: Range<usize>,
}

#[derive(Debug)]
struct Estimate {
    /// `EXPLAIN (FORMAT JSON)`: one row, one column.
    statement: Statement,
    /// Only needed if the total of [`Answer`] is greater than this.
    above: Option<i64>,
}

/// What the main statement's rows are.
#[derive(Debug)]
enum Form {
    /// One row of total, page, body, headers, status.
    Read,
    /// The rows that were asked for; the body is made of them here.
    Rows(Columns),
    /// One row of total, page, location, body, headers, status, inserted.
    Write,
    /// The lines of an execution plan.
    Explain,
}

/// What PostgreSQL answered.
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
    /// The query for a plan.
    pub fn new(plan: &StatementPlan) -> Self {
        let mut sql = Sql::new();
        match rows::statement(&mut sql, plan) {
            Some(columns) => Self::with(sql, Form::Rows(columns), plan),
            None => Self::in_one_row(plan),
        }
    }

    /// The query for a plan whose body PostgreSQL makes: the general form, which relies on nothing that the
    /// schema cache says of columns.
    pub fn in_one_row(plan: &StatementPlan) -> Self {
        let mut sql = Sql::new();
        let form = if let MediaType::Plan { format, options, .. } = &plan.media_type {
            explain(&mut sql, *format, options);
            Form::Explain
        } else if matches!(plan.command, Command::Write(_)) {
            Form::Write
        } else {
            Form::Read
        };
        match &plan.command {
            Command::Read => read::statement(&mut sql, plan),
            Command::Write(write) => write::statement(&mut sql, plan, write),
            Command::Call(call) => call::statement(&mut sql, plan, call),
        }
        Self::with(sql, form, plan)
    }

    fn with(main: Sql, form: Form, plan: &StatementPlan) -> Self {
        let assertions = main.assertions();
        let main = main.into_statement();
        Self {
            assertions,
            main: if matches!(form, Form::Rows(_)) { main.described() } else { main },
            settings: matches!(form, Form::Rows(_)).then(body::response_settings_alone),
            form,
            estimate: estimate(plan),
            hexadecimal: matches!(&plan.handler, Handler::Custom(handler) if handler.binary),
        }
    }

    /// Whether it relies on what the schema cache says of columns: where that is out of date,
    /// [`Query::in_one_row`] does not.
    pub fn relies_on_columns(&self) -> bool {
        matches!(self.form, Form::Rows(_))
    }

    /// Whether an error says that types the statement writes or passes are not those of the schema cache any more. It has
    /// done nothing then.
    pub fn refutes_types(&self, error: &StatementError) -> bool {
        let Some(error) = error.server().filter(|error| error.stage != Stage::Running) else { return false };
        let character = |byte| self.main.sql[..byte].chars().count();
        let Range { start, end } = self.assertions.clone();
        // missing: a function, a type, a column, a schema
        matches!(error.code.as_str(), "42883" | "42704" | "42703" | "3F000")
            && error.position.is_some_and(|at| character(start) < at && at <= character(end))
    }

    /// The same query without what it asserts.
    #[must_use]
    pub fn without_assertions(mut self) -> Self {
        let mut sql = self.main.sql.to_string();
        sql.replace_range(std::mem::take(&mut self.assertions), "");
        self.main.sql = sql.into();
        self
    }

    /// What is run in one transaction, in this order: the main statement, and what is asked after it.
    pub fn statements(&self) -> SmallVec<[&Statement; 3]> {
        let estimate = self.estimate.as_ref().map(|estimate| &estimate.statement);
        std::iter::once(&self.main).chain(&self.settings).chain(estimate).collect()
    }

    /// Reads the rows of each of the [statements](Self::statements).
    ///
    /// # Errors
    /// [`StatementError::ColumnTypes`] where the query [relies on columns](Self::relies_on_columns) that have changed.
    pub fn answer(&self, results: &[Rows]) -> Result<Answer, StatementError> {
        let empty = Rows::default();
        let (main, rest) = results.split_first().unwrap_or((&empty, &[]));
        let mut results = rest.iter().map(|rows| rows.as_slice());
        let mut answer = match &self.form {
            Form::Rows(columns) => columns.answer(main)?,
            Form::Explain => explained(main),
            Form::Read => main.first().map(|row| self.read(row)).unwrap_or_default(),
            Form::Write => main.first().map(|row| self.written(row)).unwrap_or_default(),
        };
        if self.settings.is_some()
            && let Some(row) = results.next().and_then(<[Row]>::first)
        {
            (answer.headers, answer.status) = (text(row, 0), text(row, 1));
        }
        if let Some(estimate) = &self.estimate {
            let estimated = results.next().and_then(estimated_rows);
            answer.total = match (estimate.above, answer.total) {
                (None, _) => estimated,
                (Some(above), Some(total)) if total > above => {
                    estimated.map(|estimated| estimated.max(total)).or(Some(total))
                }
                (Some(_), total) => total,
            };
        }
        Ok(answer)
    }

    fn read(&self, row: &Row) -> Answer {
        Answer {
            total: number(row, 0),
            rows: number(row, 1).unwrap_or_default(),
            body: self.body(row.bytes(2)),
            headers: text(row, 3),
            status: text(row, 4),
            ..Answer::default()
        }
    }

    fn written(&self, row: &Row) -> Answer {
        Answer {
            total: number(row, 0),
            rows: number(row, 1).unwrap_or_default(),
            location: row.text(2).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
            body: self.body(row.bytes(3)),
            headers: text(row, 4),
            status: text(row, 5),
            inserted: number(row, 6),
        }
    }

    fn body(&self, column: Option<Bytes>) -> Bytes {
        let body = column.unwrap_or_default();
        if !self.hexadecimal {
            return body;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default() as u8;
        body.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
    }
}

fn text(row: &Row, column: usize) -> Option<String> {
    row.text(column).map(str::to_owned)
}

fn number(row: &Row, column: usize) -> Option<i64> {
    row.text(column).and_then(|text| text.parse().ok())
}

fn explained(lines: &[Row]) -> Answer {
    let lines: Vec<&[u8]> = lines.iter().filter_map(|row| row.get(0)).collect();
    let mut body = lines.join(&b'\n');
    body.push(b'\n');
    Answer { body: body.into(), ..Answer::default() }
}

fn estimated_rows(rows: &[Row]) -> Option<i64> {
    let plan: serde_json::Value = serde_json::from_str(rows.first()?.text(0)?).ok()?;
    plan.get(0)?.get("Plan")?.get("Plan Rows")?.as_i64()
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
