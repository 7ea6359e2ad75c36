//! PGRST2xx: a name is not in the schema cache, or is ambiguous.
//!
//! Does not access the cache: the caller passes the suggestion in (see [`super::suggestion`]).

use http::StatusCode;
use serde_json::{Value, json};

use crate::media_type::MediaType;

/// A name that was not found, or is ambiguous.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// No relationship between two relations.
    #[error("Could not find a relationship between '{parent}' and '{child}' in the schema cache")]
    NoRelationship {
        /// The relation to embed into.
        parent: String,
        /// The embedded one.
        child: String,
        /// The hint after `!`.
        hint: Option<String>,
        /// The searched schema.
        schema: String,
        /// A similar name that exists.
        suggestion: Option<Suggestion>,
    },
    /// Several relationships match.
    #[error("Could not embed because more than one relationship was found for '{parent}' and '{child}'")]
    AmbiguousRelationship {
        /// The relation to embed into.
        parent: String,
        /// The embedded one.
        child: String,
        /// The matching relationships.
        candidates: Vec<RelationshipCandidate>,
    },
    /// No routine with this name takes these arguments.
    #[error("Could not find the function {schema}.{routine}{} in the schema cache", routine_arguments(arguments, *unnamed))]
    NoRoutine {
        /// The searched schema.
        schema: String,
        /// Its name.
        routine: String,
        /// The names of the given arguments.
        arguments: Vec<String>,
        /// The kind of single unnamed parameter that the body would also match.
        unnamed: Option<UnnamedParameter>,
        /// A similar existing `routine` or `routine(a, b)`.
        suggestion: Option<String>,
        /// Whether a procedure has this name; only functions can be called.
        procedure: bool,
    },
    /// Several routines take these arguments, each as `schema.name(argument => type)`.
    #[error("Could not choose the best candidate function between: {}", .0.join(", "))]
    AmbiguousRoutine(Vec<String>),
    /// The relation has no such column.
    #[error("Could not find the '{column}' column of '{relation}' in the schema cache")]
    NoColumn {
        /// Table or view.
        relation: String,
        /// The missing column.
        column: String,
    },
    /// The relation does not exist.
    #[error("Could not find the table '{schema}.{relation}' in the schema cache")]
    NoRelation {
        /// The searched schema.
        schema: String,
        /// Its name.
        relation: String,
        /// A relation of the schema with a similar name.
        suggestion: Option<String>,
    },
}

/// An existing name to suggest in place of a missing one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    /// The missing name.
    pub instead_of: String,
    /// The existing name.
    pub name: String,
}

/// One of several relationships between two relations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationshipCandidate {
    /// `many-to-one`, `one-to-many`, `one-to-one` or `many-to-many`.
    pub cardinality: &'static str,
    /// `films with directors`
    pub embedding: String,
    /// `constraint using films(director_id) and directors(id)`
    pub relationship: String,
    /// The hint that selects it, `directors!constraint`.
    pub hint: String,
}

/// A single unnamed parameter that takes the whole body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnnamedParameter {
    /// `json` or `jsonb`; the keys of the body may also be arguments.
    Json,
    /// `text`
    Text,
    /// `xml`
    Xml,
    /// `bytea`
    Bytea,
}

impl UnnamedParameter {
    /// The kind of parameter that takes a body of this media type.
    pub fn of(content_type: &MediaType) -> Option<Self> {
        match content_type {
            MediaType::Json => Some(Self::Json),
            MediaType::PlainText => Some(Self::Text),
            MediaType::Xml => Some(Self::Xml),
            MediaType::OctetStream => Some(Self::Bytea),
            _ => None,
        }
    }
}

