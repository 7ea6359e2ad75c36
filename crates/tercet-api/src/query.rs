//! SQL for a plan: one statement with parameters for values and quoted names. Requests of the same form have the same
//! text.
//!
//! Knows nothing of HTTP and does not access the schema cache.

mod assertion;
mod body;
mod call;
mod condition;
mod count;
mod embedded;
mod fragment;
mod join;
mod node;
mod payload;
mod read;
mod rows;
mod write;

use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;
use tercet_postgres::{Row, Rows, Stage, Statement};

use crate::error::StatementError;
use crate::media_type::{MediaType, PlanFormat, PlanOption};
use crate::plan::{Command, Handler, StatementPlan};
use crate::request::preferences::Count;

use fragment::Sql;
use rows::Columns;

/// The alias of the rows a command returns.
const SOURCE: &str = "pgrst_source";

/// The alias of the rows a body is built from.
const BODY_ROWS: &str = "_postgrest_t";

/// The statements for a plan, and how to parse their results.
#[derive(Debug)]
pub struct Query {
    /// The main statement.
    pub main: Statement,
    /// The form of its rows.
    form: Form,
    /// Reads the `response.*` settings where the main statement's rows do not include them.
    settings: Option<Statement>,
    /// An EXPLAIN in the same transaction whose row estimate is the total.
    estimate: Option<Estimate>,
    /// Whether the body is hex-encoded bytes.
    hexadecimal: bool,
    /// The byte range of the type assertions in the main statement.
    assertions: Range<usize>,
}

#[derive(Debug)]
struct Estimate {
    /// `EXPLAIN (FORMAT JSON)`: one row, one column.
    statement: Statement,
    /// Needed only if the total of [`Answer`] exceeds this.
    above: Option<i64>,
}

/// The form of the main statement's rows.
#[derive(Debug)]
enum Form {
    /// One row with total, page, body, headers, status.
    Read,
    /// The requested rows; the body is built here.
    Rows(Columns),
    /// One row with total, page, location, body, headers, status, inserted.
    Write,
    /// No row, but the number of written rows in the command tag.
    Count,
    /// The lines of an execution plan.
    Explain,
}

/// PostgreSQL's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The total number of rows, if counted.
    pub total: Option<i64>,
    /// The number of rows in the body, or affected.
    pub rows: i64,
    /// The columns and values of the new row's primary key, for `Location`; `None` is null.
    pub location: Vec<(String, Option<String>)>,
    /// The body.
    pub body: Bytes,
    /// The setting `response.headers`.
    pub headers: Option<String>,
    /// The setting `response.status`.
    pub status: Option<String>,
    /// The number of rows an upsert inserted instead of updated, if known.
    pub inserted: Option<i64>,
}

impl Query {
    /// The query for a plan.
    pub fn new(plan: &StatementPlan) -> Self {
        let mut sql = Sql::of(plan);
        let form = match &plan.command {
            Command::Read if !plan.explains() => rows::statement(&mut sql, plan).map(Form::Rows),
            Command::Write(write) => write::plain(&mut sql, plan, write),
            Command::Read | Command::Call(_) => None,
        };
        match form {
            Some(form) => Self::with(sql, form, plan),
            None => Self::in_one_row(plan),
        }
    }

    /// The query for a plan, without type assertions and independent of the schema cache's columns.
    pub fn unasserted(plan: &StatementPlan) -> Self {
        let mut query = Self::in_one_row(plan);
        let mut sql = query.main.sql.to_string();
        sql.replace_range(std::mem::take(&mut query.assertions), "");
        query.main.sql = sql.into();
        query
    }

    /// The query for a plan whose body PostgreSQL builds: the general form, independent of the schema cache's
    /// columns.
    pub fn in_one_row(plan: &StatementPlan) -> Self {
        let mut sql = Sql::of(plan);
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
        let settings = matches!(form, Form::Rows(_)) && !plan.side_effect_free;
        Self {
            assertions,
            main: if matches!(form, Form::Rows(_)) { main.described() } else { main },
            settings: settings.then(body::response_settings_alone),
            form,
            estimate: estimate(plan),
            hexadecimal: matches!(&plan.handler, Handler::Custom(handler) if handler.binary),
        }
    }

    /// Whether the query depends on the schema cache's columns; [`Query::in_one_row`] does not.
    pub fn relies_on_columns(&self) -> bool {
        matches!(self.form, Form::Rows(_))
    }

    /// Whether an error means that types to write or pass differ from the schema cache. The statement had no effect
    /// then.
    pub fn refutes_types(&self, error: &StatementError) -> bool {
        let Some(error) = error.server().filter(|error| error.stage != Stage::Running) else { return false };
        let character = |byte| self.main.sql[..byte].chars().count();
        let Range { start, end } = self.assertions.clone();
        // undefined function, type, column or schema; another number of columns
        matches!(error.code.as_str(), "42883" | "42704" | "42703" | "3F000" | "42601")
            && error.position.is_some_and(|at| character(start) < at && at <= character(end))
    }

    /// The statements to run in one transaction: the main statement, then the additional ones.
    pub fn statements(&self) -> SmallVec<[&Statement; 3]> {
        let estimate = self.estimate.as_ref().map(|estimate| &estimate.statement);
        std::iter::once(&self.main).chain(&self.settings).chain(estimate).collect()
    }

    /// Parses the rows of the [statements](Self::statements).
    ///
    /// # Errors
    /// [`StatementError::ColumnTypes`] if the query [relies on columns](Self::relies_on_columns) that have changed.
    pub fn answer(&self, results: &[Rows]) -> Result<Answer, StatementError> {
        let empty = Rows::default();
        let (main, rest) = results.split_first().unwrap_or((&empty, &[]));
        let mut results = rest.iter().map(|rows| rows.as_slice());
        let mut answer = match &self.form {
            Form::Rows(columns) => columns.answer(main)?,
            Form::Count => affected(main.affected()),
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

fn affected(rows: u64) -> Answer {
    Answer { rows: i64::try_from(rows).unwrap_or(i64::MAX), ..Answer::default() }
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
    let mut sql = Sql::of(plan);
    explain(&mut sql, PlanFormat::Json, &[]);
    count::rows(&mut sql, &plan.tree);
    Some(Estimate { statement: sql.into_statement(), above })
}
