//! The prepared statements of a connection, a bounded cache.
//!
//! A text is prepared at its second use, so that statements that are used once cost the server no memory. Two
//! generations approximate "least recently used": when the young one is full, the statements that are left in the
//! old one are closed.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::row::Types;

/// The maximum number of statements in a generation.
const GENERATION: usize = 64;

/// How to run a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Parse it as the unnamed statement.
    Unnamed,
    /// Parse it with this name, then bind it.
    Parse(u64),
    /// Bind the prepared statement of this name. Its columns are of these types, if it was described.
    Named(u64, Option<Types>),
}

#[derive(Clone, Debug)]
enum State {
    Seen,
    /// Its Parse is in flight. No other exchange may use the name before ParseComplete.
    Parsing(u64),
    Ready(u64, Option<Types>),
}

impl State {
    fn name(&self) -> Option<u64> {
        match self {
            Self::Seen => None,
            Self::Parsing(name) | Self::Ready(name, _) => Some(*name),
        }
    }
}

/// The prepared statements of one connection.
#[derive(Debug)]
pub(crate) struct Prepared {
    enabled: bool,
    young: FxHashMap<Arc<str>, State>,
    old: FxHashMap<Arc<str>, State>,
    next: u64,
    closing: Vec<u64>,
}

impl Prepared {
    pub(crate) fn new(enabled: bool) -> Self {
        Self { enabled, young: FxHashMap::default(), old: FxHashMap::default(), next: 0, closing: Vec::new() }
    }

    /// Decides how `sql` is run next.
    pub(crate) fn choose(&mut self, sql: &Arc<str>) -> Use {
        if !self.enabled {
            return Use::Unnamed;
        }
        if let Some(state) = self.young.get_mut(sql) {
            return match state {
                State::Ready(name, types) => Use::Named(*name, types.clone()),
                State::Parsing(_) => Use::Unnamed,
                State::Seen => {
                    let name = self.next;
                    self.next += 1;
                    *state = State::Parsing(name);
                    Use::Parse(name)
                }
            };
        }
        if self.young.len() >= GENERATION {
            let old = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
            self.closing.extend(old.into_values().filter_map(|state| state.name()));
        }
        if let Some((sql, state)) = self.old.remove_entry(sql) {
            self.young.insert(Arc::clone(&sql), state);
            return self.choose(&sql);
        }
        self.young.insert(Arc::clone(sql), State::Seen);
        Use::Unnamed
    }

    /// Records that the named Parse of `sql` succeeded.
    pub(crate) fn parsed(&mut self, sql: &Arc<str>) {
        if let Some(state) = self.young.get_mut(sql).or_else(|| self.old.get_mut(sql))
            && let State::Parsing(name) = *state
        {
            *state = State::Ready(name, None);
        }
    }

    /// Records the types of the columns of `sql`.
    pub(crate) fn described(&mut self, sql: &Arc<str>, of: &Types) {
        if let Some(State::Ready(_, types)) = self.young.get_mut(sql).or_else(|| self.old.get_mut(sql)) {
            *types = Some(Arc::clone(of));
        }
    }

    /// Removes `sql`: its named Parse failed or was skipped, or the prepared statement is stale.
    pub(crate) fn forget(&mut self, sql: &Arc<str>) {
        for generation in [&mut self.young, &mut self.old] {
            if let Some(State::Ready(name, _)) = generation.remove(sql) {
                self.closing.push(name);
            }
        }
    }

    /// Removes all statements, since the schema has changed.
    pub(crate) fn forget_all(&mut self) {
        let states = self.young.drain().chain(self.old.drain());
        self.closing.extend(states.filter_map(|(_, state)| state.name()));
    }

    /// Takes the names of the statements to close before the next exchange.
    pub(crate) fn take_closing(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.closing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_use_prepares_and_the_third_relies_on_it() {
        let mut prepared = Prepared::new(true);
        let sql: Arc<str> = "select 1".into();
        assert_eq!(prepared.choose(&sql), Use::Unnamed);
        assert_eq!(prepared.choose(&sql), Use::Parse(0));
        assert_eq!(prepared.choose(&sql), Use::Unnamed, "not confirmed yet");
        prepared.parsed(&sql);
        assert_eq!(prepared.choose(&sql), Use::Named(0, None));
        prepared.forget_all();
        assert_eq!(prepared.take_closing(), [0]);
        assert_eq!(prepared.choose(&sql), Use::Unnamed);
    }

    #[test]
    fn a_failed_parse_is_not_relied_on() {
        let mut prepared = Prepared::new(true);
        let sql: Arc<str> = "select nonsense".into();
        prepared.choose(&sql);
        assert_eq!(prepared.choose(&sql), Use::Parse(0));
        prepared.forget(&sql);
        assert_eq!(prepared.choose(&sql), Use::Unnamed);
        assert!(prepared.take_closing().is_empty(), "there is nothing to close");
    }

    #[test]
    fn the_number_of_statements_is_bounded() {
        let mut prepared = Prepared::new(true);
        let busy: Arc<str> = "busy".into();
        let mut open = std::collections::BTreeSet::new();
        for number in 0..10 * GENERATION {
            for sql in [&Arc::from(format!("select {number}")), &busy] {
                for _ in 0..2 {
                    if let Use::Parse(name) = prepared.choose(sql) {
                        prepared.parsed(sql);
                        open.insert(name);
                    }
                }
            }
            for name in prepared.take_closing() {
                assert!(open.remove(&name));
            }
            assert!(open.len() <= 2 * GENERATION);
        }
        assert!(matches!(prepared.choose(&busy), Use::Named(1, None)), "what is used stays");
    }
}
