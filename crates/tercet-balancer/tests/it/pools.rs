//! Backend pools: routes send requests to servers of their own, and the state of one pool does not concern the others.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};

use serde_json::Value;
use tercet_balancer::Config;

use crate::admin::control;
use crate::backend::Backend;
use crate::client::Client;
use crate::files::{VERSIONS, curl};
use crate::running::{PIPELINES, Running, config, config_for, with_pipeline};
use crate::streaming::raw_server;

/// No checks, and no ejection of servers.
const NO_STATE: &str = "health = { interval = '1h', ejection-failures = 1000 }\n";
const API: &str = "[[route]]\npath = '/api'\nto = 'api'\n";

/// The pool of this name, with servers `NAME-1`, `NAME-2`, … and these options, which may be routes.
fn pool(name: &str, servers: &[SocketAddr], options: &str) -> String {
    let servers: Vec<String> = servers
        .iter()
        .enumerate()
        .map(|(index, address)| format!("{{ name = '{name}-{}', address = '{address}' }}", index + 1))
        .collect();
    format!("[pool.{name}]\nservers = [{}]\n{options}", servers.join(", "))
}

fn addresses<const N: usize>(servers: &[Backend; N]) -> [SocketAddr; N] {
    servers.each_ref().map(|server| server.address)
}

/// An address where nothing listens.
fn refusing() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn two_and_three(more: &str) -> ([Backend; 2], [Backend; 3], Config) {
    let (application, api) =
        ([(); 2].map(|()| Backend::responding("app")), [(); 3].map(|()| Backend::responding("api")));
    let routes = "[[route]]\npath = '/'\nhost = '*.api.example'\nto = 'api'\n";
    let more = format!("{NO_STATE}{more}{}", pool("api", &addresses(&api), &format!("{API}{routes}")));
    let config = config_for(&addresses(&application), &more);
    (application, api, config)
}

/// The number at the end of the name of the server that sent a response.
fn number(name: &str) -> usize {
    name.rsplit('-').next().unwrap().parse().unwrap()
}

#[test]
fn a_route_sends_its_requests_to_its_pool_in_strict_round_robin() {
    let (application, api, config) = two_and_three("");
    let balancer = Running::with(config);
    let mut counts = HashMap::<&str, usize>::new();
    for version in VERSIONS {
        for (target, host, to) in [
            ("/", "a", "app"),
            ("/api", "a", "api"),
            ("/api/orders", "a", "api"),
            ("/apis", "a", "app"),
            ("/", "v1.api.example", "api"),
            ("/x", "a", "app"),
            ("/x", "api.example", "app"),
            ("/api/x", "v1.api.example", "api"),
            ("/api", "a", "api"),
            ("/x", "a", "app"),
        ] {
            let answer = curl(&balancer, version, target, &["-H", &format!("host: {host}")]);
            assert_eq!((answer.status, answer.text()), (200, to), "{version} {host} {target}");
            let count = counts.entry(to).or_default();
            let expected = *count % if to == "api" { 3 } else { 2 } + 1;
            *count += 1;
            let name = answer.header("x-served-by").unwrap();
            assert_eq!(name, format!("{to}-{expected}"), "{version} {host} {target}");
        }
    }
    let requests = |servers: &[Backend]| servers.iter().map(|it| it.requests().len()).collect::<Vec<_>>();
    assert_eq!((requests(&application), requests(&api)), (vec![5; 2], vec![4, 3, 3]));
}

#[test]
fn the_order_of_each_pool_is_strict_for_all_clients_and_threads() {
    for pipeline in PIPELINES {
        let (application, api, config) = two_and_three("");
        let balancer = Running::with(Config { workers: 2, ..with_pipeline(config, pipeline) });
        std::thread::scope(|scope| {
            for client in 0..8 {
                let address = balancer.address;
                scope.spawn(move || {
                    let mut connection = Client::connect(address);
                    for round in 0..60 {
                        // Both pools on one connection, in another order for each client.
                        let to_api = (client + round) % 3 == 0;
                        let answer = connection.get(if to_api { "/api" } else { "/" });
                        assert_eq!(answer.text(), if to_api { "api" } else { "app" });
                    }
                });
            }
        });
        let check = |servers: &[Backend], sum: usize| {
            let counts: Vec<usize> = servers.iter().map(|server| server.requests().len()).collect();
            assert_eq!(counts.iter().sum::<usize>(), sum, "pipeline {pipeline}");
            assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
        };
        check(&application, 320);
        check(&api, 160);
    }
}

