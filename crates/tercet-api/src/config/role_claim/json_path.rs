//! The supported part of JSONPath (RFC 9535): names, indices, slices, wildcards, descendants, and filters that
//! compare with a literal. A path with a function is rejected.

use serde_json::Value;
use winnow::ascii::{dec_int, multispace0};
use winnow::combinator::{alt, cut_err, delimited, eof, opt, preceded, repeat, separated, terminated};
use winnow::prelude::*;
use winnow::token::{any, none_of, take_while};

/// A path that starts with `$`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct JsonPath(Vec<Segment>);

/// The selectors for the children of each node, and for all descendants of it with `descendants`.
#[derive(Clone, Debug, PartialEq)]
struct Segment {
    descendants: bool,
    selectors: Vec<Selector>,
}

#[derive(Clone, Debug, PartialEq)]
enum Selector {
    Name(String),
    Every,
    Index(i64),
    Slice(Option<i64>, Option<i64>, i64),
    Filter(Any),
}

/// A disjunction of conjunctions.
type Any = Vec<Vec<Test>>;

#[derive(Clone, Debug, PartialEq)]
struct Test {
    negated: bool,
    path: JsonPath,
    /// `None`: the test is true if the path selects a node.
    comparison: Option<(Comparison, Value)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
}

impl JsonPath {
    /// Parses a path; `None` if it is malformed or not supported.
    pub(super) fn parse(text: &str) -> Option<Self> {
        terminated(preceded('$', segments), eof).parse(text).ok()
    }

    /// The nodes that the path selects, in the order of the RFC.
    pub(super) fn find<'v>(&self, root: &'v Value) -> Vec<&'v Value> {
        self.0.iter().fold(vec![root], |nodes, segment| segment.walk(&nodes))
    }
}

impl Segment {
    fn walk<'v>(&self, nodes: &[&'v Value]) -> Vec<&'v Value> {
        let mut found = Vec::new();
        for node in nodes {
            if self.descendants {
                self.descend(node, &mut found);
            } else {
                self.select(node, &mut found);
            }
        }
        found
    }

    fn descend<'v>(&self, node: &'v Value, found: &mut Vec<&'v Value>) {
        self.select(node, found);
        children(node).for_each(|child| self.descend(child, found));
    }

    fn select<'v>(&self, node: &'v Value, found: &mut Vec<&'v Value>) {
        for selector in &self.selectors {
            match (selector, node) {
                (Selector::Name(name), Value::Object(object)) => found.extend(object.get(name)),
                (Selector::Index(index), Value::Array(array)) => {
                    found.extend(place(*index, array.len()).and_then(|index| array.get(index)));
                }
                (Selector::Slice(start, end, step), Value::Array(array)) => {
                    found
                        .extend(slice(array.len(), *start, *end, *step).filter_map(|index| array.get(index)));
                }
                (Selector::Every, node) => found.extend(children(node)),
                (Selector::Filter(any), node) => {
                    found.extend(
                        children(node)
                            .filter(|child| any.iter().any(|all| all.iter().all(|test| test.holds(child)))),
                    );
                }
                _ => {}
            }
        }
    }
}

impl Test {
    fn holds(&self, node: &Value) -> bool {
        let found = self.path.find(node);
        let holds = match &self.comparison {
            None => !found.is_empty(),
            // An absent node is not equal to any literal.
            Some((Comparison::Equal, literal)) => found.first().is_some_and(|value| *value == literal),
            Some((Comparison::NotEqual, literal)) => found.first().is_none_or(|value| *value != literal),
        };
        holds != self.negated
    }
}

fn children(node: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match node {
        Value::Object(object) => Box::new(object.values()),
        Value::Array(array) => Box::new(array.iter()),
        _ => Box::new(std::iter::empty()),
    }
}

/// The index in an array of this length; a negative one counts from the end.
fn place(index: i64, length: usize) -> Option<usize> {
    let length = i64::try_from(length).ok()?;
    usize::try_from(if index < 0 { length + index } else { index }).ok()
}

/// The indices of a slice (RFC 9535 section 2.3.4.2.2).
fn slice(length: usize, start: Option<i64>, end: Option<i64>, step: i64) -> Box<dyn Iterator<Item = usize>> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let from_end = |index: i64| if index < 0 { length.saturating_add(index) } else { index };
    let step_by = usize::try_from(step.unsigned_abs()).unwrap_or(usize::MAX).max(1);
    let indices: Box<dyn Iterator<Item = i64>> = if step >= 0 {
        let (start, end) = (from_end(start.unwrap_or(0)), from_end(end.unwrap_or(length)));
        Box::new((start.clamp(0, length)..end.clamp(0, length)).step_by(step_by))
    } else {
        let start = start.map_or(length - 1, from_end).clamp(-1, length - 1);
        let end = end.map_or(-1, from_end).clamp(-1, length - 1);
        Box::new((end + 1..=start).rev().step_by(step_by))
    };
    let indices = indices.filter_map(|index| usize::try_from(index).ok());
    if step == 0 { Box::new(std::iter::empty()) } else { Box::new(indices) }
}

fn segments(input: &mut &str) -> ModalResult<JsonPath> {
    repeat(0.., segment).map(JsonPath).parse_next(input)
}

