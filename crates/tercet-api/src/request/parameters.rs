//! The query string, sorted into what its parameters mean.

use std::collections::{BTreeMap, BTreeSet};

use super::field::{EmbedPath, Field, embedded_field, field_name};
use super::filter::{Filter, condition, whole_value};
use super::form;
use super::grammar::{Input, Parsed, character, optional, read, separated, spaced};
use super::logic::{LogicTree, logic_path, logic_tree};
use super::order::{OrderTerm, order};
use super::range::{OwnRange, RowRange};
use super::select::{SelectItem, selection};
use crate::error::RequestError;

/// Everything a query string says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// The query string with its parameters sorted by name and encoded anew, for `Content-Location`.
    pub canonical: String,
    /// `select=`, `*` when absent.
    pub select: Vec<SelectItem>,
    /// `column=operator.value` on the target.
    pub filters: Vec<Filter>,
    /// `relation.column=operator.value`
    pub embedded_filters: Vec<(EmbedPath, Filter)>,
    /// Names of all parameters that are filters, as written.
    pub filter_names: BTreeSet<String>,
    /// `and=`, `or=`, `relation.or=`, `not.and=` …
    pub logic: Vec<(EmbedPath, LogicTree)>,
    /// `order=`, `relation.order=`
    pub order: Vec<(EmbedPath, Vec<OrderTerm>)>,
    /// `limit=` and `offset=` of embedded relations; those of the target are in `ApiRequest::range`.
    pub embedded_ranges: Vec<(EmbedPath, RowRange)>,
    /// `columns=`
    pub columns: Option<BTreeSet<String>>,
    /// `on_conflict=`
    pub on_conflict: Option<Vec<String>>,
    /// Arguments of a routine called with `GET`: parameters whose value has no operator, in their order, repeated ones kept.
    pub arguments: Vec<(String, String)>,
}

/// Parameters that are not filters, whatever they are prefixed with.
const RESERVED: [&str; 3] = ["select", "columns", "on_conflict"];

/// Reads a query string; under `is_routine_read` a value without an operator is an argument and not a mistake.
pub(super) fn parse(query: &str, is_routine_read: bool) -> Result<(Parameters, OwnRange), RequestError> {
    let pairs = form::decode(query.as_bytes());
    let mut parameters = Parameters {
        canonical: form::canonical(&pairs),
        select: Vec::new(),
        filters: Vec::new(),
        embedded_filters: Vec::new(),
        filter_names: BTreeSet::new(),
        logic: Vec::new(),
        order: Vec::new(),
        embedded_ranges: Vec::new(),
        columns: None,
        on_conflict: None,
        arguments: Vec::new(),
    };
    let given = |suffixes: &'static [&'static str]| {
        pairs.iter().filter_map(move |(name, value)| {
            let value = value.as_deref()?;
            suffixes.contains(&last_word(name)).then_some((name.as_str(), value))
        })
    };
    let named =
        |wanted: &str| pairs.iter().find(|(name, _)| name == wanted).and_then(|(_, value)| value.as_deref());

    for (name, value) in given(&["order"]) {
        let (path, _) = tree_path(name)?;
        let terms = read(value, "order", value, order)?;
        parameters.order.push((path, terms));
    }
    for (name, value) in given(&["and", "or"]) {
        let (path, operator) = read(name, "logic path", name, logic_path)?;
        let tree = read(&format!("{operator}{value}"), "logic tree", value, logic_tree)?;
        parameters.logic.push((path, tree));
    }
    if let Some(value) = named("columns") {
        let columns = read(value, "columns parameter", value, columns)?;
        parameters.columns = Some(columns.into_iter().collect());
    }
    let select = named("select").unwrap_or("*");
    parameters.select = read(select, "select parameter", select, selection)?;
    for (name, value) in pairs.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_deref()?))) {
        let is_reserved = RESERVED.contains(&name)
            || matches!(last_word(name), "order" | "limit" | "offset" | "and" | "or");
        if !is_reserved {
            filter(&mut parameters, name, value, is_routine_read)?;
        }
    }
    if let Some(value) = named("on_conflict") {
        let columns = read(value, "on_conflict parameter", value, columns)?;
        parameters.on_conflict = Some(columns);
    }
    let mut own = OwnRange::default();
    let mut ranges: BTreeMap<EmbedPath, OwnRange> = BTreeMap::new();
    for (name, value) in given(&["limit", "offset"]) {
        let range = match name {
            "limit" | "offset" => &mut own,
            _ => ranges.entry(tree_path(name)?.0).or_default(),
        };
        // what is not a number is as if it were not there
        let rows = value.trim().parse().ok();
        if last_word(name) == "limit" { range.limit = rows } else { range.offset = rows }
    }
    parameters.embedded_ranges = ranges
        .into_iter()
        .map(|(path, range)| (path, RowRange { offset: range.offset.unwrap_or(0), limit: range.limit }))
        .collect();
    Ok((parameters, own))
}

