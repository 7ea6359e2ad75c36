//! The requested range of rows: `limit`, `offset` and the `Range` header.

use http::header::RANGE;
use http::{HeaderMap, Method};

use crate::error::{RangeError, RequestError};

/// A range of rows. Values come from the client; inside an embedding they may be negative, and PostgreSQL rejects
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowRange {
    /// Rows skipped.
    pub offset: i64,
    /// The maximum number of rows; all if absent.
    pub limit: Option<i64>,
}

impl RowRange {
    /// Every row.
    pub const ALL: Self = Self { offset: 0, limit: None };

    /// Whether the range covers all rows, so that LIMIT and OFFSET are not needed.
    pub fn is_all(&self) -> bool {
        *self == Self::ALL
    }

    /// The range, limited to at most `limit` rows.
    #[must_use]
    pub fn at_most(self, limit: Option<i64>) -> Self {
        let limit = match (self.limit, limit) {
            (Some(own), Some(other)) => Some(own.min(other)),
            (own, other) => own.or(other),
        };
        Self { limit, ..self }
    }
}

/// The target's `limit` and `offset` parameters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct OwnRange {
    pub(super) limit: Option<i64>,
    pub(super) offset: Option<i64>,
}

/// The target's range: the parameters applied within the `Range` header.
///
/// `limit=0` is the only valid empty range: the response has no rows, but everything else.
pub(super) fn requested(
    own: OwnRange,
    method: &Method,
    headers: &HeaderMap,
) -> Result<RowRange, RequestError> {
    if *method == Method::PUT && own != OwnRange::default() {
        return Err(RequestError::PutRange);
    }
    // RFC 9110 §14.2: only GET has ranges
    let (first, last) = if *method == Method::GET { header_range(headers) } else { (0, None) };
    if last.is_some_and(|last| last < first) {
        return Err(RequestError::Range(RangeError::Inverted));
    }
    if own.limit == Some(0) {
        return Ok(RowRange { offset: 0, limit: Some(0) });
    }
    // A negative offset without a limit has no effect, as in PostgREST; with a limit it is an error.
    if own.limit.is_some_and(|limit| limit > 0) && own.offset.is_some_and(|offset| offset < 0) {
        return Err(RequestError::Range(RangeError::NegativeOffset));
    }
    let offset = own.offset.unwrap_or(0);
    let first = first.max(offset);
    // sums of two 64-bit numbers
    let own_last = own.limit.map(|limit| i128::from(offset) + i128::from(limit) - 1);
    let last = match (last.map(i128::from), own_last) {
        (Some(left), Some(right)) => Some(left.min(right)),
        (left, right) => left.or(right),
    };
    let limit = last.map(|last| last - i128::from(first) + 1);
    if limit.is_some_and(|limit| limit < 1) {
        return Err(RequestError::Range(RangeError::NegativeLimit));
    }
    Ok(RowRange { offset: first, limit: limit.map(|limit| i64::try_from(limit).unwrap_or(i64::MAX)) })
}

/// `Range: 0-9`, as row numbers; other values are ignored.
fn header_range(headers: &HeaderMap) -> (i64, Option<i64>) {
    let parsed = headers.get(RANGE).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (first, last) = value.split_once('-')?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if first.is_empty() || !digits(first) || !digits(last) {
            return None;
        }
        let number = |text: &str| text.parse().unwrap_or(i64::MAX);
        Some((number(first), (!last.is_empty()).then(|| number(last))))
    });
    parsed.unwrap_or((0, None))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(method: &Method, limit: Option<i64>, offset: Option<i64>, range: &str, expect: &Expect) {
        let headers = [(RANGE, range.parse().unwrap())].into_iter().filter(|_| !range.is_empty()).collect();
        let actual = match requested(OwnRange { limit, offset }, method, &headers) {
            Ok(RowRange { offset, limit }) => format!("{offset} {limit:?}"),
            Err(error) => error.details().unwrap_or_else(|| error.to_string()),
        };
        expect.assert_eq(&actual);
    }

    #[test]
    fn combines_parameters_and_header() {
        let get = &Method::GET;
        check(get, None, None, "", &expect!["0 None"]);
        check(get, Some(5), Some(10), "", &expect!["10 Some(5)"]);
        check(get, Some(5), Some(-2), "", &expect!["Offset should be greater than or equal to zero."]);
        check(get, None, Some(-2), "", &expect!["0 None"]);
        check(get, None, Some(i64::MIN), "0-9", &expect!["0 Some(10)"]);
        check(
            get,
            Some(i64::MAX),
            Some(i64::MAX),
            "",
            &expect!["9223372036854775807 Some(9223372036854775807)"],
        );
        check(get, Some(i64::MAX), Some(1), "2-", &expect!["2 Some(9223372036854775806)"]);
        check(get, None, None, "0-99999999999999999999", &expect!["0 Some(9223372036854775807)"]);
        check(get, None, None, "0-9", &expect!["0 Some(10)"]);
        check(get, None, None, "20-", &expect!["20 None"]);
        check(get, Some(5), None, "2-9", &expect!["2 Some(3)"]);
        check(get, None, None, "bytes=0-9", &expect!["0 None"]);
        check(get, None, None, "-9", &expect!["0 None"]);
        check(&Method::HEAD, None, None, "0-9", &expect!["0 None"]);
    }

    #[test]
    fn rejects_empty_ranges_except_limit_zero() {
        let get = &Method::GET;
        check(get, Some(0), Some(3), "5-9", &expect!["0 Some(0)"]);
        check(get, Some(-1), None, "", &expect!["Limit should be greater than or equal to zero."]);
        check(
            get,
            Some(i64::MIN),
            Some(i64::MIN),
            "",
            &expect!["Limit should be greater than or equal to zero."],
        );
        check(get, Some(5), None, "10-20", &expect!["Limit should be greater than or equal to zero."]);
        check(
            get,
            None,
            None,
            "1-0",
            &expect![
                "The lower boundary must be lower than or equal to the upper boundary in the Range header."
            ],
        );
        check(
            &Method::PUT,
            Some(1),
            None,
            "",
            &expect!["limit/offset querystring parameters are not allowed for PUT"],
        );
    }
}
