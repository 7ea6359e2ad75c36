//! A JSON body as rows: `pgrst_body`, with the requested columns.

use bytes::Bytes;

use super::fragment::Sql;
use crate::plan::TypedField;

/// How the rows of a body are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// Whether a missing key means the column's default.
    pub(super) defaults: bool,
    /// Whether only the first row is used.
    pub(super) first_only: bool,
}

/// Adds ` FROM … pgrst_body`.
pub(super) fn add(sql: &mut Sql, body: &Bytes, columns: &[TypedField], reading: Reading) {
    let object = is_object(body);
    sql.push("FROM (SELECT ").value(body.clone());
    sql.push(if reading.defaults {
        "::jsonb AS json_data) pgrst_payload, "
    } else {
        "::json AS json_data) pgrst_payload, "
    });
    if reading.defaults {
        sql.push(if object { "LATERAL (SELECT " } else { "LATERAL (SELECT jsonb_agg(" });
        defaults(sql, columns);
        sql.push(if object {
            " || pgrst_payload.json_data AS val) pgrst_json_defs, "
        } else {
            " || elem) AS val FROM jsonb_array_elements(pgrst_payload.json_data) elem) pgrst_json_defs, "
        });
    }
    let source = if reading.defaults { "(pgrst_json_defs.val) " } else { "(pgrst_payload.json_data) " };
    sql.push("LATERAL (SELECT ");
    sql.list(columns, ", ", |sql, column| match &column.transform {
        None => {
            sql.name(&column.name);
        }
        Some(transform) => {
            sql.catalogue(transform).push("(").name(&column.name).push(") AS ").name(&column.name);
        }
    });
    sql.push(" FROM ");
    match (columns.is_empty(), object, reading.defaults) {
        // `{}` is one row without values, `[{}, {}]` are two rows
        (true, true, _) => sql.push("(values(1)) _ "),
        (true, false, true) => sql.push("jsonb_array_elements").push(source).push("_ "),
        (true, false, false) => sql.push("json_array_elements").push(source).push("_ "),
        (false, true, true) => sql.push("jsonb_to_record").push(source),
        (false, true, false) => sql.push("json_to_record").push(source),
        (false, false, true) => sql.push("jsonb_to_recordset").push(source),
        (false, false, false) => sql.push("json_to_recordset").push(source),
    };
    if !columns.is_empty() {
        sql.push("AS _(");
        sql.list(columns, ", ", |sql, column| {
            sql.name(&column.name).push(" ").catalogue(&column.data_type);
        });
        sql.push(") ");
        if reading.first_only {
            sql.push("LIMIT 1");
        }
    }
    sql.push(") pgrst_body ");
}

fn defaults(sql: &mut Sql, columns: &[TypedField]) {
    let with_default = columns.iter().filter_map(|column| Some((&column.name, column.default.as_ref()?)));
    sql.push("jsonb_build_object(");
    sql.list(with_default, ", ", |sql, (name, default)| {
        sql.constant(name).push(", ").catalogue(default);
    });
    sql.push(")");
}

/// Whether a JSON text is an object; PostgreSQL checks whether it is valid.
fn is_object(body: &[u8]) -> bool {
    body.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) == Some(&b'{')
}
