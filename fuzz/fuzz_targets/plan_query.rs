//! Any request for a real schema is planned, or refused with a reason; and a plan is SQL with all its parameters.
#![no_main]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use tercet_api::error::Verbosity;
use tercet_api::plan::{Plan, Policy, plan};
use tercet_api::query::Query;
use tercet_api::request::{ApiRequest, Rules};
use tercet_api::schema::SchemaCache;
use tercet_postgres::{Connection, Statement, Target};

#[path = "../../crates/tercet-api/tests/it/replay.rs"]
#[expect(dead_code, reason = "the tests record, the target plays")]
mod replay;

static SCHEMAS: LazyLock<[String; 1]> = LazyLock::new(|| ["shop".to_owned()]);

static CACHE: LazyLock<SchemaCache> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("tercet-fuzz-{}", std::process::id()));
    std::fs::create_dir(&folder).expect("a folder for the socket");
    replay::play(&folder, include_bytes!("../catalogue.bin"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let cache = tokio::task::LocalSet::new().block_on(&runtime, async {
        let text = format!("host={} port=5432 user=postgres dbname=shop", folder.display());
        let target = Arc::new(Target::parse(&text, &BTreeMap::new()).expect("a target"));
        let connection = Connection::connect(&target, false).await.expect("the replay lets us in");
        SchemaCache::load(&connection, &*SCHEMAS).await.expect("the recorded catalogue is current")
    });
    std::fs::remove_dir_all(folder).expect("the folder is ours");
    cache
});

/// The resources: relations and routines, by path.
static RESOURCES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let relations = CACHE.relations("shop").map(|relation| format!("/{}", relation.name));
    relations.chain(CACHE.all_routines("shop").map(|routine| format!("/rpc/{}", routine.name))).collect()
});

/// Names that mean something somewhere.
static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let columns = CACHE.relations("shop").flat_map(|relation| {
        relation.columns.iter().map(|column| &column.name).chain([&relation.name]).map(ToString::to_string)
    });
    let parameters = CACHE
        .all_routines("shop")
        .flat_map(|routine| routine.parameters.iter().map(|it| it.name.to_string()));
    columns.chain(parameters).collect()
});

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    method: u8,
    resource: u16,
    query: Vec<Piece<'a>>,
    accept: Option<&'a str>,
    content_type: u8,
    prefer: u16,
    body: &'a str,
}

/// A part of a query string; names and punctuation come often.
#[derive(Arbitrary, Debug)]
enum Piece<'a> {
    Name(u16),
    Word(u8),
    Text(&'a str),
}

const METHODS: [&str; 7] = ["GET", "POST", "PATCH", "DELETE", "PUT", "HEAD", "OPTIONS"];
const WORDS: [&str; 44] = [
    "select=",
    "order=",
    "limit=",
    "offset=",
    "or=",
    "and=",
    "not.",
    "columns=",
    "on_conflict=",
    "&",
    "=",
    "eq.",
    "in.",
    "is.null",
    "like(any).",
    "fts(simple).",
    "cs.",
    "isdistinct.",
    "gt.",
    ".",
    ",",
    "(",
    ")",
    "!",
    "!inner",
    "...",
    ":",
    "::text",
    "->",
    "->>",
    "*",
    "count()",
    ".sum()",
    ".desc",
    ".nullslast",
    "{",
    "}",
    "\"",
    "1",
    "-",
    "0",
    "[",
    "]",
    "%20",
];
const PREFERENCES: [&str; 12] = [
    "return=representation",
    "return=headers-only",
    "return=minimal",
    "count=exact",
    "count=planned",
    "count=estimated",
    "resolution=merge-duplicates",
    "resolution=ignore-duplicates",
    "missing=default",
    "handling=strict",
    "max-affected=2",
    "timezone=UTC",
];
const CONTENT_TYPES: [&str; 5] = [
    "application/json",
    "text/csv",
    "application/x-www-form-urlencoded",
    "text/plain",
    "application/octet-stream",
];

fn check(statement: &Statement) {
    let mut most = 0;
    for (at, _) in statement.sql.match_indices('$') {
        let digits: String = statement.sql[at + 1..].chars().take_while(char::is_ascii_digit).collect();
        most = most.max(digits.parse().unwrap_or(0));
    }
    assert!(most >= statement.parameters.len(), "{statement:?}");
}

fuzz_target!(|input: Input<'_>| {
    let mut target = RESOURCES[usize::from(input.resource) % RESOURCES.len()].clone();
    target.push('?');
    for piece in &input.query {
        match piece {
            Piece::Name(index) => target.push_str(&NAMES[usize::from(*index) % NAMES.len()]),
            Piece::Word(index) => target.push_str(WORDS[usize::from(*index) % WORDS.len()]),
            Piece::Text(text) => {
                for byte in text.bytes() {
                    _ = write!(target, "%{byte:02x}");
                }
            }
        }
    }
    let target: String = target
        .chars()
        .map(|c| {
            if matches!(c, '"' | '<' | '>' | '`' | '#' | ' ') {
                format!("%{:02x}", u32::from(c))
            } else {
                c.to_string()
            }
        })
        .collect();
    let prefer: Vec<&str> = PREFERENCES
        .iter()
        .enumerate()
        .filter(|(index, _)| input.prefer >> index & 1 == 1)
        .map(|(_, it)| *it)
        .collect();
    let mut request = http::Request::builder()
        .method(METHODS[usize::from(input.method) % METHODS.len()])
        .uri(target)
        .header("content-type", CONTENT_TYPES[usize::from(input.content_type) % CONTENT_TYPES.len()])
        .header("prefer", prefer.join(", "));
    if let Some(accept) = input.accept {
        request = request.header("accept", accept);
    }
    let Ok(request) = request.body(()) else { return };
    let (parts, ()) = request.into_parts();
    let rules = Rules {
        schemas: &*SCHEMAS,
        root_routine: None,
        describes: true,
        transaction_override: true,
        time_zones: true,
        cache: &CACHE,
    };
    let policy = Policy {
        max_rows: Some(100),
        aggregates: true,
        execution_plans: true,
        legacy_target_names: true,
        pre_request: false,
    };
    let planned = ApiRequest::parse(&parts, input.body.to_owned().into(), rules)
        .map_err(Into::into)
        .and_then(|request| plan(&request, &CACHE, &policy));
    match planned {
        Ok(Plan::Statement(plan)) => {
            for query in [Query::new(&plan), Query::in_one_row(&plan)] {
                query.statements().into_iter().for_each(check);
                _ = query.answer(&[]);
            }
        }
        Ok(_) => {}
        Err(error) => {
            assert!(!error.status().is_server_error(), "{error:?}");
            serde_json::from_slice::<serde_json::Value>(&error.json(Verbosity::Verbose))
                .expect("errors are JSON");
        }
    }
});
