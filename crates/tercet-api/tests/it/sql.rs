//! The SQL of typical requests: quoted names, values as parameters, the same text for requests of the same form.

use expect_test::expect;

use crate::bookshop::{check_plain_sql, check_sql, permissive, statement};
use tercet_api::query::Query;

#[test]
fn a_read() {
    check_sql(
        "GET /books?id=eq.1",
        &expect![[r#"
            SELECT "_postgrest_t"."id", "_postgrest_t"."title", "_postgrest_t"."author_id", "_postgrest_t"."translator_id", to_json("_postgrest_t"."format"), "_postgrest_t"."price", to_json("_postgrest_t"."facts"), to_json("_postgrest_t"."words"), to_json("_postgrest_t"."search"), "_postgrest_t"."odd ""name"""
            FROM (SELECT "shop"."books".*
            FROM "shop"."books"
            WHERE "shop"."books"."id" = $1) _postgrest_t
            WHERE TRUE OR EXISTS (SELECT *
            FROM "shop"."books" UNION ALL
            SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
            $1 = 1
        "#]],
    );
    check_sql(
        "GET /books?select=id,name:title,price::text&order=price.desc.nullslast&limit=2&offset=1",
        &expect![[r#"
            WITH pgrst_source AS (SELECT "shop"."books"."id", "shop"."books"."title" AS "name", CAST("shop"."books"."price" AS text)
            FROM "shop"."books"
            ORDER BY "shop"."books"."price" DESC NULLS LAST LIMIT $1 OFFSET $2)
            SELECT null::bigint AS total_result_set, pg_catalog.count(*) AS page_total, coalesce(json_agg(_postgrest_t), '[]') AS body, nullif(current_setting('response.headers', true), '') AS response_headers, nullif(current_setting('response.status', true), '') AS response_status
            FROM (SELECT *
            FROM pgrst_source) _postgrest_t
            $1 = 2
            $2 = 1
        "#]],
    );
    check_sql(
        "HEAD /books\nprefer: count=exact",
        &expect![[r#"
            WITH pgrst_source AS (SELECT "shop"."books".*
            FROM "shop"."books")
            SELECT pg_catalog.count(*) AS total_result_set, pg_catalog.count(*) AS page_total, ''::text AS body, nullif(current_setting('response.headers', true), '') AS response_headers, nullif(current_setting('response.status', true), '') AS response_status
            FROM (SELECT *
            FROM pgrst_source) _postgrest_t
        "#]],
    );
    check_sql(
        "GET /books?limit=1\nprefer: count=exact",
        &expect![[r#"
            WITH pgrst_source AS (SELECT "shop"."books".*
            FROM "shop"."books" LIMIT $1 OFFSET $2), pgrst_source_count AS (SELECT 1
            FROM "shop"."books")
            SELECT (SELECT pg_catalog.count(*)
            FROM pgrst_source_count) AS total_result_set, pg_catalog.count(*) AS page_total, coalesce(json_agg(_postgrest_t), '[]') AS body, nullif(current_setting('response.headers', true), '') AS response_headers, nullif(current_setting('response.status', true), '') AS response_status
            FROM (SELECT *
            FROM pgrst_source) _postgrest_t
            $1 = 1
            $2 = 0
        "#]],
    );
}

#[test]
fn conditions() {
    check_sql(
        "GET /tags?select=id&id=in.(1,2)&label=not.like.*a*&or=(id.gt.1,not.and(label.is.null,id.neq.3))",
        &expect![[r#"
            SELECT "_postgrest_t"."id"
            FROM (SELECT "shop"."tags"."id"
            FROM "shop"."tags"
            WHERE "shop"."tags"."id" = ANY ($1) AND NOT "shop"."tags"."label" like $2 AND ("shop"."tags"."id" > $3 OR NOT ("shop"."tags"."label" IS NULL AND "shop"."tags"."id" <> $4))) _postgrest_t
            $1 = {"1","2"}
            $2 = %a%
            $3 = 1
            $4 = 3
        "#]],
    );
    check_sql(
        "GET /books?select=id&facts->lang->>code=eq.fr&words=cs.{a}&search=plfts(english).notes",
        &expect![[r#"
            SELECT "_postgrest_t"."id"
            FROM (SELECT "shop"."books"."id"
            FROM "shop"."books"
            WHERE "shop"."books"."facts"->$1->>$2 = $3 AND "shop"."books"."words" @> $4 AND "shop"."books"."search" @@ plainto_tsquery($5, $6)) _postgrest_t
            $1 = lang
            $2 = code
            $3 = fr
            $4 = {a}
            $5 = english
            $6 = notes
        "#]],
    );
    check_sql(
        "GET /books?select=id&title=like(any).{N*,T*}&title=fts.notes",
        &expect![[r#"
            SELECT "_postgrest_t"."id"
            FROM (SELECT "shop"."books"."id"
            FROM "shop"."books"
            WHERE "shop"."books"."title" like ANY($1) AND to_tsvector("shop"."books"."title") @@ to_tsquery($2)) _postgrest_t
            $1 = {N%,T%}
            $2 = notes
        "#]],
    );
    check_sql(
        "GET /inks?select=id&tone=eq.%230000ff&tone=in.(%230000ff)",
        &expect![[r##"
            SELECT "_postgrest_t"."id"
            FROM (SELECT "shop"."inks"."id"
            FROM "shop"."inks"
            WHERE "shop"."inks"."tone" = shop.colour_from_text($1) AND "shop"."inks"."tone" = ANY (SELECT shop.colour_from_text(unnest($2::text[])))) _postgrest_t
            $1 = #0000ff
            $2 = {"#0000ff"}
        "##]],
    );
}

#[test]
fn embeddings() {
    check_sql(
        "GET /books?select=title,authors!author_id(name)&authors=not.is.null",
        &expect![[r#"
            SELECT "_postgrest_t"."title", "_postgrest_t"."authors"
            FROM (SELECT "shop"."books"."title", row_to_json("books_authors_1".*) AS "authors"
            FROM "shop"."books"
            LEFT JOIN LATERAL (SELECT "authors_1"."name"
            FROM "shop"."authors" AS "authors_1"
            WHERE "authors_1"."id" = "shop"."books"."author_id") AS "books_authors_1" ON TRUE
            WHERE "books_authors_1" IS DISTINCT
            FROM NULL) _postgrest_t
        "#]],
    );
    check_sql(
        "GET /authors?select=name,books!author_id!inner(title,tags(label))&books.limit=1&books.tags.order=id",
        &expect![[r#"
            SELECT "_postgrest_t"."name", "_postgrest_t"."books"
            FROM (SELECT "shop"."authors"."name", COALESCE("authors_books_1"."authors_books_1", '[]') AS "books"
            FROM "shop"."authors"
            INNER JOIN LATERAL (SELECT json_agg("authors_books_1") AS "authors_books_1"
            FROM (SELECT "books_1"."title", COALESCE("books_tags_2"."books_tags_2", '[]') AS "tags"
            FROM "shop"."books" AS "books_1"
            LEFT JOIN LATERAL (SELECT json_agg("books_tags_2") AS "books_tags_2"
            FROM (SELECT "tags_2"."label"
            FROM "shop"."tags" AS "tags_2", "shop"."book_tags"
            WHERE "tags_2"."id" = "shop"."book_tags"."tag_id" AND "shop"."book_tags"."book_id" = "books_1"."id"
            ORDER BY "tags_2"."id") AS "books_tags_2") AS "books_tags_2" ON TRUE
            WHERE "books_1"."author_id" = "shop"."authors"."id" LIMIT $1 OFFSET $2) AS "authors_books_1") AS "authors_books_1" ON "authors_books_1" IS NOT NULL) _postgrest_t
            $1 = 1
            $2 = 0
        "#]],
    );
    check_sql(
        "GET /books?select=title,siblings(id),writer(name)",
        &expect![[r#"
            SELECT "_postgrest_t"."title", "_postgrest_t"."siblings", "_postgrest_t"."writer"
            FROM (SELECT "shop"."books"."title", COALESCE("books_siblings_1"."books_siblings_1", '[]') AS "siblings", row_to_json("books_writer_1".*) AS "writer"
            FROM "shop"."books"
            LEFT JOIN LATERAL (SELECT json_agg("books_siblings_1") AS "books_siblings_1"
            FROM (SELECT "books_1"."id"
            FROM "shop"."siblings"(("shop"."books".*)::"shop"."books") AS "books_1") AS "books_siblings_1") AS "books_siblings_1" ON TRUE
            LEFT JOIN LATERAL (SELECT "authors_1"."name"
            FROM "shop"."writer"(("shop"."books".*)::"shop"."books") AS "authors_1") AS "books_writer_1" ON TRUE) _postgrest_t
        "#]],
    );
    check_sql(
        "GET /books?select=id,...covers(colour),...tags(label)",
        &expect![[r#"
            SELECT "_postgrest_t"."id", to_json("_postgrest_t"."colour"), "_postgrest_t"."label"
            FROM (SELECT "shop"."books"."id", "books_covers_1"."colour", COALESCE("books_tags_1"."label", '[]') AS "label"
            FROM "shop"."books"
            LEFT JOIN LATERAL (SELECT "covers_1"."colour"
            FROM "shop"."covers" AS "covers_1"
            WHERE "covers_1"."book_id" = "shop"."books"."id") AS "books_covers_1" ON TRUE
            LEFT JOIN LATERAL (SELECT json_agg("books_tags_1") AS "books_tags_1", json_agg("books_tags_1"."label") AS "label"
            FROM (SELECT "tags_1"."label"
            FROM "shop"."tags" AS "tags_1", "shop"."book_tags"
            WHERE "tags_1"."id" = "shop"."book_tags"."tag_id" AND "shop"."book_tags"."book_id" = "shop"."books"."id") AS "books_tags_1") AS "books_tags_1" ON TRUE) _postgrest_t
        "#]],
    );
}

#[test]
fn aggregates() {
    check_sql(
        "GET /books?select=format,price.sum(),count()",
        &expect![[r#"
            WITH pgrst_source AS (SELECT "shop"."books"."format", SUM("shop"."books"."price"), COUNT("shop"."books".*)
            FROM "shop"."books" GROUP BY 1)
            SELECT null::bigint AS total_result_set, pg_catalog.count(*) AS page_total, coalesce(json_agg(_postgrest_t), '[]') AS body, nullif(current_setting('response.headers', true), '') AS response_headers, nullif(current_setting('response.status', true), '') AS response_status
            FROM (SELECT *
            FROM pgrst_source) _postgrest_t
        "#]],
    );
    check_sql(
        "GET /copies?select=room,...books(price.avg()::int)",
        &expect![[r#"
            WITH pgrst_source AS (SELECT "shop"."copies"."room", CAST(AVG("copies_books_1"."pgrst_spread_1") AS int)
            FROM "shop"."copies"
            LEFT JOIN LATERAL (SELECT "books_1"."price" AS "pgrst_spread_1"
            FROM "shop"."books" AS "books_1"
            WHERE "books_1"."id" = "shop"."copies"."book_id") AS "copies_books_1" ON TRUE GROUP BY 1)
            SELECT null::bigint AS total_result_set, pg_catalog.count(*) AS page_total, coalesce(json_agg(_postgrest_t), '[]') AS body, nullif(current_setting('response.headers', true), '') AS response_headers, nullif(current_setting('response.status', true), '') AS response_status
            FROM (SELECT *
            FROM pgrst_source) _postgrest_t
        "#]],
    );
}

#[test]
fn writes() {
    check_sql(
        "POST /tags\nprefer: return=representation\n\n{\"id\": 3, \"label\": \"new\"}",
        &expect![[r#"
            WITH pgrst_types AS (SELECT pg_catalog.array_eq(ARRAY[NULL::integer], ARRAY[(NULL::"shop"."tags")."id"]), pg_catalog.textanycat('', (NULL::"shop"."tags")."id"), pg_catalog.array_eq(ARRAY[NULL::text], ARRAY[(NULL::"shop"."tags")."label"]), pg_catalog.textanycat('', (NULL::"shop"."tags")."label")), pgrst_source AS (INSERT INTO "shop"."tags"("id", "label")
            SELECT pgrst_body."id", pgrst_body."label"
            FROM (SELECT $1::json AS json_data) pgrst_payload, LATERAL (SELECT "id", "label"
            FROM json_to_record(pgrst_payload.json_data) AS _("id" integer, "label" text) ) pgrst_body 
            RETURNING "shop"."tags".*)
            SELECT '' AS total_result_set, pg_catalog.count(*) AS page_total, null AS header, coalesce(json_agg(_postgrest_t), '[]') AS body, nullif(current_setting('response.headers', true), '') AS response_headers, nullif(current_setting('response.status', true), '') AS response_status, nullif(current_setting('pgrst.inserted', true), '')::int AS response_inserted
            FROM (SELECT "tags".*
            FROM pgrst_source AS "tags") _postgrest_t
            $1 = {"id": 3, "label": "new"}
        "#]],
    );
    check_sql(
        "POST /tags?columns=id,label&on_conflict=id\nprefer: resolution=merge-duplicates\n\n[{\"id\": 3}]",
        &expect![[r#"
            WITH pgrst_types AS (SELECT pg_catalog.array_eq(ARRAY[NULL::integer], ARRAY[(NULL::"shop"."tags")."id"]), pg_catalog.textanycat('', (NULL::"shop"."tags")."id"), pg_catalog.array_eq(ARRAY[NULL::text], ARRAY[(NULL::"shop"."tags")."label"]), pg_catalog.textanycat('', (NULL::"shop"."tags")."label")), pgrst_source AS (INSERT INTO "shop"."tags"("id", "label")
            SELECT pgrst_body."id", pgrst_body."label"
            FROM (SELECT $1::json AS json_data) pgrst_payload, LATERAL (SELECT "id", "label"
            FROM json_to_recordset(pgrst_payload.json_data) AS _("id" integer, "label" text) ) pgrst_body
            WHERE set_config('pgrst.inserted', (coalesce(nullif(current_setting('pgrst.inserted', true), '')::int, 0) + 1)::text, true) <> '0'
            ON CONFLICT("id") DO UPDATE SET "id" = EXCLUDED."id", "label" = EXCLUDED."label"
            WHERE set_config('pgrst.inserted', (coalesce(nullif(current_setting('pgrst.inserted', true), '')::int, 0) - 1)::text, true) <> '-1'
            RETURNING 1)
            SELECT '' AS total_result_set, pg_catalog.count(*) AS page_total, null AS header, ''::text AS body, nullif(current_setting('response.headers', true), '') AS response_headers, nullif(current_setting('response.status', true), '') AS response_status, nullif(current_setting('pgrst.inserted', true), '')::int AS response_inserted
            FROM (SELECT *
            FROM pgrst_source) _postgrest_t
            $1 = [{"id": 3}]
        "#]],
    );
    check_sql(
        "POST /inks?columns=name,tone\nprefer: missing=default, return=headers-only\n\n[{\"tone\": \"#00ff00\"}]",
        &expect![[r##"
            WITH pgrst_types AS (SELECT pg_catalog.array_eq(ARRAY[NULL::text], ARRAY[(NULL::"shop"."inks")."name"]), pg_catalog.textanycat('', (NULL::"shop"."inks")."name")), pgrst_source AS (INSERT INTO "shop"."inks"("name", "tone")
            SELECT pgrst_body."name", pgrst_body."tone"
            FROM (SELECT $1::jsonb AS json_data) pgrst_payload, LATERAL (SELECT jsonb_agg(jsonb_build_object('name', 'unnamed'::text, 'tone', shop.colour_to_json((255)::shop.colour)) || elem) AS val
            FROM jsonb_array_elements(pgrst_payload.json_data) elem) pgrst_json_defs, LATERAL (SELECT "name", shop.colour_from_json("tone") AS "tone"
            FROM jsonb_to_recordset(pgrst_json_defs.val) AS _("name" text, "tone" json) ) pgrst_body 
            RETURNING "shop"."inks"."id", "shop"."inks"."name", "shop"."inks"."tone")
            SELECT '' AS total_result_set, pg_catalog.count(*) AS page_total, CASE WHEN pg_catalog.count(*) = 1 THEN (WITH data AS (SELECT row_to_json(_) AS row
            FROM pgrst_source AS _ LIMIT 1)
            SELECT json_agg(json_build_array(json_data.key, json_data.value))
            FROM data CROSS JOIN json_each_text(data.row) AS json_data
            WHERE json_data.key IN ('id')) END AS header, ''::text AS body, nullif(current_setting('response.headers', true), '') AS response_headers, nullif(current_setting('response.status', true), '') AS response_status, nullif(current_setting('pgrst.inserted', true), '')::int AS response_inserted
            FROM (SELECT *
            FROM pgrst_source) _postgrest_t
            $1 = [{"tone": "#00ff00"}]
        "##]],
    );
    check_sql(
        "PATCH /tags?id=eq.1\n\n{\"label\": \"old\"}",
        &expect![[r#"
            WITH pgrst_types AS (SELECT pg_catalog.array_eq(ARRAY[NULL::text], ARRAY[(NULL::"shop"."tags")."label"]), pg_catalog.textanycat('', (NULL::"shop"."tags")."label")), pgrst_source AS (UPDATE "shop"."tags" SET "label" = pgrst_body."label"
            FROM (SELECT $1::json AS json_data) pgrst_payload, LATERAL (SELECT "label"
            FROM json_to_record(pgrst_payload.json_data) AS _("label" text) ) pgrst_body
            WHERE "shop"."tags"."id" = $2
            RETURNING 1)
            SELECT '' AS total_result_set, pg_catalog.count(*) AS page_total, null AS header, ''::text AS body, nullif(current_setting('response.headers', true), '') AS response_headers, nullif(current_setting('response.status', true), '') AS response_status, nullif(current_setting('pgrst.inserted', true), '')::int AS response_inserted
            FROM (SELECT *
            FROM pgrst_source) _postgrest_t
            $1 = {"label": "old"}
            $2 = 1
        "#]],
    );
    check_sql(
        "PUT /tags?id=eq.1\n\n{\"id\": 1, \"label\": \"old\"}",
        &expect![[r#"
            WITH pgrst_types AS (SELECT pg_catalog.array_eq(ARRAY[NULL::integer], ARRAY[(NULL::"shop"."tags")."id"]), pg_catalog.textanycat('', (NULL::"shop"."tags")."id"), pg_catalog.array_eq(ARRAY[NULL::text], ARRAY[(NULL::"shop"."tags")."label"]), pg_catalog.textanycat('', (NULL::"shop"."tags")."label")), pgrst_source AS (INSERT INTO "shop"."tags"("id", "label")
            SELECT pgrst_body."id", pgrst_body."label"
            FROM (SELECT $1::json AS json_data) pgrst_payload, LATERAL (SELECT "id", "label"
            FROM json_to_record(pgrst_payload.json_data) AS _("id" integer, "label" text) ) pgrst_body
            WHERE set_config('pgrst.inserted', (coalesce(nullif(current_setting('pgrst.inserted', true), '')::int, 0) + 1)::text, true) <> '0' AND "pgrst_body"."id" = $2
            ON CONFLICT("id") DO UPDATE SET "id" = EXCLUDED."id", "label" = EXCLUDED."label"
            WHERE set_config('pgrst.inserted', (coalesce(nullif(current_setting('pgrst.inserted', true), '')::int, 0) - 1)::text, true) <> '-1'
            RETURNING 1)
            SELECT '' AS total_result_set, pg_catalog.count(*) AS page_total, null AS header, ''::text AS body, nullif(current_setting('response.headers', true), '') AS response_headers, nullif(current_setting('response.status', true), '') AS response_status, nullif(current_setting('pgrst.inserted', true), '')::int AS response_inserted
            FROM (SELECT *
            FROM pgrst_source) _postgrest_t
            $1 = {"id": 1, "label": "old"}
            $2 = 1
        "#]],
    );
    check_sql(
        "DELETE /tags?id=gt.1\nprefer: return=representation",
        &expect![[r#"
            WITH pgrst_source AS (DELETE
            FROM "shop"."tags"
            WHERE "shop"."tags"."id" > $1
            RETURNING "shop"."tags".*)
            SELECT '' AS total_result_set, pg_catalog.count(*) AS page_total, null AS header, coalesce(json_agg(_postgrest_t), '[]') AS body, nullif(current_setting('response.headers', true), '') AS response_headers, nullif(current_setting('response.status', true), '') AS response_status, nullif(current_setting('pgrst.inserted', true), '')::int AS response_inserted
            FROM (SELECT "tags".*
            FROM pgrst_source AS "tags") _postgrest_t
            $1 = 1
        "#]],
    );
}

#[test]
fn plain_writes() {
    check_plain_sql(
        "POST /tags\n\n{\"id\": 1, \"label\": \"old\"}",
        &expect![[r#"
        WITH pgrst_types AS (SELECT pg_catalog.array_eq(ARRAY[NULL::integer], ARRAY[(NULL::"shop"."tags")."id"]), pg_catalog.textanycat('', (NULL::"shop"."tags")."id"), pg_catalog.array_eq(ARRAY[NULL::text], ARRAY[(NULL::"shop"."tags")."label"]), pg_catalog.textanycat('', (NULL::"shop"."tags")."label")) INSERT INTO "shop"."tags"("id", "label")
        SELECT pgrst_body."id", pgrst_body."label"
        FROM (SELECT $1::json AS json_data) pgrst_payload, LATERAL (SELECT "id", "label"
        FROM json_to_record(pgrst_payload.json_data) AS _("id" integer, "label" text) ) pgrst_body 
        $1 = {"id": 1, "label": "old"}
    "#]],
    );
    check_plain_sql(
        "POST /tags\nprefer: return=representation, resolution=ignore-duplicates\n\n[{\"id\": 1}]",
        &expect![[r#"
            WITH pgrst_types AS (SELECT pg_catalog.array_eq(ARRAY[NULL::integer], ARRAY[(NULL::"shop"."tags")."id"]), pg_catalog.textanycat('', (NULL::"shop"."tags")."id"), pg_catalog.array_eq(ARRAY[NULL::text], ARRAY[(NULL::"shop"."tags")."label"]), pg_catalog.textanycat('', (NULL::"shop"."tags")."label")), pgrst_columns AS (SELECT *
            FROM "shop"."tags" UNION ALL
            SELECT NULL, NULL) INSERT INTO "shop"."tags"("id")
            SELECT pgrst_body."id"
            FROM (SELECT $1::json AS json_data) pgrst_payload, LATERAL (SELECT "id"
            FROM json_to_recordset(pgrst_payload.json_data) AS _("id" integer) ) pgrst_body 
            ON CONFLICT("id") DO NOTHING
            RETURNING "shop"."tags"."id", "shop"."tags"."label"
            $1 = [{"id": 1}]
        "#]],
    );
    check_plain_sql(
        "PATCH /authors?id=eq.1&select=key:id,born\nprefer: return=representation\n\n{\"name\": \"A\"}",
        &expect![[r#"
            WITH pgrst_types AS (SELECT pg_catalog.array_eq(ARRAY[NULL::text], ARRAY[(NULL::"shop"."authors")."name"]), pg_catalog.textanycat('', (NULL::"shop"."authors")."name"), pg_catalog.array_eq(ARRAY[NULL::integer], ARRAY[(NULL::"shop"."authors")."id"]), pg_catalog.textanycat('', (NULL::"shop"."authors")."id")) UPDATE "shop"."authors" SET "name" = pgrst_body."name"
            FROM (SELECT $1::json AS json_data) pgrst_payload, LATERAL (SELECT "name"
            FROM json_to_record(pgrst_payload.json_data) AS _("name" text) ) pgrst_body
            WHERE "shop"."authors"."id" = $2
            RETURNING "shop"."authors"."id", to_json("shop"."authors"."born")
            $1 = {"name": "A"}
            $2 = 1
        "#]],
    );
    check_plain_sql(
        "DELETE /tags?id=gt.1",
        &expect![[r#"
        DELETE
        FROM "shop"."tags"
        WHERE "shop"."tags"."id" > $1
        $1 = 1
    "#]],
    );
    check_plain_sql(
        "DELETE /tags?id=gt.1\nprefer: return=representation",
        &expect![[r#"
        WITH pgrst_types AS (SELECT pg_catalog.array_eq(ARRAY[NULL::integer], ARRAY[(NULL::"shop"."tags")."id"]), pg_catalog.textanycat('', (NULL::"shop"."tags")."id"), pg_catalog.array_eq(ARRAY[NULL::text], ARRAY[(NULL::"shop"."tags")."label"]), pg_catalog.textanycat('', (NULL::"shop"."tags")."label")), pgrst_columns AS (SELECT *
        FROM "shop"."tags" UNION ALL
        SELECT NULL, NULL) DELETE
        FROM "shop"."tags"
        WHERE "shop"."tags"."id" > $1
        RETURNING "shop"."tags"."id", "shop"."tags"."label"
        $1 = 1
    "#]],
    );
}

#[test]
fn calls() {
    check_sql(
        "GET /rpc/add?a=1&b=2",
        &expect![[r#"
            WITH pgrst_types AS (SELECT '"shop"."add"(integer,integer)'::pg_catalog.regprocedure), pgrst_source AS (SELECT pgrst_call.pgrst_scalar
            FROM (SELECT "shop"."add"("a" := $1::integer, "b" := $2::integer) pgrst_scalar) pgrst_call)
            SELECT null::bigint AS total_result_set, 1 AS page_total, coalesce(json_agg(_postgrest_t.pgrst_scalar)->0, 'null') AS body, nullif(current_setting('response.headers', true), '') AS response_headers, nullif(current_setting('response.status', true), '') AS response_status
            FROM (SELECT "add".*
            FROM pgrst_source AS "add") _postgrest_t
            $1 = 1
            $2 = 2
        "#]],
    );
    check_sql(
        "POST /rpc/add\n\n{\"a\": 1, \"b\": 2}",
        &expect![[r#"
            WITH pgrst_types AS (SELECT '"shop"."add"(integer,integer)'::pg_catalog.regprocedure), pgrst_source AS (SELECT pgrst_call.pgrst_scalar
            FROM (SELECT $1::json AS json_data) pgrst_payload, LATERAL (SELECT "a", "b"
            FROM json_to_record(pgrst_payload.json_data) AS _("a" integer, "b" integer) LIMIT 1) pgrst_body , LATERAL (SELECT "shop"."add"("a" := pgrst_body."a", "b" := pgrst_body."b") pgrst_scalar) pgrst_call)
            SELECT null::bigint AS total_result_set, 1 AS page_total, coalesce(json_agg(_postgrest_t.pgrst_scalar)->0, 'null') AS body, nullif(current_setting('response.headers', true), '') AS response_headers, nullif(current_setting('response.status', true), '') AS response_status
            FROM (SELECT "add".*
            FROM pgrst_source AS "add") _postgrest_t
            $1 = {"a": 1, "b": 2}
        "#]],
    );
    check_sql(
        "GET /rpc/join_words?words=a&words=b",
        &expect![[r#"
            WITH pgrst_types AS (SELECT '"shop"."join_words"(text[])'::pg_catalog.regprocedure), pgrst_source AS (SELECT pgrst_call.pgrst_scalar
            FROM (SELECT "shop"."join_words"(VARIADIC "words" := $1::text[]) pgrst_scalar) pgrst_call)
            SELECT null::bigint AS total_result_set, 1 AS page_total, coalesce(json_agg(_postgrest_t.pgrst_scalar)->0, 'null') AS body, nullif(current_setting('response.headers', true), '') AS response_headers, nullif(current_setting('response.status', true), '') AS response_status
            FROM (SELECT "join_words".*
            FROM pgrst_source AS "join_words") _postgrest_t
            $1 = {"a","b"}
        "#]],
    );
    check_sql(
        "GET /rpc/books_by?author=Ada&select=title&price=gt.1",
        &expect![[r#"
            WITH pgrst_types AS (SELECT '"shop"."books_by"(text)'::pg_catalog.regprocedure), pgrst_source AS (SELECT "pgrst_call"."price", "pgrst_call"."title"
            FROM "shop"."books_by"("author" := $1::text) pgrst_call)
            SELECT null::bigint AS total_result_set, pg_catalog.count(*) AS page_total, coalesce(json_agg(_postgrest_t), '[]') AS body, nullif(current_setting('response.headers', true), '') AS response_headers, nullif(current_setting('response.status', true), '') AS response_status
            FROM (SELECT "books"."title"
            FROM pgrst_source AS "books"
            WHERE "books"."price" > $2) _postgrest_t
            $1 = Ada
            $2 = 1
        "#]],
    );
    check_sql(
        "POST /rpc/take_json\n\n{\"word\": \"x\"}",
        &expect![[r#"
            WITH pgrst_types AS (SELECT '"shop"."take_json"(json)'::pg_catalog.regprocedure), pgrst_source AS (SELECT pgrst_call.pgrst_scalar
            FROM (SELECT "shop"."take_json"($1::json) pgrst_scalar) pgrst_call)
            SELECT null::bigint AS total_result_set, 1 AS page_total, coalesce(json_agg(_postgrest_t.pgrst_scalar)->0, 'null') AS body, nullif(current_setting('response.headers', true), '') AS response_headers, nullif(current_setting('response.status', true), '') AS response_status
            FROM (SELECT "take_json".*
            FROM pgrst_source AS "take_json") _postgrest_t
            $1 = {"word": "x"}
        "#]],
    );
}

#[test]
fn execution_plans() {
    check_sql(
        "GET /tags\naccept: application/vnd.pgrst.plan+json; options=analyze|verbose",
        &expect![[r#"
            EXPLAIN (FORMAT JSON, ANALYZE, VERBOSE) WITH pgrst_source AS (SELECT "shop"."tags".*
            FROM "shop"."tags")
            SELECT null::bigint AS total_result_set, pg_catalog.count(*) AS page_total, coalesce(json_agg(_postgrest_t), '[]') AS body, nullif(current_setting('response.headers', true), '') AS response_headers, nullif(current_setting('response.status', true), '') AS response_status
            FROM (SELECT *
            FROM pgrst_source) _postgrest_t
        "#]],
    );
}

#[test]
fn values_do_not_change_the_text() {
    let text = |request: &str| Query::new(&statement(request, &permissive()).unwrap()).main.sql;
    let pairs = [
        ("GET /books?id=eq.1&limit=1", "GET /books?id=eq.99999&limit=50"),
        ("GET /books?id=in.(1)", "GET /books?id=in.(1,2,3,4,5)"),
        ("GET /books?facts->lang->>code=eq.fr", "GET /books?facts->page->>size=eq.a4"),
        ("POST /tags\n\n{\"id\": 1}", "POST /tags\n\n{\"id\": 2}"),
        ("GET /rpc/add?a=1&b=2", "GET /rpc/add?a=3&b=4"),
    ];
    for (one, other) in pairs {
        assert_eq!(text(one), text(other));
    }
}
