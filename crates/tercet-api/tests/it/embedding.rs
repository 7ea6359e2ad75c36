//! Embedding: relationship resolution and results.

use expect_test::expect;
use tercet_api::plan::Policy;

use crate::bookshop::{check, check_with, permissive};

#[test]
fn embeds_by_foreign_keys() {
    check(
        "GET /copies?select=id,books(title),shelves(number)&order=id",
        &expect![[r#"
            [{"id":1,"books":{"title":"Notes"},"shelves":{"number":1}},
             {"id":2,"books":{"title":"Notes"},"shelves":{"number":2}},
             {"id":3,"books":{"title":"Thoughts"},"shelves":null}]
        "#]],
    );
    check(
        "GET /books?select=id,covers(colour),tags(label)&order=id&tags.order=id",
        &expect![[r#"
            [{"id":1,"covers":{"colour":"red"},"tags":[{"label":"classic"},
             {"label":"maths"}]},
             {"id":2,"covers":{"colour":"blue"},"tags":[]},
             {"id":3,"covers":null,"tags":[{"label":"maths"}]},
             {"id":4,"covers":null,"tags":[]}]
        "#]],
    );
    check(
        "GET /authors?select=name,books!author_id(title,copies(id))&id=eq.1&books.order=id&books.copies.order=id",
        &expect![[r#"
            [{"name":"Ada","books":[{"title":"Notes","copies":[{"id":1},
             {"id":2}]},
             {"title":"More notes","copies":[]}]}]
        "#]],
    );
    check(
        "GET /sales?select=id,books(title)&order=id",
        &expect![[r#"
            [{"id":1,"books":{"title":"Notes"}},
             {"id":2,"books":{"title":"Notes"}},
             {"id":3,"books":{"title":"Thoughts"}}]
        "#]],
    );
}

#[test]
fn embeds_views_by_projected_keys() {
    check(
        "GET /cheap_ebooks?select=title,authors(name)&order=ebook",
        &expect![[r#"
            [{"title":"Thoughts","authors":{"name":"Blaise"}},
             {"title":"Curves","authors":{"name":"Carl"}}]
        "#]],
    );
    check(
        "GET /authors?select=name,cheap_ebooks(title)&id=gt.1&order=id",
        &expect![[r#"
            [{"name":"Blaise","cheap_ebooks":[{"title":"Thoughts"}]},
             {"name":"Carl","cheap_ebooks":[{"title":"Curves"}]}]
        "#]],
    );
    check(
        "GET /contracts?select=id,authors(name)",
        &expect![[r#"
        []
    "#]],
    );
}

#[test]
fn several_relationships_need_a_hint() {
    check(
        "GET /books?select=id,authors(name)",
        &expect![[r#"
        300 Multiple Choices
        {"code":"PGRST201","message":"Could not embed because more than one relationship was found for 'books' and 'authors'","details":[{"cardinality":"many-to-one","embedding":"books with authors","relationship":"books_author_id_fkey using books(author_id) and authors(id)"},{"cardinality":"many-to-one","embedding":"books with authors","relationship":"books_translator_id_fkey using books(translator_id) and authors(id)"}],"hint":"Try changing 'authors' to one of the following: 'authors!books_author_id_fkey', 'authors!books_translator_id_fkey'. Find the desired relationship in the 'details' key."}
    "#]],
    );
    check(
        "GET /books?select=id,authors!translator_id(name)&order=id",
        &expect![[r#"
            [{"id":1,"authors":null},
             {"id":2,"authors":{"name":"Ada"}},
             {"id":3,"authors":null},
             {"id":4,"authors":{"name":"Carl"}}]
        "#]],
    );
    check(
        "GET /books?select=id,authors!books_translator_id_fkey(name)&id=eq.2",
        &expect![[r#"
            [{"id":2,"authors":{"name":"Ada"}}]
        "#]],
    );
    check(
        "GET /books?select=id,by:author_id(name)&id=eq.2",
        &expect![[r#"
            [{"id":2,"by":{"name":"Blaise"}}]
        "#]],
    );
    check(
        "GET /books?select=id,authors!nonsense(name)",
        &expect![[r#"
        400 Bad Request
        {"code":"PGRST200","message":"Could not find a relationship between 'books' and 'authors' in the schema cache","details":"Searched for a foreign key relationship between 'books' and 'authors' using the hint 'nonsense' in the schema 'shop', but no matches were found.","hint":null}
    "#]],
    );
    check(
        "GET /books?select=id,author(name)",
        &expect![[r#"
        400 Bad Request
        {"code":"PGRST200","message":"Could not find a relationship between 'books' and 'author' in the schema cache","details":"Searched for a foreign key relationship between 'books' and 'author' in the schema 'shop', but no matches were found.","hint":"Perhaps you meant 'authors' instead of 'author'."}
    "#]],
    );
    check(
        "GET /books?select=id,sections(name)",
        &expect![[r#"
        400 Bad Request
        {"code":"PGRST200","message":"Could not find a relationship between 'books' and 'sections' in the schema cache","details":"Searched for a foreign key relationship between 'books' and 'sections' in the schema 'shop', but no matches were found.","hint":"Perhaps you meant 'authors' instead of 'sections'."}
    "#]],
    );
}

#[test]
fn a_tree_is_embedded_in_itself() {
    check(
        "GET /sections?select=name,sections(name)&order=id",
        &expect![[r#"
            [{"name":"all","sections":[{"name":"science"}]},
             {"name":"science","sections":[{"name":"maths"}]},
             {"name":"maths","sections":[]}]
        "#]],
    );
    check(
        "GET /sections?select=name,parent_id(name)&order=id",
        &expect![[r#"
            [{"name":"all","parent_id":null},
             {"name":"science","parent_id":{"name":"all"}},
             {"name":"maths","parent_id":{"name":"science"}}]
        "#]],
    );
}

#[test]
fn functions_are_relationships() {
    check(
        "GET /books?select=id,siblings(title),writer(name)&id=lt.3&order=id",
        &expect![[r#"
            [{"id":1,"siblings":[{"title":"More notes"}],"writer":{"name":"Ada"}},
             {"id":2,"siblings":[],"writer":{"name":"Blaise"}}]
        "#]],
    );
}

#[test]
fn embedded_rows_filter_and_order() {
    check(
        "GET /books?select=id,tags!inner(label)&tags.label=eq.maths&order=id&tags.order=id",
        &expect![[r#"
            [{"id":1,"tags":[{"label":"maths"}]},
             {"id":3,"tags":[{"label":"maths"}]}]
        "#]],
    );
    check(
        "GET /books?select=id,tags()&tags=is.null&order=id",
        &expect![[r#"
        [{"id":2},
         {"id":4}]
    "#]],
    );
    check(
        "GET /books?select=id,tags(),covers()&or=(tags.not.is.null,covers.not.is.null)&order=id",
        &expect![[r#"
            [{"id":1},
             {"id":2},
             {"id":3}]
        "#]],
    );
    check(
        "GET /books?select=id,writer(name)&order=writer(name).desc,id",
        &expect![[r#"
            [{"id":3,"writer":{"name":"Carl"}},
             {"id":2,"writer":{"name":"Blaise"}},
             {"id":1,"writer":{"name":"Ada"}},
             {"id":4,"writer":{"name":"Ada"}}]
        "#]],
    );
    check(
        "GET /books?select=id,tags(label)&order=tags(label)",
        &expect![[r#"
        400 Bad Request
        {"code":"PGRST118","message":"A related order on 'tags' is not possible","details":"'books' and 'tags' do not form a many-to-one or one-to-one relationship","hint":null}
    "#]],
    );
    check(
        "GET /books?select=id,tags!inner(label)&tags.label=eq.maths&limit=1&order=id\nprefer: count=exact",
        &expect![[r#"
            [{"id":1,"tags":[{"label":"maths"}]}]
            total 2
        "#]],
    );
    check(
        "GET /books?select=id&tags.label=eq.maths",
        &expect![[r#"
        400 Bad Request
        {"code":"PGRST108","message":"'tags' is not an embedded resource in this request","details":null,"hint":"Verify that 'tags' is included in the 'select' query parameter."}
    "#]],
    );
}

#[test]
fn filters_use_the_alias() {
    let request = "GET /books?select=id,labels:tags(label)&tags.label=eq.maths&order=id&id=lt.3";
    check(
        request,
        &expect![[r#"
        400 Bad Request
        {"code":"PGRST108","message":"'tags' is not an embedded resource in this request","details":"Target names are not allowed in filters if they have an alias","hint":"Change 'tags' to 'labels' in filters, orders or limits."}
    "#]],
    );
    check_with(
        &Policy { legacy_target_names: true, ..permissive() },
        request,
        &expect![[r#"
            [{"id":1,"labels":[{"label":"maths"}]},
             {"id":2,"labels":[]}]
        "#]],
    );
    check(
        "GET /books?select=id,labels:tags(label)&labels.label=eq.maths&order=id&id=lt.3",
        &expect![[r#"
            [{"id":1,"labels":[{"label":"maths"}]},
             {"id":2,"labels":[]}]
        "#]],
    );
}

#[test]
fn embeddings_are_spread() {
    check(
        "GET /copies?select=id,...books(title,...authors!author_id(writer:name))&order=id",
        &expect![[r#"
        [{"id":1,"title":"Notes","writer":"Ada"},
         {"id":2,"title":"Notes","writer":"Ada"},
         {"id":3,"title":"Thoughts","writer":"Blaise"}]
    "#]],
    );
    check(
        "GET /books?select=id,...tags(labels:label)&order=id&tags.order=label.desc",
        &expect![[r#"
        [{"id":1,"labels":["maths", "classic"]},
         {"id":2,"labels":[]},
         {"id":3,"labels":["maths"]},
         {"id":4,"labels":[]}]
    "#]],
    );
    check(
        "GET /books?select=id,...tags(*),...covers(*)&id=lt.3&order=id&tags.order=id",
        &expect![[r#"
        [{"id":1,"id":[1, 2],"label":["classic", "maths"],"book_id":1,"colour":"red"},
         {"id":2,"id":[],"label":[],"book_id":2,"colour":"blue"}]
    "#]],
    );
    check(
        "GET /books?select=id,...tags!inner(label)&order=id&tags.order=id",
        &expect![[r#"
        [{"id":1,"label":["classic", "maths"]},
         {"id":3,"label":["maths"]}]
    "#]],
    );
    check(
        "GET /authors?select=id,...books!author_id(titles:title,...copies(copies:id))&order=id&books.order=id&books.copies.order=id",
        &expect![[r#"
            [{"id":1,"titles":["Notes", "More notes"],"copies":[[1, 2], []]},
             {"id":2,"titles":["Thoughts"],"copies":[[3]]},
             {"id":3,"titles":["Curves"],"copies":[[]]}]
        "#]],
    );
    check(
        "GET /tags?select=id,...books(id.count())",
        &expect![[r#"
        400 Bad Request
        {"code":"PGRST127","message":"Feature not implemented","details":"Aggregates are not implemented for one-to-many or many-to-many spreads.","hint":null}
    "#]],
    );
}

#[test]
fn rows_are_aggregated() {
    check(
        "GET /books?select=format,price.sum(),most:price.max(),count()&order=format",
        &expect![[r#"
        [{"format":"paper","sum":10.00,"most":10.00,"count":1},
         {"format":"ebook","sum":25.50,"most":20.00,"count":2},
         {"format":"audio","sum":0.00,"most":0.00,"count":1}]
    "#]],
    );
    check(
        "GET /books?select=price.avg()::int",
        &expect![[r#"
        [{"avg":9}]
    "#]],
    );
    check(
        "GET /authors?select=name,books!author_id(count())&order=id",
        &expect![[r#"
        [{"name":"Ada","books":[{"count": 2}]},
         {"name":"Blaise","books":[{"count": 1}]},
         {"name":"Carl","books":[{"count": 1}]}]
    "#]],
    );
    check(
        "GET /copies?select=room,...books(price.sum(),price.max())&order=room",
        &expect![[r#"
        [{"room":1,"sum":20.00,"max":10.00},
         {"room":null,"sum":5.50,"max":5.50}]
    "#]],
    );
    check(
        "GET /copies?select=...books(format,count())&order=books(format)",
        &expect![[r#"
        [{"format":"paper","count":2},
         {"format":"ebook","count":1}]
    "#]],
    );
    check(
        "GET /books?select=facts->lang->>code,count()&order=count",
        &expect![[r#"
        [{"code":"fr","count":1},
         {"code":null,"count":3}]
    "#]],
    );
    check_with(
        &Policy { aggregates: false, ..permissive() },
        "GET /books?select=price.sum()",
        &expect![[r#"
            400 Bad Request
            {"code":"PGRST123","message":"Use of aggregate functions is not allowed","details":null,"hint":null}
        "#]],
    );
}
