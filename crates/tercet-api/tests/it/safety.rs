//! No request can produce unplanned SQL: hostile text in every position becomes a parameter or a quoted name, or is
//! rejected.

use bytes::Bytes;
use proptest::prelude::*;
use tercet_api::plan::{Plan, Policy};
use tercet_api::query::Query;

use crate::bookshop::{permissive, planned};

/// Text that tries to escape its context, and random text.
fn hostile() -> impl Strategy<Value = String> {
    let attempts = [
        "'; drop table books; --",
        "\"; drop table books; --",
        "\\'; select 1; --",
        "$1",
        "$$; select 1; $$",
        "*/ select 1 /*",
        "x\" = 1 or \"y",
        "a'b\"c\\d",
        "\u{0}'\u{0}\"",
        "''",
        "\"\"",
        "a)b(c,d",
        "::text",
        "null",
        "E'\\x27'",
        "ü\u{2019}\u{ff07}",
        "\n--\n",
        "pg_sleep(9)",
        "id\"::int = (select 1) --",
        "{\"a\": \"'\"}",
        "}'",
        "%27%22",
        "select",
        "1; select 1",
    ];
    prop_oneof![
        prop::sample::select(attempts.to_vec()).prop_map(str::to_owned),
        "\\PC{0,20}",
        "[a-z'\"\\\\$;()*,.:!>-]{0,16}",
    ]
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02X}"))
}

/// The positions of a client's text, marked by `@`.
const TARGETS: [&str; 36] = [
    "GET /@",
    "GET /books?select=@",
    "GET /books?select=%22@%22",
    "GET /books?select=a:@",
    "GET /books?select=%22@%22:id",
    "GET /books?select=id::@",
    "GET /books?select=facts->@",
    "GET /books?select=facts->>%22@%22",
    "GET /books?select=@.sum()",
    "GET /books?select=price.sum()::@",
    "GET /books?select=@(id)",
    "GET /books?select=%22@%22:tags(id)",
    "GET /books?select=authors!@(id)",
    "GET /books?select=...@(id)",
    "GET /books?@=eq.1",
    "GET /books?%22@%22=eq.1",
    "GET /books?id=@",
    "GET /books?id=eq.@",
    "GET /books?id=in.(@)",
    "GET /books?id=in.(%22@%22)",
    "GET /books?title=like(any).@",
    "GET /books?title=fts(@).x",
    "GET /books?title=fts.@",
    "GET /books?facts->@=eq.1",
    "GET /books?or=(id.eq.@,id.eq.2)",
    "GET /books?or=@",
    "GET /books?order=@",
    "GET /books?order=%22@%22.desc",
    "GET /books?order=writer(@)&select=id,writer()",
    "GET /books?limit=@",
    "GET /books?select=id,tags(id)&tags.%22@%22=eq.1",
    "GET /rpc/@",
    "GET /rpc/greet?name=@",
    "GET /rpc/greet?@=x",
    "POST /tags?columns=@",
    "POST /tags?on_conflict=@",
];

/// The headers a client's text can be in.
const HEADERS: [&str; 5] = ["prefer", "accept", "content-type", "range", "accept-profile"];

/// SQL without quoted names and string constants: everything that could be executed.
fn bones(sql: &str) -> String {
    let mut rest = sql.chars();
    let mut bones = String::new();
    while let Some(character) = rest.next() {
        if matches!(character, '"' | '\'') {
            // A doubled quote closes and reopens the quotes, which has the same effect.
            assert!(rest.by_ref().any(|next| next == character), "an unclosed quote in {sql}");
        }
        bones.push(character);
    }
    bones
}

/// The unquoted words that are not in the vocabulary; `casts` are those a client may choose.
fn foreign(sql: &str, casts: &str) -> Vec<String> {
    bones(sql)
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty() && !word.chars().all(|c| c.is_ascii_digit()))
        .filter(|word| !VOCABULARY.split_whitespace().any(|known| known == *word) && !casts.contains(word))
        .map(str::to_owned)
        .collect()
}

