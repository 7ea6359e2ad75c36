//! Encoders of content codings: a piece of a body goes in, and bytes for the client come out.
//!
//! The memory of an encoder does not depend on the length of the body. What all encoders of a worker hold is bounded, too:
//! beyond that, responses are sent as they are.

use std::cell::{Cell, RefCell};
use std::io::{self, Write as _};
use std::mem;

use brotli::enc::BrotliEncoderParams;
use flate2::{Compress, FlushCompress, Status};
use zstd::stream::raw::{self, CParameter, Operation as _};
use zstd::stream::zio;

use crate::accept_encoding::Coding;
use crate::config::Compression;

/// The window of br and zstd, as a power of two: 128 KiB. It bounds what an encoder holds, and what a client has to.
const WINDOW: u32 = 17;
/// The memory for the encoders of all workers in bytes.
const BUDGET: usize = 64 << 20;
/// The least memory for the encoders of one worker in bytes.
const WORKER_BUDGET: usize = 8 << 20;

/// The most idle encoders of a coding that a worker keeps: initialising one costs as much as encoding some kilobytes.
const MAX_IDLE: usize = 4;

/// The encoders of a worker.
pub struct Encoders {
    /// What the encoders in use hold, in bytes.
    used: Cell<usize>,
    budget: usize,
    /// Idle encoders, and their level.
    idle_gzip: RefCell<Vec<(Compress, u32)>>,
    idle_zstandard: RefCell<Vec<(raw::Encoder<'static>, u32)>>,
}

impl std::fmt::Debug for Encoders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoders").field("used", &self.used).finish_non_exhaustive()
    }
}

/// An idle encoder with this level; those with another are dropped.
fn take<T>(idle: &RefCell<Vec<(T, u32)>>, level: u32) -> Option<T> {
    let mut idle = idle.borrow_mut();
    idle.retain(|(_, other)| *other == level);
    idle.pop().map(|(encoder, _)| encoder)
}

/// Keeps an encoder that can begin another body.
fn give_back<T>(idle: &RefCell<Vec<(T, u32)>>, encoder: T, level: u32) {
    let mut idle = idle.borrow_mut();
    if idle.len() < MAX_IDLE {
        idle.push((encoder, level));
    }
}

impl Encoders {
    /// Those of one of `workers` workers.
    pub fn new(workers: usize) -> Self {
        Self {
            used: Cell::new(0),
            budget: (BUDGET / workers.max(1)).max(WORKER_BUDGET),
            idle_gzip: RefCell::default(),
            idle_zstandard: RefCell::default(),
        }
    }

    /// An encoder for a body; `None` if the budget is exhausted.
    pub fn start(&self, coding: Coding, options: &Compression) -> Option<Encoder<'_>> {
        let memory = memory(coding, options);
        if self.used.get() + memory > self.budget {
            return None;
        }
        let state = State::new(coding, options, self).ok()?;
        self.used.set(self.used.get() + memory);
        Some(Encoder { state, is_flushed: true, share: Share { encoders: self, memory } })
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
    share: Share<'a>,
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
    Gzip { encoder: Compress, level: u32, output: Vec<u8> },
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstandard { writer: zio::Writer<Vec<u8>, raw::Encoder<'static>>, level: u32 },
}

impl State {
    fn new(coding: Coding, options: &Compression, encoders: &Encoders) -> io::Result<Self> {
        Ok(match coding {
            Coding::Gzip => {
                let level = options.gzip_level;
                let new = || Compress::new_gzip(flate2::Compression::new(level), GZIP_WINDOW);
                let encoder = take(&encoders.idle_gzip, level).unwrap_or_else(new);
                Self::Gzip { encoder, level, output: Vec::new() }
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
                let level = options.zstd_level;
                let encoder = match take(&encoders.idle_zstandard, level) {
                    Some(encoder) => encoder,
                    None => zstandard(level)?,
                };
                Self::Zstandard { writer: zio::Writer::new(Vec::new(), encoder), level }
            }
        })
    }
}

fn zstandard(level: u32) -> io::Result<raw::Encoder<'static>> {
    let mut encoder = raw::Encoder::new(i32::try_from(level).unwrap_or(i32::MAX))?;
    for parameter in
        [CParameter::WindowLog(WINDOW), CParameter::HashLog(WINDOW), CParameter::ChainLog(WINDOW)]
    {
        encoder.set_parameter(parameter)?;
    }
    Ok(encoder)
}

