//! What `h2` lets pass, or ends a connection for with a less exact code than RFC 9113 has, caught as frames come in.
//!
//! It looks at frame heads, at settings, and at header blocks, and knows of a stream only whether the
//! client has ended it. The bytes of paths that `h2` has none with get stand-ins on the way through `h2` and come back behind
//! it, where every target is judged. A request that is malformed goes through `h2` as a stand-in as well, and is answered
//! behind it; `h2` would reset its stream, or end the connection, without a word to anybody.
//!
//! Long because of its tests.

mod compression;
mod malformed;
mod table;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use h2::Reason;

pub(super) use self::compression::STAND_IN;
use self::compression::{Compression, Fields, Malformed};
use crate::http1::Refusal;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// `END_STREAM` of DATA and HEADERS, `ACK` of SETTINGS.
const FIRST_FLAG: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITISED: u8 = 0x20;

const HEAD_BYTES: usize = 9;
/// Streams of either kind that are remembered, the latest of them.
const REMEMBERED: usize = 1024;
/// The largest payload of a frame: we never allow more (RFC 9113 section 6.5.2).
const FRAME_BYTES: usize = 1 << 14;
/// The longest header block that is looked at; `h2` takes none that is longer than a head may be.
const BLOCK_BYTES: usize = 2 << 20;
/// Bytes of header blocks that are held back until they are whole; longer ones go on as they come, for `h2` to refuse.
const HELD_BYTES: usize = 256 << 10;

/// `GET * http`, which stands for a request that is refused: it has no answer but a refusal, should its note be lost.
const REFUSED: &[u8] = b"\x82\x86\x04\x01*";

/// Follows the frames of one connection from behind its preface on.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// Bytes of the preface that are still to come.
    preface_left: usize,
    /// The head of the frame that is coming in, as far as it has come.
    head: Vec<u8>,
    /// The payload, of frames that have to be looked into.
    payload: Vec<u8>,
    /// Bytes of the payload still to come.
    left: usize,
    block: Option<Block>,
    compression: Compression,
    /// Bytes that the fields of a request may have.
    most: usize,
    /// Whether `h2` has missed something that may be in the table: its blocks are without one from then on.
    rewrites: bool,
    highest: u32,
    open: BTreeSet<u32>,
    ended: BTreeSet<u32>,
    /// Bytes that have come and not gone on: of a frame's head, or of a header block.
    held: Vec<u8>,
    notes: Rc<Notes>,
}

/// What is to be known of requests that have come through `h2`, until they are there.
#[derive(Debug, Default)]
pub(super) struct Notes(RefCell<BTreeMap<u32, Note>>);

/// What is to be known of a request.
#[derive(Clone, Debug)]
pub(super) enum Note {
    /// The bytes of its path that have a [`STAND_IN`].
    Path(Rc<[u8]>),
    /// It stands for one that is refused.
    Refused(Rc<Refused>),
}

/// A request that is refused.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    pub(super) method: Box<[u8]>,
    pub(super) target: Box<[u8]>,
    /// Whether the client has ended it and `h2` does not know.
    pub(super) has_ended: bool,
}

impl Notes {
    fn put(&self, stream: u32, note: Note) {
        let mut notes = self.0.borrow_mut();
        notes.insert(stream, note);
        if notes.len() > REMEMBERED {
            notes.pop_first();
        }
    }

    /// The note on a stream; streams before it that never became requests are forgotten.
    pub(super) fn take(&self, stream: u32) -> Option<Note> {
        let mut notes = self.0.borrow_mut();
        if notes.is_empty() {
            return None;
        }
        let later = notes.split_off(&stream);
        *notes = later;
        notes.remove(&stream)
    }
}

/// What may go on to `h2`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// So many of the bytes, as they are.
    Prefix(usize),
    /// This instead of them.
    Instead(Vec<u8>),
}

/// What of some bytes goes on.
struct Output<'a> {
    bytes: &'a [u8],
    /// How many of them are done with.
    done: usize,
    instead: Option<Vec<u8>>,
}

