//! Decodes compressed header blocks into fields (HPACK, RFC 7541).

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use super::huffman;
use super::table::STATIC;

/// The dynamic table's size in bytes: SETTINGS_HEADER_TABLE_SIZE stays at its default (RFC 9113 section 6.5.2).
const TABLE_BYTES: usize = 4096;
/// An entry's overhead in bytes (RFC 7541 section 4.1).
const ENTRY_BYTES: usize = 32;
/// Replaces, in paths passed to `h2`, each byte that `h2` rejects there, and itself, so that it is unambiguous.
pub(in crate::http2) const PLACEHOLDER: u8 = b'|';

/// Decodes the header blocks of one connection in order.
#[derive(Debug)]
pub(super) struct Compression {
    /// The dynamic table, the newest entry first.
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
    /// Names and values, concatenated.
    text: Vec<u8>,
    places: Vec<Place>,
    /// The header list size (RFC 9113 section 6.5.2); fields beyond `most` are counted and not kept.
    bytes: usize,
    most: usize,
}

/// The position of a field.
#[derive(Clone, Debug)]
struct Place {
    name: Range<usize>,
    value: Range<usize>,
    /// The position of its value in the block, if it is a literal.
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

    /// Whether the header list is larger than allowed.
    pub(super) fn are_too_many(&self) -> bool {
        self.bytes >= self.most
    }

    /// The bytes of the path that need a [`PLACEHOLDER`], in order.
    pub(super) fn replaced(&self) -> Option<Rc<[u8]>> {
        let path = self.iter().find(|field| field.name == b":path")?.value;
        let replaced: Rc<[u8]> = path.iter().copied().filter(|byte| needs_placeholder(*byte)).collect();
        (!replaced.is_empty()).then_some(replaced)
    }

    /// The positions of paths in the block that need placeholders, each with its replacement, an encoded string. Its decoded
    /// length is the same, so `h2`'s dynamic table evicts the same entries.
    pub(super) fn edits(&self) -> Vec<(Range<usize>, Vec<u8>)> {
        let paths = self.iter().filter(|field| field.name == b":path");
        let edited = |field: Field<'_>| {
            let place = field.literal.filter(|_| field.value.iter().any(|byte| needs_placeholder(*byte)))?;
            let mut string = Vec::with_capacity(field.value.len() + 4);
            push_path(&mut string, field.value);
            Some((place, string))
        };
        paths.filter_map(edited).collect()
    }

    /// Encodes the fields without the dynamic table, paths with placeholders.
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
    block.extend(path.iter().map(|byte| if needs_placeholder(*byte) { PLACEHOLDER } else { *byte }));
}

/// A block that RFC 7541 does not allow: COMPRESSION_ERROR, which ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Default for Compression {
    fn default() -> Self {
        Self { table: VecDeque::new(), bytes: 0, most: TABLE_BYTES }
    }
}

impl Compression {
    /// Decodes a complete block; fields of up to `most` bytes in all are kept.
    pub(super) fn decode(&mut self, whole: &[u8], most: usize) -> Result<Fields, Malformed> {
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

    /// RFC 7541 sections 4.3 and 4.4: an entry larger than the table is evicted at once.
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

/// RFC 7541 section 5.1; an integer of more than five bytes is malformed.
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

/// Whether `h2` rejects this byte in a path or ends the path there. Bytes that RFC 9113 section 8.2.1 forbids are not among them.
fn needs_placeholder(byte: u8) -> bool {
    matches!(byte, PLACEHOLDER | b'"' | b'#' | b'<' | b'>' | b'`' | 0x7f..)
}

/// Encodes the length of a string without Huffman coding (RFC 7541 sections 5.1 and 5.2).
fn push_length(block: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else { return block.push(length as u8) };
    block.push(127);
    while rest >= 128 {
        block.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}

/// A string literal in a block (RFC 7541 section 5.2).
#[derive(Clone, Copy, Debug)]
struct Text<'a> {
    bytes: &'a [u8],
    is_huffman: bool,
}

fn take_string<'a>(block: &mut &'a [u8]) -> Result<Text<'a>, Malformed> {
    let is_huffman = block.first().is_some_and(|first| first & 0x80 != 0);
    let length = take_integer(block, 7)?;
    let (bytes, rest) = block.split_at_checked(length).ok_or(Malformed)?;
    *block = rest;
    Ok(Text { bytes, is_huffman })
}

impl Text<'_> {
    fn decoded(self) -> Result<Vec<u8>, Malformed> {
        let mut text = Vec::with_capacity(2 * self.bytes.len());
        self.decode_into(&mut text)?;
        Ok(text)
    }

    fn decode_into(self, text: &mut Vec<u8>) -> Result<(), Malformed> {
        if self.is_huffman {
            huffman::decode(self.bytes, text).ok_or(Malformed)
        } else {
            text.extend_from_slice(self.bytes);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 1 << 16;

    fn check(blocks: &[&[u8]], expected: Result<bool, Malformed>) {
        let mut compression = Compression::default();
        let (last, before) = blocks.split_last().unwrap();
        for block in before {
            compression.decode(block, MOST).unwrap();
        }
        let has_pseudo_header = |fields: &Fields| fields.iter().any(|field| field.name.starts_with(b":"));
        let followed = compression.decode(last, MOST).map(|fields| has_pseudo_header(&fields));
        assert_eq!(followed, expected, "{blocks:x?}");
    }

    /// The requests of RFC 7541 appendix C.4, and the size of the table after each.
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
            assert!(compression.decode(block, MOST).unwrap().iter().any(|field| field.name == b":path"));
            assert_eq!(compression.bytes, bytes);
        }
        // A table of 100 bytes holds the newest entry alone.
        assert_eq!(compression.decode(b"\x3f\x45", MOST).unwrap().iter().count(), 0);
        assert_eq!((compression.bytes, compression.table.len()), (54, 1));
    }

    #[test]
    fn pseudo_headers_are_found_in_any_representation() {
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
    fn malformed_blocks_are_errors() {
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
    fn a_path_gets_placeholders_from_any_representation() {
        let mut compression = Compression::default();
        let mut edited = |block: &[u8]| {
            let fields = compression.decode(block, MOST).unwrap();
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
    fn rewritten_blocks_decode_to_the_same_fields() {
        let mut compression = Compression::default();
        let block = b"\x82\x87\x44\x05/?a>b\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff\x58\x86\xa8\xeb\x10\x64\x9c\xbf";
        compression.decode(block, MOST).unwrap();
        let fields = compression.decode(b"\x82\xc0\xbf\xbe\x1f\x0c\x00", MOST).unwrap();
        let again = Compression::default().decode(&fields.rewritten(), MOST).unwrap();
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

    /// One byte may be an index of an entry as large as the table.
    #[test]
    fn fields_beyond_the_limit_are_counted_and_not_kept() {
        let mut block = b"\x40\x01x\x7f\xa1\x1e".to_vec();
        block.extend([b'a'; 4000]);
        block.extend(vec![0xbe; 100_000]);
        let fields = Compression::default().decode(&block, MOST).unwrap();
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
