//! The PROXY protocol, versions 1 and 2: a TCP proxy's header with the address of its client (HAProxy's
//! proxy-protocol.txt).
//!
//! This module only parses; the listener decides whether to trust the header.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The signature of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, including its line end.
const MAX_LINE: usize = 107;
/// The longest accepted header of version 2; only its addresses are used.
const MAX_BINARY: usize = 2048;

/// A PROXY protocol header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Its length in bytes.
    pub length: usize,
    /// The address of the proxy's client; `None` for `UNKNOWN` and `LOCAL`, where the proxy itself is the client.
    pub source: Option<SocketAddr>,
}

/// Why a connection does not start with a valid header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no valid PROXY protocol header: {0}")]
pub struct Invalid(&'static str);

/// Parses the header at the start of `buffer`: `None` when more bytes are needed.
///
/// # Errors
/// The bytes are no valid header.
pub fn parse(buffer: &[u8]) -> Result<Option<ProxyHeader>, Invalid> {
    let starts = |with: &[u8]| buffer.starts_with(with) || with.starts_with(buffer);
    if starts(SIGNATURE) {
        binary(buffer)
    } else if starts(b"PROXY ") {
        line(buffer)
    } else {
        Err(Invalid("it starts with neither version's first bytes"))
    }
}

fn line(buffer: &[u8]) -> Result<Option<ProxyHeader>, Invalid> {
    let seen = &buffer[..buffer.len().min(MAX_LINE)];
    let Some(end) = memchr::memchr(b'\n', seen) else {
        return if seen.len() < MAX_LINE { Ok(None) } else { Err(Invalid("its line is too long")) };
    };
    let text = seen[..end].strip_suffix(b"\r").ok_or(Invalid("its line does not end with CR LF"))?;
    let text = str::from_utf8(text).map_err(|_| Invalid("its line is not ASCII"))?;
    let mut words = text.split(' ').skip(1);
    let source = match words.next() {
        Some("UNKNOWN") => None,
        Some("TCP4") => Some(source::<Ipv4Addr>(&mut words)?),
        Some("TCP6") => Some(source::<Ipv6Addr>(&mut words)?),
        _ => return Err(Invalid("its protocol is not TCP4, TCP6 or UNKNOWN")),
    };
    Ok(Some(ProxyHeader { length: end + 1, source }))
}

/// `source-address destination-address source-port destination-port`, all four of them valid.
fn source<'a, A: std::str::FromStr + Into<IpAddr>>(
    words: &mut impl Iterator<Item = &'a str>,
) -> Result<SocketAddr, Invalid> {
    let mut address = || words.next().and_then(|word| word.parse::<A>().ok());
    let (Some(source), Some(_)) = (address(), address()) else {
        return Err(Invalid("its addresses do not match its protocol"));
    };
    let mut port = || words.next().and_then(port_number);
    let (Some(port), Some(_), None) = (port(), port(), words.next()) else {
        return Err(Invalid("its ports are not two numbers up to 65535"));
    };
    Ok(SocketAddr::new(source.into(), port))
}

/// Digits without a leading zero, as the specification requires.
fn port_number(word: &str) -> Option<u16> {
    let is_canonical = word == "0" || !word.starts_with('0');
    (is_canonical && word.bytes().all(|byte| byte.is_ascii_digit())).then(|| word.parse().ok())?
}

fn binary(buffer: &[u8]) -> Result<Option<ProxyHeader>, Invalid> {
    let Some([version_command, family, high, low]) = buffer.get(12..16) else { return Ok(None) };
    let length = 16 + usize::from(u16::from_be_bytes([*high, *low]));
    if length > MAX_BINARY {
        return Err(Invalid("it is longer than 2048 bytes"));
    }
    let is_local = match version_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Invalid("its version is not 2, or its command neither LOCAL nor PROXY")),
    };
    if !is_local && !matches!(family, 0x00 | 0x11 | 0x12 | 0x21 | 0x22 | 0x31 | 0x32) {
        return Err(Invalid("its address family or transport is unknown"));
    }
    let Some(body) = buffer.get(16..length) else { return Ok(None) };
    let too_short = Invalid("it is too short for its addresses");
    let source = match family {
        _ if is_local => None,
        0x11 => {
            let (address, ports) = body.split_first_chunk::<4>().ok_or(too_short)?;
            Some(SocketAddr::new(Ipv4Addr::from(*address).into(), port_at(ports, 4).ok_or(too_short)?))
        }
        0x21 => {
            let (address, ports) = body.split_first_chunk::<16>().ok_or(too_short)?;
            Some(SocketAddr::new(Ipv6Addr::from(*address).into(), port_at(ports, 16).ok_or(too_short)?))
        }
        // Datagram and Unix socket addresses are ignored: the proxy is the client.
        _ => None,
    };
    Ok(Some(ProxyHeader { length, source }))
}