impl Output<'_> {
    /// Lets what was held, and the bytes up to a place, go on.
    fn pass(&mut self, held: &mut Vec<u8>, end: usize) {
        if !held.is_empty() {
            self.instead.get_or_insert_with(|| self.bytes[..self.done].to_vec()).append(held);
            *held = Vec::new();
        }
        if let Some(instead) = &mut self.instead {
            instead.extend_from_slice(&self.bytes[self.done..end]);
        }
        self.done = end;
    }

    /// Has something else go on in place of what was held, and the bytes up to a place.
    fn replace(&mut self, held: &mut Vec<u8>, end: usize, frames: &[u8]) {
        *held = Vec::new();
        self.instead.get_or_insert_with(|| self.bytes[..self.done].to_vec()).extend_from_slice(frames);
        self.done = end;
    }

    fn passed(self) -> Passed {
        self.instead.map_or(Passed::Prefix(self.done), Passed::Instead)
    }
}

/// The header block that is coming in.
#[derive(Debug)]
struct Block {
    stream: u32,
    is_trailers: bool,
    bytes: Vec<u8>,
    /// Flags of its first frame, and the priority in it.
    flags: u8,
    priority: Vec<u8>,
    /// Whether its frames wait for its end.
    is_held: bool,
}

/// A frame's head.
#[derive(Clone, Copy, Debug)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Guard {
    /// Begins behind a preface of so many bytes; requests have heads of less than `most` bytes.
    pub(super) fn new(preface: usize, most: usize, notes: Rc<Notes>) -> Self {
        Self { preface_left: preface, most, notes, ..Self::default() }
    }

    /// Looks at the next bytes of the connection, and says what may go on to `h2`; with a reason, nothing more may: the connection is
    /// to be ended with it.
    pub(super) fn inspect(&mut self, bytes: &[u8]) -> (Passed, Option<Reason>) {
        let mut output = Output { bytes, done: 0, instead: None };
        let fault = self.follow(bytes, &mut output).err();
        (output.passed(), fault)
    }

    fn follow(&mut self, bytes: &[u8], output: &mut Output<'_>) -> Result<(), Reason> {
        let mut at = self.preface_left.min(bytes.len());
        self.preface_left -= at;
        output.done = at;
        while at < bytes.len() {
            if self.head.len() < HEAD_BYTES {
                let taken = (HEAD_BYTES - self.head.len()).min(bytes.len() - at);
                self.head.extend_from_slice(&bytes[at..at + taken]);
                at += taken;
                let Some(head) = self.whole_head() else { break };
                self.left = head.length;
                self.check_head(head)?;
            }
            let Some(head) = self.whole_head() else { break };
            let taken = self.left.min(bytes.len() - at);
            if self.is_looked_into(head) {
                self.payload.extend_from_slice(&bytes[at..at + taken]);
            }
            at += taken;
            self.left -= taken;
            let mut edited = None;
            if self.left == 0 {
                self.head.clear();
                let payload = std::mem::take(&mut self.payload);
                edited = self.check_payload(head, &payload)?;
            }
            if let Some(frames) = edited {
                output.replace(&mut self.held, at, &frames);
            } else if !self.holds_block(bytes.len()) && (self.left == 0 || head.kind != SETTINGS) {
                output.pass(&mut self.held, at);
            }
        }
        self.held.extend_from_slice(&bytes[output.done..]);
        Ok(())
    }

    /// Whether a header block is coming in that is to be whole before it goes on.
    fn holds_block(&mut self, fresh: usize) -> bool {
        let held = self.held.len() + fresh;
        self.block.as_mut().is_some_and(|block| {
            block.is_held &= held <= HELD_BYTES;
            block.is_held
        })
    }

    fn whole_head(&self) -> Option<Head> {
        let [a, b, c, kind, flags, stream @ ..] = self.head.first_chunk::<HEAD_BYTES>()?;
        Some(Head {
            length: u32::from_be_bytes([0, *a, *b, *c]) as usize,
            kind: *kind,
            flags: *flags,
            stream: u32::from_be_bytes(*stream) & 0x7fff_ffff,
        })
    }

    fn is_looked_into(&self, head: Head) -> bool {
        match head.kind {
            SETTINGS => true,
            HEADERS | CONTINUATION => self.block.is_some(),
            _ => false,
        }
    }

    fn check_head(&mut self, head: Head) -> Result<(), Reason> {
        let is_sized = match head.kind {
            PING => head.length == 8,
            RST_STREAM | WINDOW_UPDATE => head.length == 4,
            PRIORITY => head.length == 5,
            SETTINGS if head.has(FIRST_FLAG) => head.length == 0,
            SETTINGS => head.length.is_multiple_of(6),
            GOAWAY => head.length >= 8,
            DATA | HEADERS => head.length > 0 || !head.has(PADDED),
            _ => true,
        };
        if !is_sized || head.length > FRAME_BYTES {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        // RFC 9113 section 4.3: nothing comes between the parts of a header block.
        let goes_on = |block: &Block| head.kind == CONTINUATION && head.stream == block.stream;
        if self.block.as_ref().is_some_and(|block| !goes_on(block)) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if matches!(head.kind, DATA | HEADERS) && self.ended.contains(&head.stream) {
            return Err(Reason::STREAM_CLOSED);
        }
        if head.kind == HEADERS {
            let is_trailers = self.open.contains(&head.stream);
            self.block = Some(Block {
                stream: head.stream,
                is_trailers,
                bytes: Vec::new(),
                flags: head.flags,
                priority: Vec::new(),
                is_held: true,
            });
            if head.stream > self.highest {
                self.highest = head.stream;
                remember(&mut self.open, head.stream);
            }
        }
        let ends = matches!(head.kind, DATA | HEADERS) && head.has(FIRST_FLAG) || head.kind == RST_STREAM;
        if ends && self.open.remove(&head.stream) {
            remember(&mut self.ended, head.stream);
        }
        Ok(())
    }

    /// Looks at a payload; frames that are to go on in place of the block that ends with it, if any are.
    fn check_payload(&mut self, head: Head, payload: &[u8]) -> Result<Option<Vec<u8>>, Reason> {
        match head.kind {
            SETTINGS => check_settings(payload).map(|()| None),
            HEADERS | CONTINUATION => self.check_block(head, payload),
            _ => Ok(None),
        }
    }

    /// RFC 9113 sections 4.3 and 8.1: blocks are well-formed, trailers have no pseudo-headers, and requests are what section 8.3
    /// says. `h2` has another code for the first, leaves the second out, and refuses the others in silence.
    fn check_block(&mut self, head: Head, payload: &[u8]) -> Result<Option<Vec<u8>>, Reason> {
        let Some(block) = &mut self.block else { return Ok(None) };
        let (priority, fragment) = head.fragment(payload)?;
        block.priority.extend_from_slice(priority);
        block.bytes.extend_from_slice(fragment);
        if block.bytes.len() > BLOCK_BYTES {
            return Err(Reason::ENHANCE_YOUR_CALM);
        }
        if !head.has(END_HEADERS) {
            return Ok(None);
        }
        let Some(mut block) = self.block.take() else { return Ok(None) };
        let fields = self
            .compression
            .follow(&block.bytes, self.most)
            .map_err(|Malformed| Reason::COMPRESSION_ERROR)?;
        if block.is_trailers && fields.iter().any(|field| field.name.starts_with(b":")) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if !block.is_held {
            // Part of it is with h2 already.
            return if self.rewrites { Err(Reason::ENHANCE_YOUR_CALM) } else { Ok(None) };
        }
        let has_ended = block.flags & FIRST_FLAG != 0;
        if !block.is_trailers
            && let Some(refusal) = malformed::refusal(&fields, has_ended)
        {
            self.refuse(block.stream, &fields, refusal, has_ended);
            // Left open, so that there is something to reset behind the answer.
            return Ok(Some(
                Block { flags: 0, priority: Vec::new(), bytes: REFUSED.to_vec(), ..block }.frames(),
            ));
        }
        if let Some(replaced) = fields.replaced() {
            self.notes.put(block.stream, Note::Path(replaced));
        }
        if self.rewrites {
            return Ok(Some(Block { bytes: fields.rewritten(), ..block }.frames()));
        }
        let edits = fields.edits();
        if edits.is_empty() {
            return Ok(None);
        }
        for (range, string) in edits.into_iter().rev() {
            block.bytes.splice(range, string);
        }
        Ok(Some(block.frames()))
    }

    fn refuse(&mut self, stream: u32, fields: &Fields, refusal: Refusal, has_ended: bool) {
        self.rewrites = true;
        let [method, target] = [&b":method"[..], b":path"].map(|name| malformed::text(fields, name).into());
        self.notes.put(stream, Note::Refused(Rc::new(Refused { refusal, method, target, has_ended })));
    }
}