impl SchemaError {
    /// PostgREST's error code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoRelationship { .. } => "PGRST200",
            Self::AmbiguousRelationship { .. } => "PGRST201",
            Self::NoRoutine { .. } => "PGRST202",
            Self::AmbiguousRoutine(_) => "PGRST203",
            Self::NoColumn { .. } => "PGRST204",
            Self::NoRelation { .. } => "PGRST205",
        }
    }

    /// The response status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::AmbiguousRelationship { .. } | Self::AmbiguousRoutine(_) => StatusCode::MULTIPLE_CHOICES,
            Self::NoRelationship { .. } | Self::NoColumn { .. } => StatusCode::BAD_REQUEST,
            Self::NoRoutine { .. } | Self::NoRelation { .. } => StatusCode::NOT_FOUND,
        }
    }

    /// The `details` of the error: text, or the candidates.
    pub fn details(&self) -> Option<Value> {
        match self {
            Self::NoRelationship { parent, child, hint, schema, .. } => {
                let hint = hint.as_ref().map(|hint| format!("' using the hint '{hint}")).unwrap_or_default();
                Some(Value::from(format!(
                    "Searched for a foreign key relationship between '{parent}' and '{child}{hint}' in the schema '{schema}', \
                     but no matches were found."
                )))
            }
            Self::AmbiguousRelationship { candidates, .. } => Some(
                candidates
                    .iter()
                    .map(|candidate| {
                        json!({
                            "cardinality": candidate.cardinality,
                            "embedding": candidate.embedding,
                            "relationship": candidate.relationship,
                        })
                    })
                    .collect(),
            ),
            Self::NoRoutine { schema, routine, arguments, unnamed, .. } => {
                let named = match arguments.len() {
                    0 => " without parameters".to_owned(),
                    1 => format!(" with parameter {}", arguments[0]),
                    _ => format!(" with parameters {}", arguments.join(", ")),
                };
                let signature = match unnamed {
                    Some(UnnamedParameter::Text) => " with a single unnamed text parameter".to_owned(),
                    Some(UnnamedParameter::Xml) => " with a single unnamed xml parameter".to_owned(),
                    Some(UnnamedParameter::Bytea) => " with a single unnamed bytea parameter".to_owned(),
                    Some(UnnamedParameter::Json) => {
                        format!("{named} or with a single unnamed json/jsonb parameter")
                    }
                    None => named,
                };
                Some(Value::from(format!(
                    "Searched for the function {schema}.{routine}{signature}, but no matches were found in the schema cache."
                )))
            }
            _ => None,
        }
    }

    /// The `hint` of the error.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoRelationship { suggestion, .. } => suggestion.as_ref().map(|suggestion| {
                format!("Perhaps you meant '{}' instead of '{}'.", suggestion.name, suggestion.instead_of)
            }),
            Self::AmbiguousRelationship { child, candidates, .. } => {
                let hints: Vec<_> = candidates.iter().map(|candidate| format!("'{}'", candidate.hint)).collect();
                Some(format!(
                    "Try changing '{child}' to one of the following: {}. Find the desired relationship in the 'details' key.",
                    hints.join(", ")
                ))
            }
            Self::NoRoutine { schema, routine, procedure: true, .. } => Some(format!(
                "{schema}.{routine} is a procedure, and only functions can be called: write a function that calls it"
            )),
            Self::NoRoutine { schema, unnamed, suggestion, .. } => suggestion
                .as_ref()
                .filter(|_| matches!(unnamed, None | Some(UnnamedParameter::Json)))
                .map(|suggestion| format!("Perhaps you meant to call the function {schema}.{suggestion}")),
            Self::AmbiguousRoutine(_) => Some(
                "Try renaming the parameters or the function itself in the database so function overloading can be resolved"
                    .into(),
            ),
            Self::NoRelation { schema, suggestion, .. } => {
                suggestion.as_ref().map(|name| format!("Perhaps you meant the table '{schema}.{name}'"))
            }
            Self::NoColumn { .. } => None,
        }
    }
}

