//! Compressed header blocks, as far as they have to be followed to tell well-formed ones (RFC 7541).
//!
//! It knows how long names and values are and which fields are pseudo-headers, and keeps no text: fields are `h2`'s to
//! read.

use std::collections::VecDeque;

/// Bytes of the dynamic table, which we never allow a client to make larger (RFC 9113 section 6.5.2).
const TABLE_BYTES: usize = 4096;
/// What an entry takes beside its name and value (RFC 7541 section 4.1).
const ENTRY_BYTES: usize = 32;
/// How long the names of the static table are, from index 1 on (RFC 7541 appendix A).
const STATIC_NAMES: [usize; 61] = [
    10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14, 16, 13,
    12, 6, 4, 4, 6, 7, 4, 4, 8, 17, 13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7, 7, 11, 6, 10, 25, 17, 10, 4, 3,
    16,
];
/// The last index of the static table that is a pseudo-header's.
const LAST_PSEUDO_HEADER: usize = 14;
/// `:` as a Huffman code of seven bits (RFC 7541 appendix B).
const COLON: u8 = 0x5c;

/// The end of a string, which never stands in one: 30 bits (RFC 7541 section 5.2).
const END: u64 = 0x3fff_ffff;
/// How many symbols have a code of so many bits (RFC 7541 appendix B).
const CODES: [(u32, u64); 21] = [
    (5, 10),
    (6, 26),
    (7, 32),
    (8, 6),
    (10, 5),
    (11, 3),
    (12, 2),
    (13, 6),
    (14, 2),
    (15, 3),
    (19, 3),
    (20, 8),
    (21, 13),
    (22, 26),
    (23, 29),
    (24, 12),
    (25, 4),
    (26, 15),
    (27, 19),
    (28, 29),
    (30, 4),
];
/// The code is canonical: shorter codes are smaller. For each length, where its codes end among numbers of 32 bits.
const LIMITS: [(u32, u64); CODES.len()] = {
    let mut limits = CODES;
    let mut end = 0;
    let mut at = 0;
    while at < CODES.len() {
        let (bits, count) = CODES[at];
        end += count << (32 - bits);
        limits[at] = (bits, end);
        at += 1;
    }
    assert!(end == 1 << 32, "every sequence of bits is a code's start");
    limits
};

/// Follows the header blocks of one connection, all of them in their order.
#[derive(Debug)]
pub(super) struct Compression {
    /// The dynamic table, the latest entry first.
    table: VecDeque<Entry>,
    bytes: usize,
    most: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    name: usize,
    value: usize,
    is_pseudo_header: bool,
}

/// A block is not what RFC 7541 allows: a COMPRESSION_ERROR of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Default for Compression {
    fn default() -> Self {
        Self { table: VecDeque::new(), bytes: 0, most: TABLE_BYTES }
    }
}

impl Compression {
    /// Follows a whole block: whether there is a pseudo-header in it.
    pub(super) fn follow(&mut self, mut block: &[u8]) -> Result<bool, Malformed> {
        let (mut has_field, mut has_pseudo_header) = (false, false);
        while let Some(first) = block.first() {
            let field = match first {
                0x80.. => self.entry(take_integer(&mut block, 7)?)?,
                0x40.. => {
                    let field = self.literal(&mut block, 6)?;
                    self.add(field);
                    field
                }
                0x20.. if has_field => return Err(Malformed),
                0x20.. => {
                    self.resize(take_integer(&mut block, 5)?)?;
                    continue;
                }
                _ => self.literal(&mut block, 4)?,
            };
            has_field = true;
            has_pseudo_header |= field.is_pseudo_header;
        }
        Ok(has_pseudo_header)
    }

    /// RFC 7541 section 6.2.
    fn literal(&self, block: &mut &[u8], prefix: u32) -> Result<Entry, Malformed> {
        let mut field = match take_integer(block, prefix)? {
            0 => {
                let (name, is_pseudo_header) = take_string(block)?;
                Entry { name, value: 0, is_pseudo_header }
            }
            index => self.entry(index)?,
        };
        field.value = take_string(block)?.0;
        Ok(field)
    }

    /// RFC 7541 section 2.3.3. How long values of the static table are does not matter: they are never added as they are.
    fn entry(&self, index: usize) -> Result<Entry, Malformed> {
        let at = index.checked_sub(1).ok_or(Malformed)?;
        match STATIC_NAMES.get(at) {
            Some(name) => Ok(Entry { name: *name, value: 0, is_pseudo_header: index <= LAST_PSEUDO_HEADER }),
            None => self.table.get(at - STATIC_NAMES.len()).copied().ok_or(Malformed),
        }
    }

    fn add(&mut self, entry: Entry) {
        self.bytes += entry.bytes();
        self.table.push_front(entry);
        self.evict();
    }

    fn resize(&mut self, most: usize) -> Result<(), Malformed> {
        if most > TABLE_BYTES {
            return Err(Malformed);
        }
        self.most = most;
        self.evict();
        Ok(())
    }

    /// RFC 7541 sections 4.3 and 4.4: also what was just added, if it is larger than the table.
    fn evict(&mut self) {
        while self.bytes > self.most
            && let Some(oldest) = self.table.pop_back()
        {
            self.bytes -= oldest.bytes();
        }
    }
}

