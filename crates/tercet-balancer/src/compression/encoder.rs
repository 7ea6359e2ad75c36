//! Encoders of content codings: a piece of a body goes in, and bytes for the client come out.
//!
//! The memory of an encoder does not depend on the length of the body. What all encoders of a worker hold is bounded, too:
//! beyond that, responses are sent as they are.

use std::cell::Cell;
use std::io::{self, Write as _};
use std::mem;

use brotli::enc::BrotliEncoderParams;
use flate2::write::GzEncoder;
use zstd::stream::raw::CParameter;

use crate::accept_encoding::Coding;
use crate::config::Compression;

/// The window of br and zstd, as a power of two: 128 KiB. It bounds what an encoder holds, and what a client has to.
const WINDOW: u32 = 17;
/// The memory for the encoders of all workers in bytes.
const BUDGET: usize = 64 << 20;
/// The least memory for the encoders of one worker in bytes.
const WORKER_BUDGET: usize = 8 << 20;

/// The encoders of a worker.
#[derive(Debug)]
pub struct Encoders {
    /// What the encoders in use hold, in bytes.
    used: Cell<usize>,
    budget: usize,
}

impl Encoders {
    /// Those of one of `workers` workers.
    pub fn new(workers: usize) -> Self {
        Self { used: Cell::new(0), budget: (BUDGET / workers.max(1)).max(WORKER_BUDGET) }
    }

    /// An encoder for a body; `None` if the budget is exhausted.
    pub fn start(&self, coding: Coding, options: &Compression) -> Option<Encoder<'_>> {
        let memory = memory(coding, options);
        if self.used.get() + memory > self.budget {
            return None;
        }
        let state = State::new(coding, options).ok()?;
        self.used.set(self.used.get() + memory);
        Some(Encoder { state, is_flushed: true, _share: Share { encoders: self, memory } })
    }
}

/// What an encoder holds at most in bytes, as measured (docs/decisions, 0177).
fn memory(coding: Coding, options: &Compression) -> usize {
    match coding {
        Coding::Gzip => 480 << 10,
        Coding::Zstandard => 1 << 20,
        Coding::Brotli if options.brotli_level <= 4 => 2304 << 10,
        Coding::Brotli => 4 << 20,
    }
}

/// Encodes one body.
pub struct Encoder<'a> {
    state: State,
    /// Whether nothing was written since the last flush.
    is_flushed: bool,
    _share: Share<'a>,
}

/// The share of an encoder in the budget; returned on drop.
struct Share<'a> {
    encoders: &'a Encoders,
    memory: usize,
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.encoders.used.set(self.encoders.used.get() - self.memory);
    }
}

enum State {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstandard(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl State {
    fn new(coding: Coding, options: &Compression) -> io::Result<Self> {
        Ok(match coding {
            Coding::Gzip => {
                Self::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(options.gzip_level)))
            }
            Coding::Brotli => {
                let quality = i32::try_from(options.brotli_level).unwrap_or(i32::MAX);
                let params = BrotliEncoderParams {
                    quality,
                    lgwin: WINDOW.cast_signed(),
                    ..BrotliEncoderParams::default()
                };
                Self::Brotli(Box::new(brotli::CompressorWriter::with_params(Vec::new(), BUFFER, &params)))
            }
            Coding::Zstandard => {
                let level = i32::try_from(options.zstd_level).unwrap_or(i32::MAX);
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level)?;
                encoder.set_parameter(CParameter::WindowLog(WINDOW))?;
                encoder.set_parameter(CParameter::HashLog(WINDOW))?;
                encoder.set_parameter(CParameter::ChainLog(WINDOW))?;
                Self::Zstandard(encoder)
            }
        })
    }
}

/// The buffer of br in bytes.
const BUFFER: usize = 16 << 10;

impl Encoder<'_> {
    /// Encodes a piece of the body.
    ///
    /// # Errors
    /// The encoder failed.
    pub fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        if piece.is_empty() {
            return Ok(());
        }
        self.is_flushed = false;
        match &mut self.state {
            State::Gzip(encoder) => encoder.write_all(piece),
            State::Brotli(encoder) => encoder.write_all(piece),
            State::Zstandard(encoder) => encoder.write_all(piece),
        }
    }

    /// Encodes all pieces so far, so that the client can decode them.
    ///
    /// # Errors
    /// The encoder failed.
    pub fn flush(&mut self) -> io::Result<()> {
        if mem::replace(&mut self.is_flushed, true) {
            return Ok(());
        }
        match &mut self.state {
            State::Gzip(encoder) => encoder.flush(),
            State::Brotli(encoder) => encoder.flush(),
            State::Zstandard(encoder) => encoder.flush(),
        }
    }

    /// Encodes the end of the body, and returns the bytes that were not taken yet.
    ///
    /// # Errors
    /// The encoder failed.
    pub fn finish(self) -> io::Result<Vec<u8>> {
        match self.state {
            State::Gzip(encoder) => encoder.finish(),
            State::Brotli(encoder) => Ok(encoder.into_inner()),
            State::Zstandard(encoder) => encoder.finish(),
        }
    }

    /// The encoded bytes, which the caller takes by clearing them.
    pub fn encoded(&mut self) -> &mut Vec<u8> {
        match &mut self.state {
            State::Gzip(encoder) => encoder.get_mut(),
            State::Brotli(encoder) => encoder.get_mut(),
            State::Zstandard(encoder) => encoder.get_mut(),
        }
    }
}

impl std::fmt::Debug for Encoder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoders_of_a_worker_share_a_budget() {
        let encoders = Encoders::new(64);
        let options = Compression::default();
        let start = |coding| encoders.start(coding, &options);
        let mut brotli: Vec<Encoder<'_>> = std::iter::from_fn(|| start(Coding::Brotli)).collect();
        assert_eq!(brotli.len(), 3, "8 MiB");
        let gzip: Vec<Encoder<'_>> = std::iter::from_fn(|| start(Coding::Gzip)).collect();
        assert_eq!(gzip.len(), 2, "what is left");
        drop(brotli.pop());
        assert!(start(Coding::Zstandard).is_some());
        brotli.pop().unwrap().finish().unwrap();
        drop((brotli, gzip));
        assert_eq!(encoders.used.get(), 0);
    }
}