#[test]
fn pipelined_requests_of_a_client_are_answered_in_order_by_their_pools() {
    let (_application, _api, config) = two_and_three("");
    let balancer = Running::with(config);
    let mut client = Client::connect(balancer.address);
    let targets = ["/", "/api", "/api", "/", "/api"];
    let requests = targets.map(|target| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
    client.send(requests.concat().as_bytes());
    for target in targets {
        assert_eq!(client.answer().text(), if target == "/" { "app" } else { "api" });
    }
}

#[test]
fn a_pool_that_is_dead_concerns_its_own_requests_only() {
    let application = Backend::responding("app");
    let broken = Backend::start(|_, _| false);
    let more = format!(
        "health.interval = '20ms'\n{}{}[[route]]\npath = '/broken'\nto = 'broken'\n",
        pool("api", &[refusing(), refusing()], API),
        pool("broken", &[broken.address], ""),
    );
    let balancer = Running::with(config(&[&application], &more));
    while !balancer.events().contains("no server of api passes its health checks") {
        std::thread::yield_now();
    }
    for version in VERSIONS {
        for _ in 0..4 {
            for (target, status, text) in [
                ("/api", 503, "no server is available"),
                ("/broken", 502, "closed the connection"),
                ("/", 200, "app"),
            ] {
                let answer = curl(&balancer, version, target, &[]);
                assert_eq!(answer.status, status, "{version} {target}");
                assert!(answer.text().contains(text), "{version} {target} {}", answer.text());
            }
        }
    }
    let mut client = Client::connect(balancer.address);
    let post = b"POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(client.send(post).answer().status, 503);
    assert!(application.requests().iter().all(|request| request.line().starts_with("GET / ")));
    let events = balancer.stop_for_events();
    assert!(!events.contains("no server of application") && !events.contains("app-1"), "{events}");
}

#[test]
fn a_request_is_retried_in_its_pool() {
    let application = [Backend::responding("app"), Backend::responding("app")];
    let closing = [(); 3].map(|()| Backend::start(|_, _| false));
    let good = Backend::responding("api");
    let servers = [closing[0].address, closing[1].address, refusing(), good.address];
    let more = format!(
        "{NO_STATE}retries.attempts = 3\n{}{}[[route]]\npath = '/closing'\nto = 'closing'\n",
        pool("api", &servers, API),
        pool("closing", &[closing[2].address, refusing()], ""),
    );
    let balancer = Running::with(config_for(&addresses(&application), &more));
    let mut client = Client::connect(balancer.address);
    for _ in 0..4 {
        assert_eq!(client.get("/api").header("x-served-by"), Some("api-4"));
        // The last server that is left has not responded, or refused.
        assert!(matches!(client.get("/closing").status, 502 | 503));
    }
    assert_eq!(application.each_ref().map(|server| server.requests().len()), [0, 0]);
    assert!(closing.iter().all(|server| !server.requests().is_empty()));
}

#[test]
fn each_pool_has_its_own_queue() {
    let (report, arrived) = mpsc::channel();
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let gated = |report: mpsc::Sender<()>| {
        let gate = Arc::clone(&gate);
        Backend::start(move |_, stream| {
            report.send(()).unwrap();
            let (open, opened) = &*gate;
            drop(opened.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_ok()
        })
    };
    let (application, api) = (gated(report.clone()), gated(report));
    let more =
        format!("{NO_STATE}limits.queue = 1\ntimeouts.queue = '1h'\n{}", pool("api", &[api.address], API));
    let mut config = config(&[&application], &more);
    config.servers[0].max_connections = 1;
    config.pool.get_mut("api").unwrap().servers[0].max_connections = 1;
    let balancer = Running::with(config);
    let requesting = |target: &str| {
        let mut client = Client::connect(balancer.address);
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        client
    };
    let mut in_flight = [requesting("/"), requesting("/api")];
    for _ in 0..2 {
        arrived.recv().unwrap();
    }
    std::thread::scope(|scope| {
        // In each pool, one of two more is queued and the other one refused.
        let queued = ["/api", "/"].map(|target| {
            let (report, statuses) = mpsc::channel();
            for mut client in [requesting(target), requesting(target)] {
                let report = report.clone();
                scope.spawn(move || report.send(client.answer().status).unwrap());
            }
            assert_eq!(statuses.recv().unwrap(), 503, "{target}");
            statuses
        });
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
        assert_eq!(queued.map(|statuses| statuses.recv().unwrap()), [200, 200]);
    });
    for client in &mut in_flight {
        assert_eq!(client.answer().status, 200);
    }
}

#[test]
fn pools_have_policies_and_checks_of_their_own() {
    let application = [Backend::responding("app"), Backend::responding("app")];
    let api = [(); 3].map(|()| Backend::responding("api"));
    // The path of the checks is answered with 500.
    let ill = TcpListener::bind("127.0.0.1:0").unwrap();
    let ill_address = ill.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in ill.incoming() {
            let mut reader = std::io::BufReader::new(stream.unwrap());
            let Some(head) = crate::backend::read_head(&mut reader) else { continue };
            let status = if head.starts_with("GET /ready ") { "500 No" } else { "200 OK" };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = reader.get_mut().write_all(answer.as_bytes());
        }
    });
    let more = format!(
        "health.interval = '20ms'\n{}{}[[route]]\npath = '/ill'\nto = 'ill'\n",
        pool("api", &addresses(&api), &format!("policy = 'hash'\nhash-on = 'x-tenant'\n{API}")),
        pool("ill", &[ill_address, application[0].address], "health.path = '/ready'\n"),
    );
    let balancer = Running::with(config_for(&addresses(&application), &more));
    while !balancer.events().contains("server ill-1 is down: the health check returned status 500") {
        std::thread::yield_now();
    }
    let mut client = Client::connect(balancer.address);
    let mut served_by = |target: &str, tenant: usize| {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\nX-Tenant: {tenant}\r\n\r\n");
        let answer = client.send(request.as_bytes()).answer();
        number(answer.header("x-served-by").unwrap())
    };
    let mut used = [0; 3];
    for tenant in 0..40 {
        let first = served_by("/api", tenant);
        assert_eq!([(); 2].map(|()| served_by("/api", tenant)), [first; 2], "tenant {tenant}");
        used[first - 1] += 1;
        assert_ne!(served_by("/", tenant), served_by("/", tenant));
        assert_eq!(served_by("/ill", tenant), 2);
    }
    assert!(used.iter().all(|count| *count > 0), "{used:?}");
}

