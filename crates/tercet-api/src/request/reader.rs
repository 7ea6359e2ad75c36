//! The parameters supported by each operation. Others are rejected: ignoring `limit` would make `DELETE
//! /table?limit=1` delete every row.

use super::form::StrayPercent;
use super::preferences::{Preferences, Representation};
use super::{Action, Invocation, Mutation};

/// The operation a query string belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reader {
    kind: Kind,
    /// The response of the write contains rows.
    returns_rows: bool,
    /// The write has a conflict resolution.
    resolves: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Call(Invocation),
    Write(Mutation),
    Describe,
    /// `OPTIONS`: may have the parameters of the request it is about.
    Info,
}

impl Reader {
    /// The reader for an action and its preferences.
    pub(super) fn new(action: &Action, preferences: &Preferences) -> Self {
        let kind = match action {
            Action::Read { .. } => Kind::Read,
            Action::Mutate { mutation, .. } => Kind::Write(*mutation),
            Action::Call { invocation, .. } => Kind::Call(*invocation),
            Action::Describe { .. } => Kind::Describe,
            Action::RelationInfo { .. } | Action::RoutineInfo { .. } | Action::SchemaInfo => Kind::Info,
        };
        Self {
            kind,
            returns_rows: preferences.representation == Some(Representation::Full),
            resolves: preferences.resolution.is_some(),
        }
    }

    /// Whether a parameter without an operator is an argument.
    pub(super) fn takes_arguments(self) -> bool {
        matches!(self.kind, Kind::Call(Invocation::Read { .. }))
    }

    /// How a stray percent sign is handled. PostgREST's clients send `like(any).{%a%,%b%}` unencoded, so reads accept
    /// it.
    pub(super) fn stray_percent(self) -> StrayPercent {
        if matches!(self.kind, Kind::Read | Kind::Info) {
            StrayPercent::Literal
        } else {
            StrayPercent::Rejected
        }
    }

    /// Surplus closing characters that are ignored, for reads only: PostgREST ignores the rest of the input, and
    /// clients rely on it.
    pub(super) fn closing(self) -> &'static [char] {
        if matches!(self.kind, Kind::Read | Kind::Call(Invocation::Read { .. })) { &[')', '\''] } else { &[] }
    }

    /// Why the parameter is not supported, if it is not.
    pub(super) fn unsupported(self, name: &str) -> Option<&'static str> {
        const BODY: &str = "columns can only be chosen for a body of POST or PATCH, or of a call";
        const CONFLICT: &str = "only rows inserted by POST can conflict with rows that exist";
        const RESOLUTION: &str = "without \"Prefer: resolution=merge-duplicates\" or \"resolution=ignore-duplicates\" it has no effect";
        const RANGE: &str = "writes cannot be limited";
        const DESCRIPTION: &str = "a description of the schema takes no parameters";
        match (name, self.kind) {
            // PGRST114 reports the range of a PUT
            (_, Kind::Info) | ("limit" | "offset", Kind::Write(Mutation::SingleUpsert)) => None,
            (_, Kind::Describe) => Some(DESCRIPTION),
            ("columns", Kind::Write(Mutation::Create | Mutation::Update) | Kind::Call(Invocation::Post)) => {
                None
            }
            ("columns", _) => Some(BODY),
            ("on_conflict", Kind::Write(Mutation::Create)) => (!self.resolves).then_some(RESOLUTION),
            ("on_conflict", _) => Some(CONFLICT),
            (name, Kind::Write(_)) if matches!(last_word(name), "limit" | "offset") => Some(RANGE),
            _ => None,
        }
    }

    /// Why orders and filters on embeddings are not supported: the write returns no rows.
    pub(super) fn unsupported_shaping(self) -> Option<&'static str> {
        let writes_silently = matches!(self.kind, Kind::Write(_)) && !self.returns_rows;
        writes_silently.then_some("without \"Prefer: return=representation\" no rows are returned")
    }

    /// Why filters on the target are not supported: POST inserts rows.
    pub(super) fn unsupported_filters(self) -> Option<&'static str> {
        (self.kind == Kind::Write(Mutation::Create)).then_some("POST does not filter rows")
    }
}

/// The last component of a parameter's name, which determines its meaning.
pub(super) fn last_word(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}
