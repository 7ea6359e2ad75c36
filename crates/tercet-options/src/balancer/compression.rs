//! The compression of responses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::Size;

/// Whether responses of servers are compressed.
///
/// A compressed response shows by its length whether it has a text twice. If it has a secret, and a text that an attacker
/// chooses, the attacker finds the secret by many requests of the victim's browser (BREACH). So the responses to requests
/// with credentials are compressed only where that is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Compress {
    /// Responses are sent as the server sends them.
    #[default]
    Off,
    /// Those to requests without `cookie` and `authorization` are compressed.
    On,
    /// Those to requests with credentials, too: for responses without secrets, or without texts of other people beside them.
    WithCredentials,
}

options! {
    /// How responses of servers are compressed: those of a textual media type, to clients that accept one of `codings`. Left as
    /// they are: responses with a content coding, of a part (206), with `cache-control: no-transform`, with a digest or announced
    /// trailers, streams of server-sent events, and all to HTTP/1.0. What the server sends in pieces leaves in pieces.
    #[derive(Eq)]
    pub struct Compression {
        /// The content codings, of `"zstd"`, `"br"` and `"gzip"`, the preferred one first: of those that a client prefers equally, the
        /// first is selected.
        #[schemars(length(min = 1), extend("examples" = [["br", "gzip"]]))]
        codings: Vec<ContentCoding> = vec![ContentCoding::Zstd, ContentCoding::Br, ContentCoding::Gzip],
        /// The least size of a body that is compressed, if the server says its size.
        minimum_size: Size = Size(1 << 10),
        /// The level of gzip: 1 is the fastest, 9 makes the smallest bodies.
        #[schemars(range(min = 1, max = 9))]
        gzip_level: u32 = 5,
        /// The quality of br: 0 is the fastest. Those beyond 6 are too slow for responses that are made for each request.
        #[schemars(range(max = 6))]
        brotli_level: u32 = 4,
        /// The level of zstd: 1 is the fastest, 9 makes the smallest bodies.
        #[schemars(range(min = 1, max = 9))]
        zstd_level: u32 = 3,
    }
}

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ContentCoding {
    /// Brotli (RFC 7932).
    Br,
    /// Zstandard (RFC 8878).
    Zstd,
    /// gzip (RFC 1952).
    Gzip,
}
