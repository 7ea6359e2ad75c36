//! Types of the exposed schemas for TypeScript, in the form that `createClient<Database>` of `@supabase/supabase-js` and
//! `PostgrestClient<Database>` take.
//!
//! Made from the schema cache, so it knows all relations and functions, also those that only some roles may use.

use std::fmt::Write as _;

use crate::schema::{
    Cardinality, Column, Link, QualifiedName, Relation, Relationship, Routine, RoutineResult, SchemaCache,
};

const JSON: &str = "export type Json =
  | string
  | number
  | boolean
  | null
  | { [key: string]: Json | undefined }
  | Json[];
";

/// The declarations of the schemas, as a module.
pub fn declarations(cache: &SchemaCache, schemas: &[String]) -> String {
    let mut text = format!("{JSON}\nexport type Database = {{\n");
    for schema in schemas {
        let relations: Vec<&Relation> = cache.relations(schema).map(|relation| &**relation).collect();
        let is_view = |relation: &&&Relation| relation.kind.is_view();
        let _ = writeln!(text, "  {}: {{", key(schema));
        section(
            &mut text,
            "Tables",
            relations.iter().filter(|it| !is_view(it)).map(|it| of_relation(cache, it)),
        );
        section(&mut text, "Views", relations.iter().filter(is_view).map(|it| of_relation(cache, it)));
        let mut routines: Vec<(&str, Vec<&Routine>)> = Vec::new();
        for routine in cache.all_routines(schema) {
            match routines.last_mut().filter(|(name, _)| *name == &*routine.name) {
                Some((_, overloads)) => overloads.push(routine),
                None => routines.push((&routine.name, vec![routine])),
            }
        }
        section(
            &mut text,
            "Functions",
            routines.iter().map(|(name, overloads)| of_routine(cache, name, overloads)),
        );
        section(&mut text, "Enums", std::iter::empty());
        section(&mut text, "CompositeTypes", std::iter::empty());
        text.push_str("  };\n");
    }
    text.push_str("};\n");
    text
}

/// A member of a schema; supabase-js needs each, also an empty one.
fn section(text: &mut String, name: &str, members: impl Iterator<Item = String>) {
    let members: String = members.collect();
    if members.is_empty() {
        let _ = writeln!(text, "    {name}: {{ [_ in never]: never }};");
    } else {
        let _ = writeln!(text, "    {name}: {{\n{members}    }};");
    }
}

fn of_relation(cache: &SchemaCache, relation: &Relation) -> String {
    let mut text = String::new();
    comment(&mut text, "      ", relation.comment.as_deref());
    let _ = writeln!(text, "      {}: {{\n        Row: {{", key(&relation.name));
    for column in &relation.columns {
        comment(&mut text, "          ", column.comment.as_deref());
        let _ = writeln!(text, "          {}: {};", key(&column.name), of_column(column));
    }
    text.push_str("        };\n");
    if relation.insertable {
        write_type(&mut text, "Insert", relation, |column| !column.nullable && column.default.is_none());
    }
    if relation.updatable {
        write_type(&mut text, "Update", relation, |_| false);
    }
    let relationships = cache.relationships(&relation.schema, &relation.name);
    let links: String = relationships.iter().filter_map(|it| of_relationship(it)).collect();
    if links.is_empty() {
        text.push_str("        Relationships: [];\n");
    } else {
        let _ = writeln!(text, "        Relationships: [\n{links}        ];");
    }
    text.push_str("      };\n");
    text
}

/// The type of a row to write; a generated column cannot be written.
fn write_type(text: &mut String, name: &str, relation: &Relation, required: impl Fn(&Column) -> bool) {
    let _ = writeln!(text, "        {name}: {{");
    for column in &relation.columns {
        let (optional, data_type) = match column.writable {
            true if required(column) => ("", of_column(column)),
            true => ("?", of_column(column)),
            false => ("?", "never".to_owned()),
        };
        let _ = writeln!(text, "          {}{optional}: {data_type};", key(&column.name));
    }
    text.push_str("        };\n");
}

/// A foreign key of the relation, for types of embedded rows.
fn of_relationship(relationship: &Relationship) -> Option<String> {
    let Link::Key { cardinality, .. } = &relationship.link else { return None };
    let (key, to_one) = match cardinality {
        Cardinality::ManyToOne(key) => (key, false),
        Cardinality::OneToOne { key, owner: true } => (key, true),
        _ => return None,
    };
    let list = |names: Vec<&str>| names.into_iter().map(quoted).collect::<Vec<_>>().join(", ");
    Some(format!(
        "          {{\n            foreignKeyName: {};\n            columns: [{}];\n            isOneToOne: {to_one};\n            \
         referencedRelation: {};\n            referencedColumns: [{}];\n          }},\n",
        quoted(&key.constraint),
        list(key.columns.iter().map(|(own, _)| &**own).collect()),
        quoted(&relationship.target.name),
        list(key.columns.iter().map(|(_, other)| &**other).collect()),
    ))
}

