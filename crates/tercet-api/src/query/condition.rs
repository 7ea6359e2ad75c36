//! Conditions and fields as SQL.

use super::fragment::{Sql, array_literal};
use crate::plan::{Condition, TypedField};
use crate::request::field::{Arrow, JsonOperand, JsonStep};
use crate::request::filter::{
    FullTextOperator, IsValue, Operation, QuantifiedOperator, Quantifier, SimpleOperator,
};
use crate::request::logic::LogicOperator;
use crate::schema::QualifiedName;

/// A field of a relation, for comparison and order.
pub(super) fn field(sql: &mut Sql, relation: &QualifiedName, field: &TypedField) {
    match &field.text_search {
        None => bare_field(sql, relation, field),
        Some(search) => {
            sql.push("to_tsvector(");
            text_search_language(sql, search.language.as_deref());
            bare_field(sql, relation, field);
            sql.push(")");
        }
    }
}

fn bare_field(sql: &mut Sql, relation: &QualifiedName, field: &TypedField) {
    if field.whole_row {
        sql.qualified(relation);
    } else if field.path.is_empty() {
        sql.column(relation, &field.name);
    } else if field.to_json {
        sql.push("to_jsonb(").column(relation, &field.name).push(")");
        path(sql, &field.path);
    } else {
        sql.column(relation, &field.name);
        path(sql, &field.path);
    }
}

fn path(sql: &mut Sql, steps: &[JsonStep]) {
    for step in steps {
        sql.push(match step.arrow {
            Arrow::Json => "->",
            Arrow::Text => "->>",
        });
        match &step.operand {
            JsonOperand::Key(key) => sql.value(key.clone()),
            JsonOperand::Index(index) => sql.value(index.clone()).push("::int"),
        };
    }
}

fn text_search_language(sql: &mut Sql, language: Option<&str>) {
    if let Some(language) = language {
        sql.value(language.to_owned()).push(", ");
    }
}

/// Tests whether an embedding has rows: on its joined rows, or with EXISTS where nothing is joined.
pub(super) type Presence<'a> = &'a dyn Fn(&mut Sql, &str, bool);

/// Tests the embedding's joined rows.
pub(super) fn joined_presence(sql: &mut Sql, join_alias: &str, present: bool) {
    sql.name(join_alias).push(if present { " IS DISTINCT FROM NULL" } else { " IS NOT DISTINCT FROM NULL" });
}

/// A condition on a relation's rows.
pub(super) fn condition(
    sql: &mut Sql,
    relation: &QualifiedName,
    condition: &Condition,
    presence: Presence<'_>,
) {
    match condition {
        Condition::Branch { negated, operator, branches } => {
            if *negated {
                sql.push("NOT ");
            }
            let separator = match operator {
                LogicOperator::And => " AND ",
                LogicOperator::Or => " OR ",
            };
            sql.push("(")
                .list(branches, separator, |sql, branch| self::condition(sql, relation, branch, presence))
                .push(")");
        }
        Condition::Embedded { join_alias, present } => presence(sql, join_alias, *present),
        Condition::Comparison { field, negated, operation } => {
            if *negated {
                sql.push("NOT ");
            }
            self::field(sql, relation, field);
            comparison(sql, field, operation);
        }
    }
}

fn comparison(sql: &mut Sql, field: &TypedField, operation: &Operation) {
    match operation {
        Operation::Simple(operator, value) => {
            sql.push(simple_operator(*operator));
            typed_value(sql, field, value);
        }
        Operation::Quantified(operator, quantifier, value) => {
            sql.push(quantified_operator(*operator));
            match quantifier {
                Some(Quantifier::Any) => sql.push("ANY("),
                Some(Quantifier::All) => sql.push("ALL("),
                None => sql,
            };
            if matches!(operator, QuantifiedOperator::Like | QuantifiedOperator::ILike) {
                sql.value(value.replace('*', "%"));
            } else {
                typed_value(sql, field, value);
            }
            if quantifier.is_some() {
                sql.push(")");
            }
        }
        // `= ANY` with one array parameter supports an empty list, and its text is the same for any length.
        Operation::In(values) => {
            let literal = match values.as_slice() {
                [only] if only.is_empty() => "{}".to_owned(),
                values => array_literal(values),
            };
            match &field.transform {
                None => sql.push(" = ANY (").value(literal).push(")"),
                Some(transform) => sql
                    .push(" = ANY (SELECT ")
                    .catalogue(transform)
                    .push("(unnest(")
                    .value(literal)
                    .push("::text[])))"),
            };
        }
        Operation::Is(value) => {
            sql.push(match value {
                IsValue::Null => " IS NULL",
                IsValue::NotNull => " IS NOT NULL",
                IsValue::True => " IS TRUE",
                IsValue::False => " IS FALSE",
                IsValue::Unknown => " IS UNKNOWN",
            });
        }
        Operation::IsDistinctFrom(value) => {
            sql.push(" IS DISTINCT FROM ").value(value.clone());
        }
        Operation::FullText { operator, language, query } => {
            sql.push(match operator {
                FullTextOperator::Query => " @@ to_tsquery(",
                FullTextOperator::Plain => " @@ plainto_tsquery(",
                FullTextOperator::Phrase => " @@ phraseto_tsquery(",
                FullTextOperator::Websearch => " @@ websearch_to_tsquery(",
            });
            text_search_language(sql, language.as_deref());
            sql.value(query.clone()).push(")");
        }
    }
}

/// The value, converted by the domain's custom representation if there is one.
fn typed_value(sql: &mut Sql, field: &TypedField, value: &str) {
    match &field.transform {
        None => sql.value(value.to_owned()),
        Some(transform) => sql.catalogue(transform).push("(").value(value.to_owned()).push(")"),
    };
}

fn simple_operator(operator: SimpleOperator) -> &'static str {
    match operator {
        SimpleOperator::NotEqual => " <> ",
        SimpleOperator::Contains => " @> ",
        SimpleOperator::Contained => " <@ ",
        SimpleOperator::Overlap => " && ",
        SimpleOperator::StrictlyLeft => " << ",
        SimpleOperator::StrictlyRight => " >> ",
        SimpleOperator::NotExtendsRight => " &< ",
        SimpleOperator::NotExtendsLeft => " &> ",
        SimpleOperator::Adjacent => " -|- ",
    }
}

fn quantified_operator(operator: QuantifiedOperator) -> &'static str {
    match operator {
        QuantifiedOperator::Equal => " = ",
        QuantifiedOperator::GreaterThanEqual => " >= ",
        QuantifiedOperator::GreaterThan => " > ",
        QuantifiedOperator::LessThanEqual => " <= ",
        QuantifiedOperator::LessThan => " < ",
        QuantifiedOperator::Like => " like ",
        QuantifiedOperator::ILike => " ilike ",
        QuantifiedOperator::Match => " ~ ",
        QuantifiedOperator::IMatch => " ~* ",
    }
}