impl Block {
    /// The block as frames, without padding.
    fn frames(&self) -> Vec<u8> {
        let mut frames = Vec::with_capacity(self.bytes.len() + 64);
        let mut rest = self.bytes.as_slice();
        let mut kind = HEADERS;
        loop {
            let priority = if kind == HEADERS { self.priority.as_slice() } else { &[] };
            let (part, behind) = rest.split_at(rest.len().min(FRAME_BYTES - priority.len()));
            let own = if kind == HEADERS { self.flags & (FIRST_FLAG | PRIORITISED) } else { 0 };
            let end = if behind.is_empty() { END_HEADERS } else { 0 };
            frames.extend_from_slice(&((priority.len() + part.len()) as u32).to_be_bytes()[1..]);
            frames.extend_from_slice(&[kind, own | end]);
            frames.extend_from_slice(&self.stream.to_be_bytes());
            frames.extend_from_slice(priority);
            frames.extend_from_slice(part);
            if behind.is_empty() {
                return frames;
            }
            (rest, kind) = (behind, CONTINUATION);
        }
    }
}

impl Head {
    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The priority and the part of a header block in a payload of HEADERS or CONTINUATION (RFC 9113 section 6.2).
    fn fragment(self, payload: &[u8]) -> Result<(&[u8], &[u8]), Reason> {
        let mut fragment = payload;
        if self.kind == HEADERS && self.has(PADDED) {
            let (padding, rest) = payload.split_first().ok_or(Reason::FRAME_SIZE_ERROR)?;
            let end = rest.len().checked_sub(usize::from(*padding)).ok_or(Reason::PROTOCOL_ERROR)?;
            fragment = &rest[..end];
        }
        if self.kind == HEADERS && self.has(PRIORITISED) {
            return fragment.split_at_checked(5).ok_or(Reason::FRAME_SIZE_ERROR);
        }
        Ok((&[], fragment))
    }
}

