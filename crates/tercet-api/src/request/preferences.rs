//! The `Prefer` headers ([RFC 7240](https://www.rfc-editor.org/rfc/rfc7240)).

/// What a client prefers; of a preference given twice the first counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preferences {
    /// `resolution=…`
    pub resolution: Option<Resolution>,
    /// `return=…`
    pub representation: Option<Representation>,
    /// `count=…`
    pub count: Option<Count>,
    /// `tx=…`, only where the configuration lets clients choose.
    pub transaction: Option<TransactionEnd>,
    /// `missing=…`
    pub missing: Option<Missing>,
    /// `handling=…`
    pub handling: Option<Handling>,
    /// `timezone=…`, only if PostgreSQL knows it.
    pub timezone: Option<String>,
    /// `max-affected=…`, rows. Only enforced under [`Handling::Strict`].
    pub max_affected: Option<i64>,
    /// Preferences that are not understood, as written.
    pub invalid: Vec<String>,
}

impl Preferences {
    /// Rows a request may affect at most: `max-affected` where handling is strict.
    pub fn enforced_max_affected(&self) -> Option<i64> {
        self.max_affected.filter(|_| self.handling == Some(Handling::Strict))
    }
}

/// What to do with rows that exist already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// `resolution=merge-duplicates`: update them.
    MergeDuplicates,
    /// `resolution=ignore-duplicates`: leave them.
    IgnoreDuplicates,
}

/// What a write answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Representation {
    /// `return=representation`: the rows.
    Full,
    /// `return=headers-only`: where the row is.
    HeadersOnly,
    /// `return=minimal`: nothing.
    Minimal,
}

/// How the total number of rows is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// `count=exact`: count them.
    Exact,
    /// `count=planned`: what the planner thinks.
    Planned,
    /// `count=estimated`: count them unless the planner thinks there are many.
    Estimated,
}

/// How the transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionEnd {
    /// `tx=commit`
    Commit,
    /// `tx=rollback`
    Rollback,
}

/// What a key that is missing in the body means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// `missing=default`: the default of the column.
    Default,
    /// `missing=null`: null.
    Null,
}

/// What to do about preferences that are not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handling {
    /// `handling=strict`: refuse the request.
    Strict,
    /// `handling=lenient`: ignore them.
    Lenient,
}
