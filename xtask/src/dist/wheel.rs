//! The Python wheel (<https://packaging.python.org/en/latest/specifications/binary-distribution-format/>): pip puts the
//! binary beside Python.

use anyhow::Result;
use ring::digest::{SHA256, digest};

use super::archive::{Entry, zip};
use super::{Content, SUMMARY};

/// The name and the bytes of the wheel.
pub(super) fn package(content: &Content<'_>) -> Result<(String, Vec<u8>)> {
    let Content { version, platform, .. } = content;
    let information = format!("tercet-{version}.dist-info");
    let tag = format!("py3-none-{}", platform.python);
    let metadata = format!(
        "Metadata-Version: 2.1\nName: tercet\nVersion: {version}\nSummary: {SUMMARY}\nLicense: MIT\n\
         Requires-Python: >=3.8\nDescription-Content-Type: text/markdown\n\n{}",
        String::from_utf8_lossy(&content.readme)
    );
    let mut entries = vec![
        Entry::program(format!("tercet-{version}.data/scripts/tercet"), content.binary),
        Entry::file(format!("{information}/METADATA"), metadata),
        Entry::file(
            format!("{information}/WHEEL"),
            format!("Wheel-Version: 1.0\nGenerator: tercet\nRoot-Is-Purelib: false\nTag: {tag}\n"),
        ),
        Entry::file(format!("{information}/licenses/LICENSE"), content.licence),
        Entry::file(format!("{information}/licenses/LICENSES.txt"), content.licences),
    ];
    let record = format!("{information}/RECORD");
    let lines: String = entries
        .iter()
        .map(|entry| {
            format!(
                "{},sha256={},{}\n",
                entry.path,
                base64_url(digest(&SHA256, &entry.bytes).as_ref()),
                entry.bytes.len()
            )
        })
        .collect();
    entries.push(Entry::file(&record, format!("{lines}{record},,\n")));
    Ok((format!("tercet-{version}-{tag}.whl"), zip(&entries)?))
}

/// Base64 for URLs, without padding (RFC 4648 section 5).
fn base64_url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digits = |chunk: &[u8]| {
        let bits =
            chunk.iter().enumerate().fold(0_u32, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
        (0..=chunk.len())
            .map(move |at| DIGITS[(bits >> (18 - 6 * at) & 63) as usize] as char)
            .collect::<String>()
    };
    bytes.chunks(3).map(digits).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (text, expected) in
            [("", ""), ("f", "Zg"), ("ab", "YWI"), ("foobar", "Zm9vYmFy"), ("\u{3ff}", "z78")]
        {
            assert_eq!(super::base64_url(text.as_bytes()), expected);
        }
    }
}
