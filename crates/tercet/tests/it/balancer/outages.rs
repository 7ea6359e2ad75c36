//! Servers that hang, are killed or exit under full load.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::load::{Load, Outcome};
use super::process::{Balancer, configuration, eventually};
use super::server::{Reports, SWALLOWED, Server};

fn three(reports: &Arc<Reports>) -> [Server; 3] {
    [(); 3].map(|()| Server::start(reports))
}

/// The POST requests, and the others, which are all idempotent.
fn by_method(outcomes: &[Outcome]) -> (Vec<&Outcome>, Vec<&Outcome>) {
    outcomes.iter().partition(|outcome| outcome.request.starts_with("POST"))
}

fn assert_none_was_sent_twice(reports: &Reports) {
    let twice: Vec<_> = reports.of_method("POST").into_iter().filter(|(_, times)| *times > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

#[test]
fn a_stopped_server_is_out_of_rotation_within_a_second_and_back_when_it_continues() {
    let reports = Arc::default();
    let servers = three(&reports);
    // Out after one check and the one that is not answered: 300 ms, and as much again for a busy machine.
    let rules = "[health]\ninterval = \"100ms\"\ntimeout = \"200ms\"\nslow-start = \"0s\"\n[timeouts]\nresponse = \"1500ms\"\n";
    let balancer = Balancer::start(&servers.each_ref().map(|server| server.address), rules);
    let methods = ["GET", "POST", "PUT"];
    let load =
        Load { address: balancer.address, clients: 16, methods: &methods, keep_alive: true, swallowed: None };
    let (out_after, outcomes) = load.during(|_| {
        servers[1].wait_for_requests(100);
        let stopped = Instant::now();
        servers[1].signal(Signal::STOP);
        eventually("it is out", || balancer.state("app-2") == "silent");
        let out_after = stopped.elapsed();
        servers[0].wait_for_requests(500);
        servers[1].signal(Signal::CONT);
        eventually("it is back", || balancer.state("app-2") == "up");
        servers[1].wait_for_requests(100);
        out_after
    });
    assert!(out_after < Duration::from_secs(1), "{out_after:?}");
    let (posts, others) = by_method(&outcomes);
    let failed: Vec<_> = others.iter().filter(|outcome| outcome.status != Ok(200)).collect();
    assert!(failed.is_empty(), "{failed:?}");
    // What it had when it was stopped could not be given to another one.
    let mut timed_out = HashMap::new();
    for outcome in posts.iter().filter(|outcome| outcome.status != Ok(200)) {
        assert_eq!(outcome.status, Ok(504), "{outcome:?}");
        *timed_out.entry(outcome.client).or_insert(0) += 1;
    }
    assert!(timed_out.values().all(|times| *times == 1), "{timed_out:?}");
    assert_none_was_sent_twice(&reports);
}

#[test]
fn servers_that_are_killed_or_end_cost_no_idempotent_request_and_no_post_is_sent_twice() {
    const ROUNDS: usize = 6;
    let reports = Arc::default();
    let mut servers = three(&reports);
    let rules = "[health]\ninterval = \"50ms\"\nrise = 1\nslow-start = \"0s\"\n";
    let addresses = servers.each_ref().map(|server| server.address);
    let balancer = Balancer::start(&addresses, rules);
    let methods = ["GET", "POST", "PUT", "POST", "DELETE"];
    let load = Load {
        address: balancer.address,
        clients: 32,
        methods: &methods,
        keep_alive: true,
        swallowed: Some((50, SWALLOWED)),
    };
    let ((), outcomes) = load.during(|_| {
        for round in 0..ROUNDS {
            if round == ROUNDS / 2 {
                // From here on requests share connections.
                let shared = configuration(balancer.address, &addresses, rules);
                balancer.reload(&shared.replace("\" }", "\", pipeline = 8 }"));
            }
            let server = &mut servers[round % 3];
            server.replace([Signal::KILL, Signal::TERM][round % 2]);
            server.wait_for_requests(20);
        }
    });
    let (posts, others) = by_method(&outcomes);
    let failed: Vec<_> = others.iter().filter(|outcome| outcome.status != Ok(200)).collect();
    assert!(failed.is_empty(), "{} of {}: {failed:?}", failed.len(), others.len());
    let odd: Vec<_> = posts.iter().filter(|post| !matches!(post.status, Ok(200 | 502))).collect();
    assert!(odd.is_empty(), "{odd:?}");
    assert_none_was_sent_twice(&reports);
    let seen = reports.of_method("POST");
    assert!(seen.keys().any(|request| request.contains(SWALLOWED)), "the faults were there");
    let lost: Vec<_> =
        posts.iter().filter(|post| post.status == Ok(200) && seen.get(&post.request) != Some(&1)).collect();
    assert!(lost.is_empty(), "answered, and never seen by a server: {lost:?}");
}
