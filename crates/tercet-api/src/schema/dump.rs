//! The schema cache as JSON: `/schema_cache` of the admin endpoint, `--dump-schema`. The top-level names are
//! PostgREST's.

use serde_json::{Value, json};

use super::{
    Cardinality, Column, Link, MediaTarget, QualifiedName, Relation, Relationship, Routine, RoutineResult,
    SchemaCache, Volatility,
};

impl SchemaCache {
    /// The whole cache, in a stable order.
    pub fn dump(&self) -> Value {
        let mut relations: Vec<_> = self.relations.values().collect();
        relations.sort_unstable_by_key(|relation| (&relation.schema, &relation.name));
        let mut relationships: Vec<_> = self.relationships.values().flatten().collect();
        relationships.sort_unstable();
        let mut routines: Vec<_> = self.routines.values().flatten().collect();
        routines.sort_by(|a, b| {
            (&a.schema, &a.name).cmp(&(&b.schema, &b.name)).then_with(|| a.overload_order(b))
        });
        let mut procedures: Vec<_> = self.procedures.iter().collect();
        procedures.sort_unstable();
        let mut representations: Vec<_> = self
            .representations
            .iter()
            .flat_map(|(source, targets)| {
                targets.iter().map(move |(target, function)| (source, target, function))
            })
            .collect();
        representations.sort_unstable();
        let mut handlers: Vec<_> = self.media_handlers.iter().collect();
        handlers.sort_by_key(|((target, media_type), _)| (shown(target), media_type.clone()));
        let mut comments: Vec<_> = self.schema_comments.iter().collect();
        comments.sort_unstable();
        json!({
            "dbTables": relations.iter().map(|it| relation(it)).collect::<Value>(),
            "dbRelationships": relationships.iter().map(|it| relationship(it)).collect::<Value>(),
            "dbRoutines": routines.iter().map(|it| routine(it)).collect::<Value>(),
            "dbProcedures": procedures.into_iter().map(name).collect::<Value>(),
            "dbRepresentations": representations
                .into_iter()
                .map(|(source, target, function)| json!({ "source": source, "target": target, "function": function }))
                .collect::<Value>(),
            "dbMediaHandlers": handlers
                .into_iter()
                .map(|((target, media_type), handler)| json!({
                    "target": shown(target),
                    "mediaType": media_type,
                    "answered": handler.answered,
                    "function": name(&handler.function),
                    "binary": handler.binary,
                }))
                .collect::<Value>(),
            "dbSchemaComments": comments
                .into_iter()
                .map(|(schema, comment)| json!({ "schema": schema, "comment": comment }))
                .collect::<Value>(),
            "serverVersion": self.server_version,
        })
    }
}

fn name(of: &QualifiedName) -> Value {
    json!({ "schema": of.schema, "name": of.name })
}

fn shown(target: &MediaTarget) -> String {
    match target {
        MediaTarget::Named(name) => name.to_string(),
        MediaTarget::Any => "*".to_owned(),
    }
}

fn relation(of: &Relation) -> Value {
    json!({
        "schema": of.schema,
        "name": of.name,
        "kind": format!("{:?}", of.kind),
        "description": of.comment,
        "insertable": of.insertable,
        "updatable": of.updatable,
        "deletable": of.deletable,
        "primaryKey": of.primary_key,
        "columns": of.columns.iter().map(column).collect::<Value>(),
    })
}

fn column(of: &Column) -> Value {
    json!({
        "name": of.name,
        "description": of.comment,
        "nullable": of.nullable,
        "type": of.data_type,
        "nominalType": of.nominal_type,
        "maxLength": of.max_length,
        "default": of.default,
        "enum": of.enum_labels,
        "writable": of.writable,
    })
}

fn relationship(of: &Relationship) -> Value {
    let pairs = |pairs: &[(std::sync::Arc<str>, std::sync::Arc<str>)]| {
        pairs.iter().map(|(own, other)| json!([own, other])).collect::<Value>()
    };
    let link = match &of.link {
        Link::Computed { function, to_one } => {
            json!({ "cardinality": if *to_one { "computed to one" } else { "computed" }, "function": name(function) })
        }
        Link::Key { cardinality, .. } => match cardinality {
            Cardinality::ManyToMany(junction) => json!({
                "cardinality": "many-to-many",
                "junction": name(&junction.relation),
                "sourceConstraint": junction.source_constraint,
                "targetConstraint": junction.target_constraint,
                "sourceColumns": pairs(&junction.source_columns),
                "targetColumns": pairs(&junction.target_columns),
            }),
            Cardinality::OneToMany(key) | Cardinality::ManyToOne(key) | Cardinality::OneToOne { key, .. } => {
                json!({
                    "cardinality": match cardinality {
                        Cardinality::OneToMany(_) => "one-to-many",
                        Cardinality::ManyToOne(_) => "many-to-one",
                        _ => "one-to-one",
                    },
                    "constraint": key.constraint,
                    "columns": pairs(&key.columns),
                })
            }
        },
    };
    json!({ "source": name(&of.source), "target": name(&of.target), "link": link })
}

fn routine(of: &Routine) -> Value {
    let (result, is_row) = match &of.result {
        RoutineResult::Scalar(of) => (of, false),
        RoutineResult::Composite { of, .. } => (of, true),
    };
    json!({
        "schema": of.schema,
        "name": of.name,
        "description": of.comment,
        "parameters": of.parameters.iter().map(|it| json!({
            "name": it.name,
            "type": it.data_type,
            "required": it.required,
            "variadic": it.variadic,
        })).collect::<Value>(),
        "returns": { "type": name(result), "set": of.returns_set, "row": is_row },
        "volatility": match of.volatility {
            Volatility::Immutable => "immutable",
            Volatility::Stable => "stable",
            Volatility::Volatile => "volatile",
        },
        "settings": of.settings.iter().map(|(name, value)| json!([name, value])).collect::<Value>(),
    })
}