/// All unquoted words of the program's SQL for the requests below, and of the bookshop's catalogue.
const VOCABULARY: &str = "
    WITH AS SELECT FROM WHERE AND OR UNION NOT IS NULL TRUE FALSE UNKNOWN DISTINCT ANY ALL ON LEFT INNER JOIN LATERAL LIMIT OFFSET ORDER BY ASC
    DESC NULLS FIRST LAST GROUP CAST COALESCE COUNT SUM AVG MAX MIN CASE WHEN THEN END IN CROSS EXISTS EXPLAIN FORMAT JSON TEXT
    ANALYZE VERBOSE SETTINGS BUFFERS WAL INSERT INTO CONFLICT DO NOTHING UPDATE SET EXCLUDED RETURNING values VARIADIC
    pgrst_types pgrst_columns array_eq array textanycat regprocedure
    pgrst_source pgrst_source_count pgrst_call pgrst_scalar pgrst_body pgrst_payload json_data _postgrest_t null bigint int text json
    jsonb bytea coalesce json_agg jsonb_agg to_json row_to_json json_build_array json_build_object json_strip_nulls pg_catalog count page_total
    total_result_set body response_headers response_status response_inserted nullif current_setting set_config true encode header
    to_tsvector to_tsquery plainto_tsquery to_jsonb like string_agg json_object_keys substring length r k hh s a from as limit
    json_to_record json_to_recordset json_array_elements ST_AsGeoJSON data row key value json_data json_each_text _ row_to_json
    integer boolean character varying character_varying shop colour_to_json colour_from_text unnest
";

fn check_request(method_and_target: &str, text: &str, header: &str, body: &str) -> Result<(), TestCaseError> {
    let (method, target) = method_and_target.split_once(' ').unwrap();
    let uri = target.replace('@', &encoded(text));
    let mut builder = http::Request::builder().method(method).uri(&uri);
    if let Ok(value) = http::HeaderValue::from_bytes(text.as_bytes()) {
        builder = builder.header(header, value);
    }
    // Some targets are not valid in HTTP.
    let Ok(request) = builder.body(()) else { return Ok(()) };
    let body = if method == "POST" {
        body.replace('@', &serde_json::to_string(text).unwrap())
    } else {
        String::new()
    };
    let policy = Policy { execution_plans: true, ..permissive() };
    let Ok(Plan::Statement(mut plan)) = planned(&request.into_parts().0, Bytes::from(body), &policy) else {
        return Ok(());
    };
    for side_effect_free in [false, true] {
        plan.side_effect_free = side_effect_free;
        check_query(&Query::new(&plan), &target.replace('@', text), text)?;
    }
    Ok(())
}

fn check_query(query: &Query, target: &str, text: &str) -> Result<(), TestCaseError> {
    let sql = &*query.main.sql;

    prop_assert!(!sql.contains('\0'), "a NUL in {sql}");
    for forbidden in [";", "--", "/*", "$$", "\\"] {
        prop_assert!(!bones(sql).contains(forbidden), "{forbidden} in {sql}");
    }
    let word = |c: char| if c.is_alphanumeric() || c == ' ' { c } else { '_' };
    let casts: String = if target.contains("::") { text.chars().map(word).collect() } else { String::new() };
    prop_assert_eq!(foreign(sql, &casts), Vec::<String>::new(), "{}", sql);
    // The parameters are exactly those in the text.
    for number in 1..=query.main.parameters.len() {
        prop_assert!(sql.contains(&format!("${number}")), "${number} is missing in {sql}");
    }
    prop_assert!(!bones(sql).contains(&format!("${}", query.main.parameters.len() + 1)), "{sql}");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hostile_text_never_becomes_sql(
        target in prop::sample::select(TARGETS.to_vec()),
        text in hostile(),
        header in prop::sample::select(HEADERS.to_vec()),
        body in prop::sample::select(vec!["{\"id\": @}", "{@: 1}", "[{\"label\": @}]", "@"]),
    ) {
        check_request(target, &text, header, body)?;
    }
}

#[test]
fn the_check_detects_foreign_sql() {
    assert_eq!(foreign("SELECT \"a\".\"b\" FROM \"drop table\" WHERE 'x' = $1", ""), Vec::<String>::new());
    assert_eq!(foreign("SELECT 1 FROM books", ""), ["books"]);
    assert_eq!(foreign("SELECT \"a\" \"b\" pg_sleep(9)", ""), ["pg_sleep"]);
    assert_eq!(bones("a \"b;\"\"c;\" d 'e''f;' g"), "a \"\" d '' g");
}
