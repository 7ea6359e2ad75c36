//! Strict round-robin, observed at the servers.

use std::io::Write as _;
use std::sync::{Arc, Condvar, Mutex};

use crate::backend::Backend;
use crate::client::Client;
use crate::running::Running;

/// The requests that have arrived at each server, and how many in total may get a response.
#[derive(Default)]
struct Progress {
    arrived: [usize; 3],
    answerable: usize,
}

#[test]
fn request_counts_of_servers_differ_by_at_most_one_with_64_clients() {
    let shared = Arc::new((Mutex::new(Progress::default()), Condvar::new()));
    let servers = [0, 1, 2].map(|index| {
        let shared = Arc::clone(&shared);
        Backend::start(move |_, stream| {
            let (progress, changed) = &*shared;
            let mut progress = progress.lock().unwrap();
            progress.arrived[index] += 1;
            let all = progress.arrived.iter().sum();
            changed.notify_all();
            drop(changed.wait_while(progress, |progress| progress.answerable < all).unwrap());
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_ok()
        })
    });
    let balancer = Running::start(&[&servers[0], &servers[1], &servers[2]], "");
    let mut clients: Vec<Client> = (0..64).map(|_| Client::connect(balancer.address)).collect();
    let (progress, changed) = &*shared;
    let mut sent = 0;
    // Rounds of 1 to 64 requests, so that they end at every server.
    for round in 0..100 {
        let at_once = if round % 2 == 0 { 64 } else { 1 + round * 7 % 64 };
        for client in &mut clients[..at_once] {
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        }
        sent += at_once;
        let mut arrived = changed
            .wait_while(progress.lock().unwrap(), |progress| progress.arrived.iter().sum::<usize>() < sent)
            .unwrap();
        let (least, most) = (arrived.arrived.iter().min().unwrap(), arrived.arrived.iter().max().unwrap());
        assert!(most - least <= 1, "{:?} of {sent}", arrived.arrived);
        arrived.answerable = sent;
        drop(arrived);
        changed.notify_all();
        for client in &mut clients[..at_once] {
            assert_eq!(client.answer().status, 200);
        }
    }
}
