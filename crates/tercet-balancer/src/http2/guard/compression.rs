//! Compressed header blocks, as far as they have to be followed to tell well-formed ones (RFC 7541).
//!
//! It knows how long names and values are and which fields are pseudo-headers, and keeps no text but of `:path`: all other fields
//! are `h2`'s to read.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

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
/// The indexes of the static table that are `:path`.
const PATHS: std::ops::RangeInclusive<usize> = 4..=5;
/// `:` as a Huffman code of seven bits (RFC 7541 appendix B).
const COLON: u8 = 0x5c;
/// What stands in a path for a byte that `h2` takes in none; for itself as well, so that it means nothing else.
pub(in crate::http2) const STAND_IN: u8 = b'|';

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
/// The symbols in the order of their codes, but the end (RFC 7541 appendix B).
const SYMBOLS: [u8; 256] = [
    48, 49, 50, 97, 99, 101, 105, 111, 115, 116, 32, 37, 45, 46, 47, 51, 52, 53, 54, 55, 56, 57, 61, 65, 95,
    98, 100, 102, 103, 104, 108, 109, 110, 112, 114, 117, 58, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77,
    78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 89, 106, 107, 113, 118, 119, 120, 121, 122, 38, 42, 44, 59, 88,
    90, 33, 34, 40, 41, 63, 39, 43, 124, 35, 62, 0, 36, 64, 91, 93, 126, 94, 125, 60, 96, 123, 92, 195, 208,
    128, 130, 131, 162, 184, 194, 224, 226, 153, 161, 167, 172, 176, 177, 179, 209, 216, 217, 227, 229, 230,
    129, 132, 133, 134, 136, 146, 154, 156, 160, 163, 164, 169, 170, 173, 178, 181, 185, 186, 187, 189, 190,
    196, 198, 228, 232, 233, 1, 135, 137, 138, 139, 140, 141, 143, 147, 149, 150, 151, 152, 155, 157, 158,
    165, 166, 168, 174, 175, 180, 182, 183, 188, 191, 197, 231, 239, 9, 142, 144, 145, 148, 159, 171, 206,
    215, 225, 236, 237, 199, 207, 234, 235, 192, 193, 200, 201, 202, 205, 210, 213, 218, 219, 238, 240, 242,
    243, 255, 203, 204, 211, 212, 214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250, 251, 252, 253, 254,
    2, 3, 4, 5, 6, 7, 8, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 27, 28, 29, 30, 31, 127,
    220, 249, 10, 13, 22,
];

/// Follows the header blocks of one connection, all of them in their order.
#[derive(Debug)]
pub(super) struct Compression {
    /// The dynamic table, the latest entry first.
    table: VecDeque<Entry>,
    bytes: usize,
    most: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    name: usize,
    value: usize,
    is_pseudo_header: bool,
    is_path: bool,
    /// The bytes of a path that `h2` takes in none, in their order.
    replaced: Option<Rc<[u8]>>,
}

/// What there is in a block.
#[derive(Debug, Default)]
pub(super) struct Followed {
    pub(super) has_pseudo_header: bool,
    /// The bytes of the path that have to have a [`STAND_IN`], in their order.
    pub(super) replaced: Option<Rc<[u8]>>,
    /// Where in the block a path stands that holds such bytes, and the path with stand-ins, as strings of a block. They are as long as
    /// the others once decoded, so the table stays the same.
    pub(super) edits: Vec<(Range<usize>, Vec<u8>)>,
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
    /// Follows a whole block.
    pub(super) fn follow(&mut self, whole: &[u8]) -> Result<Followed, Malformed> {
        let mut followed = Followed::default();
        let mut has_field = false;
        let mut block = whole;
        while let Some(first) = block.first() {
            let field = match first {
                0x80.. => self.entry(take_integer(&mut block, 7)?)?,
                0x40.. => {
                    let field = self.literal(whole, &mut block, 6, &mut followed)?;
                    self.add(field.clone());
                    field
                }
                0x20.. if has_field => return Err(Malformed),
                0x20.. => {
                    self.resize(take_integer(&mut block, 5)?)?;
                    continue;
                }
                _ => self.literal(whole, &mut block, 4, &mut followed)?,
            };
            has_field = true;
            followed.has_pseudo_header |= field.is_pseudo_header;
            if field.replaced.is_some() {
                followed.replaced = field.replaced;
            }
        }
        Ok(followed)
    }

