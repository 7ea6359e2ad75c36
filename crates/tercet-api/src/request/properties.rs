//! Properties of the query string parser: it never panics, and parses what was generated from a value to the same
//! value.

use std::fmt::Write as _;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::field::{Arrow, EmbedPath, Field, JsonOperand, JsonStep};
use super::filter::{
    Filter, FullTextOperator, IsValue, Operation, QuantifiedOperator, Quantifier, SimpleOperator,
};
use super::form;
use super::logic::{LogicOperator, LogicTree};
use super::order::{Direction, Nulls, OrderTerm};
use super::parameters::parse;
use super::preferences::Preferences;
use super::reader::Reader;
use super::select::{Aggregate, AggregateFunction, JoinType, SelectField, SelectItem, SelectRelation};
use super::{Action, Invocation};

/// The reader of a read, or of a call.
fn reader(is_routine_read: bool) -> Reader {
    let action = if is_routine_read {
        Action::Call { routine: "f".into(), invocation: Invocation::Read { head: false } }
    } else {
        Action::Read { relation: "t".into(), head: false }
    };
    Reader::new(&action, &Preferences::default())
}

/// A double-quoted text with escapes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// An optional text after a separator.
fn behind(mark: &str, text: Option<&str>) -> String {
    text.map(|text| format!("{mark}{text}")).unwrap_or_default()
}

fn write_field(field: &Field) -> String {
    let mut text = quoted(&field.name);
    for step in &field.json_path {
        text.push_str(match step.arrow {
            Arrow::Json => "->",
            Arrow::Text => "->>",
        });
        match &step.operand {
            JsonOperand::Key(key) => text.push_str(&quoted(key)),
            JsonOperand::Index(index) => text.push_str(index.trim_start_matches('+')),
        }
    }
    text
}

fn write_selection(items: &[SelectItem]) -> String {
    items.iter().map(write_item).collect::<Vec<_>>().join(",")
}

fn write_item(item: &SelectItem) -> String {
    let mut text = String::new();
    match item {
        SelectItem::Field(field) => {
            if let Some(alias) = &field.alias {
                write!(text, "{}:", quoted(alias)).unwrap();
            }
            text.push_str(&write_field(&field.field));
            text.push_str(&behind("::", field.cast.as_deref()));
            if let Some(Aggregate { function, cast }) = &field.aggregate {
                write!(text, ".{}()", format!("{function:?}").to_lowercase()).unwrap();
                text.push_str(&behind("::", cast.as_deref()));
            }
        }
        SelectItem::Relation(relation) | SelectItem::Spread(relation) => {
            if matches!(item, SelectItem::Spread(_)) {
                text.push_str("...");
            }
            if let Some(alias) = &relation.alias {
                write!(text, "{}:", quoted(alias)).unwrap();
            }
            text.push_str(&quoted(&relation.name));
            text.push_str(&behind("!", relation.hint.as_deref().map(quoted).as_deref()));
            match relation.join {
                Some(JoinType::Inner) => text.push_str("!inner"),
                Some(JoinType::Left) => text.push_str("!left"),
                None => {}
            }
            write!(text, "({})", write_selection(&relation.items)).unwrap();
        }
    }
    text
}

/// A condition; inside a logic tree its operand is quoted.
fn write_condition(filter: &Filter, nested: bool) -> String {
    let value = |value: &str| if nested { quoted(value) } else { value.to_owned() };
    let not = if filter.negated { "not." } else { "" };
    let condition = match &filter.operation {
        Operation::Simple(SimpleOperator::NotEqual, operand) => format!("neq.{}", value(operand)),
        Operation::Simple(SimpleOperator::Contains, operand) => format!("cs.{}", value(operand)),
        Operation::Quantified(QuantifiedOperator::GreaterThanEqual, quantifier, operand) => {
            let quantifier = match quantifier {
                Some(Quantifier::Any) => "(any)",
                Some(Quantifier::All) => "(all)",
                None => "",
            };
            format!("gte{quantifier}.{}", value(operand))
        }
        Operation::In(elements) => {
            format!("in.({})", elements.iter().map(|element| quoted(element)).collect::<Vec<_>>().join(","))
        }
        Operation::Is(IsValue::NotNull) => "is.not_null".into(),
        Operation::IsDistinctFrom(operand) => format!("isdistinct.{}", value(operand)),
        Operation::FullText { operator: FullTextOperator::Websearch, language, query } => {
            let language = language.as_ref().map(|name| format!("({name})")).unwrap_or_default();
            format!("wfts{language}.{}", value(query))
        }
        other => panic!("{other:?} is not generated"),
    };
    format!("{not}{condition}")
}

