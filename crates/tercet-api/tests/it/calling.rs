//! Calls: overload resolution, arguments, results.

use expect_test::expect;

use crate::bookshop::check;

#[test]
fn arguments_select_the_overload() {
    check(
        "GET /rpc/add?a=1&b=2",
        &expect![[r#"
        3
    "#]],
    );
    check(
        "POST /rpc/add\n\n{\"a\": 1, \"b\": 2, \"c\": 3}",
        &expect![[r#"
        6
    "#]],
    );
    check(
        "GET /rpc/greet",
        &expect![[r#"
        "hello you"
    "#]],
    );
    check(
        "GET /rpc/greet?loud=true",
        &expect![[r#"
        "HELLO YOU"
    "#]],
    );
    check(
        "GET /rpc/same?x=1",
        &expect![[r#"
        300 Multiple Choices
        {"code":"PGRST203","message":"Could not choose the best candidate function between: shop.same(x => integer), shop.same(x => text)","details":null,"hint":"Try renaming the parameters or the function itself in the database so function overloading can be resolved"}
    "#]],
    );
    check(
        "GET /rpc/add?a=1",
        &expect![[r#"
        404 Not Found
        {"code":"PGRST202","message":"Could not find the function shop.add(a) in the schema cache","details":"Searched for the function shop.add with parameter a, but no matches were found in the schema cache.","hint":"Perhaps you meant to call the function shop.add(a, b)"}
    "#]],
    );
    check(
        "GET /rpc/ad?a=1",
        &expect![[r#"
        404 Not Found
        {"code":"PGRST202","message":"Could not find the function shop.ad(a) in the schema cache","details":"Searched for the function shop.ad with parameter a, but no matches were found in the schema cache.","hint":null}
    "#]],
    );
    check(
        "POST /rpc/nothing_like_it\ncontent-type: text/plain\n\nx",
        &expect![[r#"
        404 Not Found
        {"code":"PGRST202","message":"Could not find the function shop.nothing_like_it in the schema cache","details":"Searched for the function shop.nothing_like_it with a single unnamed text parameter, but no matches were found in the schema cache.","hint":null}
    "#]],
    );
}

#[test]
fn arguments_are_passed_by_query_string_body_and_form() {
    check(
        "GET /rpc/join_words?words=a&words=b%22,c",
        &expect![[r#"
        "a-b\",c"
    "#]],
    );
    check(
        "POST /rpc/join_words\n\n{\"words\": [\"x\", \"y\"]}",
        &expect![[r#"
        "x-y"
    "#]],
    );
    check(
        "POST /rpc/greet\ncontent-type: application/x-www-form-urlencoded\n\nname=form&loud=true",
        &expect![[r#"
            "HELLO FORM"
        "#]],
    );
    check(
        "POST /rpc/take_json\n\n{\"word\": \"whole\"}",
        &expect![[r#"
        "whole"
    "#]],
    );
    check(
        "POST /rpc/take_bytes\ncontent-type: application/octet-stream\n\nabc",
        &expect![[r#"
        3
    "#]],
    );
}

#[test]
fn the_result_type_determines_the_body() {
    check(
        "GET /rpc/numbers?count=3",
        &expect![[r#"
        [1, 2, 3]
    "#]],
    );
    check(
        "GET /rpc/numbers?count=3&limit=1&offset=1\nprefer: count=exact",
        &expect![[r#"
        [2]
        total 3
    "#]],
    );
    check(
        "GET /rpc/split?word=abc",
        &expect![[r#"
        {"head":"a","tail":"bc"}
    "#]],
    );
    check(
        "GET /rpc/split?word=abc&select=tail",
        &expect![[r#"
        {"tail":"bc"}
    "#]],
    );
    check(
        "GET /rpc/numbers?count=2\naccept: text/csv",
        &expect![[r#"
        pgrst_scalar
        1
        2
    "#]],
    );
}

#[test]
fn returned_rows_support_selection_and_filters() {
    check(
        "GET /rpc/books_by?author=Ada&select=title,tags(label)&price=gt.1&tags.order=id",
        &expect![[r#"
            [{"title":"Notes","tags":[{"label":"classic"},
             {"label":"maths"}]}]
        "#]],
    );
    check(
        "GET /rpc/books_by?author=Ada&select=title,price.sum()&order=title.desc",
        &expect![[r#"
        [{"title":"Notes","sum":10.00},
         {"title":"More notes","sum":0.00}]
    "#]],
    );
    check(
        "POST /rpc/books_by?select=title,writer(name)&order=price&limit=1\n\n{\"author\": \"Ada\"}",
        &expect![[r#"
            [{"title":"More notes","writer":{"name":"Ada"}}]
        "#]],
    );
}
