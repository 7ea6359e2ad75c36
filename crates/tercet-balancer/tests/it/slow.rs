//! Deliberately slow clients (slowloris): timeouts end their connections, and other clients are not affected.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::client::Client;
use crate::running::Running;

/// All timeouts in this test.
const LIMIT: Duration = Duration::from_millis(500);
/// The shortest default of these timeouts.
const DEFAULT: Duration = Duration::from_secs(10);
/// How often a slow client sends a byte.
const PACE: Duration = Duration::from_millis(20);
/// The number of slow clients of each kind.
const SLOW: usize = 25;

/// Sends `start`, then `more` byte by byte, until a response begins. Returns its first bytes, and the time it took.
fn drip(address: SocketAddr, start: &[u8], more: &[u8]) -> (String, Duration) {
    let mut stream = TcpStream::connect(address).unwrap();
    let began = Instant::now();
    stream.write_all(start).unwrap();
    stream.set_read_timeout(Some(PACE)).unwrap();
    let mut more = more.iter().cycle();
    let mut answer = [0; 12];
    loop {
        match stream.read(&mut answer) {
            Ok(_) => return (String::from_utf8_lossy(&answer).into_owned(), began.elapsed()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("after {:?}: {error}", began.elapsed()),
        }
        if let Some(byte) = more.next() {
            // Fails if the connection was closed meanwhile; the next read then returns the response.
            let _ = stream.write_all(&[*byte]);
        }
    }
}

#[test]
fn slow_heads_bodies_and_readers_time_out_and_do_not_affect_other_clients() {
    let (report, durations) = mpsc::channel();
    let servers = [report.clone(), report].map(|report| {
        Backend::start(move |request, stream| {
            if !request.line().contains("/large") {
                return stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_ok();
            }
            let began = Instant::now();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").unwrap();
            while stream.write_all(&[0; 4096]).is_ok() {}
            report.send(began.elapsed()).unwrap();
            false
        })
    });
    let limits = "[timeouts]\nhead = \"500ms\"\nbody = \"500ms\"\nsend = \"500ms\"\n";
    let balancer = Running::start(&[&servers[0], &servers[1]], limits);
    let address = balancer.address;
    let (stop, served) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let cut = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut client = Client::connect(address);
                while !stop.load(Ordering::SeqCst) {
                    let began = Instant::now();
                    assert_eq!(client.get("/").status, 200);
                    served.lock().unwrap().push(began.elapsed());
                }
            });
        }
        let readers: Vec<Client> = (0..SLOW)
            .map(|_| {
                let mut reader = Client::connect(address);
                reader.send(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
                reader
            })
            .collect();
        let senders: Vec<_> = (0..SLOW)
            .flat_map(|_| {
                let head = scope.spawn(move || drip(address, b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"y"));
                let half = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf";
                [head, scope.spawn(move || drip(address, half, b""))]
            })
            .collect();
        let mut cut: Vec<Duration> = Vec::new();
        for sender in senders {
            let (answer, after) = sender.join().unwrap();
            assert_eq!(answer, "HTTP/1.1 408");
            cut.push(after);
        }
        cut.extend(readers.iter().map(|_| durations.recv().unwrap()));
        while served.lock().unwrap().len() < 100 {
            std::thread::yield_now();
        }
        stop.store(true, Ordering::SeqCst);
        cut
    });
    assert_eq!(cut.len(), 3 * SLOW);
    // A busy machine may be late; the default timeouts are far longer.
    assert!(cut.iter().all(|after| *after + PACE >= LIMIT && *after < DEFAULT), "{cut:?}");
    // Slow clients must not eject servers.
    assert!(!balancer.events().contains("eject"), "{}", balancer.events());
    let mut served = served.into_inner().unwrap();
    served.sort();
    assert!(served[served.len() / 2] < LIMIT, "the median is {:?}", served[served.len() / 2]);
}