fn write_tree(tree: &LogicTree) -> String {
    match tree {
        LogicTree::Leaf(filter) => {
            format!("{}.{}", write_field(&filter.field), write_condition(filter, true))
        }
        LogicTree::Branch { negated, operator, branches } => format!(
            "{}{}({})",
            if *negated { "not." } else { "" },
            match operator {
                LogicOperator::And => "and",
                LogicOperator::Or => "or",
            },
            branches.iter().map(write_tree).collect::<Vec<_>>().join(","),
        ),
    }
}

fn write_order(terms: &[OrderTerm]) -> String {
    let term = |term: &OrderTerm| {
        let mut text = match &term.relation {
            Some(relation) => format!("{}({})", quoted(relation), write_field(&term.field)),
            None => write_field(&term.field),
        };
        text.push_str(match term.direction {
            Some(Direction::Ascending) => ".asc",
            Some(Direction::Descending) => ".desc",
            None => "",
        });
        text.push_str(match term.nulls {
            Some(Nulls::First) => ".nullsfirst",
            Some(Nulls::Last) => ".nullslast",
            None => "",
        });
        text
    };
    terms.iter().map(term).collect::<Vec<_>>().join(",")
}

fn a_field() -> impl Strategy<Value = Field> {
    let operand = prop_oneof![
        any::<String>().prop_map(JsonOperand::Key),
        (any::<bool>(), "[0-9]{1,30}").prop_map(|(negative, digits)| JsonOperand::Index(format!(
            "{}{digits}",
            if negative { '-' } else { '+' }
        ))),
    ];
    let step = (prop_oneof![Just(Arrow::Json), Just(Arrow::Text)], operand)
        .prop_map(|(arrow, operand)| JsonStep { arrow, operand });
    (any::<String>(), vec(step, 0..3)).prop_map(|(name, json_path)| Field { name, json_path })
}

fn a_type() -> impl Strategy<Value = String> {
    "[a-z_][a-z0-9_]{0,8}"
}

fn an_item() -> impl Strategy<Value = SelectItem> {
    let function = prop_oneof![
        Just(AggregateFunction::Sum),
        Just(AggregateFunction::Avg),
        Just(AggregateFunction::Count),
        Just(AggregateFunction::Max),
        Just(AggregateFunction::Min),
    ];
    let aggregate =
        (function, option::of(a_type())).prop_map(|(function, cast)| Aggregate { function, cast });
    let field = (a_field(), option::of(a_type()), option::of(aggregate), option::of(any::<String>()))
        .prop_map(|(field, cast, aggregate, alias)| {
            SelectItem::Field(SelectField { field, cast, aggregate, alias })
        });
    field.prop_recursive(3, 16, 4, |item| {
        let name = any::<String>().prop_filter("count is an aggregate", |name| name != "count");
        let join = prop_oneof![Just(JoinType::Inner), Just(JoinType::Left)];
        let parts = (
            name,
            option::of(any::<String>()),
            option::of(any::<String>()),
            option::of(join),
            vec(item, 0..4),
        );
        (any::<bool>(), parts).prop_map(|(spread, (name, alias, hint, join, items))| {
            if spread {
                SelectItem::Spread(SelectRelation { name, alias: None, hint, join, items })
            } else {
                SelectItem::Relation(SelectRelation { name, alias, hint, join, items })
            }
        })
    })
}