fn segment(input: &mut &str) -> ModalResult<Segment> {
    let short = || alt(('*'.value(Selector::Every), name.map(Selector::Name)));
    alt((
        preceded("..", alt((bracketed, short().map(|selector| vec![selector]))))
            .map(|selectors| Segment { descendants: true, selectors }),
        preceded('.', short()).map(|selector| Segment { descendants: false, selectors: vec![selector] }),
        bracketed.map(|selectors| Segment { descendants: false, selectors }),
    ))
    .parse_next(input)
}

fn bracketed(input: &mut &str) -> ModalResult<Vec<Selector>> {
    let item = delimited(multispace0, selector, multispace0);
    delimited('[', separated(1.., item, ','), ']').parse_next(input)
}

fn selector(input: &mut &str) -> ModalResult<Selector> {
    let slice = (
        opt(dec_int),
        (multispace0, ':', multispace0),
        opt(dec_int),
        opt(preceded((multispace0, ':', multispace0), opt(dec_int))),
    );
    alt((
        quoted.map(Selector::Name),
        '*'.value(Selector::Every),
        slice.map(|(start, _, end, step)| Selector::Slice(start, end, step.flatten().unwrap_or(1))),
        dec_int.map(Selector::Index),
        preceded(('?', multispace0), cut_err(any_of)).map(Selector::Filter),
    ))
    .parse_next(input)
}

fn any_of(input: &mut &str) -> ModalResult<Any> {
    let whole = || separated(1.., all_of, (multispace0, "||", multispace0));
    alt((delimited(('(', multispace0), whole(), (multispace0, ')')), whole())).parse_next(input)
}

fn all_of(input: &mut &str) -> ModalResult<Vec<Test>> {
    separated(1.., test, (multispace0, "&&", multispace0)).parse_next(input)
}

fn test(input: &mut &str) -> ModalResult<Test> {
    let comparison = alt(("==".value(Comparison::Equal), "!=".value(Comparison::NotEqual)));
    (
        opt(terminated('!', multispace0)),
        preceded('@', segments),
        opt((delimited(multispace0, comparison, multispace0), literal)),
    )
        .map(|(negated, path, comparison)| Test { negated: negated.is_some(), path, comparison })
        .parse_next(input)
}

fn literal(input: &mut &str) -> ModalResult<Value> {
    alt((
        quoted.map(Value::String),
        "true".value(Value::Bool(true)),
        "false".value(Value::Bool(false)),
        "null".value(Value::Null),
        dec_int::<_, i64, _>.map(Value::from),
    ))
    .parse_next(input)
}

fn name(input: &mut &str) -> ModalResult<String> {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
    (any.verify(move |c: &char| first(*c)), take_while(0.., move |c: char| first(c) || c.is_ascii_digit()))
        .map(|(start, rest): (char, &str)| format!("{start}{rest}"))
        .parse_next(input)
}

fn quoted(input: &mut &str) -> ModalResult<String> {
    let text = |quote: char| {
        let character = alt((preceded('\\', any), none_of([quote, '\\'])));
        delimited(quote, repeat(0.., character), quote)
    };
    alt((text('"'), text('\''))).parse_next(input)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
    fn check(path: &str, expected: Expect) {
        let claims = json!({
            "role": "me",
            "app": { "roles": ["editor", "admin", "auditor"], "https://x/y": "named" },
            "grants": [{ "app": "a", "role": "one" }, { "app": "b", "role": "two", "off": true }],
        });
        let shown = JsonPath::parse(path)
            .map(|path| path.find(&claims).iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
        expected.assert_eq(&shown.unwrap_or_else(|| "refused".to_owned()));
    }

    #[test]
    fn paths_lead_to_nodes() {
        check("$.role", expect![[r#""me""#]]);
        check("$.app.roles[0]", expect![[r#""editor""#]]);
        check("$['app'][\"roles\"][-1]", expect![[r#""auditor""#]]);
        check("$.app['https://x/y']", expect![[r#""named""#]]);
        check("$.app.roles[1:]", expect![[r#""admin" "auditor""#]]);
        check("$.app.roles[::-1]", expect![[r#""auditor" "admin" "editor""#]]);
        check("$.app.roles[0, 2]", expect![[r#""editor" "auditor""#]]);
        check("$.app.roles[?@ == 'admin']", expect![[r#""admin""#]]);
        check("$.app.roles[?(@ != \"editor\" && @ != 'auditor')]", expect![[r#""admin""#]]);
        check("$.grants[?@.app == 'b'].role", expect![[r#""two""#]]);
        check("$.grants[?!@.off].role", expect![[r#""one""#]]);
        check("$.grants[?@.off || @.app == 'a'].role", expect![[r#""one" "two""#]]);
        check("$.grants[*].app", expect![[r#""a" "b""#]]);
        check("$..role", expect![[r#""me" "one" "two""#]]);
        check("$.nothing[0]", expect![""]);
        check("$.app.roles[7]", expect![""]);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for path in ["$.", "$[", "$.app.roles[?length(@) == 1]", "$.a b", "$['a]", "$[?@ < 1]", "role", "$$"]
        {
            check(path, expect!["refused"]);
        }
    }
}
