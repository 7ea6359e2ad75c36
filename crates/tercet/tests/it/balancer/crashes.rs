//! The worker process dies: only its requests in flight are lost, and the listening sockets stay open.
//!
//! It is killed by signals, such as the SIGABRT of an uncaught panic. A panic in a request is caught, ends that request only,
//! and cannot be caused from outside.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit, setrlimit};

use super::load::Load;
use super::load::get;
use super::process::{Balancer, configuration, end, eventually, is_alive, own_address};
use super::thread_server::ThreadServer;
use crate::tercet::command;

#[test]
fn a_worker_that_dies_loses_its_requests_and_the_next_one_serves_at_once() {
    const DEATHS: [Signal; 6] =
        [Signal::KILL, Signal::ABORT, Signal::KILL, Signal::ABORT, Signal::KILL, Signal::ABORT];
    const CLIENTS: usize = 4;
    // No memory of a worker is to be left behind.
    let most = getrlimit(Resource::Core).maximum;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: most }).unwrap();
    let server = ThreadServer::answering("ok");
    let started = Instant::now();
    let balancer = Balancer::start(&[server.address], "");
    // What a start takes on a machine that runs other tests too.
    let usual = started.elapsed().max(Duration::from_millis(200));
    // After it the supervisor has log that its worker serves; one that dies before that is a failed start.
    balancer.reload(&configuration(balancer.address, &[server.address], ""));
    let load = Load {
        address: balancer.address,
        clients: CLIENTS,
        methods: &["GET"],
        keep_alive: false,
        swallowed: None,
    };
    let (deaths, outcomes) = load.during(|answered| {
        DEATHS.map(|signal| {
            let before = answered.load(Ordering::SeqCst);
            let worker = balancer.worker().unwrap();
            let asked = Instant::now();
            end(worker, signal);
            let died = Instant::now();
            eventually("another worker serves", || {
                balancer.worker().is_some_and(|other| other != worker)
                    && answered.load(Ordering::SeqCst) > before + 50
            });
            (asked, died)
        })
    });
    for lost in outcomes.iter().filter(|outcome| outcome.status != Ok(200)) {
        assert_ne!(lost.status, Err(io::ErrorKind::ConnectionRefused), "the door was closed");
        let was_under_way = |(asked, died): &(Instant, Instant)| lost.began < *died && lost.ended > *asked;
        assert!(deaths.iter().any(was_under_way), "no worker died that had it: {lost:?}");
    }
    let mut gaps = deaths.map(|(_, died)| {
        let next = outcomes.iter().filter(|outcome| outcome.status == Ok(200) && outcome.began >= died);
        next.map(|outcome| outcome.ended - died).min().unwrap()
    });
    gaps.sort();
    // The middle one: any of them may have to wait for a core.
    assert!(gaps[DEATHS.len() / 2] < 2 * usual, "{gaps:?}, usually {usual:?}");
    for how in ["signal: 9 (SIGKILL)", "signal: 6 (SIGABRT)"] {
        eventually("each death is logged", || {
            balancer.log().matches(&format!("worker process exited ({how}")).count() == 3
        });
    }
}

#[test]
fn a_worker_dies_with_its_supervisor() {
    let mut balancer = Balancer::start(&[ThreadServer::answering("ok").address], "");
    let worker = balancer.worker().unwrap();
    balancer.child.kill().unwrap();
    balancer.child.wait().unwrap();
    eventually("the worker is gone", || !is_alive(worker));
}

#[test]
fn the_supervisor_survives_signals_while_workers_die_at_their_start() {
    let server = ThreadServer::answering("ok");
    let address = own_address();
    let text = configuration(address, &[server.address], "");
    // The very first one is killed as well: that is no mistake in the configuration.
    let balancer = Balancer::spawn(command(), address, &text);
    let mut killed = None;
    for _ in 0..4 {
        eventually("a worker starts", || {
            let worker = balancer.worker().filter(|worker| killed != Some(*worker));
            // It may have exited already.
            worker.is_some_and(|worker| {
                kill_process(worker, Signal::KILL).is_ok() && killed.replace(worker) != Some(worker)
            })
        });
        for signal in [Signal::USR1, Signal::HUP, Signal::USR1] {
            balancer.signal(signal);
        }
    }
    eventually("the next one serves", || get(address).is_ok_and(|body| body == "ok"));
    assert_eq!(balancer.admin("POST /reload"), "reloaded\n");
    assert!(balancer.log().contains("worker process exited (signal: 9 (SIGKILL)"), "{}", balancer.log());
}

#[test]
fn a_worker_that_cannot_be_started_is_tried_again() {
    let server = ThreadServer::answering("ok");
    let balancer = Balancer::start(&[server.address], "");
    let supervisor = Pid::from_child(&balancer.child);
    let before = prlimit(
        Some(supervisor),
        Resource::Nofile,
        Rlimit { current: Some(3), ..getrlimit(Resource::Nofile) },
    )
    .unwrap();
    end(balancer.worker().unwrap(), Signal::KILL);
    eventually("it says so", || balancer.log().contains("a worker process cannot be started"));
    balancer.signal(Signal::USR1);
    prlimit(Some(supervisor), Resource::Nofile, before).unwrap();
    eventually("the next one serves", || get(balancer.address).is_ok_and(|body| body == "ok"));
}
