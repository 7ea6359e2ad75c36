//! The body: rows become JSON, CSV, GeoJSON or what a person's function makes of them; and the settings
//! through which SQL says more about the response.

use std::sync::LazyLock;

use super::fragment::Sql;
use super::{BODY_ROWS, SOURCE};
use crate::plan::{Handler, StatementPlan};
use crate::postgres::Statement;
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
        Handler::Csv => csv(sql),
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

fn csv(sql: &mut Sql) {
    sql.push("(SELECT coalesce(string_agg(a.k, ','), '') FROM (SELECT json_object_keys(r)::text as k FROM (")
        .push("SELECT row_to_json(hh) as r from ")
        .push(SOURCE)
        .push(" as hh limit 1) s) a) || '\n' || coalesce(string_agg(substring(")
        .push(BODY_ROWS)
        .push("::text, 2, length(")
        .push(BODY_ROWS)
        .push("::text) - 2), '\n'), '')");
}

/// Bytes travel as hexadecimal digits, unless nothing travels.
fn custom(sql: &mut Sql, handler: &MediaHandler, routine: Option<&Routine>, explains: bool) {
    let encodes = handler.binary && !explains;
    if encodes {
        sql.push("encode(");
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
