//! Spread embeddings: resolves which of their columns appear in the parent, and at which level their aggregates
//! group.

use super::{ReadNode, Shape, SpreadField};
use crate::error::{ApiError, RequestError};

const TO_MANY_AGGREGATE: &str = "Aggregates are not implemented for one-to-many or many-to-many spreads.";

/// Fills in the columns of every spread embedding, innermost first. An aggregate in a to-one spread would aggregate a
/// single row: it moves up to the first node that is not such a spread. `names` numbers the generated names.
pub(super) fn arrange(node: &mut ReadNode, names: &mut usize) -> Result<(), ApiError> {
    for child in &mut node.children {
        arrange(child, names)?;
        let fields = match &child.embed {
            Some(embed) => match &embed.shape {
                Shape::Spread(_) => Some((true, shown_fields(child, true, names))),
                Shape::SpreadArrays(_) => Some((false, shown_fields(child, false, names))),
                Shape::Object | Shape::Array => None,
            },
            None => None,
        };
        match (&mut child.embed, fields) {
            (Some(embed), Some((true, fields))) => embed.shape = Shape::Spread(fields),
            (Some(embed), Some((false, fields))) => {
                let aggregates = child.select.iter().any(|selected| selected.aggregate.is_some());
                if aggregates || fields.iter().any(|field| field.aggregate.is_some()) {
                    return Err(RequestError::NotImplemented(TO_MANY_AGGREGATE.into()).into());
                }
                embed.shape = Shape::SpreadArrays(fields);
            }
            _ => {}
        }
    }
    Ok(())
}

/// The columns of a spread node as seen by its parent. With `hoist`, aggregates move to the parent and the node
/// selects the plain value. Columns whose names conflict get a generated name in SQL; the result keeps the original.
fn shown_fields(node: &mut ReadNode, hoist: bool, names: &mut usize) -> Vec<SpreadField> {
    let mut fields: Vec<SpreadField> = Vec::new();
    for selected in &mut node.select {
        let shown = selected.alias.as_ref().unwrap_or(&selected.field.name).clone();
        if hoist && let Some(aggregate) = selected.aggregate.take() {
            let name = made_up(names);
            let alias = selected.alias.replace(name.clone());
            fields.push(SpreadField { name, aggregate: Some(aggregate), alias });
        } else if shown != "*" && is_taken(&fields, &shown) {
            let name = made_up(names);
            selected.alias = Some(name.clone());
            fields.push(SpreadField { name, aggregate: None, alias: Some(shown) });
        } else {
            fields.push(SpreadField { name: shown, aggregate: selected.aggregate.clone(), alias: None });
        }
    }
    for child in node.children.iter_mut().filter(|child| !child.selects_nothing()) {
        let Some(embed) = &mut child.embed else { continue };
        let shown_name = embed.shown_name().to_owned();
        match &mut embed.shape {
            Shape::Object | Shape::Array if is_taken(&fields, &shown_name) => {
                let name = made_up(names);
                embed.alias = Some(name.clone());
                fields.push(SpreadField { name, aggregate: None, alias: Some(shown_name) });
            }
            Shape::Object | Shape::Array => {
                fields.push(SpreadField { name: shown_name, aggregate: None, alias: None });
            }
            Shape::Spread(inner) | Shape::SpreadArrays(inner) => {
                for field in inner {
                    fields.push(passed_on(field, &fields, hoist, names));
                }
            }
        }
    }
    fields
}

/// A column of a nested spread embedding, as seen by the parent of the enclosing spread node.
fn passed_on(field: &mut SpreadField, above: &[SpreadField], hoist: bool, names: &mut usize) -> SpreadField {
    if field.aggregate.is_some() {
        let passed = field.clone();
        if hoist {
            field.aggregate = None;
            field.alias = None;
        }
        return passed;
    }
    let shown = field.alias.as_ref().unwrap_or(&field.name).clone();
    if shown == "*" || !is_taken(above, &shown) {
        return SpreadField { name: shown, aggregate: None, alias: None };
    }
    let name = made_up(names);
    field.alias = Some(name.clone());
    SpreadField { name, aggregate: None, alias: Some(shown) }
}

fn is_taken(fields: &[SpreadField], name: &str) -> bool {
    fields.iter().any(|field| field.name == name)
}

fn made_up(names: &mut usize) -> String {
    *names += 1;
    format!("pgrst_spread_{names}")
}