/// Keeps the latest.
fn remember(streams: &mut BTreeSet<u32>, stream: u32) {
    streams.insert(stream);
    if streams.len() > REMEMBERED {
        streams.pop_first();
    }
}

/// RFC 9113 section 6.5.2: a window over 2^31-1 is a FLOW_CONTROL_ERROR.
fn check_settings(payload: &[u8]) -> Result<(), Reason> {
    let is_too_wide = |setting: &[u8]| matches!(setting, [0, 4, high, ..] if *high >= 0x80);
    if payload.chunks(6).any(is_too_wide) { Err(Reason::FLOW_CONTROL_ERROR) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 1 << 20;

    fn path(note: Option<Note>) -> Vec<u8> {
        match note {
            Some(Note::Path(replaced)) => replaced.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend_from_slice(&[kind, flags]);
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        frame
    }

    /// The verdict on frames behind a preface, which is the same however they are read; of what is refused at least
    /// the last byte is kept from going on.
    fn check(frames: &[Vec<u8>], expected: Option<Reason>) {
        let bytes = [vec![0; 24], frames.concat()].concat();
        for size in [1, 2, 7, 10, bytes.len()] {
            let mut guard = Guard::new(24, MOST, Rc::default());
            let mut passed = Vec::new();
            let (mut verdict, mut is_edited) = (None, false);
            for part in bytes.chunks(size) {
                let (some, fault) = guard.inspect(part);
                match some {
                    Passed::Prefix(count) => passed.extend_from_slice(&part[..count]),
                    Passed::Instead(other) => {
                        is_edited = true;
                        passed.extend(other);
                    }
                }
                verdict = fault;
                if fault.is_some() {
                    break;
                }
            }
            assert_eq!(verdict, expected, "{frames:x?} in parts of {size}");
            assert!(bytes.starts_with(&passed) || is_edited, "{frames:x?} in parts of {size}");
            if expected.is_some() && !is_edited {
                assert!(passed.len() < bytes.len());
            }
        }
    }

    #[test]
    fn frames_have_their_size() {
        check(
            &[frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[0; 12]), frame(SETTINGS, 1, 0, &[])],
            None,
        );
        for wrong in [
            frame(PING, 0, 0, &[0; 7]),
            frame(RST_STREAM, 0, 1, &[0; 5]),
            frame(WINDOW_UPDATE, 0, 0, &[0; 3]),
            frame(PRIORITY, 0, 1, &[0; 4]),
            frame(SETTINGS, 0, 0, &[0; 7]),
            frame(SETTINGS, 1, 0, &[0; 6]),
            frame(GOAWAY, 0, 0, &[0; 7]),
            frame(DATA, PADDED, 1, &[]),
        ] {
            check(&[frame(PING, 0, 0, &[0; 8]), wrong], Some(Reason::FRAME_SIZE_ERROR));
        }
    }

    #[test]
    fn windows_are_no_wider_than_31_bits() {
        check(&[frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff])], None);
        let wide = frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 1, 0, 4, 0x80, 0, 0, 0]);
        check(&[wide], Some(Reason::FLOW_CONTROL_ERROR));
    }

    #[test]
    fn what_a_client_has_ended_it_does_not_go_on_with() {
        let whole = || frame(HEADERS, FIRST_FLAG | END_HEADERS, 1, &[0x82]);
        let open = || frame(HEADERS, END_HEADERS, 1, &[0x82]);
        let reset = || frame(RST_STREAM, 0, 1, &[0; 4]);
        check(&[whole(), frame(DATA, 0, 1, b"x")], Some(Reason::STREAM_CLOSED));
        check(&[whole(), whole()], Some(Reason::STREAM_CLOSED));
        check(&[open(), reset(), frame(DATA, 0, 1, b"x")], Some(Reason::STREAM_CLOSED));
        check(&[open(), frame(DATA, FIRST_FLAG, 1, b"x"), whole()], Some(Reason::STREAM_CLOSED));
        check(&[open(), frame(DATA, 0, 1, b"x"), frame(DATA, FIRST_FLAG, 1, b"x"), reset()], None);
        check(&[whole(), frame(HEADERS, FIRST_FLAG | END_HEADERS, 3, &[0x82])], None);
    }

    #[test]
    fn trailers_have_no_pseudo_headers() {
        let trailers = |block: &[u8]| {
            let (start, end) = block.split_at(block.len() / 2);
            vec![
                frame(HEADERS, END_HEADERS, 1, &[0x82]),
                frame(DATA, 0, 1, b"x"),
                frame(HEADERS, FIRST_FLAG, 1, start),
                frame(CONTINUATION, END_HEADERS, 1, end),
            ]
        };
        // x-sum: 1.
        check(&trailers(b"\x00\x05x-sum\x011"), None);
        check(&trailers(b"\x00\x05x-sum\x011\x00\x05:test\x011"), Some(Reason::PROTOCOL_ERROR));
        let padded =
            frame(HEADERS, FIRST_FLAG | END_HEADERS | PADDED | PRIORITISED, 1, b"\x02\0\0\0\0\0\x83\0\0");
        check(&[frame(HEADERS, END_HEADERS, 1, &[0x82]), padded], Some(Reason::PROTOCOL_ERROR));
    }

    #[test]
    fn blocks_are_well_formed_however_they_are_cut() {
        let block = |first: &[u8], rest: &[u8]| {
            vec![frame(HEADERS, FIRST_FLAG, 1, first), frame(CONTINUATION, END_HEADERS, 1, rest)]
        };
        check(&block(b"\x82\x40\x01x", b"\x01y\xbe"), None);
        check(&block(b"\x82\x40\x01x", b"\x01y\xbf"), Some(Reason::COMPRESSION_ERROR));
        check(&block(b"\x82\x40\x01x", b""), Some(Reason::COMPRESSION_ERROR));
        let [part, other] = [1, 3].map(|stream| frame(HEADERS, FIRST_FLAG, stream, b"\x82"));
        let ping = frame(PING, 0, 0, &[0; 8]);
        for between in [ping, other, frame(CONTINUATION, END_HEADERS, 3, b"")] {
            check(&[part.clone(), between], Some(Reason::PROTOCOL_ERROR));
        }
        // What the first stream has put into the table is there for the second.
        let [first, second] = [(1, b"\x40\x01x\x01y"), (3, b"\x82\x86\x84\xbe\xbe")]
            .map(|(stream, block)| frame(HEADERS, FIRST_FLAG | END_HEADERS, stream, block));
        check(&[first, second.clone()], None);
        check(&[second], Some(Reason::COMPRESSION_ERROR));
    }

    #[test]
    fn paths_have_stand_ins_on_their_way() {
        let block = b"\x02\0\0\0\0\x10\x82\x04\x05/?a>b\x86\0\0";
        let padded = frame(HEADERS, FIRST_FLAG | END_HEADERS | PADDED | PRIORITISED, 1, block);
        let cut =
            [frame(HEADERS, FIRST_FLAG, 3, b"\x82\x44\x02/"), frame(CONTINUATION, END_HEADERS, 3, b"<\x86")];
        let repeated = frame(HEADERS, FIRST_FLAG | END_HEADERS, 5, b"\x82\xbe\x86");
        let ping = || frame(PING, 0, 0, &[0; 8]);
        let sent = [ping(), padded, ping(), cut.concat(), repeated.clone(), ping()].concat();
        let prioritised =
            frame(HEADERS, FIRST_FLAG | END_HEADERS | PRIORITISED, 1, b"\0\0\0\0\x10\x82\x04\x05/?a|b\x86");
        let whole = frame(HEADERS, FIRST_FLAG | END_HEADERS, 3, b"\x82\x44\x02/|\x86");
        let expected = [ping(), prioritised, ping(), whole, repeated, ping()].concat();
        for size in 1..sent.len() {
            let notes = Rc::new(Notes::default());
            let mut guard = Guard::new(0, MOST, Rc::clone(&notes));
            let mut passed = Vec::new();
            for part in sent.chunks(size) {
                match guard.inspect(part) {
                    (Passed::Prefix(count), None) => passed.extend_from_slice(&part[..count]),
                    (Passed::Instead(other), None) => passed.extend(other),
                    (_, fault) => panic!("{fault:?}"),
                }
            }
            assert_eq!(passed, expected, "in parts of {size}");
            assert_eq!([1, 3, 5].map(|stream| path(notes.take(stream))), [b">", b"<", b"<"]);
        }
    }

    #[test]
    fn a_long_path_takes_several_frames() {
        let path = format!("/?{}", ">".repeat(40_000));
        let mut block = b"\x82\x86\x04\x7f".to_vec();
        let (mut rest, mut frames) = (path.len() - 127, Vec::new());
        while rest >= 128 {
            block.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        block.push(rest as u8);
        block.extend_from_slice(path.as_bytes());
        let parts: Vec<&[u8]> = block.chunks(FRAME_BYTES).collect();
        for (index, part) in parts.iter().enumerate() {
            let kind = if index == 0 { HEADERS } else { CONTINUATION };
            let end = if index + 1 == parts.len() { END_HEADERS } else { 0 };
            frames.extend(frame(kind, end, 1, part));
        }
        let mut guard = Guard::new(0, MOST, Rc::default());
        let (passed, fault) = guard.inspect(&frames);
        let expected: Vec<u8> =
            frames.iter().map(|byte| if *byte == b'>' { STAND_IN } else { *byte }).collect();
        assert_eq!((passed, fault), (Passed::Instead(expected), None));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_have_one_verdict(
            frames in proptest::collection::vec((0..10_u8, 0..0x40_u8, 0..4_u32, proptest::collection::vec(0..0xff_u8, 0..20)), 0..8),
        ) {
            let frames: Vec<_> = frames
                .iter()
                .map(|(kind, flags, stream, payload)| frame(*kind, *flags, *stream, payload))
                .collect();
            let mut guard = Guard::new(0, MOST, Rc::default());
            let (_, verdict) = guard.inspect(&frames.concat());
            check(&frames, verdict);
        }
    }
}
