//! Rows of a result. A row is one piece of memory in the protocol's encoding, and its columns are read in place.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytes::Bytes;

use crate::error::DatabaseError;

/// The OIDs of the types of a statement's columns, in order; a domain has the OID of its base type.
pub type Types = Arc<[u32]>;

/// The rows that one statement returned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    returned: Vec<Row>,
    types: Option<Types>,
    affected: u64,
}

impl Rows {
    /// The number of rows that the statement wrote or returned, from its
    /// [command tag](https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-COMMANDCOMPLETE);
    /// 0 for commands without a count.
    #[inline]
    pub fn affected(&self) -> u64 {
        self.affected
    }

    /// Takes the count from a command tag, with or without its final NUL: `INSERT 0 5`, `UPDATE 5`, `BEGIN`.
    #[inline]
    pub(crate) fn set_tag(&mut self, tag: &[u8]) {
        let tag = tag.strip_suffix(&[0]).unwrap_or(tag);
        let word = tag.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
        self.affected = std::str::from_utf8(word).ok().and_then(|word| word.parse().ok()).unwrap_or_default();
    }

    /// The types of the columns, if the statement requested them
    /// ([`Statement::described`](crate::Statement::described)).
    #[inline]
    pub fn types(&self) -> Option<&[u32]> {
        self.types.as_deref()
    }

    #[inline]
    pub(crate) fn set_types(&mut self, types: Option<Types>) {
        self.types = types;
    }
}

impl Deref for Rows {
    type Target = Vec<Row>;

    #[inline]
    fn deref(&self) -> &Vec<Row> {
        &self.returned
    }
}

impl DerefMut for Rows {
    #[inline]
    fn deref_mut(&mut self) -> &mut Vec<Row> {
        &mut self.returned
    }
}

impl IntoIterator for Rows {
    type Item = Row;
    type IntoIter = std::vec::IntoIter<Row>;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.returned.into_iter()
    }
}

/// One row: its columns in PostgreSQL's text format, `None` where NULL.
///
/// It is the body of a DataRow: a count, then a length (-1 for NULL) and bytes for each column
/// (<https://www.postgresql.org/docs/current/protocol-message-formats.html>).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row(Bytes);

impl Row {
    /// Checks and takes the body of a DataRow.
    ///
    /// # Errors
    /// The lengths of the columns do not add up to that of the body.
    pub(crate) fn parse(body: Bytes) -> Result<Self, DatabaseError> {
        let malformed = || DatabaseError::Protocol("a row that is not as long as it says".to_owned());
        let (count, mut rest) = body.split_first_chunk().ok_or_else(malformed)?;
        for _ in 0..u16::from_be_bytes(*count) {
            (_, rest) = column(rest).ok_or_else(malformed)?;
        }
        if rest.is_empty() { Ok(Self(body)) } else { Err(malformed()) }
    }

    /// The columns, in order.
    #[inline]
    pub fn columns(&self) -> impl Iterator<Item = Option<&[u8]>> {
        let mut rest = self.0.get(2..).unwrap_or_default();
        std::iter::from_fn(move || {
            let (value, after) = column(rest)?;
            rest = after;
            Some(value)
        })
    }

    /// The column at `index`, counted from 0; `None` when it is NULL or there is no such column.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        self.columns().nth(index).flatten()
    }

    /// Like [`Row::get`], without a copy.
    #[inline]
    pub fn bytes(&self, index: usize) -> Option<Bytes> {
        self.get(index).map(|value| self.0.slice_ref(value))
    }

    /// Like [`Row::get`], as text; `None` also when it is not UTF-8, which cannot happen with the client encoding
    /// UTF8.
    #[inline]
    pub fn text(&self, index: usize) -> Option<&str> {
        self.get(index).and_then(|column| std::str::from_utf8(column).ok())
    }

    /// The number of columns.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.first_chunk().map_or(0, |count| u16::from_be_bytes(*count).into())
    }

    /// Whether the row has no column at all.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The row's size in memory, in bytes.
    #[inline]
    pub fn size(&self) -> usize {
        self.0.len()
    }
}

/// Splits the first column from the rest of a row.
#[inline]
fn column(rest: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (length, rest) = rest.split_first_chunk()?;
    match usize::try_from(i32::from_be_bytes(*length)) {
        Ok(length) => rest.split_at_checked(length).map(|(value, rest)| (Some(value), rest)),
        Err(_) => Some((None, rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(columns: &[Option<&str>]) -> Row {
        let mut body = u16::try_from(columns.len()).unwrap().to_be_bytes().to_vec();
        for column in columns {
            let length = column.map_or(-1, |value| i32::try_from(value.len()).unwrap());
            body.extend(length.to_be_bytes());
            body.extend(column.unwrap_or_default().bytes());
        }
        Row::parse(body.into()).unwrap()
    }

    #[test]
    fn columns_are_read_in_place() {
        let row = row(&[Some("one"), None, Some("")]);
        assert_eq!(row.columns().collect::<Vec<_>>(), [Some(&b"one"[..]), None, Some(b"")]);
        assert_eq!(
            (row.len(), row.text(0), row.get(1), row.text(2), row.get(3)),
            (3, Some("one"), None, Some(""), None)
        );
        assert_eq!(row.bytes(0), Some(Bytes::from_static(b"one")));
    }

    #[test]
    fn the_count_is_the_last_word_of_the_command_tag() {
        for (tag, affected) in [
            (&b"INSERT 0 5\0"[..], 5),
            (b"DELETE 12", 12),
            (b"SELECT 0\0", 0),
            (b"BEGIN\0", 0),
            (b"INSERT 0 18446744073709551615\0", u64::MAX),
            (b"UPDATE 18446744073709551616\0", 0),
            (b"UPDATE \xff\0", 0),
            (b"", 0),
        ] {
            let mut rows = Rows::default();
            rows.set_tag(tag);
            assert_eq!(rows.affected(), affected, "{}", String::from_utf8_lossy(tag));
        }
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_refused() {
        let row = row(&[Some("one"), None]);
        for length in 0..row.size() {
            Row::parse(row.0.slice(..length)).unwrap_err();
        }
        Row::parse([&row.0[..], b"more"].concat().into()).unwrap_err();
    }
}