#[test]
fn without_the_pool_application_a_request_without_a_route_gets_404() {
    let api = Backend::responding("api");
    let pages = tempfile::tempdir().unwrap();
    std::fs::write(pages.path().join("404.html"), "<p>not here</p>").unwrap();
    let text = format!(
        "listen = ['127.0.0.1:0']\nerror-pages.folder = '{}'\n{}",
        pages.path().display(),
        pool("api", &[api.address], API)
    );
    let balancer = Running::with(Config::parse(&text, "test.toml").unwrap());
    for version in VERSIONS {
        assert_eq!(curl(&balancer, version, "/api/orders", &[]).text(), "api");
        for (target, accept, expected) in [
            ("/", "*/*", "\"message\":\"nothing is served for this host and path\""),
            ("/apis", "text/html", "<p>not here</p>"),
        ] {
            let answer = curl(&balancer, version, target, &["-H", &format!("accept: {accept}")]);
            assert_eq!(answer.status, 404, "{version} {target}");
            assert!(answer.text().contains(expected), "{}", answer.text());
            assert!(answer.header("x-request-id").is_some(), "{}", answer.head);
        }
        assert_eq!(curl(&balancer, version, "/", &["-d", "body"]).status, 404);
    }
    // The connection is kept.
    let mut client = Client::connect(balancer.address);
    assert_eq!([client.get("/").status, client.get("/api").status, client.get("/x").status], [404, 200, 404]);
    assert!(balancer.stop().contains("\"GET /apis HTTP/2.0\" 404 "));
}