fn filter(
    parameters: &mut Parameters,
    name: &str,
    value: &str,
    is_routine_read: bool,
) -> Result<(), RequestError> {
    let (path, field) = tree_path(name)?;
    let condition = read(value, "filter", value, |input| {
        let condition = |input: &mut _| condition(input, |input| Ok(whole_value(input)));
        if is_routine_read { optional(input, condition) } else { condition(input).map(Some) }
    })?;
    parameters.filter_names.insert(name.to_owned());
    let Some((negated, operation)) = condition else {
        parameters.arguments.push((field.name, value.to_owned()));
        return Ok(());
    };
    let filter = Filter { field, negated, operation };
    if path.is_empty() {
        parameters.filters.push(filter);
    } else {
        parameters.embedded_filters.push((path, filter));
    }
    Ok(())
}

fn tree_path(name: &str) -> Result<(EmbedPath, Field), RequestError> {
    read(name, "tree path", name, embedded_field)
}

fn columns(input: &mut Input<'_>) -> Parsed<Vec<String>> {
    separated(input, field_name, |input| spaced(input, character(',')))
}

fn last_word(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(query: &str, expect: &Expect) {
        let actual = match parse(query, false) {
            Ok((parameters, own)) => format!("{parameters:?} {own:?}"),
            Err(error) => format!("{error}: {}", error.details().unwrap_or_default()),
        };
        expect.assert_eq(&actual);
    }

    #[test]
    fn says_where_and_what() {
        check(
            "or=()",
            &expect![[
                r#""failed to parse logic tree (())" (line 1, column 4): unexpected ")" expecting field name (* or [a..z0..9_$]), negation operator (not) or logic operator (and, or)"#
            ]],
        );
        check(
            "columns=",
            &expect![[
                r#""failed to parse columns parameter ()" (line 1, column 1): unexpected end of input expecting field name (* or [a..z0..9_$])"#
            ]],
        );
        check(
            "select=data->(!@%23$%^%26*_d->>!@%23$%^%26*_e::integer",
            &expect![[
                r#""failed to parse select parameter (data->(!@#$%^&*_d->>!@#$%^&*_e::integer)" (line 1, column 7): unexpected "(" expecting "-", digit or any non reserved character different from: .,>()"#
            ]],
        );
        check(
            "order=id.asc.nullslasttt",
            &expect![[
                r#""failed to parse order (id.asc.nullslasttt)" (line 1, column 17): unexpected 't' expecting "," or end of input"#
            ]],
        );
        check(
            "id=0",
            &expect![[
                r#""failed to parse filter (0)" (line 1, column 1): unexpected "0" expecting "not" or operator (eq, gt, ...)"#
            ]],
        );
        check(
            "id=eq().1",
            &expect![[
                r#""failed to parse filter (eq().1)" (line 1, column 4): unexpected ")" expecting operator (eq, gt, ...)"#
            ]],
        );
        check(
            "id=is.nil",
            &expect![[
                r#""failed to parse filter (is.nil)" (line 1, column 5): unexpected "i" expecting isVal: (null, not_null, true, false, unknown)"#
            ]],
        );
        check(
            "id=in.1,2",
            &expect![[
                r#""failed to parse filter (in.1,2)" (line 1, column 4): unexpected "1" expecting "(""#
            ]],
        );
        check(
            "select=id,clients(name[])",
            &expect![[
                r#""failed to parse select parameter (id,clients(name[]))" (line 1, column 16): unexpected '[' expecting letter, digit, "-", "->>", "->", "::", ".", ")", "," or end of input"#
            ]],
        );
        check(
            "select=data->>-78xy",
            &expect![[
                r#""failed to parse select parameter (data->>-78xy)" (line 1, column 11): unexpected 'x' expecting digit, "->", "::", ".", "," or end of input"#
            ]],
        );
        check(
            "select=name!hint",
            &expect![[
                r#""failed to parse select parameter (name!hint)" (line 1, column 5): unexpected '!' expecting letter, digit, "-", "->>", "->", "::", ".", ")", "," or end of input"#
            ]],
        );
        check(
            "select=name::",
            &expect![[
                r#""failed to parse select parameter (name::)" (line 1, column 7): unexpected end of input expecting letter or digit"#
            ]],
        );
        check(
            "select=a:b:c",
            &expect![[
                r#""failed to parse select parameter (a:b:c)" (line 1, column 4): unexpected "c" expecting "::""#
            ]],
        );
        check(
            "select=client(*",
            &expect![[
                r#""failed to parse select parameter (client(*)" (line 1, column 9): unexpected end of input expecting ")" or ",""#
            ]],
        );
        check(
            "order=id.ac",
            &expect![[
                r#""failed to parse order (id.ac)" (line 1, column 4): unexpected "c" expecting "asc", "desc", "nullsfirst" or "nullslast""#
            ]],
        );
        check(
            "order=clients(name,id)",
            &expect![[
                r#""failed to parse order (clients(name,id))" (line 1, column 8): unexpected '(' expecting letter, digit, "-", "->>", "->", delimiter (.), "," or end of input"#
            ]],
        );
        check(
            "or=(id.in.1,2,id.eq.3)",
            &expect![[
                r#""failed to parse logic tree ((id.in.1,2,id.eq.3))" (line 1, column 10): unexpected "1" expecting "(""#
            ]],
        );
        check(
            "or=)(",
            &expect![[
                r#""failed to parse logic tree ()()" (line 1, column 3): unexpected ")" expecting "(""#
            ]],
        );
        check(
            "and=(ord(id.eq.1,id.eq.1),id.eq.2)",
            &expect![[
                r#""failed to parse logic tree ((ord(id.eq.1,id.eq.1),id.eq.2))" (line 1, column 7): unexpected "d" expecting "(""#
            ]],
        );
        check(
            "or=(id.eq.1,not.xor(id.eq.2,id.eq.3))",
            &expect![[
                r#""failed to parse logic tree ((id.eq.1,not.xor(id.eq.2,id.eq.3)))" (line 1, column 16): unexpected "x" expecting logic operator (and, or)"#
            ]],
        );
        check(
            "a->>-xy=eq.1",
            &expect![[
                r#""failed to parse tree path (a->>-xy)" (line 1, column 6): unexpected "x" expecting digit"#
            ]],
        );
        check(
            &format!("select={}", "a(".repeat(17)),
            &expect![[
                r#""failed to parse select parameter (a(a(a(a(a(a(a(a(a(a(a(a(a(a(a(a(a()" (line 1, column 35): unexpected end of input expecting at most 16 resources embedded inside each other"#
            ]],
        );
        check(
            &format!("or=(a.eq.1,{}", "or(".repeat(64)),
            &expect![[
                r#""failed to parse logic tree ((a.eq.1,or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or(or()" (line 1, column 203): unexpected end of input expecting at most 64 brackets inside each other"#
            ]],
        );
        check(
            "select=%22a\nb%22\tc",
            &expect![[r#"
            "failed to parse select parameter ("a
            b"	c)" (line 2, column 9): unexpected 'c' expecting "::", ".", ")", "," or end of input"#]],
        );
    }

    #[test]
    fn sorts_parameters() {
        check(
            "select=id&id=eq.1&c.x=in.(1,%222,3%22)&order=a.desc&c.order=b&limit=5&c.limit=2&c.offset=1&or=(a.is.null,b.not.eq.2)&c.not.and=(a.eq.1,b.eq.{1,2})&on_conflict=a,b&columns=x,%20y&z",
            &expect![[
                r#"Parameters { canonical: "c.limit=2&c.not.and=%28a.eq.1%2Cb.eq.%7B1%2C2%7D%29&c.offset=1&c.order=b&c.x=in.%281%2C%222%2C3%22%29&columns=x%2C%20y&id=eq.1&limit=5&on_conflict=a%2Cb&or=%28a.is.null%2Cb.not.eq.2%29&order=a.desc&select=id&z=", select: [Field(SelectField { field: Field { name: "id", json_path: [] }, cast: None, aggregate: None, alias: None })], filters: [Filter { field: Field { name: "id", json_path: [] }, negated: false, operation: Quantified(Equal, None, "1") }], embedded_filters: [(["c"], Filter { field: Field { name: "x", json_path: [] }, negated: false, operation: In(["1", "2,3"]) })], filter_names: {"c.x", "id"}, logic: [([], Branch { negated: false, operator: Or, branches: [Leaf(Filter { field: Field { name: "a", json_path: [] }, negated: false, operation: Is(Null) }), Leaf(Filter { field: Field { name: "b", json_path: [] }, negated: true, operation: Quantified(Equal, None, "2") })] }), (["c"], Branch { negated: true, operator: And, branches: [Leaf(Filter { field: Field { name: "a", json_path: [] }, negated: false, operation: Quantified(Equal, None, "1") }), Leaf(Filter { field: Field { name: "b", json_path: [] }, negated: false, operation: Quantified(Equal, None, "{1,2}") })] })], order: [([], [OrderTerm { relation: None, field: Field { name: "a", json_path: [] }, direction: Some(Descending), nulls: None }]), (["c"], [OrderTerm { relation: None, field: Field { name: "b", json_path: [] }, direction: None, nulls: None }])], embedded_ranges: [(["c"], RowRange { offset: 1, limit: Some(2) })], columns: Some({"x", "y"}), on_conflict: Some(["a", "b"]), arguments: [] } OwnRange { limit: Some(5), offset: None }"#
            ]],
        );
    }
}
