//! Any messages of a PostgreSQL server, at startup or in response to statements, are rows or an error.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use tercet_postgres::{Connection, Statement, Target};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// AuthenticationOk and ReadyForQuery.
const WELCOME: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
/// The kinds a server has.
const KINDS: &[u8] = b"RKSZTDCEN12n3AIstcGHWVv";

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    /// Whether it accepts the login before it sends anything else.
    welcomes: bool,
    messages: Vec<Message<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Message<'a> {
    /// With the length it has.
    Whole(u8, &'a [u8]),
    /// ReadyForQuery and CommandComplete, without which little gets far.
    Done,
    /// A row of these values.
    Row(Vec<Option<&'a [u8]>>),
    Bytes(&'a [u8]),
}

fn whole(out: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    out.push(kind);
    out.extend((payload.len() as u32 + 4).to_be_bytes());
    out.extend(payload);
}

fuzz_target!(|input: Input<'_>| {
    let mut said = if input.welcomes { WELCOME.to_vec() } else { Vec::new() };
    for message in &input.messages {
        match message {
            Message::Whole(kind, payload) => {
                whole(&mut said, KINDS[usize::from(*kind) % KINDS.len()], payload)
            }
            Message::Done => {
                for (kind, payload) in [(b'1', &b""[..]), (b'2', b""), (b'C', b"SELECT 1\0"), (b'Z', b"I")] {
                    whole(&mut said, kind, payload);
                }
            }
            Message::Row(values) => {
                let mut payload = (values.len() as u16).to_be_bytes().to_vec();
                for value in values {
                    match value {
                        Some(value) => {
                            payload.extend((value.len() as u32).to_be_bytes());
                            payload.extend(*value);
                        }
                        None => payload.extend((-1_i32).to_be_bytes()),
                    }
                }
                whole(&mut said, b'D', &payload);
            }
            Message::Bytes(bytes) => said.extend(*bytes),
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let server = tokio::task::spawn_local(async move {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            _ = stream.write_all(&said).await;
            _ = stream.shutdown().await;
            _ = tokio::io::copy(&mut (&mut stream).take(1 << 16), &mut tokio::io::sink()).await;
        });
        let text = format!("postgresql://u:p@127.0.0.1:{port}/d?sslmode=disable");
        let target = Arc::new(Target::parse(&text, &BTreeMap::new()).expect("a target"));
        if let Ok(connection) = Connection::connect(&target, true).await {
            let statements: [Statement; 2] = ["select 1".into(), "select 2".into()];
            for _ in 0..3 {
                let Ok(results) = connection.exchange(&statements).await else { continue };
                for row in results.iter().flat_map(|rows| rows.as_slice()) {
                    for column in 0..=row.len() {
                        _ = (row.text(column), row.bytes(column));
                    }
                }
            }
        }
        server.abort();
    });
});
