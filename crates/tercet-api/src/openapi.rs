//! Descriptions of an exposed schema: OpenAPI 3.1 at `/openapi.json`, Swagger 2.0 at `/` for PostgREST clients,
//! documentation pages.
//!
//! Built from the schema cache and the request role's privileges. Opens no connection: the caller runs
//! [`Privileges::statements`] in the request's transaction.

mod component;
mod operation;
pub mod page;
mod parameter;
mod privileges;
mod routine;
mod swagger;
mod types;

use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use crate::schema::{Cardinality, Column, Link, Relation, Relationship, SchemaCache};

pub use privileges::Privileges;

/// Everything in a path that must be percent-encoded: all but letters, digits and `-_.~`.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The API as a whole. The server's own address is left out: clients may reach it under another, and a description
/// without a server refers to the one it came from.
#[derive(Debug, Clone, Copy, Default)]
pub struct Server<'a> {
    /// The address of the reverse proxy, if clients use one (`openapi-server-proxy-uri`).
    pub proxy_uri: Option<&'a str>,
    /// Whether every operation requires a token (`openapi-security-active`).
    pub security_active: bool,
    /// The title if the schema has no comment (`openapi-title`).
    pub title: Option<&'a str>,
    /// The API's version (`openapi-version`).
    pub version: Option<&'a str>,
}

impl<'a> Server<'a> {
    fn version(&self) -> &'a str {
        self.version.unwrap_or("1")
    }
}

/// The input of a description.
#[derive(Debug, Clone, Copy)]
pub struct Description<'a> {
    /// The schema cache.
    pub cache: &'a SchemaCache,
    /// The described schema.
    pub schema: &'a str,
    /// The privileges of the request role.
    pub privileges: &'a Privileges,
    /// The API as a whole.
    pub server: Server<'a>,
}

impl<'a> Description<'a> {
    /// The description in Swagger 2.0, in PostgREST's form.
    pub fn swagger(&self) -> Vec<u8> {
        bytes(&swagger::document(self))
    }

    /// The description in OpenAPI 3.1 ([specification](https://spec.openapis.org/oas/v3.1.1.html)).
    pub fn openapi(&self) -> Vec<u8> {
        bytes(&self.document())
    }

    fn document(&self) -> Value {
        let (_, words) = operation::words(self.comment());
        let mut paths = Map::new();
        let mut schemas = Map::new();
        let mut parameters = parameter::shared();
        let mut tags = Vec::new();
        for relation in self.relations() {
            let Some(item) = operation::of_relation(self, relation) else { continue };
            paths.insert(path(&relation.name), item);
            schemas.extend(component::of_relation(self, relation));
            parameters.extend(parameter::of_relation(self, relation));
            let mut tag = json!({ "name": relation.name });
            if let Some(comment) = &relation.comment {
                tag["description"] = (**comment).into();
            }
            tags.push(tag);
        }
        for overloads in self.routines() {
            let (first, _) = &overloads[0];
            paths.insert(format!("/rpc{}", path(&first.name)), routine::path_item(self, &overloads));
        }
        schemas.insert(operation::ERROR.into(), operation::error_schema());
        let token = json!({ "JWT": [] });
        let security = if self.server.security_active { json!([token]) } else { json!([{}, token]) };
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": self.title(),
                "description": words.unwrap_or("Every table, view and function of the schema, over HTTP."),
                "version": self.server.version(),
            },
            "servers": [{ "url": self.server.proxy_uri.unwrap_or("/") }],
            "security": security,
            "tags": tags,
            "paths": paths,
            "components": {
                "schemas": schemas,
                "parameters": parameters,
                "responses": operation::shared_responses(),
                "securitySchemes": { "JWT": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" } },
            },
            "externalDocs": {
                "description": "How to filter, order, embed, insert and call",
                "url": "https://postgrest.org/en/stable/references/api.html",
            },
        })
    }

    /// The schema's comment. PostgreSQL gives each database's `public` one, which is no title where the API has its own.
    fn comment(&self) -> Option<&'a str> {
        let comment = self.cache.schema_comment(self.schema);
        comment.filter(|comment| self.server.title.is_none() || *comment != "standard public schema")
    }

    /// The title of the API: the first line of the schema's comment, or the configured one.
    pub fn title(&self) -> &'a str {
        operation::words(self.comment()).0.or(self.server.title).unwrap_or("Data API")
    }

    /// The relations the request role can access, by name; relations with other privileges only are left out.
    fn relations(&self) -> impl Iterator<Item = &'a Arc<Relation>> {
        self.cache.relations(self.schema).filter(|relation| self.privileges.sees(relation))
    }

    /// The routines the request role can access, by name, overloads grouped.
    fn routines(&self) -> Vec<Vec<routine::Overload<'a>>> {
        let mut routines: Vec<Vec<routine::Overload<'a>>> = Vec::new();
        for routine in self.cache.all_routines(self.schema) {
            let Some(types) = self.privileges.parameter_types(routine) else { continue };
            match routines.last_mut().filter(|overloads| overloads[0].0.name == routine.name) {
                Some(overloads) => overloads.push((routine, types)),
                None => routines.push(vec![(routine, types)]),
            }
        }
        routines
    }

    /// The described relation with this name.
    fn visible(&self, schema: &str, name: &str) -> Option<&'a Arc<Relation>> {
        let relation = self.cache.relation(schema, name)?;
        (schema == self.schema && self.privileges.sees(relation)).then_some(relation)
    }

    /// The relationships from a relation to other described relations.
    fn embeddable(&self, relation: &Relation) -> impl Iterator<Item = &'a Relationship> {
        let relationships = self.cache.relationships(&relation.schema, &relation.name);
        relationships.iter().map(|relationship| &**relationship).filter(|relationship| {
            self.visible(&relationship.target.schema, &relationship.target.name).is_some()
        })
    }

    /// The relation and column referenced by a single-column foreign key, tables before views.
    fn foreign_key(&self, relation: &Relation, column: &Column) -> Option<(&'a str, &'a str)> {
        let relationships = self.cache.relationships(&relation.schema, &relation.name);
        let leads = |relationship: &&'a Arc<Relationship>| match &relationship.link {
            Link::Key {
                cardinality: Cardinality::ManyToOne(key) | Cardinality::OneToOne { key, owner: true },
                ..
            } => {
                matches!(&*key.columns, [(own, _)] if *own == column.name)
            }
            _ => false,
        };
        let is_view = |relationship: &&'a Arc<Relationship>| {
            matches!(relationship.link, Link::Key { target_is_view: true, .. })
        };
        let relationship = relationships.iter().filter(leads).min_by_key(is_view)?;
        let (_, key) = relationship.key()?.columns.first()?;
        Some((&relationship.target.name, key))
    }
}

/// `/name`, percent-encoded.
fn path(name: &str) -> String {
    format!("/{}", utf8_percent_encode(name, RESERVED))
}

fn bytes(document: &Value) -> Vec<u8> {
    serde_json::to_vec(document).expect("a JSON value always serialises")
}
