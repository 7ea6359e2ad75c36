//! The schema cache: catalogue and detected relationships.

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use tercet_api::schema::{Cardinality, Link, RoutineResult};

use crate::bookshop::cache;

#[track_caller]
fn check_relation(name: &str, expect: &Expect) {
    let relation = cache().relation("shop", name).unwrap();
    let can: Vec<&str> =
        [("insert", relation.insertable), ("update", relation.updatable), ("delete", relation.deletable)]
            .into_iter()
            .filter_map(|(verb, can)| can.then_some(verb))
            .collect();
    let mut text = format!("{:?} {}; key {:?}\n", relation.kind, can.join(" "), relation.primary_key);
    if let Some(comment) = &relation.comment {
        writeln!(text, "# {comment}").unwrap();
    }
    for column in &relation.columns {
        write!(text, "{} {}", column.name, column.data_type).unwrap();
        if column.nominal_type != column.data_type {
            write!(text, " as {}", column.nominal_type).unwrap();
        }
        if !column.nullable {
            text.push_str(" not null");
        }
        if let Some(length) = column.max_length {
            write!(text, " up to {length}").unwrap();
        }
        if let Some(default) = &column.default {
            write!(text, " default {default}").unwrap();
        }
        if !column.enum_labels.is_empty() {
            write!(text, " of {:?}", column.enum_labels).unwrap();
        }
        if let Some(comment) = &column.comment {
            write!(text, " # {comment}").unwrap();
        }
        text.push('\n');
    }
    expect.assert_eq(&text);
}

#[track_caller]
fn check_relationships(name: &str, expect: &Expect) {
    let mut text = String::new();
    for relationship in cache().relationships("shop", name) {
        let target = &relationship.target.name;
        match &relationship.link {
            Link::Computed { function, to_one } => {
                writeln!(text, "{target} by {}(){}", function.name, if *to_one { ", one" } else { "" })
                    .unwrap();
            }
            Link::Key { cardinality, .. } => match cardinality {
                Cardinality::OneToMany(key) => {
                    writeln!(text, "{target} 1:n {} {:?}", key.constraint, key.columns)
                }
                Cardinality::ManyToOne(key) => {
                    writeln!(text, "{target} n:1 {} {:?}", key.constraint, key.columns)
                }
                Cardinality::OneToOne { key, .. } => {
                    writeln!(text, "{target} 1:1 {} {:?}", key.constraint, key.columns)
                }
                Cardinality::ManyToMany(junction) => {
                    writeln!(text, "{target} n:n over {}", junction.relation.name)
                }
            }
            .unwrap(),
        }
    }
    expect.assert_eq(&text);
}

#[track_caller]
fn check_routine(name: &str, expect: &Expect) {
    let mut text = String::new();
    for routine in cache().routines("shop", name) {
        let parameters: Vec<String> = routine
            .parameters
            .iter()
            .map(|it| {
                let variadic = if it.variadic { "variadic " } else { "" };
                let default = if it.required { "" } else { " default" };
                format!("{variadic}{} {}{default}", it.name, it.data_type)
            })
            .collect();
        let result = match &routine.result {
            RoutineResult::Scalar(name) => name.to_string(),
            RoutineResult::Composite { of, .. } => format!("row of {of}"),
        };
        let set = if routine.returns_set { "setof " } else { "" };
        writeln!(
            text,
            "({}) -> {set}{result} {:?} {:?}",
            parameters.join(", "),
            routine.volatility,
            routine.settings
        )
        .unwrap();
    }
    expect.assert_eq(&text);
}

