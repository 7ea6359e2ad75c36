//! `Accept-Encoding`: the content coding that a client prefers (RFC 9110 section 12.5.3).

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// `br`.
    Brotli,
    /// `zstd`.
    Zstandard,
    /// `gzip`.
    Gzip,
}

impl Coding {
    /// Its name in `Content-Encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstandard => "zstd",
            Self::Gzip => "gzip",
        }
    }
}

/// A weight in thousandths.
pub(crate) type Weight = u16;

/// The codings that a client accepts, with their weights. An element that is malformed is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AcceptEncoding {
    brotli: Option<Weight>,
    zstandard: Option<Weight>,
    gzip: Option<Weight>,
    identity: Option<Weight>,
    any: Option<Weight>,
}

impl AcceptEncoding {
    /// The codings in the values of all lines of the field.
    pub fn parse<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut accepted = Self::default();
        for element in values.flat_map(|value| value.split(|byte| *byte == b',')) {
            let mut parts = element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let name = parts.next().unwrap_or_default();
            let weight = match (parts.next(), parts.next()) {
                (None, _) => Some(1000),
                (Some(parameter), None) => weight(parameter),
                (Some(_), Some(_)) => None,
            };
            let Some(weight) = weight else { continue };
            let known = |known: &[u8]| name.eq_ignore_ascii_case(known);
            let coding = if known(b"br") {
                &mut accepted.brotli
            } else if known(b"zstd") {
                &mut accepted.zstandard
            } else if known(b"gzip") || known(b"x-gzip") {
                &mut accepted.gzip
            } else if known(b"identity") {
                &mut accepted.identity
            } else if name == b"*" {
                &mut accepted.any
            } else {
                continue;
            };
            *coding = Some(coding.map_or(weight, |before| before.min(weight)));
        }
        accepted
    }

    /// Of the codings offered, the one with the greatest weight; of equal ones the first. `None`: none is accepted, or
    /// the client prefers the content without one.
    pub fn best(&self, offered: impl IntoIterator<Item = Coding>) -> Option<Coding> {
        let mut best = None;
        let mut greatest = self.identity.unwrap_or(0);
        // With equal weights the client leaves the choice; a coding saves bytes.
        let mut is_identity = true;
        for coding in offered {
            let named = match coding {
                Coding::Brotli => self.brotli,
                Coding::Zstandard => self.zstandard,
                Coding::Gzip => self.gzip,
            };
            let weight = named.or(self.any).unwrap_or(0);
            if weight > greatest || weight == greatest && is_identity && weight > 0 {
                (best, greatest, is_identity) = (Some(coding), weight, false);
            }
        }
        best
    }
}

/// The weight of `q=0.5` (RFC 9110 section 12.4.2).
pub(crate) fn weight(parameter: &[u8]) -> Option<Weight> {
    let [b'q' | b'Q', b'=', first @ (b'0' | b'1'), rest @ ..] = parameter else { return None };
    let digits = match rest {
        [] => rest,
        [b'.', digits @ ..] if digits.len() <= 3 => digits,
        _ => return None,
    };
    let mut weight = Weight::from(first - b'0');
    for index in 0..3 {
        let digit = digits.get(index).copied().unwrap_or(b'0');
        if !digit.is_ascii_digit() {
            return None;
        }
        weight = weight * 10 + Weight::from(digit - b'0');
    }
    (weight <= 1000).then_some(weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coding_with_the_greatest_weight_is_selected() {
        use Coding::{Brotli, Gzip, Zstandard};
        for (value, expected) in [
            ("", None),
            ("gzip", Some(Gzip)),
            ("GZIP", Some(Gzip)),
            ("x-gzip", Some(Gzip)),
            ("gzip, deflate, br, zstd", Some(Brotli)),
            ("gzip, zstd", Some(Zstandard)),
            ("gzip;q=1.0, br;q=0.5", Some(Gzip)),
            ("gzip ; q=0.001", Some(Gzip)),
            ("gzip;q=0", None),
            ("gzip;q=0.000, *", Some(Brotli)),
            ("*", Some(Brotli)),
            ("*;q=0", None),
            ("br;q=0, *;q=0.1", Some(Zstandard)),
            ("identity", None),
            ("identity, gzip;q=0.5", None),
            ("identity;q=0.5, gzip;q=0.5", Some(Gzip)),
            ("identity;q=0, gzip;q=0.1", Some(Gzip)),
            ("deflate", None),
            ("gzip;q=2", None),
            ("gzip;q=1.001", None),
            ("gzip;q=0.1234", None),
            ("gzip;q=-1", None),
            ("gzip;q=", None),
            ("gzip;level=9", None),
            ("gzip;q=1;q=0", None),
            ("gzip, gzip;q=0", None),
            (",,gzip,,", Some(Gzip)),
            ("br\u{fc}, gz\0ip", None),
        ] {
            let accepted = AcceptEncoding::parse(std::iter::once(value.as_bytes()));
            assert_eq!(accepted.best([Brotli, Zstandard, Gzip]), expected, "{value}");
        }
        let lines = [&b"gzip;q=0.5"[..], b"br;q=0.6"];
        assert_eq!(AcceptEncoding::parse(lines.into_iter()).best([Gzip, Brotli]), Some(Brotli));
        assert_eq!(AcceptEncoding::parse(lines.into_iter()).best([]), None);
    }
}
