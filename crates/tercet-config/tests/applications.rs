//! Several applications, `[application.NAME]`: what they mean, and the mistakes.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use tercet_config::{Origin, Tier, Topology};

const ORIGIN: Origin<'_> = Origin { file: "tercet.toml", folder: "shop" };

fn parse(text: &str) -> Topology {
    tercet_config::parse(text, ORIGIN).unwrap()
}

/// The applications with their servers, and the edges between the tiers.
#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
fn check(text: &str, expected: Expect) {
    let topology = parse(text);
    let mut shown = String::new();
    for application in topology.applications() {
        let kind = if application.data_api().is_some() { "data API" } else { "program" };
        let servers: Vec<String> = topology
            .servers_of(application)
            .map(|part| {
                assert_eq!(topology.application_of(part).unwrap().name, application.name);
                format!("{} on {:?}{}", part.name, part.ports(), if part.port.fixed { " only" } else { "" })
            })
            .collect();
        let path = topology.balancer().path_to(application).unwrap_or("no path");
        writeln!(shown, "{} ({kind}, {path}): {}", application.section(), servers.join(", ")).unwrap();
    }
    let others = topology.parts().iter().filter(|part| part.tier != Tier::Application);
    assert!(others.clone().all(|part| topology.application_of(part).is_none()));
    expected.assert_eq(&shown);
}

/// Each mistake with its line and hint.
#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
fn refuse(text: &str, expected: Expect) {
    let mistakes = tercet_config::parse(text, ORIGIN).unwrap_err();
    expected.assert_eq(&(mistakes.lines().trim_end().to_owned() + "\n"));
}

const ROUTES: &str = "
[[balancer.route]]
path = '/api'
to = 'api'
strip = true
[[balancer.route]]
to = 'shop'
";

