//! Descriptions of the bookshop, validated against the published meta-schemas.

use expect_test::{Expect, expect};
use serde_json::Value;
use tercet_api::openapi::{Description, Privileges, Server};

use crate::bookshop::{ask, cache};

const SERVER: Server<'_> = Server { proxy_uri: None, security_active: false, title: None, version: None };

fn describe(privileges: &Privileges, server: Server<'_>) -> (Value, Value) {
    let description = Description { cache: cache(), schema: "shop", privileges, server };
    let parse = |bytes: Vec<u8>| serde_json::from_slice(&bytes).unwrap();
    (parse(description.openapi()), parse(description.swagger()))
}

/// The privileges of a role.
fn privileges_of(role: &str) -> Privileges {
    let answers = ask(role, &Privileges::statements("shop"));
    Privileges::from_rows(&answers[0], &answers[1])
}

#[track_caller]
fn check_valid(schema: &str, document: &Value) {
    let schema: Value = serde_json::from_str(schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert_eq!(errors, Vec::<String>::new());
}

/// Checks a document at a JSON pointer.
#[track_caller]
fn check(document: &Value, pointer: &str, expect: &Expect) {
    let there = document.pointer(pointer).map(|value| serde_json::to_string_pretty(value).unwrap());
    expect.assert_eq(&there.unwrap_or_default());
}

/// Checks that every `$ref` of a document resolves.
fn check_references(document: &Value, part: &Value) {
    match part {
        Value::Object(object) => {
            if let Some(Value::String(reference)) = object.get("$ref") {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
            }
            object.values().for_each(|value| check_references(document, value));
        }
        Value::Array(items) => items.iter().for_each(|value| check_references(document, value)),
        _ => {}
    }
}

#[test]
fn both_documents_are_valid() {
    let proxied = Server { proxy_uri: Some("https://shop.example/api"), security_active: true, ..SERVER };
    for server in [SERVER, proxied] {
        for privileges in [Privileges::ignored(), privileges_of("anon")] {
            let (openapi, swagger) = describe(&privileges, server);
            check_valid(include_str!("description/openapi-3.1.json"), &openapi);
            check_valid(include_str!("description/swagger-2.0.json"), &swagger);
            check_references(&openapi, &openapi);
            check_references(&swagger, &swagger);
        }
    }
}

#[test]
fn operation_names_are_unique() {
    let (openapi, _) = describe(&Privileges::ignored(), SERVER);
    let paths = openapi["paths"].as_object().unwrap();
    let mut names: Vec<&str> = paths
        .values()
        .flat_map(|item| item.as_object().unwrap().values())
        .map(|operation| operation["operationId"].as_str().unwrap())
        .collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn describes_the_rows_of_a_relation() {
    let (openapi, swagger) = describe(&Privileges::ignored(), SERVER);
    check(
        &openapi,
        "/components/schemas/books",
        &expect![[r#"
            {
              "type": "object",
              "properties": {
                "id": {
                  "type": "integer",
                  "format": "int32",
                  "minimum": -2147483648,
                  "maximum": 2147483647,
                  "description": "Primary key."
                },
                "title": {
                  "type": "string",
                  "maxLength": 80
                },
                "author_id": {
                  "type": "integer",
                  "format": "int32",
                  "minimum": -2147483648,
                  "maximum": 2147483647,
                  "description": "Foreign key to `authors.id`."
                },
                "translator_id": {
                  "type": [
                    "integer",
                    "null"
                  ],
                  "format": "int32",
                  "minimum": -2147483648,
                  "maximum": 2147483647,
                  "description": "Foreign key to `authors.id`."
                },
                "format": {
                  "type": "string",
                  "enum": [
                    "paper",
                    "ebook",
                    "audio"
                  ],
                  "default": "paper"
                },
                "price": {
                  "type": "number"
                },
                "facts": {
                  "default": {}
                },
                "words": {
                  "type": "array",
                  "items": {
                    "type": [
                      "string",
                      "array",
                      "null"
                    ]
                  }
                },
                "search": {
                  "type": [
                    "string",
                    "null"
                  ],
                  "format": "tsvector",
                  "readOnly": true
                },
                "odd \"name\"": {
                  "type": [
                    "string",
                    "null"
                  ]
                }
              },
              "required": [
                "id",
                "title",
                "author_id",
                "format",
                "price",
                "facts",
                "words"
              ]
            }"#]],
    );
    check(
        &openapi,
        "/components/schemas/books.insert",
        &expect![[r##"
            {
              "allOf": [
                {
                  "$ref": "#/components/schemas/books.update"
                },
                {
                  "type": "object",
                  "required": [
                    "id",
                    "title",
                    "author_id",
                    "price"
                  ]
                }
              ]
            }"##]],
    );
    check(
        &swagger,
        "/definitions/books",
        &expect![[r#"
            {
              "type": "object",
              "properties": {
                "id": {
                  "format": "int32",
                  "type": "integer",
                  "description": "Note:\nThis is a Primary Key.<pk/>"
                },
                "title": {
                  "format": "character varying",
                  "type": "string",
                  "maxLength": 80
                },
                "author_id": {
                  "format": "int32",
                  "type": "integer",
                  "description": "Note:\nThis is a Foreign Key to `authors.id`.<fk table='authors' column='id'/>"
                },
                "translator_id": {
                  "format": "int32",
                  "type": "integer",
                  "description": "Note:\nThis is a Foreign Key to `authors.id`.<fk table='authors' column='id'/>"
                },
                "format": {
                  "format": "shop.format",
                  "type": "string",
                  "enum": [
                    "paper",
                    "ebook",
                    "audio"
                  ],
                  "default": "paper"
                },
                "price": {
                  "format": "numeric",
                  "type": "number"
                },
                "facts": {
                  "format": "jsonb"
                },
                "words": {
                  "format": "text[]",
                  "type": "array",
                  "items": {
                    "type": "string"
                  }
                },
                "search": {
                  "format": "tsvector",
                  "type": "string"
                },
                "odd \"name\"": {
                  "format": "text",
                  "type": "string"
                }
              },
              "required": [
                "id",
                "title",
                "author_id",
                "format",
                "price",
                "facts",
                "words"
              ]
            }"#]],
    );
    check(
        &openapi,
        "/components/parameters/select.ebooks",
        &expect![[r#"
            {
              "name": "select",
              "in": "query",
              "description": "Comma-separated columns: `id,label:name,price::text`.\n\nRelated rows can be embedded:\n\n* `authors(*)`: one, by `books_author_id_fkey`\n* `book_tags(*)`: many, by `book_tags_book_id_fkey`\n* `copies(*)`: many, by `copies_book_id_fkey`\n* `covers(*)`: one, by `covers_book_id_fkey`\n* `sales(*)`: many, by `sales_book_id_fkey`\n* `tags(*)`: many\n\nA response contains what is selected; renamed columns are not described.",
              "schema": {
                "type": "string",
                "default": "*"
              }
            }"#]],
    );
}

#[test]
fn describes_relations_the_role_has_privileges_on() {
    let (all, _) = describe(&Privileges::ignored(), SERVER);
    let paths = |document: &Value| document["paths"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    for (role, expect) in [
        ("anon", expect![[""]]),
        (
            "authenticator",
            expect![
                "/authors /book_prices /book_tags /books /cheap_ebooks /contracts /copies /covers /ebooks /inks /sales /sections /shelves /tags /warehouse"
            ],
        ),
    ] {
        let (seen, _) = describe(&privileges_of(role), SERVER);
        let hidden: Vec<_> = paths(&all).into_iter().filter(|path| !paths(&seen).contains(path)).collect();
        expect.assert_eq(&hidden.join(" "));
    }
}

#[test]
fn describes_the_configured_server() {
    let proxied = Server { proxy_uri: Some("https://shop.example/api"), security_active: true, ..SERVER };
    for (server, expect) in [
        (SERVER, expect![[r#"[{"url":"/"}] [{},{"JWT":[]}] null null null"#]]),
        (
            proxied,
            expect![[
                r#"[{"url":"https://shop.example/api"}] [{"JWT":[]}] "shop.example:443" "/api" [{"JWT":[]}]"#
            ]],
        ),
    ] {
        let (openapi, swagger) = describe(&Privileges::ignored(), server);
        let said = [
            &openapi["servers"],
            &openapi["security"],
            &swagger["host"],
            &swagger["basePath"],
            &swagger["security"],
        ];
        expect.assert_eq(&said.map(ToString::to_string).join(" "));
    }
}