    /// RFC 7541 section 6.2.
    fn literal(
        &self,
        whole: &[u8],
        block: &mut &[u8],
        prefix: u32,
        followed: &mut Followed,
    ) -> Result<Entry, Malformed> {
        let mut field = match take_integer(block, prefix)? {
            0 => {
                let text = take_string(block)?;
                let is_pseudo_header = text.starts_with_colon();
                let is_path = is_pseudo_header && text.decoded()? == b":path";
                Entry { name: text.decoded_length()?, value: 0, is_pseudo_header, is_path, replaced: None }
            }
            index => Entry { replaced: None, ..self.entry(index)? },
        };
        let start = whole.len() - block.len();
        let text = take_string(block)?;
        if field.is_path {
            let mut path = text.decoded()?;
            field.value = path.len();
            let replaced: Rc<[u8]> = path.iter().copied().filter(|byte| has_stand_in(*byte)).collect();
            if !replaced.is_empty() {
                path.iter_mut().filter(|byte| has_stand_in(**byte)).for_each(|byte| *byte = STAND_IN);
                let mut string = Vec::with_capacity(path.len() + 4);
                push_length(&mut string, path.len());
                string.extend_from_slice(&path);
                followed.edits.push((start..whole.len() - block.len(), string));
                field.replaced = Some(replaced);
            }
        } else {
            field.value = text.decoded_length()?;
        }
        Ok(field)
    }

    /// RFC 7541 section 2.3.3. How long values of the static table are does not matter: they are never added as they are.
    fn entry(&self, index: usize) -> Result<Entry, Malformed> {
        let at = index.checked_sub(1).ok_or(Malformed)?;
        match STATIC_NAMES.get(at) {
            Some(name) => Ok(Entry {
                name: *name,
                value: 0,
                is_pseudo_header: index <= LAST_PSEUDO_HEADER,
                is_path: PATHS.contains(&index),
                replaced: None,
            }),
            None => self.table.get(at - STATIC_NAMES.len()).cloned().ok_or(Malformed),
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
    fn bytes(&self) -> usize {
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

/// A byte that `h2` has no path with, or would take for the end of one. What RFC 9113 section 8.2.1 forbids is not among them.
fn has_stand_in(byte: u8) -> bool {
    matches!(byte, STAND_IN | b'"' | b'#' | b'<' | b'>' | b'`' | 0x7f..)
}

/// The length of a string as it is (RFC 7541 sections 5.1 and 5.2).
fn push_length(block: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else { return block.push(length as u8) };
    block.push(127);
    while rest >= 128 {
        block.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}

/// A string as it stands in a block (RFC 7541 section 5.2).
#[derive(Clone, Copy, Debug)]
struct Text<'a> {
    bytes: &'a [u8],
    is_coded: bool,
}

fn take_string<'a>(block: &mut &'a [u8]) -> Result<Text<'a>, Malformed> {
    let is_coded = block.first().is_some_and(|first| first & 0x80 != 0);
    let length = take_integer(block, 7)?;
    let (bytes, rest) = block.split_at_checked(length).ok_or(Malformed)?;
    *block = rest;
    Ok(Text { bytes, is_coded })
}

impl Text<'_> {
    fn starts_with_colon(self) -> bool {
        self.bytes.first().is_some_and(|byte| if self.is_coded { byte >> 1 == COLON } else { *byte == b':' })
    }

    fn decoded_length(self) -> Result<usize, Malformed> {
        if !self.is_coded {
            return Ok(self.bytes.len());
        }
        let mut length = 0;
        decode(self.bytes, |_| length += 1)?;
        Ok(length)
    }

    fn decoded(self) -> Result<Vec<u8>, Malformed> {
        let mut text = Vec::with_capacity(2 * self.bytes.len());
        if self.is_coded {
            decode(self.bytes, |code| text.push(SYMBOLS[code]))?;
        } else {
            text.extend_from_slice(self.bytes);
        }
        Ok(text)
    }
}

/// Goes through a Huffman-coded text: the place of each symbol among [`SYMBOLS`].
fn decode(text: &[u8], mut symbol: impl FnMut(usize)) -> Result<(), Malformed> {
    let mut text = text.iter();
    // The next bits, from the highest on, and how many they are.
    let (mut bits, mut held) = (0_u64, 0);
    loop {
        while held <= 56
            && let Some(byte) = text.next()
        {
            bits |= u64::from(*byte) << (56 - held);
            held += 8;
        }
        if held == 0 {
            return Ok(());
        }
        let next = bits >> 32;
        let class = LIMITS.iter().position(|(_, end)| next < *end).ok_or(Malformed)?;
        let (code, end) = LIMITS[class];
        if code > held {
            // Less than a byte of padding, all of it ones.
            let is_padding = held < 8 && bits >> (64 - held) == (1 << held) - 1;
            return if is_padding { Ok(()) } else { Err(Malformed) };
        }
        if bits >> 34 == END {
            return Err(Malformed);
        }
        // Counted from the last code of this length.
        let behind = ((end - 1 - next) >> (32 - code)) as usize;
        symbol(LASTS[class] - behind);
        bits <<= code;
        held -= code;
    }
}

/// For each length of code, the place of its last symbol.
const LASTS: [usize; CODES.len()] = {
    let mut lasts = [0; CODES.len()];
    let mut count = 0;
    let mut at = 0;
    while at < CODES.len() {
        count += CODES[at].1 as usize;
        lasts[at] = count - 1;
        at += 1;
    }
    lasts
};

#[cfg(test)]
mod tests {
    use super::*;

