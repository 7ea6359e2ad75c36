//! Every accepted plan is SQL that PostgreSQL accepts, for all combinations of existing names in selections,
//! embeddings, spreads, aggregates, filters and orders.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use tercet_api::error::StatementError;
use tercet_api::query::Query;
use tercet_postgres::{Connection, DatabaseError};

use crate::bookshop::{answer, cache, database, on_one_thread, permissive, statement};

/// The columns and embeddings of a relation: the name in `select`, and the embedded relation.
struct Shape {
    relation: &'static str,
    columns: &'static [&'static str],
    embeddings: &'static [(&'static str, &'static str)],
}

const SHAPES: [Shape; 9] = [
    Shape {
        relation: "books",
        columns: &[
            "id",
            "title",
            "price",
            "facts->lang",
            "facts->>pages",
            "words->0",
            "shout",
            "*",
            "format",
        ],
        embeddings: &[
            ("authors!author_id", "authors"),
            ("author_id", "authors"),
            ("covers", "covers"),
            ("tags", "tags"),
            ("copies", "copies"),
            ("sales", "sales"),
            ("siblings", "books"),
            ("writer", "authors"),
        ],
    },
    Shape {
        relation: "authors",
        columns: &["id", "name", "born", "*"],
        embeddings: &[("books!author_id", "books"), ("ebooks", "ebooks"), ("contracts", "contracts")],
    },
    Shape { relation: "covers", columns: &["book_id", "colour", "*"], embeddings: &[("books", "books")] },
    Shape { relation: "tags", columns: &["id", "label", "*"], embeddings: &[("books", "books")] },
    Shape {
        relation: "copies",
        columns: &["id", "room", "*"],
        embeddings: &[("books", "books"), ("shelves", "shelves")],
    },
    Shape { relation: "sales", columns: &["id", "amount", "*"], embeddings: &[("books", "books")] },
    Shape { relation: "shelves", columns: &["room", "number", "*"], embeddings: &[("copies", "copies")] },
    Shape { relation: "ebooks", columns: &["id", "writer", "*"], embeddings: &[("authors", "authors")] },
    Shape { relation: "contracts", columns: &["id", "books", "*"], embeddings: &[("authors", "authors")] },
];

/// A relation in a request, with its parameters.
#[derive(Clone, Debug)]
struct Node {
    /// `alias:name!hint!inner`, `...name`; empty for the target.
    head: String,
    /// Its name in filters, orders and limits.
    called: String,
    fields: Vec<String>,
    children: Vec<Node>,
    parameters: Vec<(&'static str, String)>,
}

fn shape_of(relation: &str) -> &'static Shape {
    SHAPES.iter().find(|shape| shape.relation == relation).unwrap()
}

fn node(relation: &'static str, depth: u32) -> BoxedStrategy<Node> {
    let shape = shape_of(relation);
    let column = prop::sample::select(shape.columns.to_vec());
    let field = (column.clone(), 0..8_u8).prop_map(|(column, form)| match (column, form) {
        ("*", 0..=1) => "count()".to_owned(),
        ("*", _) => "*".to_owned(),
        (column, 0) => format!("renamed:{column}"),
        (column, 1) => format!("{column}::text"),
        (column, 2) => format!("{column}.max()"),
        (column, 3) => format!("{column}::text.min()::text"),
        (column, _) => column.to_owned(),
    });
    let plain: Vec<&str> = shape.columns.iter().copied().filter(|column| *column != "*").collect();
    let parameters = (prop::sample::select(plain), 0..7_u8).prop_map(|(column, form)| match form {
        0 => Some((column, "not.is.null".to_owned())),
        1 => Some(("or", format!("({column}.is.null,not.and({column}.not.is.null,{column}.is.null))"))),
        2 => Some(("order", format!("{column}.desc.nullslast"))),
        3 => Some(("limit", "2".to_owned())),
        4 => Some(("offset", "1".to_owned())),
        _ => None,
    });
    let children = if depth == 0 {
        Just(Vec::new()).boxed()
    } else {
        let embeddings = prop::sample::subsequence(shape.embeddings, 0..=shape.embeddings.len().min(3));
        embeddings
            .prop_flat_map(move |chosen| {
                chosen.iter().map(|(name, relation)| embedding(name, relation, depth - 1)).collect::<Vec<_>>()
            })
            .boxed()
    };
    (prop::collection::vec(field, 0..4), children, prop::collection::vec(parameters, 0..3))
        .prop_map(|(fields, children, parameters)| {
            let mut seen = Vec::new();
            let parameters = parameters.into_iter().flatten().filter(|(key, _)| {
                let fresh = !seen.contains(key);
                seen.push(*key);
                fresh
            });
            let parameters = parameters.collect();
            Node { head: String::new(), called: String::new(), fields, children, parameters }
        })
        .boxed()
}

