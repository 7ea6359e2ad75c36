//! Decodes a body to find its end (RFC 9112 sections 6 and 7).
//!
//! The decoder holds no bytes: it returns how many bytes at the front of the caller's buffer belong to the body, and
//! the range of the content in them. Chunk lines and trailers are only consumed once they are complete and valid, so
//! no invalid one is forwarded.

mod chunk;

use std::ops::Range;

use super::{Framing, Refusal};

/// The least capacity in bytes that the caller's buffer must have for the decoder to make progress: the longest trailer
/// section, which is longer than the longest chunk line.
pub const LOOK_AHEAD: usize = chunk::TRAILER_BYTES;

/// The refusal of a body over its limit.
const TOO_LONG: Refusal = Refusal::new(413, "the body is longer than allowed");

/// Decodes one body.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    state: State,
    /// Content bytes that may still come before the body is too long.
    allowed: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Done,
    Length(u64),
    UntilClose,
    Chunked(chunk::State),
}

/// The next bytes of a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// The number of bytes consumed from the front.
    pub consumed: usize,
    /// The range of the content in them; all other bytes are framing.
    pub content: Range<usize>,
    /// The range of the trailer lines in them, each with its line end; only in the last piece of a chunked body.
    pub trailers: Range<usize>,
    /// Whether the body is complete.
    pub done: bool,
}

/// The result of [`Decoder::advance`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The number of bytes consumed from the front; they may be forwarded unchanged.
    pub consumed: usize,
    /// The number of content bytes among them.
    pub content: u64,
    /// Whether the body is complete.
    pub done: bool,
}

impl Decoder {
    /// A decoder for a body with this framing and at most `allowed` bytes of content.
    pub fn new(framing: Framing, allowed: u64) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(chunk::State::default()),
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, allowed }
    }

    /// Whether the body is complete.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Whether the body is complete if the connection is closed now; otherwise it is truncated.
    pub fn may_end_by_close(&self) -> bool {
        matches!(self.state, State::Done | State::UntilClose)
    }

    /// The number of content bytes that are known to follow; 0 when it is unknown.
    pub fn expects(&self) -> u64 {
        match self.state {
            State::Length(left) => left,
            State::Chunked(state) => state.expects(),
            State::Done | State::UntilClose => 0,
        }
    }

    /// Decodes the next piece at the front of `bytes`. It consumes nothing if more bytes are needed.
    ///
    /// # Errors
    /// Invalid chunk sizes, extensions and trailers (400); a body over its limit (413), once a chunk size exceeds it.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Piece, Refusal> {
        let piece = match &mut self.state {
            State::Done => return Ok(Piece { done: true, ..Piece::default() }),
            State::Length(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= taken as u64;
                Piece { consumed: taken, content: 0..taken, trailers: 0..0, done: *left == 0 }
            }
            State::UntilClose => {
                Piece { consumed: bytes.len(), content: 0..bytes.len(), trailers: 0..0, done: false }
            }
            State::Chunked(state) => state.decode(bytes, self.allowed)?,
        };
        self.allowed = self.allowed.checked_sub(piece.content.len() as u64).ok_or(TOO_LONG)?;
        if piece.done {
            self.state = State::Done;
        }
        Ok(piece)
    }

    /// Decodes as many of `bytes` as possible.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn advance(&mut self, bytes: &[u8]) -> Result<Progress, Refusal> {
        let mut progress = Progress::default();
        loop {
            let piece = self.decode(&bytes[progress.consumed..])?;
            progress.consumed += piece.consumed;
            progress.content += piece.content.len() as u64;
            progress.done = piece.done;
            if piece.done || piece.consumed == 0 {
                return Ok(progress);
            }
        }
    }
}
