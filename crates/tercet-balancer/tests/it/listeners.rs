//! Options of listeners: redirects, PROXY headers, trusted proxies.

use crate::backend::Backend;
use crate::client::Client;
use crate::running::{Running, config};

#[test]
fn a_redirecting_listener_redirects_all_requests_to_https() {
    let server = Backend::responding("never");
    let mut redirecting = config(&[&server], "");
    redirecting.listen[0].redirect_to_https = true;
    let balancer = Running::with(redirecting);
    let mut client = Client::connect(balancer.address);
    for (request, location) in [
        ("GET /a?b=c HTTP/1.1\r\nHost: example.org:8080\r\n\r\n", "https://example.org/a?b=c"),
        (
            "POST http://example.org HTTP/1.1\r\nHost: example.org\r\nContent-Length: 0\r\n\r\n",
            "https://example.org/",
        ),
    ] {
        let answer = client.send(request.as_bytes()).answer();
        assert_eq!((answer.status, answer.header("location")), (308, Some(location)));
    }
    assert!(server.requests().is_empty());
}

#[test]
fn a_proxy_header_sets_the_client_address_and_is_required_where_configured() {
    let server = Backend::responding("hello");
    let mut behind = config(&[&server], "");
    behind.listen[0].proxy_protocol = true;
    let balancer = Running::with(behind);
    let mut client = Client::connect(balancer.address);
    client.send(b"PROXY TCP4 192.0.2.7 198.51.100.1 4000 80\r\n");
    assert_eq!(client.get("/").status, 200);
    assert_eq!(server.only_request().header("x-forwarded-for"), Some("192.0.2.7"));
    let mut without = Client::connect(balancer.address);
    without.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(without.is_closed());
    // In pieces, and with a request in the same packet.
    let mut pieces = Client::connect(balancer.address);
    pieces.send(b"PROXY TCP4 192.0.2.8 ").send(b"198.51.100.1 4000 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(pieces.answer().status, 200);
    let log = balancer.stop();
    let mut client_addresses: Vec<&str> = log.lines().filter_map(|line| line.split(' ').next()).collect();
    client_addresses.sort_unstable();
    assert_eq!(client_addresses, ["192.0.2.7", "192.0.2.8"]);
}

#[test]
fn forwarding_fields_are_only_accepted_from_a_trusted_proxy() {
    let server = Backend::responding("hello");
    let claims = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.9\r\nX-Request-Id: theirs\r\nProxy: evil\r\n\r\n";
    let balancer = Running::start(&[&server], "");
    assert_eq!(Client::connect(balancer.address).send(claims).answer().status, 200);
    let trusting = Running::start(&[&server], "trusted-proxies = [\"127.0.0.0/8\"]\n");
    assert_eq!(Client::connect(trusting.address).send(claims).answer().status, 200);
    let requests = server.requests();
    assert_eq!(requests[0].header("x-forwarded-for"), Some("127.0.0.1"));
    assert_ne!(requests[0].header("x-request-id"), Some("theirs"));
    assert_eq!(requests[1].header("x-forwarded-for"), Some("192.0.2.9, 127.0.0.1"));
    assert_eq!(requests[1].header("x-request-id"), Some("theirs"));
    assert!(requests.iter().all(|request| request.header("proxy").is_none()));
    assert!(trusting.stop().starts_with("192.0.2.9 - - "));
}