#[test]
fn loads_columns_types_defaults_and_keys() {
    check_relation(
        "authors",
        &expect![[r#"
        Table insert update delete; key ["id"]
        # Who writes
        id integer not null default nextval('shop.authors_id_seq')
        name text not null
        born date # Unknown for some
    "#]],
    );
    check_relation(
        "books",
        &expect![[r#"
        Table insert update delete; key ["id"]
        id integer not null
        title character varying as character varying(80) not null up to 80
        author_id integer not null
        translator_id integer
        format shop.format not null default 'paper'::shop.format of ["paper", "ebook", "audio"]
        price numeric as numeric(8,2) not null
        facts jsonb not null default '{}'::jsonb
        words text[] not null default '{}'::text[]
        search tsvector
        odd "name" text
    "#]],
    );
    check_relation(
        "inks",
        &expect![[r#"
        Table insert update delete; key ["id"]
        id integer not null
        name text default 'unnamed'::text
        tone integer as shop.colour default 255
    "#]],
    );
}

#[test]
fn views_have_projected_keys() {
    check_relation(
        "ebooks",
        &expect![[r#"
        View insert update delete; key ["id"]
        id integer
        title character varying as character varying(80) up to 80
        writer integer
    "#]],
    );
    check_relation(
        "cheap_ebooks",
        &expect![[r#"
        View insert update delete; key ["ebook"]
        ebook integer
        title character varying as character varying(80) up to 80
        writer integer
    "#]],
    );
    check_relation(
        "contracts",
        &expect![[r#"
        View ; key ["id"]
        id integer
        author_id integer
        books bigint
    "#]],
    );
}

#[test]
fn loads_all_kinds_of_relations_but_partitions() {
    check_relation(
        "sales",
        &expect![[r#"
        Partitioned insert update delete; key ["id", "sold"]
        id integer not null
        sold date not null
        book_id integer
        amount integer not null
    "#]],
    );
    check_relation(
        "warehouse",
        &expect![[r#"
        Foreign ; key []
        book_id integer
        stock integer
    "#]],
    );
    check_relation(
        "book_prices",
        &expect![[r#"
        MaterialisedView ; key ["id"]
        id integer
        price numeric as numeric(8,2)
    "#]],
    );
    assert!(cache().relation("shop", "sales_2024").is_none());
    assert!(cache().relation("back_office", "contracts").is_none());
}

#[test]
fn detects_relationships_by_keys_views_and_functions() {
    check_relationships(
        "books",
        &expect![[r#"
        authors n:1 books_author_id_fkey [("author_id", "id")]
        authors n:1 books_translator_id_fkey [("translator_id", "id")]
        authors by writer(), one
        book_tags 1:n book_tags_book_id_fkey [("id", "book_id")]
        books by siblings()
        copies 1:n copies_book_id_fkey [("id", "book_id")]
        covers 1:1 covers_book_id_fkey [("id", "book_id")]
        sales 1:n sales_book_id_fkey [("id", "book_id")]
        tags n:n over book_tags
    "#]],
    );
    check_relationships(
        "authors",
        &expect![[r#"
        books 1:n books_author_id_fkey [("id", "author_id")]
        books 1:n books_translator_id_fkey [("id", "translator_id")]
        cheap_ebooks 1:n books_author_id_fkey [("id", "writer")]
        contracts 1:n contracts_author_id_fkey [("id", "author_id")]
        ebooks 1:n books_author_id_fkey [("id", "writer")]
    "#]],
    );
    check_relationships(
        "copies",
        &expect![[r#"
        book_prices n:1 copies_book_id_fkey [("book_id", "id")]
        books n:1 copies_book_id_fkey [("book_id", "id")]
        cheap_ebooks n:1 copies_book_id_fkey [("book_id", "ebook")]
        ebooks n:1 copies_book_id_fkey [("book_id", "id")]
        shelves n:1 copies_shelf [("room", "room"), ("shelf", "number")]
    "#]],
    );
    check_relationships(
        "sections",
        &expect![[r#"
        sections 1:n sections_parent_id_fkey [("id", "parent_id")]
        sections n:1 sections_parent_id_fkey [("parent_id", "id")]
    "#]],
    );
    check_relationships(
        "tags",
        &expect![[r#"
        book_prices n:n over book_tags
        book_tags 1:n book_tags_tag_id_fkey [("id", "tag_id")]
        books n:n over book_tags
        cheap_ebooks n:n over book_tags
        ebooks n:n over book_tags
    "#]],
    );
}

#[test]
fn loads_functions_with_overloads_and_parameters() {
    check_routine(
        "add",
        &expect![[r#"
        (a integer, b integer) -> pg_catalog.int4 Immutable []
        (a integer, b integer, c integer) -> pg_catalog.int4 Immutable []
    "#]],
    );
    check_routine(
        "join_words",
        &expect![[r#"
        (variadic words text[]) -> pg_catalog.text Immutable []
    "#]],
    );
    check_routine(
        "greet",
        &expect![[r#"
        (name text default, loud boolean default) -> pg_catalog.text Immutable []
    "#]],
    );
    check_routine(
        "books_by",
        &expect![[r#"
        (author text) -> setof row of shop.books Stable []
    "#]],
    );
    check_routine(
        "take_json",
        &expect![[r#"
        ( json) -> pg_catalog.text Immutable []
    "#]],
    );
    check_routine(
        "split",
        &expect![[r#"
        (word text) -> row of pg_catalog.record Immutable []
    "#]],
    );
    check_routine(
        "slow",
        &expect![[r#"
        () -> pg_catalog.int4 Stable [("statement_timeout", "5s")]
    "#]],
    );
}

#[test]
fn loads_representations_and_comments() {
    let cache = cache();
    let function = |source, target| cache.representation(source, target).map(ToString::to_string);
    assert_eq!(function("shop.colour", "json").as_deref(), Some("shop.colour_to_json"));
    assert_eq!(function("text", "shop.colour").as_deref(), Some("shop.colour_from_text"));
    assert_eq!(function("json", "text"), None);
    assert_eq!(cache.schema_comment("shop"), Some("What customers see"));
}