/// The source port behind a destination address of `skip` bytes, if the destination port follows it.
fn port_at(ports: &[u8], skip: usize) -> Option<u16> {
    let [high, low, _, _] = ports.get(skip..skip + 4)? else { return None };
    Some(u16::from_be_bytes([*high, *low]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary_header(version_command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend_from_slice(&[version_command, family]);
        header.extend_from_slice(&(body.len() as u16).to_be_bytes());
        header.extend_from_slice(body);
        header
    }

    /// Every proper prefix is incomplete; the whole header gives `source`, and the bytes behind it are not consumed.
    fn check_valid(header: &[u8], source: Option<&str>) {
        for end in 0..header.len() {
            assert_eq!(parse(&header[..end]), Ok(None), "{end} bytes of {}", header.escape_ascii());
        }
        let expected = ProxyHeader { length: header.len(), source: source.map(|text| text.parse().unwrap()) };
        let followed = [header, b"GET / HTTP/1.1\r\n"].concat();
        assert_eq!(parse(&followed), Ok(Some(expected)), "{}", header.escape_ascii());
    }

    #[test]
    fn both_versions_give_the_source_address() {
        check_valid(b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n", Some("192.0.2.1:56324"));
        check_valid(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", Some("[2001:db8::1]:1"));
        check_valid(b"PROXY UNKNOWN\r\n", None);
        check_valid(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None);
        let four = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 4, 1, 0xbb];
        check_valid(&binary_header(0x21, 0x11, &four), Some("192.0.2.1:56324"));
        check_valid(
            &binary_header(0x21, 0x11, &[&four[..], &[4, 0, 1, 0]].concat()),
            Some("192.0.2.1:56324"),
        );
        let mut six = [0; 36];
        (six[0], six[1], six[15], six[33]) = (0x20, 1, 1, 80);
        check_valid(&binary_header(0x21, 0x21, &six), Some("[2001::1]:80"));
        check_valid(&binary_header(0x20, 0x00, b""), None);
        check_valid(&binary_header(0x20, 0xff, b"ignored"), None);
        check_valid(&binary_header(0x21, 0x31, &[0; 216]), None);
        check_valid(&binary_header(0x21, 0x00, b""), None);
    }

    #[test]
    fn invalid_headers_are_refused() {
        let long = [&b"PROXY TCP4 192.0.2.1 198.51.100.2 1 "[..], &[b'1'; 100]].concat();
        for invalid in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x16\x03\x01",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 1\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 +1 443\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 01 443\r\n",
            b"PROXY TCP4  192.0.2.1 198.51.100.2 1 443\r\n",
            b"PROXY TCP4 192.0.2 198.51.100.2 1 443\r\n",
            b"PROXY TCP4 ::1 ::2 1 443\r\n",
            b"PROXY TCP6 192.0.2.1 198.51.100.2 1 443\r\n",
            b"PROXY UDP4 192.0.2.1 198.51.100.2 1 443\r\n",
            b"PROXY \r\n",
            b"proxy TCP4 192.0.2.1 198.51.100.2 1 443\r\n",
            &long,
            &binary_header(0x11, 0x11, &[0; 12]),
            &binary_header(0x22, 0x11, &[0; 12]),
            &binary_header(0x21, 0x11, &[0; 11]),
            &binary_header(0x21, 0x21, &[0; 35]),
            &binary_header(0x21, 0x41, &[0; 12]),
            &binary_header(0x21, 0x11, &[0; 2033]),
        ] {
            assert!(parse(invalid).is_err(), "{}", invalid.escape_ascii());
        }
    }
}
