//! Frame headers, and header blocks as frames (RFC 9113 sections 4 and 6.2).

use h2::Reason;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const PRIORITISED: u8 = 0x20;

/// The length of a frame header.
pub(super) const HEAD_BYTES: usize = 9;
/// The largest payload of a frame: we never allow more (RFC 9113 section 6.5.2).
pub(super) const FRAME_BYTES: usize = 1 << 14;

/// A frame header (RFC 9113 section 4.1).
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

/// The header block being received.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) stream: u32,
    pub(super) is_trailers: bool,
    pub(super) bytes: Vec<u8>,
    /// Flags of its HEADERS frame, and the priority in it.
    pub(super) flags: u8,
    pub(super) priority: Vec<u8>,
    /// Whether its frames are buffered until it is complete.
    pub(super) is_buffered: bool,
}

impl Block {
    /// Encodes the block as frames, without padding.
    pub(super) fn frames(&self) -> Vec<u8> {
        let mut frames = Vec::with_capacity(self.bytes.len() + 64);
        let mut rest = self.bytes.as_slice();
        let mut kind = HEADERS;
        loop {
            let priority = if kind == HEADERS { self.priority.as_slice() } else { &[] };
            let (part, behind) = rest.split_at(rest.len().min(FRAME_BYTES - priority.len()));
            let own = if kind == HEADERS { self.flags & (END_STREAM | PRIORITISED) } else { 0 };
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
    /// Parses a frame header, if all of it is there.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, stream @ ..] = bytes.first_chunk::<HEAD_BYTES>()?;
        Some(Self {
            length: u32::from_be_bytes([0, *a, *b, *c]) as usize,
            kind: *kind,
            flags: *flags,
            stream: u32::from_be_bytes(*stream) & 0x7fff_ffff,
        })
    }

    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The priority and the header block fragment in a payload of HEADERS or CONTINUATION (RFC 9113 section 6.2).
    pub(super) fn fragment(self, payload: &[u8]) -> Result<(&[u8], &[u8]), Reason> {
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
