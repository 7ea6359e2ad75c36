//! Several applications on machines: each with releases and a backend pool of its own.

use expect_test::expect;
use tercet_machine::file::Contents;
use tercet_options::balancer::Config;

use super::*;

/// Two applications on the machines of [`FOUR`].
const TWO: &str = r#"
    [application.api]
    [application.shop]
    run = "./run"
    rollout = "2"
    env-file = "shop.env"
    [[balancer.route]]
    path = "/api"
    to = "api"
    strip = true
    [[balancer.route]]
    to = "shop"
"#;

fn two() -> String {
    format!("{FOUR}{TWO}")
}

/// The release of an application, `id` its only digit.
fn of_application(name: &str, id: char) -> Release {
    let release = Release { application: Some(name.to_owned()), ..release(id, '1') };
    if name == "api" { release } else { program(release) }
}

fn program(release: Release) -> Release {
    let topology = tercet_config::parse(TWO, Origin { file: "tercet.toml", folder: "shop" }).expect("valid");
    let Some(tercet_config::Server::Own { program, .. }) =
        topology.application(Some("shop")).map(|it| it.server.clone())
    else {
        panic!("it is a program")
    };
    let kind = Kind::Own {
        run: program,
        build: None,
        migrate: None,
        health: Some("/health".to_owned()),
        variables: BTreeMap::new(),
        start_timeout: None,
        archive: release.id.clone(),
    };
    Release { kind, ..release }
}

fn apply(releases: Vec<Release>) -> Intent {
    Intent::Apply { releases, migrate: None, consent: Consent::default() }
}

/// The balancer's configuration at each change of the rotation, which has to be valid.
fn configurations(plan: &ExecutionPlan) -> Vec<Config> {
    let text = |desired: &Desired| {
        let file = desired.files.iter().find(|file| file.path.ends_with("balancer.toml"));
        file.map(|file| match &file.contents {
            Contents::Text(text) => text.clone(),
            Contents::Secret(_) => panic!("it is no secret"),
        })
    };
    let all = plan.operations().filter_map(|operation| match &operation.action {
        Action::Rotate { desired, .. } | Action::Converge { desired, .. } => text(desired),
        _ => None,
    });
    let all = all.chain(plan.balancer.clone());
    all.map(|text| {
        Config::parse(&text, "balancer.toml")
            .unwrap_or_else(|mistakes| panic!("{}\n{text}", mistakes.lines()))
    })
    .collect()
}

#[test]
fn a_data_api_beside_a_program_asks_for_sessions_without_a_role() {
    let options = |text: &str, release: &Release, part: &str| {
        let fleet = Fleet::bare(text);
        let project = fleet.project();
        let part = fleet.topology.part(part).expect("a part");
        let instance = instance(&project, part, release, 8081);
        let desired = crate::desired::running(&project, fleet.topology.machine_of(part), &instance, release);
        let unit = desired.files.iter().find(|file| file.path.extension().is_some_and(|it| it == "service"));
        let Contents::Text(unit) = unit.expect("a unit").contents.clone() else { panic!("it is secret") };
        unit.contains("Environment=\"PGOPTIONS=-c role=none\"\n")
    };
    assert!(options(&two(), &of_application("api", 'a'), "app-api-1"));
    assert!(!options(&two(), &of_application("shop", 'b'), "app-shop-1"));
    assert!(!options(FOUR, &release('a', '1'), "app-1"));
}

/// The pools of a configuration, each with its servers.
fn pools(config: &Config) -> String {
    let pools = config.pools().into_iter().map(|pool| {
        let servers: Vec<&str> = pool.servers.iter().map(|server| server.name.as_str()).collect();
        format!("{} {} {}", pool.name, pool.health.path.unwrap_or_default(), servers.join(" "))
    });
    pools.collect::<Vec<_>>().join("; ")
}