fn a_filter() -> impl Strategy<Value = Filter> {
    let quantifier = prop_oneof![Just(Quantifier::Any), Just(Quantifier::All)];
    let operation = prop_oneof![
        any::<String>().prop_map(|operand| Operation::Simple(SimpleOperator::NotEqual, operand)),
        any::<String>().prop_map(|operand| Operation::Simple(SimpleOperator::Contains, operand)),
        (option::of(quantifier), any::<String>()).prop_map(|(quantifier, operand)| {
            Operation::Quantified(QuantifiedOperator::GreaterThanEqual, quantifier, operand)
        }),
        vec(any::<String>(), 1..4).prop_map(Operation::In),
        Just(Operation::Is(IsValue::NotNull)),
        any::<String>().prop_map(Operation::IsDistinctFrom),
        (option::of(a_type()), any::<String>()).prop_map(|(language, query)| Operation::FullText {
            operator: FullTextOperator::Websearch,
            language,
            query,
        }),
    ];
    (a_field(), any::<bool>(), operation).prop_map(|(field, negated, operation)| Filter {
        field,
        negated,
        operation,
    })
}

fn a_tree() -> impl Strategy<Value = LogicTree> {
    a_filter().prop_map(LogicTree::Leaf).prop_recursive(3, 12, 3, |tree| {
        let operator = prop_oneof![Just(LogicOperator::And), Just(LogicOperator::Or)];
        (any::<bool>(), operator, vec(tree, 1..3))
            .prop_map(|(negated, operator, branches)| LogicTree::Branch { negated, operator, branches })
    })
}

fn an_order() -> impl Strategy<Value = Vec<OrderTerm>> {
    let direction = prop_oneof![Just(Direction::Ascending), Just(Direction::Descending)];
    let nulls = prop_oneof![Just(Nulls::First), Just(Nulls::Last)];
    let term = (option::of(any::<String>()), a_field(), option::of(direction), option::of(nulls))
        .prop_map(|(relation, field, direction, nulls)| OrderTerm { relation, field, direction, nulls });
    vec(term, 1..4)
}

/// A query string with a single parameter.
fn query(name: &str, value: &str) -> String {
    form::canonical(&[(name.to_owned(), Some(value.to_owned()))])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parses_or_rejects_any_text(text in any::<String>(), is_routine_read in any::<bool>()) {
        _ = parse(&text, reader(is_routine_read));
        for name in ["select", "order", "or", "not.and", "columns", "a.b", "limit", "on_conflict"] {
            _ = parse(&query(name, &text), reader(is_routine_read));
        }
        _ = parse(&query(&text, "eq.1"), reader(is_routine_read));
    }

    #[test]
    fn parses_or_rejects_any_tokens(text in "[a-z0-9.,:!()>\"\\\\{}*_ -]{0,60}") {
        for name in ["select", "order", "or", "columns", "a", "a->b"] {
            _ = parse(&query(name, &text), reader(false));
        }
    }

    #[test]
    fn round_trips_selections(items in vec(an_item(), 0..5)) {
        let (parameters, _) = parse(&query("select", &write_selection(&items)), reader(false)).unwrap();
        prop_assert_eq!(parameters.select, items);
    }

    #[test]
    fn round_trips_filters(filter in a_filter(), path in vec("[a-z]{1,5}", 0..3)) {
        let path: EmbedPath = path;
        let name = path.iter().cloned().chain([write_field(&filter.field)]).collect::<Vec<_>>().join(".");
        prop_assume!(!["order", "limit", "offset", "and", "or"].contains(&name.rsplit('.').next().unwrap_or_default()));
        let (parameters, _) = parse(&query(&name, &write_condition(&filter, false)), reader(false)).unwrap();
        if path.is_empty() {
            prop_assert_eq!(parameters.filters, vec![filter]);
        } else {
            prop_assert_eq!(parameters.embedded_filters, vec![(path, filter)]);
        }
    }

    #[test]
    fn round_trips_logic_trees(branches in vec(a_tree(), 1..4)) {
        let written = branches.iter().map(write_tree).collect::<Vec<_>>().join(",");
        let (parameters, _) = parse(&query("c.not.or", &format!("({written})")), reader(false)).unwrap();
        let tree = LogicTree::Branch { negated: true, operator: LogicOperator::Or, branches };
        prop_assert_eq!(parameters.logic, vec![(vec!["c".to_owned()], tree)]);
    }

    #[test]
    fn round_trips_orders(terms in an_order()) {
        let (parameters, _) = parse(&query("order", &write_order(&terms)), reader(false)).unwrap();
        prop_assert_eq!(parameters.order, vec![(vec![], terms)]);
    }
}
