//! The body: rows become JSON, CSV, GeoJSON or what a person's function makes of them; and the settings
//! through which SQL says more about the response.

use std::sync::LazyLock;

use tercet_postgres::Statement;

use super::fragment::Sql;
use super::{BODY_ROWS, SOURCE, read};
use crate::plan::{Command, Handler, StatementPlan};
use crate::schema::{MediaHandler, MediaTarget, Routine};

const RESPONSE_SETTINGS: &str = "nullif(current_setting('response.headers', true), '') AS response_headers, \
     nullif(current_setting('response.status', true), '') AS response_status";

/// The expression that makes the body.
pub(super) fn add(sql: &mut Sql, plan: &StatementPlan) {
    let routine = plan.routine().map(AsRef::as_ref);
    match &plan.handler {
        Handler::None => {
            sql.push("''::text");
        }
        Handler::Json => json(sql, routine, false),
        Handler::JsonStripped => json(sql, routine, true),
        Handler::Singular { nulls_stripped } => {
            let scalar = routine.is_some_and(Routine::returns_scalar);
            aggregate(sql, scalar, true, *nulls_stripped);
        }
        Handler::Csv => csv(sql, plan),
        Handler::GeoJson => {
            sql.push(
                "json_build_object('type', 'FeatureCollection', 'features', coalesce(json_agg(ST_AsGeoJSON(",
            )
            .push(BODY_ROWS)
            .push(")::json), '[]'))");
        }
        Handler::Custom(handler) => custom(sql, handler, routine, plan.explains()),
    }
}

fn json(sql: &mut Sql, routine: Option<&Routine>, stripped: bool) {
    let scalar = routine.is_some_and(|it| it.returns_scalar() || it.returns_set_of_scalar());
    let single = routine.is_some_and(|it| it.returns_scalar() || it.returns_single_composite());
    aggregate(sql, scalar, single, stripped);
}

fn aggregate(sql: &mut Sql, scalar: bool, single: bool, stripped: bool) {
    sql.push(if stripped { "coalesce(json_strip_nulls(json_agg(" } else { "coalesce(json_agg(" });
    sql.push(BODY_ROWS);
    if scalar {
        sql.push(".pgrst_scalar");
    }
    sql.push(if single { ")->0" } else { ")" });
    if stripped {
        sql.push(")");
    }
    sql.push(if single { ", 'null')" } else { ", '[]')" });
}

/// [RFC 4180](https://www.rfc-editor.org/rfc/rfc4180), which reads back as it was: a null is an empty field, and an empty text has
/// quotes. A record's own text is almost that, but for its doubled backslashes.
fn csv(sql: &mut Sql, plan: &StatementPlan) {
    // The names are there without a row as well.
    sql.push("(SELECT coalesce(string_agg(CASE WHEN k ~ E'[\",\\r\\n]' OR k !~ '^[[:alnum:]_]' THEN '\"' || pg_catalog.replace(k, '\"', '\"\"') || '\"' ELSE k END, ','), '') FROM (SELECT json_object_keys(row_to_json(h)) AS k FROM (SELECT r.* FROM (VALUES (1)) AS one LEFT JOIN ");
    if matches!(plan.command, Command::Read) {
        sql.push(SOURCE);
    } else {
        sql.push("(");
        read::rows(sql, &plan.tree);
        sql.push(")");
    }
    sql.push(" AS r ON true LIMIT 1) h) s) || E'\n' || coalesce(string_agg((SELECT CASE WHEN line = '' THEN 'NULL' ")
        // A text that is `NULL` is no null: it gets quotes where it stands outside of all others, in each second part between them.
        .push("WHEN line LIKE '%NULL%' THEN (SELECT string_agg(CASE WHEN n % 2 = 1 THEN pg_catalog.regexp_replace(part, '(^|,)NULL(?=,|$)', '\\1\"NULL\"', 'g') ELSE part END, '\"' ORDER BY n) FROM unnest(string_to_array(line, '\"')) WITH ORDINALITY AS _(part, n)) ")
        .push("ELSE line END FROM pg_catalog.replace(substring(")
        .push(BODY_ROWS)
        .push("::text, 2, length(")
        .push(BODY_ROWS)
        .push(r"::text) - 2), E'\\\\', E'\\') AS line), E'\n'), '')");
}

/// Bytes travel as hexadecimal digits, unless nothing travels.
fn custom(sql: &mut Sql, handler: &MediaHandler, routine: Option<&Routine>, explains: bool) {
    let encodes = handler.binary && !explains;
    if encodes {
        sql.push("pg_catalog.encode(");
    }
    sql.qualified(&handler.function).push("(").push(BODY_ROWS);
    if routine.is_some_and(Routine::returns_scalar) {
        sql.push(".pgrst_scalar");
    } else if let MediaTarget::Named(target) = &handler.target {
        sql.push("::").qualified(target);
    }
    sql.push(")");
    if encodes {
        sql.push(", 'hex')");
    }
}

/// The settings that SQL may have made for the response: headers, then status.
pub(super) fn response_settings(sql: &mut Sql) {
    sql.push(RESPONSE_SETTINGS);
}

/// The same, asked after a statement whose rows have no room for them.
pub(super) fn response_settings_alone() -> Statement {
    static STATEMENT: LazyLock<Statement> =
        LazyLock::new(|| Statement::new(format!("SELECT {RESPONSE_SETTINGS}"), Vec::new()));
    STATEMENT.clone()
}