#[test]
fn each_has_servers_and_ports_of_its_own_in_the_order_of_the_file() {
    check(
        &format!(
            "[application.shop]\nrun = 'shop'\nservers = 3\n[application.api]\n[api]\ndb-max-rows = 9\n{ROUTES}"
        ),
        expect![[r#"
            [application.shop] (program, /): app-shop-1 on [8081], app-shop-2 on [8082], app-shop-3 on [8083]
            [application.api] (data API, /api): app-api-1 on [8084], app-api-2 on [8085]
        "#]],
    );
    // Ports that are written keep others away, wherever they are written.
    check(
        &format!("[application.shop]\nrun = 'shop'\n[application.api]\nport = 8082\n{ROUTES}"),
        expect![[r#"
            [application.shop] (program, /): app-shop-1 on [8084], app-shop-2 on [8085]
            [application.api] (data API, /api): app-api-1 on [8082] only, app-api-2 on [8083] only
        "#]],
    );
    // The only application gets all requests without a route.
    check(
        "[application.api]\n",
        expect![[r#"
        [application.api] (data API, /): app-api-1 on [8081], app-api-2 on [8082]
    "#]],
    );
    check(
        "application = { servers = 1, env-file = 'a', run = 'x' }",
        expect![[r#"
        [application] (program, /): app-1 on [8081]
    "#]],
    );
}

#[test]
fn machines_run_servers_of_each() {
    let machines = "machine = [
        { name = 'one', ssh = 'one', address = '10.0.0.10', tiers = ['balancer', 'application'] },
        { name = 'two', ssh = 'two', address = '10.0.0.11', tiers = ['application', 'database'] },
    ]\n";
    check(
        &format!("{machines}[application.shop]\nrun = 'shop'\n"),
        expect![[r#"
        [application.shop] (program, /): app-shop-1 on [8081, 8082] only, app-shop-2 on [8081, 8082] only
    "#]],
    );
    check(
        &format!("{machines}[application.shop]\nrun = 'shop'\nservers = 3\n[application.api]\n{ROUTES}"),
        expect![[r#"
            [application.shop] (program, /): app-shop-1 on [8081, 8083] only, app-shop-2 on [8081, 8083] only, app-shop-3 on [8082, 8084] only
            [application.api] (data API, /api): app-api-1 on [8085, 8086] only, app-api-2 on [8085, 8086] only
        "#]],
    );
    refuse(
        &format!("{machines}[application.shop]\nrun = 'shop'\n[application.api]\nservers = 1\n{ROUTES}"),
        expect![[r#"
            tercet.toml:8: 2 application machines can't share 1 server(s)
            hint: at least 2, or leave it out for one each
        "#]],
    );
    // An admin port of one is no port of another.
    check(
        &format!("{machines}[application.shop]\nrun = 'shop'\nport = 9081\n[application.api]\n{ROUTES}"),
        expect![[r#"
            [application.shop] (program, /): app-shop-1 on [9081, 9082] only, app-shop-2 on [9081, 9082] only
            [application.api] (data API, /api): app-api-1 on [8083, 8084] only, app-api-2 on [8083, 8084] only
        "#]],
    );
}

#[test]
fn secrets_and_grants_are_those_of_all() {
    let topology = parse(&format!(
        "[application.shop]\nrun = 'shop'\nenv-file = '@a.env'\nmigrate = 'up'\n\
         [application.api]\n[application.blog]\nrun = 'blog'\nenv-file = 'b.env'\n[api]\njwt-secret = '@jwt'\n{ROUTES}\
         [[balancer.route]]\nhost = 'blog.test'\nto = 'blog'\n"
    ));
    let files: Vec<String> = topology.secret_files().iter().map(|it| it.display().to_string()).collect();
    assert_eq!(files, ["tercet.toml", "jwt", "a.env", "b.env"]);
    assert_eq!((topology.grants(), topology.has_programs()), (Some(true), true));
    assert!(topology.data_api().unwrap().jwt_secret.is_some());
    assert_eq!(topology.application(Some("blog")).unwrap().section(), "[application.blog]");
    assert!(topology.application(None).is_none() && topology.application(Some("none")).is_none());
}

#[test]
fn contradictions_are_refused() {
    // Keys of the only application beside names.
    refuse(
        &format!("[application]\nservers = 2\n[application.api]\n[application.shop]\nrun = 'shop'\n{ROUTES}"),
        expect![[r#"
            tercet.toml:2: application.servers is a key of the only application, and there are applications with names
            hint: move the keys of [application] to an [application.NAME], or keep [application] alone
        "#]],
    );
    // Names.
    refuse(
        "[application.Shop]\nrun = 'a'\n[application.application]\nrun = 'b'\n[application.1]\nrun = 'c'\n",
        expect![[r#"
            tercet.toml:1: application can't be named "Shop"
            hint: use lower case letters, digits and -, a letter first, at most 40
            tercet.toml:3: an application can't be named application
            hint: name it after what it does, like shop
            tercet.toml:5: application can't be named "1"
            hint: use lower case letters, digits and -, a letter first, at most 40
        "#]],
    );
    // A key that does not exist is no name.
    refuse(
        "[application]\nserver = 2\n[application.api]\nsevrers = 2\n",
        expect![[r#"
        tercet.toml:2: unknown key server in [application]
        hint: did you mean servers?
        tercet.toml:4: unknown key sevrers in [application.api]
        hint: did you mean servers?
    "#]],
    );
    // Two data APIs.
    refuse(
        &format!("[application.shop]\n[application.api]\n[api]\ndb-max-rows = 0\n{ROUTES}"),
        expect![[r#"
            tercet.toml:2: [application.api] and [application.shop] have no run, and only one application can be the data API
            hint: add run to one of the two; the data API of one application serves all requests that routes send to it
        "#]],
    );
    // Options of a data API that there is not.
    refuse(
        &format!(
            "[application.shop]\nrun = 'a'\n[application.api]\nrun = 'b'\n[api]\ndb-max-rows = 1\n{ROUTES}"
        ),
        expect![[r#"
            tercet.toml:5: [api] is for the data API, and every application has run
            hint: add an [application.NAME] without run, or leave [api] out
        "#]],
    );
    // Keys for a program.
    refuse(
        &format!("[application.shop]\nrun = 'a'\n[application.api]\nhealth = '/x'\n{ROUTES}"),
        expect![[r#"
            tercet.toml:4: health is for your own program, and there is none
            hint: the data API has a health path of its own: leave this out, or add run
        "#]],
    );
    // Privileges of tables with one owner.
    refuse(
        &format!(
            "[application.shop]\nrun = 'a'\nmigrate = 'a'\n[application.api]\nrun = 'b'\nmigrate = 'b'\ngrants = 'none'\n{ROUTES}"
        ),
        expect![[r#"
            tercet.toml:7: [application.api] and [application.shop] differ in grants
            hint: write the same grants in both: their tables have one owner, whose privileges they are
        "#]],
    );
    // The same port.
    refuse(
        &format!("[application.shop]\nrun = 'a'\nport = 8081\n[application.api]\nport = 8082\n{ROUTES}"),
        expect![[r#"
            tercet.toml:5: app-shop-2 and app-api-1 share a machine and port 8082
        "#]],
    );
}

#[test]
fn routes_and_applications_belong_together() {
    // An application without a route.
    refuse(
        "[application.api]\n[application.shop]\nrun = 'shop'\n[[balancer.route]]\nto = 'api'\n",
        expect![[r#"
            tercet.toml:2: nothing sends requests to [application.shop]
            hint: add a [[balancer.route]] with path = "/shop" and to = "shop"
        "#]],
    );
    // A route to no application, and one that does not say to which.
    refuse(
        &format!(
            "[application.api]\n[application.shop]\nrun = 'shop'\n{ROUTES}\
             [[balancer.route]]\npath = '/a'\nto = 'shp'\n[[balancer.route]]\npath = '/b'\n\
             [[balancer.route]]\npath = '/c'\nto = 'application'\n"
        ),
        expect![[r#"
            tercet.toml:13: balancer.route[2].to names no backend pool: shp
            hint: did you mean "shop"?
            tercet.toml:14: balancer.route[3].to is missing: no backend pool is application
            hint: add to = "api", or files
            tercet.toml:18: balancer.route[4].to names no backend pool: application
            hint: did you mean "api"?
        "#]],
    );
    // The only application has a name, and no route to it among those there are.
    refuse(
        "[application.shop]\nrun = 'shop'\n[[balancer.route]]\nfiles = 'public'\n",
        expect![[r#"
        tercet.toml:1: nothing sends requests to [application.shop]
        hint: add a [[balancer.route]] with path = "/shop" and to = "shop"
    "#]],
    );
    // The only application has none.
    refuse(
        "[[balancer.route]]\nto = 'shop'\n",
        expect![[r#"
        tercet.toml:2: balancer.route[0].to names no backend pool: shop
        hint: write "application"
    "#]],
    );
}
