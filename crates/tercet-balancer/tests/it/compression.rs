//! Compressed responses over HTTP/1.1 and HTTP/2, with curl as the client.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::{Mutex, mpsc};

use crate::backend::{Backend, Request};
use crate::client::{Answer, Client};
use crate::files::{VERSIONS, curl};
use crate::running::{PIPELINES, Running, config, config_for, with_pipeline};
use crate::streaming::raw_server;

const CODINGS: [&str; 3] = ["gzip", "br", "zstd"];

/// A text that becomes much smaller.
fn text() -> String {
    (0..4000).map(|number| format!("line {number} of a text\n")).collect()
}

/// Responds with [`text`] and the header lines in the query of the request, one for each `|`.
fn echo() -> Backend {
    Backend::start(|request: &Request, stream| {
        let target = request.line().split(' ').nth(1).unwrap();
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let lines: String = query
            .split('|')
            .filter(|line| !line.is_empty())
            .map(|line| format!("{}\r\n", line.replace("%20", " ").replace("%22", "\"")))
            .collect();
        let status = if lines.contains("Content-Range") { "206 Partial Content" } else { "200 OK" };
        let body = text();
        let is_chunked = lines.contains("Transfer-Encoding");
        let length = if is_chunked { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let head = format!("HTTP/1.1 {status}\r\n{length}{lines}\r\n");
        let is_head = request.line().starts_with("HEAD");
        let body = match (is_head, is_chunked) {
            (true, _) => String::new(),
            (false, false) => body,
            (false, true) => format!("{:x}\r\n{body}\r\n0\r\nX-Sum: 1\r\n\r\n", body.len()),
        };
        stream.write_all(format!("{head}{body}").as_bytes()).is_ok()
    })
}

fn decoded(answer: &Answer) -> String {
    decode(answer.header("content-encoding"), &answer.body)
}

fn decode(coding: Option<&str>, body: &[u8]) -> String {
    let mut text = String::new();
    match coding {
        None => text.push_str(str::from_utf8(body).unwrap()),
        Some("gzip") => {
            flate2::read::GzDecoder::new(body).read_to_string(&mut text).unwrap();
        }
        Some("br") => {
            brotli::Decompressor::new(body, 4096).read_to_string(&mut text).unwrap();
        }
        Some("zstd") => text = String::from_utf8(zstd::decode_all(body).unwrap()).unwrap(),
        Some(other) => panic!("{other}"),
    }
    text
}

const HTML: &str = "Content-Type:%20text/html";

#[test]
fn a_text_is_sent_in_the_coding_that_the_client_prefers() {
    let server = echo();
    let balancer = Running::with(config(&[&server], "compress = 'on'"));
    for version in VERSIONS {
        for (accept, coding) in [
            ("gzip", Some("gzip")),
            ("gzip, deflate, br", Some("br")),
            ("gzip, deflate, br, zstd", Some("zstd")),
            ("gzip;q=1, zstd;q=0.5", Some("gzip")),
            ("identity", None),
            ("deflate", None),
            ("", None),
        ] {
            let target = format!("/?{HTML}|ETag:%20%22a%22|Vary:%20Origin|Accept-Ranges:%20bytes");
            let header = format!("accept-encoding: {accept}");
            let answer = curl(&balancer, version, &target, &["-H", &header]);
            assert_eq!(answer.header("content-encoding"), coding, "{version} {accept}");
            assert_eq!(answer.header("vary"), Some("Origin, Accept-Encoding"), "{version} {accept}");
            assert!(decoded(&answer) == text(), "{version} {accept}");
            let (etag, ranges) = if coding.is_some() { ("W/\"a\"", None) } else { ("\"a\"", Some("bytes")) };
            assert_eq!(answer.header("etag"), Some(etag));
            assert_eq!(answer.header("accept-ranges"), ranges);
            assert_eq!(answer.header("content-length").is_some(), coding.is_none());
            if coding.is_some() {
                assert!(answer.body.len() < text().len() / 4, "{version} {accept} {}", answer.body.len());
            }
        }
    }
}

#[test]
fn what_must_not_be_changed_is_sent_as_it_is() {
    let server = echo();
    let balancer = Running::with(config(
        &[&server],
        "compress = 'on'\nroute = [{ path = '/off', compress = 'off' }, { path = '/all', compress = 'with-credentials' }]",
    ));
    let gzip = "accept-encoding: gzip";
    for version in VERSIONS {
        for (target, more, is_compressed) in [
            (format!("/?{HTML}"), "x: 1", true),
            (format!("/?{HTML}|Transfer-Encoding:%20chunked"), "x: 1", true),
            (format!("/?{HTML}"), "cookie: a=b", false),
            (format!("/?{HTML}"), "authorization: Bearer a", false),
            (format!("/?{HTML}"), "cache-control: no-transform", false),
            (format!("/all?{HTML}"), "cookie: a=b", true),
            (format!("/all?{HTML}"), "authorization: Bearer a", true),
            (format!("/off?{HTML}"), "x: 1", false),
            (format!("/?{HTML}|Cache-Control:%20no-transform"), "x: 1", false),
            (format!("/?{HTML}|Content-Encoding:%20identity"), "x: 1", false),
            (format!("/?{HTML}|Content-Range:%20bytes%200-1/2"), "x: 1", false),
            (format!("/?{HTML}|Content-Digest:%20sha-256=:YQ==:"), "x: 1", false),
            ("/?Content-Type:%20text/event-stream".to_owned(), "x: 1", false),
            ("/?Content-Type:%20image/png".to_owned(), "x: 1", false),
            ("/".to_owned(), "x: 1", false),
        ] {
            let answer = curl(&balancer, version, &target, &["-H", gzip, "-H", more]);
            let coding = answer.header("content-encoding") == Some("gzip");
            assert_eq!(coding, is_compressed, "{version} {target} {more}\n{}", answer.head);
            if is_compressed {
                assert!(decoded(&answer) == text(), "{version} {target} {more}");
            } else {
                assert!(answer.body == text().as_bytes(), "{version} {target} {more}");
            }
        }
    }
    // HTTP/1.0 has no chunks, and its clients often no codings.
    let request = format!("GET /?{HTML} HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n");
    let answer = Client::connect(balancer.address).send(request.as_bytes()).answer();
    assert!(answer.header("content-encoding").is_none() && answer.body == text().as_bytes());
}

#[test]
fn without_compress_every_response_is_sent_as_it_is() {
    let server = echo();
    let balancer = Running::start(&[&server], "");
    for version in VERSIONS {
        let answer = curl(&balancer, version, &format!("/?{HTML}"), &["-H", "accept-encoding: gzip"]);
        assert_eq!((answer.header("content-encoding"), answer.header("vary")), (None, None));
    }
}

#[test]
fn head_has_the_fields_of_get() {
    let server = echo();
    let balancer = Running::with(config(&[&server], "compress = 'on'"));
    let fields = |answer: &Answer| -> Vec<String> {
        let lines = answer.head.lines().skip(1).map(str::to_ascii_lowercase);
        // The date and the id of the request differ, and HTTP/1.1 has the framing of a body that is not there.
        let differs = ["date:", "x-request-id:", "transfer-encoding:"];
        lines.filter(|line| !differs.iter().any(|name| line.starts_with(name))).collect()
    };
    for version in VERSIONS {
        for target in [format!("/?{HTML}|ETag:%20%22a%22"), "/?Content-Type:%20image/png".to_owned()] {
            let accept = ["-H", "accept-encoding: gzip"];
            let get = curl(&balancer, version, &target, &accept);
            let head = curl(&balancer, version, &target, &["-H", "accept-encoding: gzip", "--head"]);
            assert_eq!(fields(&head), fields(&get), "{version} {target}");
        }
    }
}

#[test]
fn what_arrives_in_pieces_leaves_in_pieces() {
    let (next, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let server = raw_server(move |head, mut reader| {
        let stream = reader.get_mut();
        let is_chunked = head.starts_with("GET /chunked");
        let framing = if is_chunked { "Transfer-Encoding: chunked\r\n" } else { "Connection: close\r\n" };
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{framing}\r\n").unwrap();
        for number in 0..4 {
            // The next piece is sent once this one has arrived.
            wait.lock().unwrap().recv().unwrap();
            let piece = format!("piece {number}\n");
            if is_chunked {
                write!(stream, "{:x}\r\n{piece}\r\n", piece.len()).unwrap();
            } else {
                stream.write_all(piece.as_bytes()).unwrap();
            }
        }
        if is_chunked {
            stream.write_all(b"0\r\n\r\n").unwrap();
        }
    });
    let balancer = Running::with(config_for(&[server], "compress = 'on'"));
    for version in VERSIONS {
        for (coding, target) in CODINGS.into_iter().flat_map(|it| [(it, "/chunked"), (it, "/close")]) {
            let head = tempfile::NamedTempFile::new().unwrap();
            let mut child = Command::new("curl")
                .args(["-sSN", "--max-time", "20", "--compressed", version, "-H"])
                .arg(format!("accept-encoding: {coding}"))
                .arg("-D")
                .arg(head.path())
                .arg(format!("http://{}{target}", balancer.address))
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            for number in 0..4 {
                next.send(()).unwrap();
                assert_eq!(lines.next().unwrap().unwrap(), format!("piece {number}"), "{version} {coding}");
            }
            assert!(lines.next().is_none());
            assert!(child.wait().unwrap().success(), "{version} {coding} {target}");
            let head = fs::read_to_string(head.path()).unwrap().to_ascii_lowercase();
            assert!(head.contains(&format!("content-encoding: {coding}")), "{head}");
        }
    }
}

#[test]
fn a_response_that_is_cut_off_stays_cut_off() {
    let server = raw_server(|head, mut reader| {
        let framing = if head.starts_with("GET /chunked") {
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
        } else {
            "Content-Length: 5000\r\n\r\nhello"
        };
        let response = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{framing}");
        // Dropped afterwards, which closes the connection.
        reader.get_mut().write_all(response.as_bytes()).unwrap();
    });
    let balancer = Running::with(config_for(&[server], "compress = 'on'"));
    for version in VERSIONS {
        for target in ["/chunked", "/length"] {
            // A client sees a stream that is reset, or a body without its end; or 502, if nothing was sent yet.
            let output = Command::new("curl")
                .args(["-sSf", "--max-time", "20", version, "-H", "accept-encoding: gzip"])
                .arg(format!("http://{}{target}", balancer.address))
                .output()
                .unwrap();
            assert!(!output.status.success(), "{version} {target}");
        }
    }
}

#[test]
fn trailers_follow_a_compressed_body() {
    let server = echo();
    let balancer = Running::with(config(&[&server], "compress = 'on'"));
    let mut client = Client::connect(balancer.address);
    let target = format!("/?{HTML}|Transfer-Encoding:%20chunked");
    client.send(
        format!("GET {target} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n")
            .as_bytes(),
    );
    let mut received = Vec::new();
    client.stream().read_to_end(&mut received).unwrap();
    assert!(received.ends_with(b"\r\n0\r\nX-Sum: 1\r\n\r\n"));
}

#[test]
fn responses_beyond_the_memory_for_encoders_are_complete_and_so_are_pipelined_ones() {
    let server = echo();
    for pipeline in PIPELINES {
        let balancer = Running::with(with_pipeline(config(&[&server], "compress = 'on'"), pipeline));
        let address: SocketAddr = balancer.address;
        std::thread::scope(|scope| {
            for index in 0..64 {
                scope.spawn(move || {
                    let coding = CODINGS[index % 3];
                    let mut client = Client::connect(address);
                    let request =
                        format!("GET /?{HTML} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {coding}\r\n\r\n");
                    for _ in 0..3 {
                        let answer = client.send(request.as_bytes()).answer();
                        assert!(decoded(&answer) == text(), "{coding}");
                    }
                });
            }
        });
    }
}
