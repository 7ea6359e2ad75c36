//! Reads the header blocks of an HTTP/2 connection before `h2` does, so that every request gets an answer and a log line.
//!
//! `h2` rejects a malformed request silently: it resets the stream or ends the connection. The guard replaces such a
//! request by a placeholder request with a note, which is answered with the refusal behind `h2`. Bytes in `:path` that
//! `h2` rejects but the balancer forwards are replaced by placeholder bytes and restored behind `h2`, where every target is
//! validated. Everything else (frame sizes, settings, stream states) is left to `h2`.

mod compression;
mod frame;
mod huffman;
mod malformed;
mod table;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use h2::Reason;

pub(super) use self::compression::PLACEHOLDER;
use self::compression::{Compression, Fields, Malformed};
use self::frame::{
    Block, CONTINUATION, DATA, END_HEADERS, END_STREAM, FRAME_BYTES, HEAD_BYTES, HEADERS, Head, RST_STREAM,
};
use crate::http1::Refusal;

/// The number of streams that are tracked, the latest.
const REMEMBERED: usize = 1024;
/// The longest header block that is decoded; `h2` limits the header list itself.
const BLOCK_BYTES: usize = 2 << 20;
/// The longest header block that is buffered until it is complete; longer ones are passed on frame by frame, for `h2` to reject.
const HELD_BYTES: usize = 256 << 10;

/// `GET * http`, the placeholder of a refused request. Even without its note it could only be refused.
const REFUSED: &[u8] = b"\x82\x86\x04\x01*";

/// Parses the frames a client sends on one connection, after the preface.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// Bytes of the preface not received yet.
    preface_left: usize,
    /// The received part of the current frame's header.
    head: Vec<u8>,
    /// The received part of the payload of HEADERS and CONTINUATION frames.
    payload: Vec<u8>,
    /// Bytes of the payload not received yet.
    left: usize,
    block: Option<Block>,
    compression: Compression,
    /// The largest header list of a request, in bytes.
    most: usize,
    /// Whether a block was withheld from `h2`, whose dynamic table may differ now: later blocks are rewritten without it.
    rewrites: bool,
    highest: u32,
    open: BTreeSet<u32>,
    /// Bytes received and not passed on: part of a frame header, or of a header block.
    held: Vec<u8>,
    notes: Rc<Notes>,
}

/// Notes on requests by stream, from the guard to the code behind `h2`.
#[derive(Debug, Default)]
pub(super) struct Notes(RefCell<BTreeMap<u32, Note>>);

/// A note on a request.
#[derive(Clone, Debug)]
pub(super) enum Note {
    /// The bytes of its path that were replaced by [`PLACEHOLDER`], in order.
    Path(Rc<[u8]>),
    /// It is the placeholder of a refused request.
    Refused(Rc<Refused>),
}

/// A refused request.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    pub(super) method: Box<[u8]>,
    pub(super) target: Box<[u8]>,
    /// Whether the client ended the stream, which `h2` was not shown.
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

    /// Removes and returns the note on a stream, and drops those on earlier streams, which never became requests.
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

/// The bytes to pass on to `h2`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// The first so many of the received bytes, unchanged.
    Prefix(usize),
    /// These bytes instead of the received ones.
    Instead(Vec<u8>),
}

/// Collects what is passed on of some received bytes.
struct Output<'a> {
    bytes: &'a [u8],
    /// How many of them are passed on, replaced or held.
    done: usize,
    instead: Option<Vec<u8>>,
}

impl Output<'_> {
    /// Passes on the held bytes, and the received ones up to `end`.
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

    /// Passes on `frames` instead of the held bytes and the received ones up to `end`.
    fn replace(&mut self, held: &mut Vec<u8>, end: usize, frames: &[u8]) {
        *held = Vec::new();
        self.instead.get_or_insert_with(|| self.bytes[..self.done].to_vec()).extend_from_slice(frames);
        self.done = end;
    }

    fn passed(self) -> Passed {
        self.instead.map_or(Passed::Prefix(self.done), Passed::Instead)
    }
}