fn of_routine(cache: &SchemaCache, name: &str, overloads: &[&Routine]) -> String {
    let overloads: Vec<String> = overloads
        .iter()
        .map(|routine| {
            let parameters: Vec<String> = routine
                .parameters
                .iter()
                .filter(|parameter| !parameter.name.is_empty())
                .map(|parameter| {
                    let optional = if parameter.required { "" } else { "?" };
                    format!("{}{optional}: {}", key(&parameter.name), of_type(&parameter.data_type))
                })
                .collect();
            let arguments = if parameters.is_empty() {
                "Record<PropertyKey, never>".to_owned()
            } else {
                format!("{{ {} }}", parameters.join("; "))
            };
            format!("{{ Args: {arguments}; Returns: {} }}", of_result(cache, routine))
        })
        .collect();
    format!("      {}: {};\n", key(name), overloads.join(" | "))
}

fn of_result(cache: &SchemaCache, routine: &Routine) -> String {
    if routine.returns_void() {
        return "undefined".to_owned();
    }
    let one = match &routine.result {
        RoutineResult::Scalar(name) => of_type(&name.name),
        RoutineResult::Composite { of, .. } => of_row(cache, of),
    };
    if routine.returns_set { format!("{}[]", in_parentheses(&one)) } else { one }
}

/// A row of a relation, or of a type that is none.
fn of_row(cache: &SchemaCache, name: &QualifiedName) -> String {
    match cache.relation(&name.schema, &name.name) {
        Some(relation) => {
            let section = if relation.kind.is_view() { "Views" } else { "Tables" };
            format!("Database[{}][\"{section}\"][{}][\"Row\"]", quoted(&name.schema), quoted(&name.name))
        }
        None => "Record<string, unknown>".to_owned(),
    }
}

fn of_column(column: &Column) -> String {
    let data_type = if column.enum_labels.is_empty() {
        of_type(&column.data_type)
    } else {
        let labels = column.enum_labels.iter().map(|label| quoted(label)).collect::<Vec<_>>().join(" | ");
        if column.data_type.ends_with("[]") { format!("({labels})[]") } else { labels }
    };
    if column.nullable { format!("{data_type} | null") } else { data_type }
}

/// The type of a value's JSON.
fn of_type(data_type: &str) -> String {
    if let Some(element) = data_type.strip_suffix("[]") {
        return format!("{}[]", in_parentheses(&of_type(element)));
    }
    let base = data_type.split('(').next().unwrap_or(data_type).trim_end();
    match base {
        "boolean" | "bool" => "boolean",
        "smallint" | "integer" | "bigint" | "numeric" | "real" | "double precision" | "int2" | "int4"
        | "int8" | "float4" | "float8" | "oid" => "number",
        "json" | "jsonb" => "Json",
        "record" => "Record<string, unknown>",
        _ => "string",
    }
    .to_owned()
}

fn in_parentheses(of: &str) -> String {
    if of.contains(' ') && !of.starts_with("Record<") { format!("({of})") } else { of.to_owned() }
}

fn comment(text: &mut String, indent: &str, comment: Option<&str>) {
    if let Some(comment) = comment {
        let words = comment.replace("*/", "* /").replace('\n', " ");
        let _ = writeln!(text, "{indent}/** {words} */");
    }
}

/// A member's name: an identifier as it is, any other name as a string.
fn key(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if plain { name.to_owned() } else { quoted(name) }
}

/// A string literal; JSON's are TypeScript's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_those_of_the_json() {
        for (data_type, expected) in [
            ("bigint", "number"),
            ("numeric(10,2)", "number"),
            ("character varying(20)[]", "string[]"),
            ("jsonb", "Json"),
            ("timestamp with time zone", "string"),
            ("boolean[]", "boolean[]"),
        ] {
            assert_eq!(of_type(data_type), expected);
        }
        assert_eq!(key("first name"), "\"first name\"");
        assert_eq!(key("a_1"), "a_1");
        assert_eq!(in_parentheses("\"a\" | \"b\""), "(\"a\" | \"b\")");
    }
}