/// Encodes `piece` by gzip, and what was encoded before as far as `flush` wants it.
fn deflate(
    encoder: &mut Compress,
    mut piece: &[u8],
    output: &mut Vec<u8>,
    flush: FlushCompress,
) -> io::Result<()> {
    loop {
        output.reserve(PIECE);
        let before = encoder.total_in();
        let status = encoder.compress_vec(piece, output, flush)?;
        let taken = usize::try_from(encoder.total_in() - before).unwrap_or(usize::MAX);
        piece = &piece[taken.min(piece.len())..];
        // All that it has is out as soon as it leaves a place for more.
        let has_room = output.len() < output.capacity();
        if status == Status::StreamEnd || flush != FlushCompress::Finish && piece.is_empty() && has_room {
            return Ok(());
        }
    }
}

/// The window of gzip, as a power of two: the largest.
const GZIP_WINDOW: u8 = 15;
/// The least room for encoded bytes.
const PIECE: usize = 4 << 10;
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
            State::Gzip { encoder, output, .. } => deflate(encoder, piece, output, FlushCompress::None),
            State::Brotli(encoder) => encoder.write_all(piece),
            State::Zstandard { writer, .. } => writer.write_all(piece),
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
            State::Gzip { encoder, output, .. } => deflate(encoder, &[], output, FlushCompress::Sync),
            State::Brotli(encoder) => encoder.flush(),
            State::Zstandard { writer, .. } => writer.flush(),
        }
    }

    /// Encodes the end of the body, and returns the bytes that were not taken yet.
    ///
    /// # Errors
    /// The encoder failed.
    pub fn finish(self) -> io::Result<Vec<u8>> {
        let Share { encoders, .. } = self.share;
        match self.state {
            State::Gzip { mut encoder, level, mut output } => {
                deflate(&mut encoder, &[], &mut output, FlushCompress::Finish)?;
                encoder.reset();
                give_back(&encoders.idle_gzip, encoder, level);
                Ok(output)
            }
            State::Brotli(encoder) => Ok(encoder.into_inner()),
            State::Zstandard { mut writer, level } => {
                writer.finish()?;
                let (output, mut encoder) = writer.into_inner();
                if encoder.reinit().is_ok() {
                    give_back(&encoders.idle_zstandard, encoder, level);
                }
                Ok(output)
            }
        }
    }

    /// The encoded bytes, which the caller takes by clearing them.
    pub fn encoded(&mut self) -> &mut Vec<u8> {
        match &mut self.state {
            State::Gzip { output, .. } => output,
            State::Brotli(encoder) => encoder.get_mut(),
            State::Zstandard { writer, .. } => writer.writer_mut(),
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
    use std::io::Read as _;

    use super::*;

    #[test]
    fn an_idle_encoder_begins_anew() {
        let encoders = Encoders::new(1);
        let options = Compression::default();
        // Longer than the room for encoded bytes, and not compressible: a linear congruential generator.
        let noise = (0..100_000_u32).scan(1_u32, |state, _| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Some((*state >> 24) as u8)
        });
        let noise: Vec<u8> = noise.collect();
        for body in [&b"first"[..], &noise, b"", b"last"] {
            for coding in [Coding::Gzip, Coding::Zstandard] {
                let mut encoder = encoders.start(coding, &options).unwrap();
                let mut encoded = Vec::new();
                for piece in body.chunks(7_000) {
                    encoder.write(piece).unwrap();
                    encoder.flush().unwrap();
                    encoded.append(encoder.encoded());
                }
                encoded.extend(encoder.finish().unwrap());
                let mut decoded = Vec::new();
                match coding {
                    Coding::Gzip => {
                        flate2::read::GzDecoder::new(&encoded[..]).read_to_end(&mut decoded).unwrap()
                    }
                    _ => zstd::Decoder::new(&encoded[..]).unwrap().read_to_end(&mut decoded).unwrap(),
                };
                assert!(decoded == body, "{coding:?}: {} bytes of {}", decoded.len(), body.len());
            }
        }
        assert_eq!((encoders.idle_gzip.borrow().len(), encoders.idle_zstandard.borrow().len()), (1, 1));
    }

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