impl Guard {
    /// A guard that skips a preface of `preface` bytes and refuses header lists of `most` bytes or more.
    pub(super) fn new(preface: usize, most: usize, notes: Rc<Notes>) -> Self {
        Self { preface_left: preface, most, notes, ..Self::default() }
    }

    /// Inspects received bytes and returns what to pass on to `h2`. With a reason, the connection is to be ended with
    /// that error code, and nothing more is passed on.
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
                let Some(head) = Head::parse(&self.head) else { break };
                self.left = head.length;
                self.check_header(head)?;
            }
            let Some(head) = Head::parse(&self.head) else { break };
            let taken = self.left.min(bytes.len() - at);
            if self.is_of_block(head) {
                self.payload.extend_from_slice(&bytes[at..at + taken]);
            }
            at += taken;
            self.left -= taken;
            let mut edited = None;
            if self.left == 0 {
                self.head.clear();
                let payload = std::mem::take(&mut self.payload);
                edited = self.check_block(head, &payload)?;
            }
            if let Some(frames) = edited {
                output.replace(&mut self.held, at, &frames);
            } else if !self.buffers_block(bytes.len()) {
                output.pass(&mut self.held, at);
            }
        }
        self.held.extend_from_slice(&bytes[output.done..]);
        Ok(())
    }

    /// Whether an incomplete header block is buffered; `fresh` are the bytes received last.
    fn buffers_block(&mut self, fresh: usize) -> bool {
        let held = self.held.len() + fresh;
        self.block.as_mut().is_some_and(|block| {
            block.is_buffered &= held <= HELD_BYTES;
            block.is_buffered
        })
    }

    /// Whether a frame is part of the header block being received.
    fn is_of_block(&self, head: Head) -> bool {
        matches!(head.kind, HEADERS | CONTINUATION) && self.block.is_some()
    }

    fn check_header(&mut self, head: Head) -> Result<(), Reason> {
        if head.length > FRAME_BYTES {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        // RFC 9113 section 4.3: the frames of a header block are contiguous.
        let goes_on = |block: &Block| head.kind == CONTINUATION && head.stream == block.stream;
        if self.block.as_ref().is_some_and(|block| !goes_on(block)) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if head.kind == HEADERS {
            let is_trailers = self.open.contains(&head.stream);
            self.block = Some(Block {
                stream: head.stream,
                is_trailers,
                bytes: Vec::new(),
                flags: head.flags,
                priority: Vec::new(),
                is_buffered: true,
            });
            if head.stream > self.highest {
                self.highest = head.stream;
                remember(&mut self.open, head.stream);
            }
        }
        let ends = matches!(head.kind, DATA | HEADERS) && head.has(END_STREAM) || head.kind == RST_STREAM;
        if ends {
            self.open.remove(&head.stream);
        }
        Ok(())
    }

    /// Adds a frame's payload to its header block and checks the block once it is complete: RFC 7541, no pseudo-headers
    /// in trailers (RFC 9113 section 8.1, which `h2` drops silently), and the request (section 8.3). Returns the frames to
    /// pass on instead of the block's own, if any.
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
            .decode(&block.bytes, self.most)
            .map_err(|Malformed| Reason::COMPRESSION_ERROR)?;
        if block.is_trailers && fields.iter().any(|field| field.name.starts_with(b":")) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if !block.is_buffered {
            // Part of it was passed on to h2 already.
            return if self.rewrites { Err(Reason::ENHANCE_YOUR_CALM) } else { Ok(None) };
        }
        let has_ended = block.flags & END_STREAM != 0;
        if !block.is_trailers
            && let Some(refusal) = malformed::refusal(&fields, has_ended)
        {
            self.refuse(block.stream, &fields, refusal, has_ended);
            // Without END_STREAM, so that the stream can be reset after the answer.
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

/// Adds a stream, and drops the oldest beyond [`REMEMBERED`].
fn remember(streams: &mut BTreeSet<u32>, stream: u32) {
    streams.insert(stream);
    if streams.len() > REMEMBERED {
        streams.pop_first();
    }
}

#[cfg(test)]
mod tests {
    use super::frame::{PADDED, PRIORITISED};
    use super::*;

    const MOST: usize = 1 << 20;
    /// A frame that is passed on without a look at its payload.
    const PING: u8 = 6;

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

    /// Checks the verdict on frames after a preface, read in parts of several sizes. After an error at least the last byte
    /// is not passed on.
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
    fn trailers_have_no_pseudo_headers() {
        let trailers = |block: &[u8]| {
            let (start, end) = block.split_at(block.len() / 2);
            vec![
                frame(HEADERS, END_HEADERS, 1, &[0x82]),
                frame(DATA, 0, 1, b"x"),
                frame(HEADERS, END_STREAM, 1, start),
                frame(CONTINUATION, END_HEADERS, 1, end),
            ]
        };
        // x-sum: 1.
        check(&trailers(b"\x00\x05x-sum\x011"), None);
        check(&trailers(b"\x00\x05x-sum\x011\x00\x05:test\x011"), Some(Reason::PROTOCOL_ERROR));
        let padded =
            frame(HEADERS, END_STREAM | END_HEADERS | PADDED | PRIORITISED, 1, b"\x02\0\0\0\0\0\x83\0\0");
        check(&[frame(HEADERS, END_HEADERS, 1, &[0x82]), padded], Some(Reason::PROTOCOL_ERROR));
    }

    #[test]
    fn header_blocks_are_checked_across_frames() {
        let block = |first: &[u8], rest: &[u8]| {
            vec![frame(HEADERS, END_STREAM, 1, first), frame(CONTINUATION, END_HEADERS, 1, rest)]
        };
        check(&block(b"\x82\x40\x01x", b"\x01y\xbe"), None);
        check(&block(b"\x82\x40\x01x", b"\x01y\xbf"), Some(Reason::COMPRESSION_ERROR));
        check(&block(b"\x82\x40\x01x", b""), Some(Reason::COMPRESSION_ERROR));
        let [part, other] = [1, 3].map(|stream| frame(HEADERS, END_STREAM, stream, b"\x82"));
        let ping = frame(PING, 0, 0, &[0; 8]);
        for between in [ping, other, frame(CONTINUATION, END_HEADERS, 3, b"")] {
            check(&[part.clone(), between], Some(Reason::PROTOCOL_ERROR));
        }
        // What the first stream has put into the table is there for the second.
        let [first, second] = [(1, b"\x40\x01x\x01y"), (3, b"\x82\x86\x84\xbe\xbe")]
            .map(|(stream, block)| frame(HEADERS, END_STREAM | END_HEADERS, stream, block));
        check(&[first, second.clone()], None);
        check(&[second], Some(Reason::COMPRESSION_ERROR));
    }

    #[test]
    fn paths_have_placeholders_inside_h2() {
        let block = b"\x02\0\0\0\0\x10\x82\x04\x05/?a>b\x86\0\0";
        let padded = frame(HEADERS, END_STREAM | END_HEADERS | PADDED | PRIORITISED, 1, block);
        let cut =
            [frame(HEADERS, END_STREAM, 3, b"\x82\x44\x02/"), frame(CONTINUATION, END_HEADERS, 3, b"<\x86")];
        let repeated = frame(HEADERS, END_STREAM | END_HEADERS, 5, b"\x82\xbe\x86");
        let ping = || frame(PING, 0, 0, &[0; 8]);
        let sent = [ping(), padded, ping(), cut.concat(), repeated.clone(), ping()].concat();
        let prioritised =
            frame(HEADERS, END_STREAM | END_HEADERS | PRIORITISED, 1, b"\0\0\0\0\x10\x82\x04\x05/?a|b\x86");
        let whole = frame(HEADERS, END_STREAM | END_HEADERS, 3, b"\x82\x44\x02/|\x86");
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
            frames.iter().map(|byte| if *byte == b'>' { PLACEHOLDER } else { *byte }).collect();
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
