//! `tercet init`.

use std::fs;

use expect_test::expect;

use crate::tercet;

#[test]
fn it_writes_a_project() {
    let folder = tempfile::tempdir().unwrap();
    expect![[r#"
        wrote shop/tercet.toml
        wrote shop/migrations/0001_todo.sql
        wrote shop/.gitignore

        start it with: tercet up shop
    "#]]
    .assert_eq(&tercet::run(folder.path(), ["init", "shop"]));
    let written = fs::read_to_string(folder.path().join("shop/tercet.toml")).unwrap();
    assert!(written.contains("[balancer]") && written.contains("\nname = \"shop\"\n"), "{written}");
}

#[test]
fn it_overwrites_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("migrations")).unwrap();
    fs::write(folder.path().join("migrations/0001_mine.sql"), "select 1").unwrap();
    expect![[r#"
          × ./migrations is already there, and nothing is overwritten
          │ hint: name another folder: tercet init DIR; for a program that is here
          │ already, write tercet.toml yourself, with run in [application]

        exit code 2
    "#]]
    .assert_eq(&tercet::run(folder.path(), ["init"]));
    fs::write(folder.path().join("tercet.toml"), "# mine").unwrap();
    fs::write(folder.path().join(".gitignore"), "# mine").unwrap();
    expect![[r#"
          × ./tercet.toml, ./.gitignore are already there, and nothing is overwritten
          │ hint: name another folder: tercet init DIR; for a program that is here
          │ already, write tercet.toml yourself, with run in [application]

        exit code 2
    "#]]
    .assert_eq(&tercet::run(folder.path(), ["init", "."]));
    assert_eq!(fs::read_to_string(folder.path().join("tercet.toml")).unwrap(), "# mine");
    assert_eq!(fs::read_dir(folder.path().join("migrations")).unwrap().count(), 1);
}

#[test]
fn a_folder_that_cannot_be_made_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    expect![[r#"
          × file/shop/tercet.toml could not be written
          ╰─▶ Not a directory (os error 20)

        exit code 1
    "#]]
    .assert_eq(&tercet::run(folder.path(), ["init", "file/shop"]));
}
