//! Spread embeddings: which of their columns show in the parent, and at which level their aggregates
//! fold rows.

use super::{ReadNode, SelectedField, Shape, SpreadField};
use crate::error::{ApiError, RequestError};

const TO_MANY_AGGREGATE: &str = "Aggregates are not implemented for one-to-many or many-to-many spreads.";

/// Fills in the columns of every spread embedding, innermost first. An aggregate in a to-one spread would
/// fold a single row: it moves up to the first node that is not such a spread. `names` counts the names
/// made up on the way.
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

/// The columns of a spread node as its parent sees them. With `hoist`, aggregates leave the node: it
/// selects the bare value under a name of its own.
fn shown_fields(node: &mut ReadNode, hoist: bool, names: &mut usize) -> Vec<SpreadField> {
    let mut fields: Vec<SpreadField> = Vec::new();
    for selected in &mut node.select {
        fields.push(if hoist && selected.aggregate.is_some() {
            hoisted(selected, names)
        } else {
            let name = selected.alias.as_ref().unwrap_or(&selected.field.name).clone();
            SpreadField { name, aggregate: selected.aggregate.clone(), alias: None }
        });
    }
    for embed in node
        .children
        .iter_mut()
        .filter(|child| !child.selects_nothing())
        .filter_map(|child| child.embed.as_mut())
    {
        match &mut embed.shape {
            Shape::Object | Shape::Array => {
                fields.push(SpreadField {
                    name: embed.shown_name().to_owned(),
                    aggregate: None,
                    alias: None,
                });
            }
            Shape::Spread(inner) | Shape::SpreadArrays(inner) => {
                for field in inner {
                    let shown = field.alias.clone().filter(|_| field.aggregate.is_none());
                    fields.push(SpreadField {
                        name: shown.unwrap_or_else(|| field.name.clone()),
                        aggregate: field.aggregate.clone(),
                        alias: field.alias.clone(),
                    });
                    if hoist {
                        field.aggregate = None;
                        field.alias = None;
                    }
                }
            }
        }
    }
    fields
}

fn hoisted(selected: &mut SelectedField, names: &mut usize) -> SpreadField {
    *names += 1;
    let name = format!("pgrst_aggregate_{names}");
    let aggregate = selected.aggregate.take();
    let alias = selected.alias.replace(name.clone());
    SpreadField { name, aggregate, alias }
}
