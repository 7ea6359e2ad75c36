//! Which parameters of a query string a request reads, by what it does. What nobody reads is refused: a parameter that is ignored
//! would make `DELETE /table?limit=1` delete every row.

use super::form::StrayPercent;
use super::parameters::last_word;
use super::preferences::{Preferences, Representation};
use super::{Action, Invocation, Mutation};

/// The reader of a query string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reader {
    kind: Kind,
    /// A write answers with the rows it wrote.
    returns_rows: bool,
    /// A write says what happens to rows that exist already.
    resolves: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Call(Invocation),
    Write(Mutation),
    Describe,
    /// `OPTIONS`: it may carry the parameters of the request it asks about.
    Info,
}

impl Reader {
    /// The reader of a request that does this, under these preferences.
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

    /// Whether a value without an operator is an argument.
    pub(super) fn takes_arguments(self) -> bool {
        matches!(self.kind, Kind::Call(Invocation::Read { .. }))
    }

    /// What a percent sign means that encodes nothing. PostgREST's own clients send `like(any).{%a%,%b%}` as it is, and reading rows
    /// they may go on to.
    pub(super) fn stray_percent(self) -> StrayPercent {
        if matches!(self.kind, Kind::Read | Kind::Info) { StrayPercent::Kept } else { StrayPercent::Refused }
    }

    /// What may close more than was opened, where nothing but an answer depends on it: PostgREST leaves a rest unread, and some have
    /// come to rely on that.
    pub(super) fn closing(self) -> &'static [char] {
        if matches!(self.kind, Kind::Read | Kind::Call(Invocation::Read { .. })) { &[')', '\''] } else { &[] }
    }

    /// Why a parameter of this name is not read, if it is not.
    pub(super) fn objection(self, name: &str) -> Option<&'static str> {
        const BODY: &str =
            "only a body written by POST or PATCH, or sent to a routine, has columns to choose from";
        const CONFLICT: &str = "only rows inserted by POST can conflict with rows that exist";
        const RESOLUTION: &str = "without \"Prefer: resolution=merge-duplicates\" or \"resolution=ignore-duplicates\" it has no effect";
        const RANGE: &str = "rows that are written cannot be limited";
        const DESCRIPTION: &str = "a description of the schema takes no parameters";
        match (name, self.kind) {
            // PGRST114 says more about the range of a PUT
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

    /// Why an order, or a filter on what is embedded, is not read: a write that answers with no rows has none to order.
    pub(super) fn objection_to_shaping(self) -> Option<&'static str> {
        let writes_silently = matches!(self.kind, Kind::Write(_)) && !self.returns_rows;
        writes_silently.then_some("without \"Prefer: return=representation\" no rows are answered with")
    }

    /// Why a filter on the target's rows is not read: new rows are not chosen among others.
    pub(super) fn objection_to_filters(self) -> Option<&'static str> {
        (self.kind == Kind::Write(Mutation::Create)).then_some("POST inserts rows and filters none")
    }
}
