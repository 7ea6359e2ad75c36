//! Parses the query string into its parameters.

use std::collections::{BTreeMap, BTreeSet};

use super::field::{EmbedPath, Field, embedded_field, field_name};
use super::filter::{Filter, condition, whole_value};
use super::form;
use super::grammar::{
    Expected, Input, ParseError, Parsed, attempt, character, labelled, optional, read, read_closed, rest,
    separated, some_run, spaced,
};
use super::logic::{LogicTree, logic_path, logic_tree};
use super::order::{OrderTerm, order};
use super::range::{OwnRange, RowRange};
use super::reader::{Reader, last_word};
use super::select::{SelectItem, selection};
use crate::error::RequestError;

/// The parameters of a query string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// The canonical query string: parameters sorted by name and encoded, for `Content-Location`.
    pub canonical: String,
    /// `select=`; `*` if absent.
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
    /// Arguments of a routine called with `GET`: parameters without an operator, in order, including repeated ones.
    pub arguments: Vec<(String, String)>,
}

/// Parameters that are never filters, even with a prefix.
const RESERVED: [&str; 3] = ["select", "columns", "on_conflict"];

/// Parses a query string for its reader.
///
/// # Errors
/// PGRST100 with the position, if a parameter is malformed or not supported by the operation.
pub(super) fn parse(query: &str, reader: Reader) -> Result<(Parameters, OwnRange), RequestError> {
    let pairs: Vec<_> = form::decode(query.as_bytes(), reader.stray_percent()).collect::<Result<_, _>>()?;
    let canonical = form::canonical(&pairs);
    let pairs = pairs.into_iter().map(with_value).collect::<Result<Vec<_>, _>>()?;
    check_names(&pairs, reader)?;
    let mut parameters = Parameters {
        canonical,
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
        let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        pairs.filter(|(name, _)| suffixes.contains(&last_word(name)))
    };
    let named = |wanted: &str| pairs.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());

    for (name, value) in given(&["order"]) {
        reject_unsupported(name, reader.unsupported_shaping())?;
        let (path, _) = tree_path(name)?;
        let terms = read(value, "order", value, order)?;
        parameters.order.push((path, terms));
    }
    for (name, value) in given(&["and", "or"]) {
        let (path, operator) = read(name, "logic path", name, logic_path)?;
        reject_unsupported(name, unsupported_condition(reader, &path))?;
        let text = format!("{operator}{value}");
        let tree = read_closed(&text, "logic tree", value, reader.closing(), logic_tree)?;
        parameters.logic.push((path, tree));
    }
    if let Some(value) = named("columns") {
        let columns = read(value, "columns parameter", value, columns)?;
        parameters.columns = Some(columns.into_iter().collect());
    }
    let select = named("select").unwrap_or("*");
    parameters.select = read_closed(select, "select parameter", select, reader.closing(), selection)?;
    for (name, value) in &pairs {
        let is_reserved = RESERVED.contains(&name.as_str())
            || matches!(last_word(name), "order" | "limit" | "offset" | "and" | "or");
        if !is_reserved {
            filter(&mut parameters, name, value, reader)?;
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
        let word = last_word(name);
        let rows = Some(read(value, &format!("{word} parameter"), value, integer)?);
        if word == "limit" { range.limit = rows } else { range.offset = rows }
    }
    parameters.embedded_ranges = ranges
        .into_iter()
        .map(|(path, range)| (path, RowRange { offset: range.offset.unwrap_or(0), limit: range.limit }))
        .collect();
    Ok((parameters, own))
}

fn with_value((name, value): (String, Option<String>)) -> Result<(String, String), RequestError> {
    match value {
        Some(value) => Ok((name, value)),
        // a name without a value requests nothing
        None => Err(read(&name, "parameter", &name, |input| {
            rest(input);
            character('=')(input).map(|_| ())
        })
        .err()
        .unwrap_or(RequestError::Path)),
    }
}

/// Rejects parameters that the operation does not support, and repeated ones.
fn check_names(pairs: &[(String, String)], reader: Reader) -> Result<(), RequestError> {
    let mut once = BTreeSet::new();
    for (name, _) in pairs {
        reject_unsupported(name, reader.unsupported(name))?;
        let counts_once =
            RESERVED.contains(&name.as_str()) || matches!(last_word(name), "order" | "limit" | "offset");
        if counts_once && !once.insert(name.as_str()) {
            return Err(repeated_parameter(name.clone()));
        }
    }
    Ok(())
}

