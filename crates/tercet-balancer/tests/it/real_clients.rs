//! Tests with common clients: curl, nghttp and h2load, which have to be installed.

use std::io::Write as _;
use std::process::Command;

use crate::backend::Backend;
use crate::running::Running;

/// A server that echoes the request; for `/chunked` with a chunked body and a trailer.
fn echo() -> Backend {
    Backend::start(|request, stream| {
        let mut body = format!("{}\n", request.line()).into_bytes();
        body.extend_from_slice(&request.body);
        if request.line().contains("/chunked") {
            write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
                .unwrap();
            for part in body.chunks(1000) {
                write!(stream, "{:x}\r\n", part.len()).unwrap();
                stream.write_all(part).unwrap();
                stream.write_all(b"\r\n").unwrap();
            }
            stream.write_all(b"0\r\nX-Sum: 42\r\n\r\n").is_ok()
        } else {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).unwrap();
            stream.write_all(&body).is_ok()
        }
    })
}

/// Runs a client and returns its output; fails if it is not installed.
fn run(program: &str, arguments: &[&str]) -> String {
    let package = if program == "curl" { "curl" } else { "nghttp2-client" };
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; hint: sudo apt-get install {package}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

#[test]
fn curl_works_with_all_versions() {
    let server = echo();
    let balancer = Running::start(&[&server], "");
    let url = |path: &str| format!("http://{}{path}", balancer.address);
    for version in ["--http1.1", "--http2-prior-knowledge", "--http2", "--http1.0"] {
        let curl =
            |arguments: &[&str]| run("curl", &[&["-sS", "--max-time", "20", version], arguments].concat());
        let answer = curl(&["-w", "%{http_version} %{http_code}", &url("/plain")]);
        let used = if version == "--http2-prior-knowledge" { "2" } else { "1.1" };
        assert_eq!(answer, format!("GET /plain HTTP/1.1\n{used} 200"), "{version}");
        let answer = curl(&["-d", "hello", &url("/posted")]);
        assert_eq!(answer, "POST /posted HTTP/1.1\nhello", "{version}");
        if version != "--http1.0" {
            let sent = curl(&["-H", "transfer-encoding: chunked", "-d", "hello", &url("/chunked")]);
            assert_eq!(sent, "POST /chunked HTTP/1.1\nhello", "{version}");
        }
        let head = curl(&["-I", &url("/head")]);
        assert!(head.contains(" 200"), "{version}: {head}");
        let long = "x".repeat(100_000);
        let answer = curl(&["-d", &long, &url("/chunked")]);
        assert_eq!(answer.len(), "POST /chunked HTTP/1.1\n".len() + long.len(), "{version}");
    }
}

#[test]
fn nghttp_receives_trailers() {
    let server = echo();
    let balancer = Running::start(&[&server], "");
    let url = format!("http://{}/chunked", balancer.address);
    let log = run("nghttp", &["-v", "-n", "-t", "20", &url]);
    assert!(log.contains("x-sum: 42"), "{log}");
}

#[test]
fn h2load_succeeds_for_all_requests() {
    let server = echo();
    let balancer = Running::start(&[&server], "");
    let url = format!("http://{}/plain", balancer.address);
    let log = run("h2load", &["-n", "2000", "-c", "8", "-m", "16", &url]);
    assert!(log.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{log}");
}
