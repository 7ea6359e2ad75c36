//! The header section of a request or response: its lines, its framing, its connection options.

use smallvec::SmallVec;

use super::{Field, Refusal, Span, is_token, is_token_byte};

/// The most `Connection` options besides the standard ones; each is compared with every header name.
const MAX_CONNECTION_OPTIONS: usize = 16;

/// One header line.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Its name, in its original case.
    pub name: Span,
    /// Its value, without surrounding white space.
    pub value: Span,
    /// The recognised field.
    pub field: Field,
    /// Whether `Connection` lists it, so that it is not forwarded (RFC 9110 section 7.6.1).
    pub is_connection_option: bool,
}

/// The header lines of a head, in their order. Usual heads need no allocation.
pub type Headers = SmallVec<[Header; 24]>;

/// The transfer coding of a message (RFC 9112 section 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    None,
    Chunked,
}

/// A parsed header section.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) headers: Headers,
    pub(super) length: Option<u64>,
    pub(super) coding: Coding,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade_option: bool,
    pub(super) upgrade: Option<Span>,
}

/// Reads the lines that httparse found in `buffer`, whose head has `head_length` bytes. Refusals have the status of a
/// request's.
pub(super) fn read(
    buffer: &[u8],
    head_length: usize,
    lines: &[httparse::Header<'_>],
) -> Result<Section, Refusal> {
    let mut section = Section {
        headers: Headers::new(),
        length: None,
        coding: Coding::None,
        close: false,
        keep_alive: false,
        upgrade_option: false,
        upgrade: None,
    };
    check_line_ends(buffer, head_length, lines)?;
    let mut named: SmallVec<[&[u8]; 4]> = SmallVec::new();
    for line in lines {
        let field = Field::of(line.name.as_bytes());
        let name = Span::of(buffer, line.name.as_bytes());
        let value = Span::of(buffer, line.value);
        section.headers.push(Header { name, value, field, is_connection_option: false });
        match field {
            Field::ContentLength => section.read_length(line.value)?,
            Field::TransferEncoding => section.read_coding(line.value)?,
            Field::Connection => section.read_options(line.value, &mut named)?,
            Field::Upgrade if section.upgrade.is_some() => {
                return Err(Refusal::bad("more than one Upgrade field"));
            }
            Field::Upgrade => section.upgrade = Some(value),
            _ => {}
        }
    }
    if section.length.is_some() && section.coding == Coding::Chunked {
        return Err(Refusal::bad("both Content-Length and Transfer-Encoding"));
    }
    if !named.is_empty() {
        for header in &mut section.headers {
            // Framing and Host are for all recipients, so a connection option does not remove them (RFC 9110 section
            // 7.6.1).
            if !matches!(header.field, Field::ContentLength | Field::TransferEncoding | Field::Host) {
                let name = header.name.in_buffer(buffer);
                header.is_connection_option = named.iter().any(|option| name.eq_ignore_ascii_case(option));
            }
        }
    }
    Ok(section)
}

/// Refuses lines that end with a bare LF, which httparse accepts.
pub(super) fn check_line_ends(
    buffer: &[u8],
    head_length: usize,
    lines: &[httparse::Header<'_>],
) -> Result<(), Refusal> {
    let starts = lines.iter().map(|line| Span::of(buffer, line.name.as_bytes()).start as usize);
    let is_ended = |end: usize| buffer[..end].ends_with(b"\r\n");
    let last = head_length.saturating_sub(2);
    if buffer[..head_length].ends_with(b"\r\n")
        && starts.chain([last]).all(|start| start == 0 || is_ended(start))
    {
        Ok(())
    } else {
        Err(Refusal::bad("a line ends with a bare LF"))
    }
}

impl Section {
    fn read_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.length.is_some() {
            return Err(Refusal::bad("more than one Content-Length"));
        }
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(Refusal::bad("Content-Length is not a number"));
        }
        let length = value
            .iter()
            .try_fold(0_u64, |length, digit| length.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
        self.length = Some(length.ok_or(Refusal::new(413, "Content-Length does not fit into 64 bits"))?);
        Ok(())
    }

    fn read_coding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.coding == Coding::Chunked {
            return Err(Refusal::bad("more than one Transfer-Encoding"));
        }
        if value.eq_ignore_ascii_case(b"chunked") {
            self.coding = Coding::Chunked;
            return Ok(());
        }
        let mut codings = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).rev();
        let ends_chunked = codings.next().is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
        if ends_chunked && codings.all(|coding| is_token(coding) && !coding.eq_ignore_ascii_case(b"chunked"))
        {
            return Err(Refusal::new(501, "a transfer coding other than chunked"));
        }
        Err(Refusal::bad("Transfer-Encoding is not chunked"))
    }

    fn read_options<'a>(
        &mut self,
        value: &'a [u8],
        named: &mut SmallVec<[&'a [u8]; 4]>,
    ) -> Result<(), Refusal> {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if option.is_empty() {
                continue;
            }
            if !option.iter().all(|byte| is_token_byte(*byte)) {
                return Err(Refusal::bad("a Connection option is not a token"));
            }
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade_option = true;
            } else if named.len() == MAX_CONNECTION_OPTIONS {
                return Err(Refusal::bad("too many Connection options"));
            } else {
                named.push(option);
            }
        }
        Ok(())
    }

    /// Whether the connection is persistent after this message (RFC 9112 section 9.3).
    pub(super) fn persists(&self, version: super::Version) -> bool {
        match version {
            super::Version::Http11 => !self.close,
            super::Version::Http10 => self.keep_alive && !self.close,
        }
    }
}