fn unsupported_condition(reader: Reader, path: &EmbedPath) -> Option<&'static str> {
    if path.is_empty() { reader.unsupported_filters() } else { reader.unsupported_shaping() }
}

fn reject_unsupported(name: &str, reason: Option<&'static str>) -> Result<(), RequestError> {
    reason.map_or(Ok(()), |reason| Err(unsupported(name, reason)))
}

fn unsupported(name: &str, reason: &str) -> RequestError {
    RequestError::Parameter {
        message: format!("\"failed to parse parameter ({name})\" (line 1, column 1)"),
        details: format!("unexpected \"{name}\": {reason}"),
    }
}

/// A parameter that must not be repeated is given twice.
#[expect(clippy::needless_pass_by_value, reason = "made where the name is owned")]
pub(crate) fn repeated_parameter(name: String) -> RequestError {
    unsupported(&name, "it is given twice")
}

fn filter(parameters: &mut Parameters, name: &str, value: &str, reader: Reader) -> Result<(), RequestError> {
    let (path, field) = tree_path(name)?;
    let condition = read(value, "filter", value, |input| {
        let condition = |input: &mut _| condition(input, |input| Ok(whole_value(input)));
        if !reader.takes_arguments() {
            return condition(input).map(Some);
        }
        let condition = optional(input, condition)?;
        if condition.is_none() {
            rest(input);
        }
        Ok(condition)
    })?;
    parameters.filter_names.insert(name.to_owned());
    let Some((negated, operation)) = condition else {
        if !path.is_empty() || !field.json_path.is_empty() {
            reject_unsupported(name, Some("an argument has the name of a parameter"))?;
        }
        parameters.arguments.push((field.name, value.to_owned()));
        return Ok(());
    };
    reject_unsupported(name, unsupported_condition(reader, &path))?;
    let filter = Filter { field, negated, operation };
    if path.is_empty() {
        parameters.filters.push(filter);
    } else {
        parameters.embedded_filters.push((path, filter));
    }
    Ok(())
}

/// A number of rows, in 64 bits like PostgreSQL's.
fn integer(input: &mut Input<'_>) -> Parsed<i64> {
    labelled(input, "integer of 64 bits", |input| {
        attempt(input, |input| {
            spaced(input, |input| {
                let sign = optional(input, character('-'))?.map_or("", |_| "-");
                let digits = some_run(input, |c| c.is_ascii_digit(), &[Expected::Label("digit")])?;
                format!("{sign}{digits}").parse().map_err(|_| ParseError)
            })
        })
    })
}

fn tree_path(name: &str) -> Result<(EmbedPath, Field), RequestError> {
    read(name, "tree path", name, embedded_field)
}

