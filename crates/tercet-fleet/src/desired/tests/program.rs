//! How a user's own program runs.

use expect_test::expect;
use tercet_config::{Origin, Server};
use tercet_machine::file::Contents;

use super::{FOUR, SECRET_OWN, application, desired, desired_of};
use crate::release::{Kind, Release};

/// A user's own program.
fn own(run: &str) -> Release {
    let text = format!("[application]\nrun = {run:?}\n");
    let topology =
        tercet_config::parse(&text, Origin { file: "tercet.toml", folder: "shop" }).expect("valid");
    let Server::Own { program, .. } = topology.applications()[0].server.clone() else {
        panic!("it is the person's own")
    };
    Release {
        id: "abc".to_owned(),
        application: None,
        kind: Kind::Own {
            migrate: None,
            run: program,
            build: None,
            health: None,
            variables: topology.applications()[0].environment.variables.clone(),
            start_timeout: None,
            archive: String::new(),
        },
        program: String::new(),
        website: None,
    }
}

#[test]
fn a_program_in_the_release_is_started_by_its_whole_path() {
    let start = |run: &str| {
        let desired = desired_of(FOUR, "app1", &own(run));
        let unit = desired.files.iter().find(|file| file.path.to_string_lossy().contains("tercet-app-1@"));
        let Contents::Text(text) = &unit.expect("a unit").contents else { panic!("it is secret") };
        text.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command").to_owned()
    };
    let folder = "/usr/local/lib/tercet/releases/abc/program";
    assert_eq!(start("./server.sh -v"), format!("\"{folder}/server.sh\" \"-v\""));
    assert_eq!(start(".venv/bin/uvicorn x"), format!("\"{folder}/.venv/bin/uvicorn\" \"x\""));
    assert_eq!(start("python3 ./main.py"), "\"python3\" \"./main.py\"");
    assert_eq!(start("/usr/bin/true"), "\"/usr/bin/true\"");
}

#[test]
fn a_program_has_its_variables_and_the_secret_ones_are_in_a_file() {
    let text = format!(
        "application.run = 'serve'\napplication.env = {{ LEVEL = 'a b', PGSSLKEY = 'mine' }}\n{FOUR}"
    );
    let desired = desired(&text, "app1");
    let find = |name: &str| {
        let file = desired.files.iter().find(|file| file.path.to_string_lossy().contains(name));
        &file.expect("it is there").contents
    };
    let Contents::Text(unit) = find("tercet-app-1@") else { panic!("it is secret") };
    let variables: Vec<_> =
        unit.lines().filter(|line| line.contains("LEVEL") || line.contains("PGSSLKEY")).collect();
    expect![[r#"
        [
            "Environment=\"LEVEL=a b\"",
            "Environment=\"PGSSLKEY=mine\"",
            "Environment=\"PGSSLKEY=/run/credentials/tercet-app-1@abc-21ac8a84.service/client.key\"",
        ]
    "#]]
    .assert_debug_eq(&variables);
    let Contents::Secret(file) = find("/environment") else { panic!("it is no secret") };
    let (own, url) = file.reveal().split_once('\n').expect("two lines");
    assert_eq!(own, "KEY=\"hush-\\$variable\"");
    assert!(url.starts_with("DATABASE_URL=\"postgresql://"), "{url}");
}

#[test]
fn a_program_gets_the_url_of_its_database_as_it_was_written() {
    let text = format!("{SECRET_OWN}{}", FOUR.replace(r#"{ name = "db""#, r#"#{ name = "db""#));
    let desired = desired(&text, "app1");
    let file = |path: &str| desired.files.iter().find(|file| file.path.ends_with(path)).expect(path);
    let Contents::Secret(environment) = &file("environment").contents else { panic!("it is no secret") };
    expect![[r#"
        KEY="hush-\$variable"
        DATABASE_URL="postgres://shop:hush\$x%25y%n%40z\`'w@db.example/shop?sslmode=require"
    "#]]
    .assert_eq(environment.reveal());
    let unit = &application(&desired);
    let Contents::Text(unit) = &file(unit).contents else { panic!("it is secret") };
    let lines: String = unit
        .lines()
        .filter(|line| {
            line.starts_with("Exec") || line.contains("DATABASE_URL") || line.starts_with("EnvironmentF")
        })
        .map(|line| format!("{line}\n"))
        .collect();
    expect![[r#"
        EnvironmentFile=/etc/tercet/credentials/application-2a903a585018/environment
        ExecStart="server" "a b" "50%%" "$$5"
    "#]]
    .assert_eq(&lines);
}