    fn check(blocks: &[&[u8]], expected: Result<bool, Malformed>) {
        let mut compression = Compression::default();
        let (last, before) = blocks.split_last().unwrap();
        for block in before {
            compression.follow(block).unwrap();
        }
        let followed = compression.follow(last).map(|followed| followed.has_pseudo_header);
        assert_eq!(followed, expected, "{blocks:x?}");
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
            assert!(compression.follow(block).unwrap().has_pseudo_header);
            assert_eq!(compression.bytes, bytes);
        }
        // A table of 100 bytes has room for the latest entry alone.
        assert!(!compression.follow(b"\x3f\x45").unwrap().has_pseudo_header);
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

    #[test]
    fn a_path_gets_stand_ins_wherever_it_comes_from() {
        let mut compression = Compression::default();
        let mut edited = |block: &[u8]| {
            let followed = compression.follow(block).unwrap();
            let mut text = block.to_vec();
            for (range, string) in followed.edits.into_iter().rev() {
                text.splice(range, string);
            }
            (text, followed.replaced.map(|bytes| bytes.to_vec()))
        };
        // /?a>b, by the static name, by its own name, and Huffman-coded, into the table and not.
        assert_eq!(edited(b"\x82\x04\x05/?a>b"), (b"\x82\x04\x05/?a|b".to_vec(), Some(b">".to_vec())));
        assert_eq!(
            edited(b"\x00\x05:path\x03/\"<"),
            (b"\x00\x05:path\x03/||".to_vec(), Some(b"\"<".to_vec()))
        );
        assert_eq!(edited(b"\x44\x84\x63\xfc\xff\xbf"), (b"\x44\x03/?|".to_vec(), Some(b">".to_vec())));
        assert_eq!(edited(b"\xbe"), (b"\xbe".to_vec(), Some(b">".to_vec())));
        assert_eq!(edited(b"\x7e\x02/a"), (b"\x7e\x02/a".to_vec(), None));
        assert_eq!(edited(b"\xbf\x86"), (b"\xbf\x86".to_vec(), Some(b">".to_vec())));
        assert_eq!(edited(b"\x84\x00\x01a\x01>"), (b"\x84\x00\x01a\x01>".to_vec(), None));
    }

    proptest::proptest! {
        #[test]
        fn a_length_is_read_as_it_was_written(length in 0..200_000_usize) {
            let mut block = Vec::new();
            push_length(&mut block, length);
            proptest::prop_assert_eq!(take_integer(&mut block.as_slice(), 7), Ok(length));
        }
    }
}