fn columns(input: &mut Input<'_>) -> Parsed<Vec<String>> {
    separated(input, field_name, |input| spaced(input, character(',')))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::request::preferences::Preferences;
    use crate::request::{Action, Invocation, Mutation};

    fn check(query: &str, expect: &Expect) {
        let action = Action::Read { relation: "t".into(), head: false };
        check_for(&action, "", query, expect);
    }

    fn check_for(action: &Action, prefer: &'static str, query: &str, expect: &Expect) {
        let headers = [(http::HeaderName::from_static("prefer"), http::HeaderValue::from_static(prefer))];
        let preferences = Preferences::from_headers(&headers.into_iter().collect(), false, false);
        let actual = match parse(query, Reader::new(action, &preferences)) {
            Ok((parameters, own)) => format!("{parameters:?} {own:?}"),
            Err(error) => format!("{error}: {}", error.details().unwrap_or_default()),
        };
        expect.assert_eq(&actual);
    }

    #[test]
    fn reports_position_and_expectation() {
        check(
            "or=()",
            &expect![[
                r#""failed to parse logic tree (())" (line 1, column 4): unexpected ")" expecting field name (* or [a..z0..9_$]), negation operator (not) or logic operator (and, or)"#
            ]],
        );
        check(
            "columns=",
            &expect![[
                r#""failed to parse parameter (columns)" (line 1, column 1): unexpected "columns": columns can only be chosen for a body of POST or PATCH, or of a call"#
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
    fn rejects_surplus_input() {
        for query in [
            "id!=eq.1",
            "id>=eq.1",
            "id)=eq.1",
            "a.b!=eq.1",
            "id=is.nullx",
            "id=in.(1,2)x",
            "a=in.(1))",
            "select=-dash",
            "select=a,",
            "select=a,-b",
            "select=a!b!c(d)",
            "select=a!inner!left(d)",
            "order=a.desc!",
            "a!.order=b",
            "or=(a.eq.1)x",
            "o!r=eq.1",
            "not.not.or=(a.eq.1)",
            "a!.or=(a.eq.1)",
            "limit=ten",
            "limit=",
            "offset=1x",
            "limit=99999999999999999999",
            "a!.limit=1",
            "id",
            "select",
            "id=eq.1&select=a&select=b",
            "limit=1&limit=2",
            "a.order=b&a.order=c",
            "columns=a",
            "on_conflict=a",
        ] {
            let action = Action::Read { relation: "t".into(), head: false };
            let error = parse(query, Reader::new(&action, &Preferences::default()));
            let error = error.expect_err(query);
            assert_eq!((error.code(), error.status().as_u16()), ("PGRST100", 400), "{query}");
            let text = format!("{error}: {}", error.details().unwrap_or_default());
            assert!(text.contains("(line 1, column ") && text.contains(": unexpected "), "{query}: {text}");
        }
        check(
            "id!=eq.1",
            &expect![[
                r#""failed to parse tree path (id!)" (line 1, column 3): unexpected '!' expecting letter, digit, "-", delimiter (.), "->>", "->" or end of input"#
            ]],
        );
        check(
            "select=-dash",
            &expect![[
                r#""failed to parse select parameter (-dash)" (line 1, column 1): unexpected '-' expecting "...", field name (* or [a..z0..9_$]), "*", "count()" or end of input"#
            ]],
        );
        check(
            "limit=ten",
            &expect![[
                r#""failed to parse limit parameter (ten)" (line 1, column 1): unexpected "t" expecting integer of 64 bits"#
            ]],
        );
        check(
            "id",
            &expect![[
                r#""failed to parse parameter (id)" (line 1, column 3): unexpected end of input expecting "=""#
            ]],
        );
        check(
            "limit=1&limit=2",
            &expect![[
                r#""failed to parse parameter (limit)" (line 1, column 1): unexpected "limit": it is given twice"#
            ]],
        );
        check(
            "select=a!b!c(d)",
            &expect![[
                r#""failed to parse select parameter (a!b!c(d))" (line 1, column 2): unexpected '!' expecting letter, digit, "-", "->>", "->", "::", ".", ")", "," or end of input"#
            ]],
        );
    }

    #[test]
    fn rejects_parameters_the_operation_does_not_support() {
        let write = |mutation| Action::Mutate { relation: "t".into(), mutation };
        let call = |invocation| Action::Call { routine: "f".into(), invocation };
        let rejects = |action: &Action, prefer: &'static str, query: &str| {
            let headers = [(http::HeaderName::from_static("prefer"), http::HeaderValue::from_static(prefer))];
            let preferences = Preferences::from_headers(&headers.into_iter().collect(), false, false);
            let parsed = parse(query, Reader::new(action, &preferences));
            parsed.map_or_else(|error| Some(error.code()), |_| None) == Some("PGRST100")
        };
        for mutation in [Mutation::Create, Mutation::Update, Mutation::Delete] {
            for query in ["limit=1", "offset=1", "a.limit=1", "a.offset=1"] {
                assert!(rejects(&write(mutation), "return=representation", query), "{mutation:?} {query}");
            }
        }
        for mutation in [Mutation::Create, Mutation::Update, Mutation::Delete, Mutation::SingleUpsert] {
            for query in ["order=a", "a.order=b", "a.b=eq.1", "a.or=(b.eq.1)"] {
                for prefer in ["", "return=minimal", "return=headers-only"] {
                    assert!(rejects(&write(mutation), prefer, query), "{mutation:?} {query} {prefer}");
                }
                assert!(!rejects(&write(mutation), "return=representation", query), "{mutation:?} {query}");
            }
        }
        for (action, prefer, query, expected) in [
            (write(Mutation::Create), "", "id=eq.1", true),
            (write(Mutation::Create), "", "or=(id.eq.1)", true),
            (write(Mutation::Create), "", "columns=a&select=b", false),
            (write(Mutation::Create), "", "on_conflict=a", true),
            (write(Mutation::Create), "resolution=merge-duplicates", "on_conflict=a", false),
            (write(Mutation::Update), "", "columns=a&id=eq.1", false),
            (write(Mutation::Update), "resolution=merge-duplicates", "on_conflict=a", true),
            (write(Mutation::Delete), "", "columns=a", true),
            (write(Mutation::SingleUpsert), "", "columns=a", true),
            (call(Invocation::Post), "", "columns=a&limit=1&order=b", false),
            (call(Invocation::Post), "", "on_conflict=a", true),
            (call(Invocation::Read { head: false }), "", "a=1&limit=1", false),
            (call(Invocation::Read { head: false }), "", "columns=a", true),
            (call(Invocation::Read { head: false }), "", "a.b=1", true),
            (call(Invocation::Read { head: false }), "", "a->b=1", true),
            (call(Invocation::Read { head: false }), "", "a!=1", true),
            (Action::RelationInfo { relation: "t".into() }, "", "columns=a&limit=1", false),
        ] {
            assert_eq!(rejects(&action, prefer, query), expected, "{action:?} {query}");
        }
        check_for(
            &write(Mutation::Delete),
            "",
            "limit=1",
            &expect![[
                r#""failed to parse parameter (limit)" (line 1, column 1): unexpected "limit": writes cannot be limited"#
            ]],
        );
        check_for(
            &write(Mutation::Update),
            "",
            "order=a",
            &expect![[
                r#""failed to parse parameter (order)" (line 1, column 1): unexpected "order": without "Prefer: return=representation" no rows are returned"#
            ]],
        );
    }

    #[test]
    fn sorts_parameters() {
        check(
            "select=id&id=eq.1&c.x=in.(1,%222,3%22)&order=a.desc&c.order=b&limit=5&c.limit=2&c.offset=1&or=(a.is.null,b.not.eq.2)&c.not.and=(a.eq.1,b.eq.{1,2})",
            &expect![[
                r#"Parameters { canonical: "c.limit=2&c.not.and=%28a.eq.1%2Cb.eq.%7B1%2C2%7D%29&c.offset=1&c.order=b&c.x=in.%281%2C%222%2C3%22%29&id=eq.1&limit=5&or=%28a.is.null%2Cb.not.eq.2%29&order=a.desc&select=id", select: [Field(SelectField { field: Field { name: "id", json_path: [] }, cast: None, aggregate: None, alias: None })], filters: [Filter { field: Field { name: "id", json_path: [] }, negated: false, operation: Quantified(Equal, None, "1") }], embedded_filters: [(["c"], Filter { field: Field { name: "x", json_path: [] }, negated: false, operation: In(["1", "2,3"]) })], filter_names: {"c.x", "id"}, logic: [([], Branch { negated: false, operator: Or, branches: [Leaf(Filter { field: Field { name: "a", json_path: [] }, negated: false, operation: Is(Null) }), Leaf(Filter { field: Field { name: "b", json_path: [] }, negated: true, operation: Quantified(Equal, None, "2") })] }), (["c"], Branch { negated: true, operator: And, branches: [Leaf(Filter { field: Field { name: "a", json_path: [] }, negated: false, operation: Quantified(Equal, None, "1") }), Leaf(Filter { field: Field { name: "b", json_path: [] }, negated: false, operation: Quantified(Equal, None, "{1,2}") })] })], order: [([], [OrderTerm { relation: None, field: Field { name: "a", json_path: [] }, direction: Some(Descending), nulls: None }]), (["c"], [OrderTerm { relation: None, field: Field { name: "b", json_path: [] }, direction: None, nulls: None }])], embedded_ranges: [(["c"], RowRange { offset: 1, limit: Some(2) })], columns: None, on_conflict: None, arguments: [] } OwnRange { limit: Some(5), offset: None }"#
            ]],
        );
    }
}