#[test]
fn reloads_that_add_and_remove_a_pool_under_load_fail_no_request() {
    let application = [Backend::responding("app"), Backend::responding("app")];
    let api = [Backend::responding("api"), Backend::responding("api")];
    let one = config_for(&addresses(&application), "");
    let both = config_for(&addresses(&application), &pool("api", &addresses(&api), API));
    let balancer = Running::with(one.clone());
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let balancer = &balancer;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::connect(balancer.address);
                while !stop.load(Ordering::SeqCst) {
                    assert_eq!([client.get("/").status, client.get("/api").status], [200, 200]);
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let mut client = Client::connect(balancer.address);
        for round in 0..60 {
            let (config, expected) = if round % 2 == 0 { (&both, "api") } else { (&one, "app") };
            balancer.balancer().reload(config.clone(), Vec::new()).unwrap();
            assert_eq!(client.get("/api").text(), expected);
            assert_eq!(client.get("/").text(), "app");
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert!(answered.into_inner() > 60);
}

#[test]
fn a_server_keeps_its_state_while_its_pool_name_and_address_stay() {
    let servers = [(); 3].map(|()| Backend::responding("ok"));
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let [one, two, three] = addresses(&servers);
    let with = |more: &str| {
        let mut config = config_for(&[one], more);
        config.admin.socket = Some(socket.clone());
        config
    };
    let moved = "[[route]]\npath = '/api'\nto = 'shop'\n";
    let balancer = Running::with(with(&pool("api", &[two], API)));
    assert_eq!(control(&socket, "POST /servers/api-1/drain").0, 200);
    assert_eq!(control(&socket, "POST /servers/api-1/undrain").0, 200);
    let mut client = Client::connect(balancer.address);
    assert_eq!([client.get("/").status, client.get("/api").status, client.get("/api").status], [200; 3]);
    let listed = || {
        let listed: Value = serde_json::from_str(&control(&socket, "GET /servers").1).unwrap();
        let text = |server: &Value, key: &str| server[key].as_str().unwrap().to_owned();
        let all = listed["servers"].as_array().unwrap().iter();
        all.map(|it| (text(it, "pool"), text(it, "name"), it["requests"].as_u64().unwrap()))
            .collect::<Vec<_>>()
    };
    let row = |pool: &str, name: &str, requests| (pool.to_owned(), name.to_owned(), requests);
    assert_eq!(listed(), [row("application", "app-1", 1), row("api", "api-1", 2)]);
    balancer.balancer().reload(with(&pool("api", &[two, three], API)), Vec::new()).unwrap();
    let expected = [row("application", "app-1", 1), row("api", "api-1", 2), row("api", "api-2", 0)];
    assert_eq!(listed(), expected);
    let renamed = pool("shop", &[two], moved).replace("shop-1", "api-1");
    balancer.balancer().reload(with(&renamed), Vec::new()).unwrap();
    assert_eq!(listed(), [row("application", "app-1", 1), row("shop", "api-1", 0)]);
    assert_eq!(client.get("/api").header("x-served-by"), Some("api-1"));
    assert_eq!(control(&socket, "POST /servers/shop-1/drain").0, 404);
}

#[test]
fn a_drained_server_leaves_its_requests_to_its_pool() {
    let (application, api) = (Backend::responding("app"), [(); 2].map(|()| Backend::responding("api")));
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&[&application], &pool("api", &addresses(&api), API));
    let socket = folder.path().join("admin.sock");
    config.admin.socket = Some(socket.clone());
    let balancer = Running::with(config);
    let drained: Value = serde_json::from_str(&control(&socket, "POST /servers/api-1/drain").1).unwrap();
    assert_eq!((&drained["state"], &drained["pool"]), (&"draining".into(), &"api".into()));
    let mut client = Client::connect(balancer.address);
    for _ in 0..4 {
        assert_eq!(client.get("/api").header("x-served-by"), Some("api-2"));
    }
    assert_eq!(control(&socket, "POST /servers/api-2/drain").0, 200);
    assert_eq!([client.get("/api").status, client.get("/").status], [503, 200]);
    assert_eq!(control(&socket, "GET /ready").0, 200, "one pool can serve its requests");
    assert_eq!(control(&socket, "POST /servers/app-1/drain").0, 200);
    assert_eq!(control(&socket, "GET /ready").0, 503);
}

#[test]
fn a_websocket_to_a_removed_pool_ends_after_the_drain_time() {
    let server = raw_server(|_, mut reader| {
        let head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        reader.get_mut().write_all(head).unwrap();
        let _ = std::io::Read::read(&mut reader, &mut [0]);
    });
    let application = Backend::responding("app");
    let balancer = Running::with(config(&[&application], &pool("api", &[server], API)));
    let mut client = Client::connect(balancer.address);
    let upgrade = b"GET /api/chat HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(client.send(upgrade).answer().status, 101);
    let began = std::time::Instant::now();
    balancer.balancer().reload(config(&[&application], ""), Vec::new()).unwrap();
    assert!(client.is_closed());
    let after = began.elapsed();
    assert!(after >= std::time::Duration::from_secs(1), "before the drain time: {after:?}");
    assert_eq!(Client::connect(balancer.address).get("/api").text(), "app");
}
