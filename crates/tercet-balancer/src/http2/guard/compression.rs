//! Compressed header blocks as the fields they stand for (RFC 7541).

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use super::table::STATIC;

/// Bytes of the dynamic table, which we never allow a client to make larger (RFC 9113 section 6.5.2).
const TABLE_BYTES: usize = 4096;
/// What an entry takes beside its name and value (RFC 7541 section 4.1).
const ENTRY_BYTES: usize = 32;
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

/// A name and its value.
#[derive(Debug)]
struct Entry {
    text: Box<[u8]>,
    name: usize,
}

/// The fields of a block.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// Names and values, one behind the other.
    text: Vec<u8>,
    places: Vec<Place>,
    /// What RFC 9113 section 6.5.2 counts; fields beyond `most` are counted and not kept.
    bytes: usize,
    most: usize,
}

/// Where a field is.
#[derive(Clone, Debug)]
struct Place {
    name: Range<usize>,
    value: Range<usize>,
    /// Where its value is in the block, unless it is from a table.
    literal: Option<Range<usize>>,
}

/// A field.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
    literal: Option<Range<usize>>,
}

impl Fields {
    pub(super) fn iter(&self) -> impl Iterator<Item = Field<'_>> + Clone {
        self.places.iter().map(|place| Field {
            name: &self.text[place.name.clone()],
            value: &self.text[place.value.clone()],
            literal: place.literal.clone(),
        })
    }

    /// Whether there are more than may be.
    pub(super) fn are_too_many(&self) -> bool {
        self.bytes >= self.most
    }

    /// The bytes of the path that have to have a [`STAND_IN`], in their order.
    pub(super) fn replaced(&self) -> Option<Rc<[u8]>> {
        let path = self.iter().find(|field| field.name == b":path")?.value;
        let replaced: Rc<[u8]> = path.iter().copied().filter(|byte| has_stand_in(*byte)).collect();
        (!replaced.is_empty()).then_some(replaced)
    }

    /// Where in the block a path stands that holds such bytes, and the path with stand-ins, as a string of a block. It is as long as
    /// the other once decoded, so the table stays the same.
    pub(super) fn edits(&self) -> Vec<(Range<usize>, Vec<u8>)> {
        let paths = self.iter().filter(|field| field.name == b":path");
        let edited = |field: Field<'_>| {
            let place = field.literal.filter(|_| field.value.iter().any(|byte| has_stand_in(*byte)))?;
            let mut string = Vec::with_capacity(field.value.len() + 4);
            push_path(&mut string, field.value);
            Some((place, string))
        };
        paths.filter_map(edited).collect()
    }

    /// The same fields as a block that needs no table, paths with stand-ins.
    pub(super) fn rewritten(&self) -> Vec<u8> {
        let mut block = Vec::with_capacity(self.text.len() + 8 * self.places.len());
        for field in self.iter() {
            block.push(0);
            push_string(&mut block, field.name);
            if field.name == b":path" {
                push_path(&mut block, field.value);
            } else {
                push_string(&mut block, field.value);
            }
        }
        block
    }

    fn keep(&mut self, name: &[u8], value: &[u8], literal: Option<Range<usize>>) {
        self.bytes += name.len() + value.len() + ENTRY_BYTES;
        if self.are_too_many() {
            return;
        }
        let start = self.text.len();
        self.text.extend_from_slice(name);
        let middle = self.text.len();
        self.text.extend_from_slice(value);
        self.places.push(Place { name: start..middle, value: middle..self.text.len(), literal });
    }
}

fn push_string(block: &mut Vec<u8>, string: &[u8]) {
    push_length(block, string.len());
    block.extend_from_slice(string);
}