fn embedding(name: &'static str, relation: &'static str, depth: u32) -> BoxedStrategy<Node> {
    let bare = name.split('!').next().unwrap();
    (node(relation, depth), 0..3_u8, 0..4_u8)
        .prop_map(move |(inner, form, join)| {
            let join = match join {
                0 => "!inner",
                1 => "!left",
                _ => "",
            };
            let (head, called) = match form {
                0 => (format!("...{name}{join}"), bare.to_owned()),
                1 => (format!("as_{bare}:{name}{join}"), format!("as_{bare}")),
                _ => (format!("{name}{join}"), bare.to_owned()),
            };
            Node { head, called, ..inner }
        })
        .boxed()
}

impl Node {
    fn items(&self) -> String {
        let children = self.children.iter().map(|child| format!("{}({})", child.head, child.items()));
        self.fields.iter().cloned().chain(children).collect::<Vec<_>>().join(",")
    }

    fn add_parameters(&self, path: &str, query: &mut Vec<String>) {
        query.extend(self.parameters.iter().map(|(key, value)| format!("{path}{key}={value}")));
        for (index, child) in self.children.iter().enumerate() {
            if index == 0 && !self.called.contains("as_") {
                query.push(format!("{path}{}=not.is.null", child.called));
            }
            child.add_parameters(&format!("{path}{}.", child.called), query);
        }
    }

    fn request(&self, relation: &str, prefer: &str) -> String {
        let mut query = vec![format!("select={}", self.items())];
        self.add_parameters("", &mut query);
        format!("GET /{relation}?{}\nprefer: {prefer}", query.join("&"))
    }
}

/// Errors that requests with existing names can cause: grouping by fewer columns than the order, and aggregates over
/// types without order or sum.
const PERMITTED: [&str; 2] = ["42803", "42883"];

#[test]
fn every_accepted_request_is_sql_that_postgresql_accepts() {
    // Loading the cache starts a runtime.
    let _ = cache();
    on_one_thread(async {
        let connection = Connection::connect(&database().superuser(), false).await.unwrap();
        connection.query(&"set search_path = shop".into()).await.unwrap();
        let requests = prop::sample::select(vec!["books", "authors", "copies", "tags"])
            .prop_flat_map(|relation| (Just(relation), node(relation, 3), prop::bool::ANY));
        let mut runner = TestRunner::new(Config::default());
        for _ in 0..400 {
            let (relation, tree, counts) = requests.new_tree(&mut runner).unwrap().current();
            let request = tree.request(relation, if counts { "count=exact" } else { "return=minimal" });
            let Ok(plan) = statement(&request, &permissive()) else { continue };
            let query = Query::new(&plan);
            match answer(&connection, &Query::in_one_row(&plan)).await {
                // The body built from rows equals PostgreSQL's.
                Ok(made_there) => {
                    let made_here = answer(&connection, &query).await;
                    assert_eq!(made_here.unwrap(), made_there, "{request}\n{}", query.main.sql);
                }
                Err(StatementError::Database(DatabaseError::Server(error)))
                    if PERMITTED.contains(&error.code.as_str()) => {}
                Err(error) => panic!("{error:?}\n{request}\n{}", query.main.sql),
            }
        }
    });
}
