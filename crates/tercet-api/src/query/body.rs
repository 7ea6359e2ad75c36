//! The body: rows as JSON, CSV, GeoJSON or by a custom handler; and the settings through which SQL defines the
//! response.

use std::sync::LazyLock;

use tercet_postgres::Statement;

use super::fragment::Sql;
use super::{BODY_ROWS, SOURCE, node};
use crate::plan::{Command, Handler, StatementPlan};
use crate::schema::{MediaHandler, MediaTarget, Routine};

const RESPONSE_SETTINGS: &str = "nullif(current_setting('response.headers', true), '') AS response_headers, \
     nullif(current_setting('response.status', true), '') AS response_status";

/// The expression that builds the body.
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

/// [RFC 4180](https://www.rfc-editor.org/rfc/rfc4180), reversible: null is an empty field, an empty text is quoted. A
/// record's text form is the same except for doubled backslashes.
fn csv(sql: &mut Sql, plan: &StatementPlan) {
    // The header is present without rows.
    sql.push("(SELECT coalesce(string_agg(CASE WHEN k ~ E'[\",\\r\\n]' OR k !~ '^[[:alnum:]_]' THEN '\"' || pg_catalog.replace(k, '\"', '\"\"') || '\"' ELSE k END, ','), '') FROM (SELECT json_object_keys(row_to_json(h)) AS k FROM (SELECT r.* FROM (VALUES (1)) AS one LEFT JOIN ");
    if matches!(plan.command, Command::Read) {
        sql.push(SOURCE);
    } else {
        sql.push("(");
        node::rows(sql, &plan.tree);
        sql.push(")");
    }
    sql.push(" AS r ON true LIMIT 1) h) s) || E'\n' || coalesce(string_agg((SELECT CASE WHEN line = '' THEN 'NULL' ")
        // The text `NULL` is quoted, where it is outside other quotes: in every second part between them.
        .push("WHEN line LIKE '%NULL%' THEN (SELECT string_agg(CASE WHEN n % 2 = 1 THEN pg_catalog.regexp_replace(part, '(^|,)NULL(?=,|$)', '\\1\"NULL\"', 'g') ELSE part END, '\"' ORDER BY n) FROM unnest(string_to_array(line, '\"')) WITH ORDINALITY AS _(part, n)) ")
        .push("ELSE line END FROM pg_catalog.replace(substring(")
        .push(BODY_ROWS)
        .push("::text, 2, length(")
        .push(BODY_ROWS)
        .push(r"::text) - 2), E'\\\\', E'\\') AS line), E'\n'), '')");
}

/// A handler's bytes are sent in hexadecimal.
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

/// The settings `response.headers` and `response.status`.
pub(super) fn response_settings(sql: &mut Sql) {
    sql.push(RESPONSE_SETTINGS);
}

/// The same, as a separate statement.
pub(super) fn response_settings_alone() -> Statement {
    static STATEMENT: LazyLock<Statement> =
        LazyLock::new(|| Statement::new(format!("SELECT {RESPONSE_SETTINGS}"), Vec::new()));
    STATEMENT.clone()
}