fn push_path(block: &mut Vec<u8>, path: &[u8]) {
    push_length(block, path.len());
    block.extend(path.iter().map(|byte| if has_stand_in(*byte) { STAND_IN } else { *byte }));
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
    /// Follows a whole block, and keeps fields of less than `most` bytes in all.
    pub(super) fn follow(&mut self, whole: &[u8], most: usize) -> Result<Fields, Malformed> {
        let mut fields = Fields { most, ..Fields::default() };
        let mut block = whole;
        while let Some(first) = block.first() {
            match first {
                0x80.. => {
                    let (name, value) = self.entry(take_integer(&mut block, 7)?)?;
                    fields.keep(name, value, None);
                }
                0x40.. => {
                    let entry = self.literal(whole, &mut block, 6, &mut fields)?;
                    self.add(entry);
                }
                0x20.. if fields.bytes > 0 => return Err(Malformed),
                0x20.. => self.resize(take_integer(&mut block, 5)?)?,
                _ => _ = self.literal(whole, &mut block, 4, &mut fields)?,
            }
        }
        Ok(fields)
    }

    /// RFC 7541 section 6.2.
    fn literal(
        &self,
        whole: &[u8],
        block: &mut &[u8],
        prefix: u32,
        fields: &mut Fields,
    ) -> Result<Entry, Malformed> {
        let mut text = match take_integer(block, prefix)? {
            0 => take_string(block)?.decoded()?,
            index => self.entry(index)?.0.to_vec(),
        };
        let name = text.len();
        let start = whole.len() - block.len();
        take_string(block)?.decode_into(&mut text)?;
        fields.keep(&text[..name], &text[name..], Some(start..whole.len() - block.len()));
        Ok(Entry { text: text.into(), name })
    }

    /// RFC 7541 section 2.3.3.
    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), Malformed> {
        let at = index.checked_sub(1).ok_or(Malformed)?;
        match STATIC.get(at) {
            Some(field) => Ok(*field),
            None => self
                .table
                .get(at - STATIC.len())
                .map(|entry| entry.text.split_at(entry.name))
                .ok_or(Malformed),
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
        self.text.len() + ENTRY_BYTES
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
    fn decoded(self) -> Result<Vec<u8>, Malformed> {
        let mut text = Vec::with_capacity(2 * self.bytes.len());
        self.decode_into(&mut text)?;
        Ok(text)
    }

    fn decode_into(self, text: &mut Vec<u8>) -> Result<(), Malformed> {
        if self.is_coded {
            decode(self.bytes, |code| text.push(SYMBOLS[code]))
        } else {
            text.extend_from_slice(self.bytes);
            Ok(())
        }
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

    const MOST: usize = 1 << 16;

    fn check(blocks: &[&[u8]], expected: Result<bool, Malformed>) {
        let mut compression = Compression::default();
        let (last, before) = blocks.split_last().unwrap();
        for block in before {
            compression.follow(block, MOST).unwrap();
        }
        let has_pseudo_header = |fields: &Fields| fields.iter().any(|field| field.name.starts_with(b":"));
        let followed = compression.follow(last, MOST).map(|fields| has_pseudo_header(&fields));
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
            assert!(compression.follow(block, MOST).unwrap().iter().any(|field| field.name == b":path"));
            assert_eq!(compression.bytes, bytes);
        }
        // A table of 100 bytes has room for the latest entry alone.
        assert_eq!(compression.follow(b"\x3f\x45", MOST).unwrap().iter().count(), 0);
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
            let fields = compression.follow(block, MOST).unwrap();
            let mut text = block.to_vec();
            for (range, string) in fields.edits().into_iter().rev() {
                text.splice(range, string);
            }
            (text, fields.replaced().map(|bytes| bytes.to_vec()))
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

    #[test]
    fn what_is_rewritten_reads_the_same_without_a_table() {
        let mut compression = Compression::default();
        let block = b"\x82\x87\x44\x05/?a>b\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff\x58\x86\xa8\xeb\x10\x64\x9c\xbf";
        compression.follow(block, MOST).unwrap();
        let fields = compression.follow(b"\x82\xc0\xbf\xbe\x1f\x0c\x00", MOST).unwrap();
        let again = Compression::default().follow(&fields.rewritten(), MOST).unwrap();
        let text: Vec<_> = again
            .iter()
            .map(|field| [field.name, field.value].map(String::from_utf8_lossy).join("="))
            .collect();
        assert_eq!(
            text,
            [
                ":method=GET",
                ":path=/?a|b",
                ":authority=www.example.com",
                "cache-control=no-cache",
                "content-language="
            ]
        );
    }

    /// A byte may stand for an entry of a whole table.
    #[test]
    fn what_is_too_much_is_counted_and_not_kept() {
        let mut block = b"\x40\x01x\x7f\xa1\x1e".to_vec();
        block.extend([b'a'; 4000]);
        block.extend(vec![0xbe; 100_000]);
        let fields = Compression::default().follow(&block, MOST).unwrap();
        assert!(fields.are_too_many() && fields.text.len() < MOST && fields.bytes > 400_000_000);
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
