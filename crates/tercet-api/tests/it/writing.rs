//! Writes: inserts, upserts, updates, deletes, and their results.

use expect_test::expect;

use crate::bookshop::check;

#[test]
fn rows_are_inserted() {
    check(
        "POST /tags\nprefer: return=representation\n\n{\"id\": 3, \"label\": \"new\"}",
        &expect![[r#"
        [{"id":3,"label":"new"}]
    "#]],
    );
    check(
        "POST /tags?select=label\nprefer: return=representation\n\n[{\"id\": 3, \"label\": \"a\"}, {\"id\": 4, \"label\": \"b\"}]",
        &expect![[r#"
            [{"label":"a"},
             {"label":"b"}]
        "#]],
    );
    check(
        "POST /tags\nprefer: return=headers-only\n\n{\"id\": 3, \"label\": \"new\"}",
        &expect![[r#"
            (no body)
            location [("id", Some("3"))]
        "#]],
    );
    check(
        "POST /authors?columns=name&select=name\nprefer: return=representation\n\n{\"name\": \"Dora\", \"id\": 77}",
        &expect![[r#"
            [{"name":"Dora"}]
        "#]],
    );
    check(
        "POST /books?select=id,authors!author_id(name)\nprefer: return=representation\n\n{\"id\": 9, \"title\": \"x\", \"author_id\": 3, \"price\": 1}",
        &expect![[r#"
            [{"id":9,"authors":{"name":"Carl"}}]
        "#]],
    );
    check(
        "POST /tags\n\n{\"nonsense\": 1}",
        &expect![[r#"
        400 Bad Request
        {"code":"PGRST204","message":"Could not find the 'nonsense' column of 'tags' in the schema cache","details":null,"hint":null}
    "#]],
    );
    check(
        "POST /tags\nprefer: return=representation\n\n[]",
        &expect![[r#"
        []
    "#]],
    );
}

#[test]
fn missing_keys_are_null_or_the_default() {
    let body = "[{\"id\": 5}, {\"id\": 6, \"name\": \"six\"}]";
    check(
        &format!("POST /inks?columns=id,name,tone\nprefer: return=representation\n\n{body}"),
        &expect![[r#"
            [{"id":5,"name":null,"tone":null},
             {"id":6,"name":"six","tone":null}]
        "#]],
    );
    check(
        &format!("POST /inks?columns=id,name,tone\nprefer: return=representation, missing=default\n\n{body}"),
        &expect![[r##"
            [{"id":5,"name":"unnamed","tone":"#0000ff"},
             {"id":6,"name":"six","tone":"#0000ff"}]
        "##]],
    );
}

#[test]
fn domains_use_custom_representations() {
    check(
        "POST /inks\nprefer: return=representation\n\n{\"id\": 7, \"tone\": \"#00ff00\"}",
        &expect![[r##"
        [{"id":7,"name":"unnamed","tone":"#00ff00"}]
    "##]],
    );
    check(
        "PATCH /inks?tone=eq.%23ff0000&select=id,tone\nprefer: return=representation\n\n{\"tone\": \"#000001\"}",
        &expect![[r##"
            [{"id":2,"tone":"#000001"}]
        "##]],
    );
}

#[test]
fn existing_rows_are_updated_or_ignored() {
    let body = "[{\"id\": 1, \"label\": \"one\"}, {\"id\": 5, \"label\": \"five\"}]";
    check(
        &format!("POST /tags\nprefer: return=representation, resolution=merge-duplicates\n\n{body}"),
        &expect![[r#"
            [{"id":1,"label":"one"},
             {"id":5,"label":"five"}]
            inserted 1
        "#]],
    );
    check(
        &format!("POST /tags\nprefer: return=representation, resolution=ignore-duplicates\n\n{body}"),
        &expect![[r#"
            [{"id":5,"label":"five"}]
        "#]],
    );
    check(
        "POST /authors?on_conflict=name\nprefer: return=representation, resolution=merge-duplicates\n\n{\"name\": \"Ada\", \"born\": \"1900-01-01\"}",
        &expect![[r#"
            [{"id":1,"name":"Ada","born":"1900-01-01"}]
            inserted 0
        "#]],
    );
    check(
        "PUT /tags?id=eq.1\nprefer: return=representation\n\n{\"id\": 1, \"label\": \"one\"}",
        &expect![[r#"
            [{"id":1,"label":"one"}]
            inserted 0
        "#]],
    );
    check(
        "PUT /tags?id=eq.8\nprefer: return=representation\n\n{\"id\": 8, \"label\": \"eight\"}",
        &expect![[r#"
            [{"id":8,"label":"eight"}]
            inserted 1
        "#]],
    );
    check(
        "PUT /tags?label=eq.x\n\n{\"id\": 1, \"label\": \"one\"}",
        &expect![[r#"
        405 Method Not Allowed
        {"code":"PGRST105","message":"Filters must include all and only primary key columns with 'eq' operators","details":null,"hint":null}
    "#]],
    );
    check(
        "PUT /tags?id=gt.1\n\n{\"id\": 1, \"label\": \"one\"}",
        &expect![[r#"
        405 Method Not Allowed
        {"code":"PGRST105","message":"Filters must include all and only primary key columns with 'eq' operators","details":null,"hint":null}
    "#]],
    );
}

#[test]
fn rows_are_updated_and_deleted() {
    check(
        "PATCH /tags?id=eq.1\nprefer: return=representation\n\n{\"label\": \"old\"}",
        &expect![[r#"
        [{"id":1,"label":"old"}]
    "#]],
    );
    check(
        "PATCH /tags?id=eq.1\nprefer: return=representation\n\n{}",
        &expect![[r#"
        []
    "#]],
    );
    check(
        "PATCH /tags?id=eq.99\nprefer: return=representation\n\n{\"label\": \"old\"}",
        &expect![[r#"
        []
    "#]],
    );
    check(
        "DELETE /copies?or=(id.eq.1,id.eq.3)&select=id,books(title)&order=id\nprefer: return=representation",
        &expect![[r#"
            [{"id":1,"books":{"title":"Notes"}},
             {"id":3,"books":{"title":"Thoughts"}}]
        "#]],
    );
    check(
        "DELETE /copies?id=eq.1",
        &expect![[r#"
            (no body)
        "#]],
    );
    check(
        "PATCH /ebooks?id=eq.2&select=title\nprefer: return=representation\n\n{\"title\": \"Ideas\"}",
        &expect![[r#"
            [{"title":"Ideas"}]
        "#]],
    );
}
