//! Following a body to its end, so that what comes after it is told apart (RFC 9112 sections 6 and 7).
//!
//! The decoder never holds bytes: it says how many at the front of the caller's buffer belong to the body and
//! may go on as they are, and where the content lies in them. Chunk lines and trailers are looked at whole, so
//! nothing that is later refused was passed on.

mod chunk;

use std::ops::Range;

use super::{Framing, Refusal};

/// Bytes a caller's buffer must be able to hold for the decoder to make progress: the longest chunk line and
/// the longest trailer section.
pub const LOOK_AHEAD: usize = chunk::TRAILER_BYTES;

/// What is said of a body over its limit.
const TOO_LONG: Refusal = Refusal::new(413, "the body is longer than allowed");

/// Follows one body.
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

/// What the next bytes of a body are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Bytes from the front that belong to the body; the others are to be given again, with more behind them.
    pub consumed: usize,
    /// Where in them the content is; everything else is framing.
    pub content: Range<usize>,
    /// Where in them the trailer lines are, each with its line's end; only in the last piece of a chunked body.
    pub trailers: Range<usize>,
    /// Whether the body ended with them.
    pub done: bool,
}

/// What [`Decoder::advance`] went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes from the front that belong to the body and may be passed on as they are.
    pub consumed: usize,
    /// Content bytes among them.
    pub content: u64,
    /// Whether the body ended.
    pub done: bool,
}

impl Decoder {
    /// A decoder for a body framed like this that may hold `allowed` bytes of content; more is a 413.
    pub fn new(framing: Framing, allowed: u64) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(chunk::State::default()),
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, allowed }
    }

    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Whether a connection closed now ends the body; otherwise it was cut off.
    pub fn may_end_by_close(&self) -> bool {
        matches!(self.state, State::Done | State::UntilClose)
    }

    /// Content bytes that are known to come yet, so that a large body can be read in large parts; 0 when
    /// nothing is known.
    pub fn expects(&self) -> u64 {
        match self.state {
            State::Length(left) => left,
            State::Chunked(state) => state.expects(),
            State::Done | State::UntilClose => 0,
        }
    }

    /// Takes the next piece from the front of `bytes`. Refuses bad chunk sizes, extensions and trailers (400)
    /// and bodies over their limit (413), as soon as a chunk says that it goes beyond it.
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

    /// Goes through `bytes` as far as the body reaches, for passing it on as it is.
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
