//! A substitute for PostgreSQL that replays recorded answers: it accepts every login, and sends the next answer for
//! each Sync. The fuzz targets use it to load a real schema cache without a server.

use std::io::{self, Read, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// AuthenticationOk and ReadyForQuery.
const WELCOME: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";

/// A message: its type, and all of its bytes.
fn message(stream: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut bytes = vec![0; 5];
    stream.read_exact(&mut bytes)?;
    let length = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize;
    bytes.resize(length + 1, 0);
    stream.read_exact(&mut bytes[5..])?;
    Ok((bytes[0], bytes))
}

/// Reads the first message of a client, which has no type.
fn startup(stream: &mut impl Read) -> io::Result<()> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let rest = u64::from(u32::from_be_bytes(length)) - 4;
    io::copy(&mut stream.take(rest), &mut io::sink()).map(drop)
}

fn answer(stream: &mut UnixStream, mut recording: &[u8]) -> io::Result<()> {
    startup(stream)?;
    stream.write_all(WELCOME)?;
    loop {
        while message(stream)?.0 != b'S' {}
        loop {
            let (kind, answer) = message(&mut recording)?;
            stream.write_all(&answer)?;
            if kind == b'Z' {
                break;
            }
        }
    }
}

/// Serves one client at the socket for port 5432 in `folder`, with the answers of a recording.
pub(crate) fn play(folder: &Path, recording: &'static [u8]) {
    let listener = UnixListener::bind(folder.join(".s.PGSQL.5432")).unwrap();
    std::thread::spawn(move || {
        let Ok((mut stream, _)) = listener.accept() else { return };
        // a client that disconnects early needs no more answers
        drop(answer(&mut stream, recording));
    });
}

/// Forwards one client at the socket for port 5432 in `folder` to the server at `server`, and returns the server's
/// messages.
pub(crate) fn record(folder: &Path, server: &Path) -> std::thread::JoinHandle<Vec<u8>> {
    let listener = UnixListener::bind(folder.join(".s.PGSQL.5432")).unwrap();
    let mut server = UnixStream::connect(server).unwrap();
    std::thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        std::thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Write);
        });
        let mut client = client;
        let mut said = Vec::new();
        let mut is_in = false;
        while let Ok((kind, bytes)) = message(&mut server) {
            client.write_all(&bytes).unwrap();
            if is_in {
                said.extend(bytes);
            }
            is_in |= kind == b'Z';
        }
        said
    })
}