impl Entry {
    fn bytes(self) -> usize {
        self.name + self.value + ENTRY_BYTES
    }
}

/// RFC 7541 section 5.1; no integer of more than five bytes means anything here.
fn take_integer(block: &mut &[u8], prefix: u32) -> Result<usize, Malformed> {
    let most = (1_usize << prefix) - 1;
    let mut value = usize::from(take_byte(block)?) & most;
    if value < most {
        return Ok(value);
    }
    for shift in [0, 7, 14, 21] {
        let byte = take_byte(block)?;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed)
}

fn take_byte(block: &mut &[u8]) -> Result<u8, Malformed> {
    let (first, rest) = block.split_first().ok_or(Malformed)?;
    *block = rest;
    Ok(*first)
}

/// RFC 7541 section 5.2: how long the string is once decoded, and whether it starts with a colon.
fn take_string(block: &mut &[u8]) -> Result<(usize, bool), Malformed> {
    let is_coded = block.first().is_some_and(|first| first & 0x80 != 0);
    let length = take_integer(block, 7)?;
    let (text, rest) = block.split_at_checked(length).ok_or(Malformed)?;
    *block = rest;
    let first = text.first();
    if is_coded {
        return Ok((decoded_length(text)?, first.is_some_and(|byte| byte >> 1 == COLON)));
    }
    Ok((length, first == Some(&b':')))
}

/// How many symbols a Huffman-coded text has.
fn decoded_length(text: &[u8]) -> Result<usize, Malformed> {
    let mut text = text.iter();
    // The next bits, from the highest on, and how many they are.
    let (mut bits, mut held) = (0_u64, 0);
    let mut symbols = 0;
    loop {
        while held <= 56
            && let Some(byte) = text.next()
        {
            bits |= u64::from(*byte) << (56 - held);
            held += 8;
        }
        if held == 0 {
            return Ok(symbols);
        }
        let next = bits >> 32;
        let code = LIMITS.iter().find(|(_, end)| next < *end).ok_or(Malformed)?.0;
        if code > held {
            // Less than a byte of padding, all of it ones.
            let is_padding = held < 8 && bits >> (64 - held) == (1 << held) - 1;
            return if is_padding { Ok(symbols) } else { Err(Malformed) };
        }
        if bits >> 34 == END {
            return Err(Malformed);
        }
        bits <<= code;
        held -= code;
        symbols += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(blocks: &[&[u8]], expected: Result<bool, Malformed>) {
        let mut compression = Compression::default();
        let (last, before) = blocks.split_last().unwrap();
        for block in before {
            compression.follow(block).unwrap();
        }
        assert_eq!(compression.follow(last), expected, "{blocks:x?}");
    }

    /// The requests of RFC 7541 appendix C.4, and how large the table is after each.
    #[test]
    fn the_table_is_as_large_as_the_rfc_says() {
        let mut compression = Compression::default();
        for (block, bytes) in [
            (&b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"[..], 57),
            (b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf", 110),
            (
                b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf",
                164,
            ),
        ] {
            assert_eq!(compression.follow(block), Ok(true));
            assert_eq!(compression.bytes, bytes);
        }
        // A table of 100 bytes has room for the latest entry alone.
        assert_eq!(compression.follow(b"\x3f\x45"), Ok(false));
        assert_eq!((compression.bytes, compression.table.len()), (54, 1));
    }

    #[test]
    fn pseudo_headers_are_known_wherever_they_stand() {
        for block in [
            &b"\x83"[..],
            b"\x42\x03200",
            b"\x02\x03200",
            b"\x00\x05x-sum\x011\x00\x05:test\x011",
            // `:a`, Huffman-coded.
            b"\x00\x82\xb8\x3f\x011",
        ] {
            check(&[block], Ok(true));
        }
        // x-sum: 1, plain; a name by index; nothing at all.
        for block in [&b"\x00\x05x-sum\x011"[..], b"\x0f\x2b\x01a", b"\x20", b""] {
            check(&[block], Ok(false));
        }
        check(&[b"\x41\x01a", b"\xbe"], Ok(true));
        check(&[b"\x40\x01x\x01y", b"\xbe"], Ok(false));
    }

    #[test]
    fn what_is_no_block_is_malformed() {
        for block in [
            // Index 0, and one beyond both tables, as a field and as a name.
            &b"\x80"[..],
            b"\xbe",
            b"\x7f\x10\x01a",
            // A size update over the limit, and one behind a field.
            b"\x3f\xe2\x1f",
            b"\x82\x20",
            // Integers and strings without end.
            b"\xff\xff\xff\xff\xff\xff\xff",
            b"\x40\x01a",
            b"\x00\x05abc",
            // Huffman: padding of a byte, of zeros, and the end of string.
            b"\x00\x81\x1f\x82\x1f\xff",
            b"\x00\x81\x1f\x81\x18",
            b"\x00\x81\x1f\x84\xff\xff\xff\xff",
        ] {
            check(&[block], Err(Malformed));
        }
        // An entry that was pushed out of the table by a smaller one.
        check(&[b"\x40\x01x\x01y", b"\x20", b"\xbe"], Err(Malformed));
    }
}
