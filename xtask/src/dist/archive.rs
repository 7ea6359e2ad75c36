//! Archives with the same bytes for the same content: tar, gzip, zip, ar.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use ring::digest::{SHA256, digest};

/// The time of all files: the first that a zip archive can have, 1980-01-01.
const TIME: u64 = 315_532_800;

/// A file of an archive.
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) mode: u32,
}

impl Entry {
    pub(crate) fn file(path: impl Into<String>, bytes: impl AsRef<[u8]>) -> Self {
        Self { path: path.into(), bytes: bytes.as_ref().to_vec(), mode: 0o644 }
    }

    pub(crate) fn program(path: impl Into<String>, bytes: impl AsRef<[u8]>) -> Self {
        Self { mode: 0o755, ..Self::file(path, bytes) }
    }
}

/// A tar archive (POSIX ustar) of the files and their folders, which all belong to root.
pub(crate) fn tar(mut entries: Vec<Entry>) -> Vec<u8> {
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let mut archive = Vec::new();
    let mut folders: Vec<String> = Vec::new();
    for entry in &entries {
        let folder_of = entry.path.trim_start_matches("./");
        for (end, _) in folder_of.match_indices('/') {
            let prefix = &entry.path[..entry.path.len() - folder_of.len()];
            let folder = format!("{prefix}{}/", &folder_of[..end]);
            if !folders.contains(&folder) {
                archive.extend_from_slice(&header(&folder, 0o755, 0, b'5'));
                folders.push(folder);
            }
        }
        archive.extend_from_slice(&header(&entry.path, entry.mode, entry.bytes.len(), b'0'));
        archive.extend_from_slice(&entry.bytes);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

/// A header block. Paths have at most 100 bytes.
fn header(path: &str, mode: u32, size: usize, kind: u8) -> [u8; 512] {
    let mut block = [0; 512];
    let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    assert!(path.len() <= 100, "{path} is too long for a tar header");
    put(0, path);
    put(100, &format!("{mode:07o}"));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size:011o}"));
    put(136, &format!("{TIME:011o}"));
    put(148, "        ");
    put(257, "ustar");
    put(263, "00");
    put(265, "root");
    put(297, "root");
    block[156] = kind;
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// Compresses with gzip, without a name or a time.
pub(crate) fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut process = Command::new("gzip")
        .args(["--no-name", "--best", "--stdout"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("gzip cannot be started")?;
    let (mut input, mut output) =
        (process.stdin.take().context("no input")?, process.stdout.take().context("no output")?);
    let mut compressed = Vec::new();
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || input.write_all(bytes));
        output.read_to_end(&mut compressed)?;
        writer.join().expect("the writer does not panic")
    })?;
    if !process.wait()?.success() {
        bail!("gzip failed");
    }
    Ok(compressed)
}

/// A zip archive. A member is what is between gzip's header of 10 bytes and its trailer, which has the CRC-32 (RFC 1952).
pub(crate) fn zip(entries: &[Entry]) -> Result<Vec<u8>> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let compressed = gzip(&entry.bytes)?;
        let deflated = &compressed[10..compressed.len() - 8];
        let offset = u32::try_from(archive.len())?;
        let mut common = Vec::new();
        // Version 2.0, UTF-8, deflate, 1980-01-01 00:00.
        for half in [20_u16, 0x0800, 8, 0, 0x21] {
            common.extend_from_slice(&half.to_le_bytes());
        }
        common.extend_from_slice(&compressed[compressed.len() - 8..compressed.len() - 4]);
        common.extend_from_slice(&u32::try_from(deflated.len())?.to_le_bytes());
        common.extend_from_slice(&u32::try_from(entry.bytes.len())?.to_le_bytes());
        common.extend_from_slice(&u16::try_from(entry.path.len())?.to_le_bytes());
        common.extend_from_slice(&[0, 0]);
        archive.extend_from_slice(b"PK\x03\x04");
        archive.extend_from_slice(&common);
        archive.extend_from_slice(entry.path.as_bytes());
        archive.extend_from_slice(deflated);
        // Made by Unix, whose mode of the file is in the upper half of the attributes.
        directory.extend_from_slice(b"PK\x01\x02\x14\x03");
        directory.extend_from_slice(&common);
        directory.extend_from_slice(&[0; 6]);
        directory.extend_from_slice(&((0o100_000 | entry.mode) << 16).to_le_bytes());
        directory.extend_from_slice(&offset.to_le_bytes());
        directory.extend_from_slice(entry.path.as_bytes());
    }
    let (start, size) = (u32::try_from(archive.len())?, u32::try_from(directory.len())?);
    archive.extend_from_slice(&directory);
    archive.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    for _ in 0..2 {
        archive.extend_from_slice(&u16::try_from(entries.len())?.to_le_bytes());
    }
    archive.extend_from_slice(&size.to_le_bytes());
    archive.extend_from_slice(&start.to_le_bytes());
    archive.extend_from_slice(&[0, 0]);
    Ok(archive)
}

/// An ar archive, as dpkg reads it (deb(5)).
pub(crate) fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = b"!<arch>\n".to_vec();
    for (name, bytes) in members {
        let header = format!("{name:16}{TIME:<12}{:6}{:6}{:8}{:<10}`\n", 0, 0, "100644", bytes.len());
        archive.extend_from_slice(header.as_bytes());
        archive.extend_from_slice(bytes);
        archive.resize(archive.len().next_multiple_of(2), b'\n');
    }
    archive
}

/// The SHA-256 in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::output;

    #[test]
    fn other_programs_read_the_archives() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let entries = || vec![Entry::program("a/b/run", "#!"), Entry::file("a/text", "é\n")];
        std::fs::write(path("x.tar.gz"), gzip(&tar(entries())).unwrap()).unwrap();
        let list = output(Command::new("tar").args(["--list", "--verbose", "--file"]).arg(path("x.tar.gz")))
            .unwrap();
        let lines: Vec<(&str, &str)> = list
            .lines()
            .map(|line| (line.split(' ').next().unwrap(), line.rsplit(' ').next().unwrap()))
            .collect();
        let expected = [
            ("drwxr-xr-x", "a/"),
            ("drwxr-xr-x", "a/b/"),
            ("-rwxr-xr-x", "a/b/run"),
            ("-rw-r--r--", "a/text"),
        ];
        assert_eq!(lines, expected);
        std::fs::write(path("x.zip"), zip(&entries()).unwrap()).unwrap();
        let script = "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); print(z.testzip(), z.read('a/text'), \
                      oct(z.getinfo('a/b/run').external_attr >> 16))";
        let read = output(Command::new("python3").args(["-c", script]).arg(path("x.zip"))).unwrap();
        assert_eq!(read, "None b'\\xc3\\xa9\\n' 0o100755\n");
        std::fs::write(path("x.a"), ar(&[("debian-binary", b"2.0\n"), ("odd", b"x")])).unwrap();
        let list = output(Command::new("ar").arg("t").arg(path("x.a"))).unwrap();
        assert_eq!(list, "debian-binary\nodd\n");
    }
}
