//! Which rows of a relation are wanted: `limit`, `offset` and the `Range` header.

/// A window of rows, by position. Numbers are the client's and may be negative inside an embedding; PostgreSQL refuses those.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowRange {
    /// Rows skipped.
    pub offset: i64,
    /// Rows returned at most, all when absent.
    pub limit: Option<i64>,
}

impl RowRange {
    /// Every row.
    pub const ALL: Self = Self { offset: 0, limit: None };

    /// Whether this is every row, so that no LIMIT and no OFFSET is needed.
    pub fn is_all(&self) -> bool {
        *self == Self::ALL
    }

    /// The same window with at most `limit` rows.
    #[must_use]
    pub fn at_most(self, limit: Option<i64>) -> Self {
        let limit = match (self.limit, limit) {
            (Some(own), Some(other)) => Some(own.min(other)),
            (own, other) => own.or(other),
        };
        Self { limit, ..self }
    }
}
