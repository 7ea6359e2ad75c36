//! Static files of the balancer's routes: shipped, switched and rolled back with a release.

use expect_test::expect;

use super::*;
use crate::website::Website;

/// The release with static files.
fn with_website(release: Release) -> Release {
    let website = Website { archive: release.id.clone(), folders: vec!["public".into()] };
    Release { website: Some(Box::new(website)), ..release }
}

#[test]
fn static_files_are_shipped_before_the_balancer_names_them_and_switched_with_the_last_server() {
    let text = format!("{FOUR}\n[balancer]\nroute = [{{ files = \"./public\" }}, {{ path = \"/api\" }}]\n");
    let (old, new) = (with_website(release('a', '1')), with_website(release('b', '1')));
    let mut fleet = Fleet::serving(&text, &old, &[]);
    fleet.report("lb").websites =
        vec![old.id.clone(), "e".repeat(12), format!("{}.new", "f".repeat(12)), "../x".to_owned()];
    fleet.check(&intent(new.clone()), expect![[r#"
        lb: ship the static files of release bbbbbbbbbbbb
        app1: ship release bbbbbbbbbbbb
        app2: ship release bbbbbbbbbbbb
        app1: start app-1 of release bbbbbbbbbbbb on port 8082
        app1: wait until app-1 is ready: http://10.0.0.11:9082/ready
        lb: put app-1 on port 8082 in rotation
        lb: wait until the balancer finds app-1 healthy
        app1: drain and stop app-1 of release aaaaaaaaaaaa on port 8081
        app2: start app-2 of release bbbbbbbbbbbb on port 8082
        app2: wait until app-2 is ready: http://10.0.0.12:9082/ready
        lb: put app-2 on port 8082 in rotation
        lb: wait until the balancer finds app-2 healthy
        app2: drain and stop app-2 of release aaaaaaaaaaaa on port 8081
        lb: remove /usr/local/lib/tercet/websites/eeeeeeeeeeee, /usr/local/lib/tercet/websites/ffffffffffff.new
        app1: remove tercet-app-1@aaaaaaaaaaaa…
        app2: remove tercet-app-2@aaaaaaaaaaaa…
    "#]]);
    let plan = fleet.plan(&intent(new.clone())).expect("a plan");
    let folders: Vec<String> = plan
        .operations()
        .filter_map(|operation| match &operation.action {
            Action::Rotate { desired, .. } => Some(desired.files[0].contents.clone()),
            _ => None,
        })
        .map(|contents| {
            let tercet_machine::file::Contents::Text(text) = contents else { panic!("it is secret") };
            text.lines().find(|line| line.starts_with("files = ")).unwrap_or("none").to_owned()
        })
        .collect();
    let folder =
        |id: char| format!("files = \"/usr/local/lib/tercet/websites/{}/public\"", id.to_string().repeat(12));
    assert_eq!(folders, [folder('a'), folder('b')]);
    // Back to a release whose files the balancer's machine has, and to one whose files it lacks.
    let mut fleet = Fleet::serving(&text, &new, std::slice::from_ref(&old));
    fleet.report("lb").websites = vec![new.id.clone(), old.id.clone()];
    let plan = fleet.plan(&Intent::Rollback { application: None }).expect("a plan");
    assert!(plan.operations().all(|operation| !matches!(operation.action, Action::ShipWebsite { .. })));
    fleet.report("lb").websites = vec![new.id];
    fleet.check(&Intent::Rollback { application: None }, expect![[r#"
        lb: the static files of release aaaaaaaaaaaa are not there, and only the project's files could be shipped
        hint: put the project's files back to what they were and apply
    "#]]);
}

#[test]
fn static_files_that_stay_the_same_are_not_shipped_again_and_not_removed() {
    let text = format!("{FOUR}\n[balancer]\nroute = [{{ files = \"public\" }}]\n");
    let old = with_website(release('a', '1'));
    let new = Release { website: old.website.clone(), ..release('b', '1') };
    let mut fleet = Fleet::serving(&text, &old, &[]);
    fleet.report("lb").websites = vec![old.id.clone()];
    let plan = fleet.plan(&intent(new)).expect("a plan");
    assert!(plan.operations().all(|operation| !matches!(operation.action, Action::ShipWebsite { .. })));
    assert!(!plan.to_string().contains("websites"), "{plan}");
}

#[test]
fn routes_to_files_that_the_release_in_use_does_not_have_are_left_out() {
    let text = format!("{FOUR}\n[balancer]\nroute = [{{ files = \"public\" }}, {{ path = \"/api\" }}]\n");
    let (old, new) = (release('a', '1'), with_website(release('b', '1')));
    let fleet = Fleet::serving(&text, &old, &[]);
    let plan = fleet.plan(&intent(new)).expect("a plan");
    let first = plan.operations().find_map(|operation| match &operation.action {
        Action::Converge { desired, .. } if operation.machine == "lb" => desired
            .files
            .iter()
            .find(|file| file.path.ends_with("balancer.toml"))
            .map(|file| file.contents.clone()),
        _ => None,
    });
    let Some(tercet_machine::file::Contents::Text(text)) = first else { panic!("no configuration") };
    assert!(!text.contains("files") && text.contains("path = \"/api\""), "{text}");
    assert!(plan.balancer.is_some_and(|text| text.contains("/public\"")));
}