#[test]
fn bare_machines_get_the_release_of_each() {
    let fleet = Fleet::bare(&two());
    let wanted = apply(vec![of_application("api", 'a'), of_application("shop", 'b')]);
    fleet.check(
        &wanted,
        expect![[r#"
        lb: record that it belongs to project shop
        app1: record that it belongs to project shop
        app2: record that it belongs to project shop
        db: record that it belongs to project shop
        app1: ship release aaaaaaaaaaaa
        app2: ship release aaaaaaaaaaaa
        app1: ship release bbbbbbbbbbbb
        app2: ship release bbbbbbbbbbbb
        app1: start app-api-1 of release aaaaaaaaaaaa on port 8081
        app2: start app-api-2 of release aaaaaaaaaaaa on port 8081
        app1: start app-shop-1 of release bbbbbbbbbbbb on port 8083
        app2: start app-shop-2 of release bbbbbbbbbbbb on port 8083
        app1: wait until app-api-1 is ready: http://10.0.0.11:9081/ready
        app2: wait until app-api-2 is ready: http://10.0.0.12:9081/ready
        app1: wait until app-shop-1 is ready: http://10.0.0.11:8083/health
        app2: wait until app-shop-2 is ready: http://10.0.0.12:8083/health
        lb: wait until the balancer finds app-api-1, app-api-2, app-shop-1, app-shop-2 healthy
        lb: record that the project's data is in database shop on db
        app1: record that the project's data is in database shop on db
        app2: record that the project's data is in database shop on db
        db: record that the project's data is in database shop on db
    "#]],
    );
    let plan = fleet.plan(&wanted).expect("a plan");
    let last = configurations(&plan).pop().expect("one");
    let only = "drain = '1s'\n[[servers]]\nname = 'app-1'\naddress = '10.0.0.11:8081'\nhealth-address = '10.0.0.11:9081'\n";
    assert_eq!(crate::report::servers_of(only).len(), 1);
    // The next survey reads from it what serves.
    let text = plan.balancer.as_deref().unwrap_or_default();
    let serving: Vec<String> =
        crate::report::servers_of(text).iter().map(|(name, address)| format!("{name} {address}")).collect();
    assert_eq!(
        serving,
        [
            "app-api-1 10.0.0.11:8081",
            "app-api-2 10.0.0.12:8081",
            "app-shop-1 10.0.0.11:8083",
            "app-shop-2 10.0.0.12:8083"
        ]
    );
    assert_eq!(pools(&last), "api /ready app-api-1 app-api-2; shop /health app-shop-1 app-shop-2");
}

#[test]
fn an_apply_releases_what_has_changed() {
    let (api, shop) = (of_application("api", 'a'), of_application("shop", 'b'));
    let fleet = Fleet::serving_each(&two(), &[api.clone(), shop.clone()], &[]);
    assert!(
        fleet
            .plan(&apply(vec![api.clone(), shop.clone()]))
            .expect("a plan")
            .operations()
            .all(|operation| { matches!(operation.action, Action::Converge { .. }) })
    );
    // In groups of two, which its `rollout` says.
    let wanted = apply(vec![api.clone(), of_application("shop", 'c')]);
    fleet.check(
        &wanted,
        expect![[r#"
        app1: ship release cccccccccccc
        app2: ship release cccccccccccc
        app1: start app-shop-1 of release cccccccccccc on port 8084
        app2: start app-shop-2 of release cccccccccccc on port 8084
        app1: wait until app-shop-1 is ready: http://10.0.0.11:8084/health
        app2: wait until app-shop-2 is ready: http://10.0.0.12:8084/health
        lb: put app-shop-1 on port 8084 in rotation
        lb: wait until the balancer finds app-shop-1 healthy
        lb: put app-shop-2 on port 8084 in rotation
        lb: wait until the balancer finds app-shop-2 healthy
        app1: drain and stop app-shop-1 of release bbbbbbbbbbbb on port 8083
        app2: drain and stop app-shop-2 of release bbbbbbbbbbbb on port 8083
        app1: remove tercet-app-shop-1@bbbbbbbbbbbb…
        app2: remove tercet-app-shop-2@bbbbbbbbbbbb…
    "#]],
    );
    configurations(&fleet.plan(&wanted).expect("a plan"));
    // A secret of one concerns no other.
    let mut fleet = Fleet::serving_each(&two(), &[api.clone(), shop.clone()], &[]);
    fleet.secrets.variables =
        BTreeMap::from([(Some("shop".to_owned()), vec![("KEY".to_owned(), Secret::new("another"))])]);
    let plan = fleet.plan(&apply(vec![api, shop])).expect("a plan");
    let started: Vec<String> = plan
        .operations()
        .filter_map(|it| match &it.action {
            Action::Start { instance, .. } => Some(instance.part.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(started, ["app-shop-1", "app-shop-2"]);
}

#[test]
fn a_rollback_is_of_one() {
    let serving = [of_application("api", 'a'), of_application("shop", 'b')];
    // The last used of all is another application's.
    let fleet =
        Fleet::serving_each(&two(), &serving, &[of_application("api", 'c'), of_application("shop", 'd')]);
    let rollback = |name: Option<&str>| Intent::Rollback { application: name.map(str::to_owned) };
    fleet.check(
        &rollback(Some("shop")),
        expect![[r#"
        app1: start app-shop-1 of release dddddddddddd on port 8084
        app2: start app-shop-2 of release dddddddddddd on port 8084
        app1: wait until app-shop-1 is ready: http://10.0.0.11:8084/health
        app2: wait until app-shop-2 is ready: http://10.0.0.12:8084/health
        lb: put app-shop-1 on port 8084 in rotation
        lb: wait until the balancer finds app-shop-1 healthy
        lb: put app-shop-2 on port 8084 in rotation
        lb: wait until the balancer finds app-shop-2 healthy
        app1: drain and stop app-shop-1 of release bbbbbbbbbbbb on port 8083
        app2: drain and stop app-shop-2 of release bbbbbbbbbbbb on port 8083
        app1: mark release dddddddddddd as used
        app2: mark release dddddddddddd as used
        app1: remove tercet-app-shop-1@bbbbbbbbbbbb…
        app2: remove tercet-app-shop-2@bbbbbbbbbbbb…
    "#]],
    );
    fleet.check(
        &rollback(None),
        expect![[r#"
        there are several applications
        hint: say which one goes back, --application NAME of api, shop
    "#]],
    );
    fleet.check(
        &rollback(Some("shp")),
        expect![[r#"
        there is no application shp
        hint: tercet.toml has api, shop
    "#]],
    );
    let fleet = Fleet::serving_each(&two(), &serving, &[of_application("api", 'c')]);
    fleet.check(
        &rollback(Some("shop")),
        expect![[r#"
        there is no earlier release of shop on the machines
        hint: tercet apply makes releases
    "#]],
    );
    // The only application may be named or not.
    let one = format!("{FOUR}[application.shop]\nrun = \"./run\"\n");
    let fleet = Fleet::serving(&one, &of_application("shop", 'b'), &[of_application("shop", 'd')]);
    assert!(fleet.plan(&rollback(None)).is_ok() && fleet.plan(&rollback(Some("shop"))).is_ok());
}

#[test]
fn three_releases_of_each_stay() {
    let serving = vec![of_application("api", 'a'), of_application("shop", '1')];
    let all = |name: &str, ids: [char; 3]| ids.map(|id| of_application(name, id));
    let others = [all("shop", ['2', '3', '4']), all("api", ['b', 'c', 'd'])].concat();
    let fleet = Fleet::serving_each(&two(), &serving, &others);
    let plan = fleet.plan(&apply(serving)).expect("a plan").to_string();
    let gone = |id: char| plan.contains(&format!("releases/{}", id.to_string().repeat(12)));
    let removed: Vec<char> =
        ['a', 'b', 'c', 'd', '1', '2', '3', '4'].into_iter().filter(|id| gone(*id)).collect();
    assert_eq!(removed, ['d', '4']);
}

#[test]
fn the_only_application_becomes_one_of_two_without_a_gap() {
    let old = release('a', '1');
    let before = Fleet::serving(FOUR, &old, &[]);
    let mut fleet = Fleet::bare(&two());
    fleet.survey = before.survey;
    fleet.secrets.data = Some(data());
    let wanted = apply(vec![of_application("api", 'b'), of_application("shop", 'c')]);
    let plan = fleet.plan(&wanted).expect("a plan");
    let steps: Vec<String> = configurations(&plan).iter().map(pools).collect();
    assert!(steps.iter().all(|step| !step.is_empty()), "{steps:#?}");
    expect![[r#"
        application /ready app-1 app-2
        application /ready app-1 app-2; api /ready app-api-1
        application /ready app-1 app-2; api /ready app-api-1 app-api-2
        application /ready app-1 app-2; api /ready app-api-1 app-api-2; shop /health app-shop-1
        application /ready app-1 app-2; api /ready app-api-1 app-api-2; shop /health app-shop-1 app-shop-2
        application /ready app-2; api /ready app-api-1 app-api-2; shop /health app-shop-1 app-shop-2
        api /ready app-api-1 app-api-2; shop /health app-shop-1 app-shop-2
        api /ready app-api-1 app-api-2; shop /health app-shop-1 app-shop-2
    "#]]
    .assert_eq(&(steps.join("\n") + "\n"));
    // While the old servers are the only ones, they get the requests of both routes.
    let first = &configurations(&plan)[0];
    assert!(first.has_route_to("application") && !first.has_route_to("api"), "{first:?}");
}