fn routine_arguments(arguments: &[String], unnamed: Option<UnnamedParameter>) -> String {
    match unnamed {
        Some(UnnamedParameter::Text | UnnamedParameter::Xml | UnnamedParameter::Bytea) => String::new(),
        _ if arguments.is_empty() => " without parameters".into(),
        _ => format!("({})", arguments.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::error::{ApiError, Verbosity};

    fn check(error: SchemaError, expect: &Expect) {
        let error = ApiError::from(error);
        let body: Value = serde_json::from_slice(&error.json(Verbosity::Verbose)).unwrap();
        expect.assert_eq(&format!("{} {body:#}", error.status().as_u16()));
    }

    fn no_routine(arguments: &[&str], unnamed: Option<UnnamedParameter>) -> SchemaError {
        SchemaError::NoRoutine {
            schema: "shop".into(),
            routine: "add".into(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            unnamed,
            suggestion: Some("sum(a, b)".into()),
            procedure: false,
        }
    }

    #[test]
    fn a_missing_routine_names_the_searched_signature() {
        check(
            no_routine(&[], None),
            &expect![[r#"
            404 {
              "code": "PGRST202",
              "message": "Could not find the function shop.add without parameters in the schema cache",
              "details": "Searched for the function shop.add without parameters, but no matches were found in the schema cache.",
              "hint": "Perhaps you meant to call the function shop.sum(a, b)"
            }"#]],
        );
        check(
            no_routine(&["a"], Some(UnnamedParameter::Json)),
            &expect![[r#"
            404 {
              "code": "PGRST202",
              "message": "Could not find the function shop.add(a) in the schema cache",
              "details": "Searched for the function shop.add with parameter a or with a single unnamed json/jsonb parameter, but no matches were found in the schema cache.",
              "hint": "Perhaps you meant to call the function shop.sum(a, b)"
            }"#]],
        );
        check(
            no_routine(&["a", "b"], Some(UnnamedParameter::Bytea)),
            &expect![[r#"
            404 {
              "code": "PGRST202",
              "message": "Could not find the function shop.add in the schema cache",
              "details": "Searched for the function shop.add with a single unnamed bytea parameter, but no matches were found in the schema cache.",
              "hint": null
            }"#]],
        );
    }

    #[test]
    fn reports_missing_and_ambiguous_relationships() {
        let suggestion = Some(Suggestion { instead_of: "film".into(), name: "films".into() });
        check(
            SchemaError::NoRelationship {
                parent: "film".into(),
                child: "actors".into(),
                hint: Some("roles".into()),
                schema: "shop".into(),
                suggestion,
            },
            &expect![[r#"
                400 {
                  "code": "PGRST200",
                  "message": "Could not find a relationship between 'film' and 'actors' in the schema cache",
                  "details": "Searched for a foreign key relationship between 'film' and 'actors' using the hint 'roles' in the schema 'shop', but no matches were found.",
                  "hint": "Perhaps you meant 'films' instead of 'film'."
                }"#]],
        );
        let candidate = |constraint: &str| RelationshipCandidate {
            cardinality: "many-to-one",
            embedding: "films with people".into(),
            relationship: format!("{constraint} using films(id) and people(id)"),
            hint: format!("people!{constraint}"),
        };
        check(
            SchemaError::AmbiguousRelationship {
                parent: "films".into(),
                child: "people".into(),
                candidates: vec![candidate("director"), candidate("writer")],
            },
            &expect![[r#"
                300 {
                  "code": "PGRST201",
                  "message": "Could not embed because more than one relationship was found for 'films' and 'people'",
                  "details": [
                    {
                      "cardinality": "many-to-one",
                      "embedding": "films with people",
                      "relationship": "director using films(id) and people(id)"
                    },
                    {
                      "cardinality": "many-to-one",
                      "embedding": "films with people",
                      "relationship": "writer using films(id) and people(id)"
                    }
                  ],
                  "hint": "Try changing 'people' to one of the following: 'people!director', 'people!writer'. Find the desired relationship in the 'details' key."
                }"#]],
        );
    }
}
