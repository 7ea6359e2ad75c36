//! Reads: selections, filters, orders, ranges, counts.

use expect_test::expect;
use tercet_api::plan::Policy;

use crate::bookshop::{check, check_with, permissive};

#[test]
fn selects_renames_and_casts_columns() {
    check(
        "GET /tags",
        &expect![[r#"
        [{"id":1,"label":"classic"},
         {"id":2,"label":"maths"}]
    "#]],
    );
    check(
        "GET /books?id=eq.1&select=id,name:title,price::text",
        &expect![[r#"
        [{"id":1,"name":"Notes","price":"10.00"}]
    "#]],
    );
    check(
        "GET /books?id=eq.1&select=shout,%22odd%20%5C%22name%5C%22%22",
        &expect![[r#"
            [{"shout":"NOTES","odd \"name\"":null}]
        "#]],
    );
    check(
        "GET /tags?select=nonsense",
        &expect![[r#"
        42703 column tags.nonsense does not exist
    "#]],
    );
    check(
        "GET /nowhere",
        &expect![[r#"
        404 Not Found
        {"code":"PGRST205","message":"Could not find the table 'shop.nowhere' in the schema cache","details":null,"hint":null}
    "#]],
    );
    check(
        "GET /book",
        &expect![[r#"
        404 Not Found
        {"code":"PGRST205","message":"Could not find the table 'shop.book' in the schema cache","details":null,"hint":"Perhaps you meant the table 'shop.books'"}
    "#]],
    );
}

#[test]
fn json_paths_reach_into_json_arrays_and_rows() {
    check(
        "GET /books?select=facts->pages,facts->lang->>code,facts->chapters->0,words->0&order=id&limit=2",
        &expect![[r#"
            [{"pages":100,"code":null,"chapters":"one","words":"a"},
             {"pages":250,"code":"fr","chapters":null,"words":"b"}]
        "#]],
    );
    check(
        "GET /books?select=id&facts->lang->>code=eq.fr",
        &expect![[r#"
        [{"id":2}]
    "#]],
    );
    check(
        "GET /books?select=id&order=facts->pages.desc.nullslast,id",
        &expect![[r#"
        [{"id":2},
         {"id":1},
         {"id":4},
         {"id":3}]
    "#]],
    );
}

#[test]
fn filters_compare() {
    check(
        "GET /books?select=id&price=gte.10&price=lt.20",
        &expect![[r#"
        [{"id":1}]
    "#]],
    );
    check(
        "GET /books?select=id&title=like.*otes&title=not.eq.Notes",
        &expect![[r#"
        [{"id":4}]
    "#]],
    );
    check(
        "GET /books?select=id&id=in.(1,3)&order=id",
        &expect![[r#"
        [{"id":1},
         {"id":3}]
    "#]],
    );
    check(
        "GET /books?select=id&id=in.()",
        &expect![[r#"
        []
    "#]],
    );
    check(
        "GET /books?select=id&words=cs.{b}&order=id",
        &expect![[r#"
        [{"id":1},
         {"id":2}]
    "#]],
    );
    check(
        "GET /books?select=id&title=ilike(any).{n*,t*}&order=id",
        &expect![[r#"
        [{"id":1},
         {"id":2}]
    "#]],
    );
    check(
        "GET /books?select=id&translator_id=is.null&order=id",
        &expect![[r#"
        [{"id":1},
         {"id":3}]
    "#]],
    );
    check(
        "GET /books?select=id&translator_id=isdistinct.1&order=id",
        &expect![[r#"
        [{"id":1},
         {"id":3},
         {"id":4}]
    "#]],
    );
    check(
        "GET /books?select=id&search=fts(english).notes&order=id",
        &expect![[r#"
        [{"id":1},
         {"id":4}]
    "#]],
    );
    check(
        "GET /books?select=id&title=wfts.curve",
        &expect![[r#"
        [{"id":3}]
    "#]],
    );
    check(
        "GET /books?select=id&or=(id.eq.1,and(format.eq.ebook,price.lt.10))&order=id",
        &expect![[r#"
        [{"id":1},
         {"id":2}]
    "#]],
    );
    check(
        "GET /books?select=id&not.or=(id.eq.1,id.eq.2)&order=id",
        &expect![[r#"
        [{"id":3},
         {"id":4}]
    "#]],
    );
    check(
        "GET /books?select=id&shout=eq.NOTES",
        &expect![[r#"
        [{"id":1}]
    "#]],
    );
    check(
        "GET /books?select=id&id=eq.x",
        &expect![[r#"
        22P02 invalid input syntax for type integer: "x"
    "#]],
    );
}

#[test]
fn domains_use_custom_representations() {
    check(
        "GET /inks?order=id",
        &expect![[r##"
        [{"id":1,"name":"sky","tone":"#0000ff"},
         {"id":2,"name":"fire","tone":"#ff0000"}]
    "##]],
    );
    check(
        "GET /inks?select=id,tone&tone=eq.%230000ff",
        &expect![[r##"
        [{"id":1,"tone":"#0000ff"}]
    "##]],
    );
    check(
        "GET /inks?select=id&tone=in.(%230000ff,%23ff0000)&order=id",
        &expect![[r#"
        [{"id":1},
         {"id":2}]
    "#]],
    );
}

#[test]
fn rows_are_ordered_limited_and_counted() {
    check(
        "GET /books?select=id&order=price.desc,id&limit=2&offset=1",
        &expect![[r#"
        [{"id":1},
         {"id":2}]
    "#]],
    );
    check(
        "GET /books?select=id&order=translator_id.desc.nullslast,id",
        &expect![[r#"
        [{"id":4},
         {"id":2},
         {"id":1},
         {"id":3}]
    "#]],
    );
    check(
        "GET /books?select=id&limit=1&order=id\nprefer: count=exact",
        &expect![[r#"
        [{"id":1}]
        total 4
    "#]],
    );
    check(
        "GET /books?select=id&order=id\nrange: 1-2",
        &expect![[r#"
        [{"id":2},
         {"id":3}]
    "#]],
    );
    check(
        "HEAD /books\nprefer: count=exact",
        &expect![[r#"
            (no body)
            total 4
        "#]],
    );
    let capped = Policy { max_rows: Some(2), ..permissive() };
    check_with(
        &capped,
        "GET /books?select=id&order=id\nprefer: count=exact",
        &expect![[r#"
        [{"id":1},
         {"id":2}]
        total 4
    "#]],
    );
    check_with(
        &capped,
        "GET /authors?select=id,books!author_id(id)&limit=5&order=id&books.order=id",
        &expect![[r#"
            [{"id":1,"books":[{"id":1},
             {"id":4}]},
             {"id":2,"books":[{"id":2}]}]
        "#]],
    );
    check(
        "GET /tags?limit=1\nprefer: count=estimated",
        &expect![[r#"
            [{"id":1,"label":"classic"}]
            total 2
        "#]],
    );
    check(
        "GET /tags?limit=1\nprefer: count=planned",
        &expect![[r#"
            [{"id":1,"label":"classic"}]
            total 2
        "#]],
    );
    let planned = Policy { max_rows: Some(100), ..permissive() };
    check_with(
        &planned,
        "GET /tags?limit=1\nprefer: count=estimated",
        &expect![[r#"
            [{"id":1,"label":"classic"}]
            total 2
        "#]],
    );
}

#[test]
fn builds_bodies_in_other_media_types() {
    check(
        "GET /tags\naccept: text/csv",
        &expect![[r#"
        id,label
        1,classic
        2,maths
    "#]],
    );
    check(
        "GET /tags?id=eq.1\naccept: application/vnd.pgrst.object+json",
        &expect![[r#"
        {"id":1,"label":"classic"}
    "#]],
    );
    check(
        "GET /books?select=id,translator_id&id=lt.3\naccept: application/vnd.pgrst.array+json;nulls=stripped",
        &expect![[r#"
            [{"id":1},{"id":2,"translator_id":1}]
        "#]],
    );
    check(
        "GET /tags\naccept: text/tab-separated-values",
        &expect![[r#"
        1	classic
        2	maths

    "#]],
    );
    check(
        "GET /tags?select=id\naccept: text/tab-separated-values",
        &expect![[r#"
        406 Not Acceptable
        {"code":"PGRST107","message":"None of these media types are available: text/tab-separated-values","details":null,"hint":null}
    "#]],
    );
    check(
        "GET /rpc/dot\naccept: image/dot",
        &expect![[r#"
        [00, ff, 10]
    "#]],
    );
    check(
        "GET /tags\naccept: image/png, text/html",
        &expect![[r#"
        406 Not Acceptable
        {"code":"PGRST107","message":"None of these media types are available: image/png, text/html","details":null,"hint":null}
    "#]],
    );
    let strict = Policy { execution_plans: false, ..permissive() };
    check_with(
        &strict,
        "GET /tags\naccept: application/vnd.pgrst.plan",
        &expect![[r#"
        406 Not Acceptable
        {"code":"PGRST107","message":"None of these media types are available: application/vnd.pgrst.plan+text; for=\"application/json\"","details":null,"hint":null}
    "#]],
    );
}
