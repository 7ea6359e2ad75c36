//! The token cache: each token's signature is verified once.
//!
//! Bounded: two generations approximate LRU. Only valid tokens are inserted, so invalid ones cannot evict them.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::token::Verified;

/// Counts of the token cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Lookups.
    pub requests: u64,
    /// Hits.
    pub hits: u64,
    /// Evictions.
    pub evictions: u64,
}

#[derive(Debug, Default)]
pub(super) struct Cache {
    young: FxHashMap<Box<[u8]>, Rc<Verified>>,
    old: FxHashMap<Box<[u8]>, Rc<Verified>>,
    /// Maximum number of entries of a generation; 0 disables the cache.
    generation: usize,
    counts: CacheCounts,
}

impl Cache {
    /// Empties the cache and sets its capacity to about `entries`.
    pub(super) fn reset(&mut self, entries: usize) {
        self.young.clear();
        self.old.clear();
        self.generation = entries.div_ceil(2);
    }

    pub(super) fn get(&mut self, token: &[u8]) -> Option<Rc<Verified>> {
        if self.generation == 0 {
            return None;
        }
        self.counts.requests += 1;
        if let Some(verified) = self.young.get(token) {
            self.counts.hits += 1;
            return Some(Rc::clone(verified));
        }
        let (token, verified) = self.old.remove_entry(token)?;
        self.counts.hits += 1;
        self.put(token, Rc::clone(&verified));
        Some(verified)
    }

    pub(super) fn insert(&mut self, token: &[u8], verified: Rc<Verified>) {
        if self.generation > 0 {
            self.put(token.into(), verified);
        }
    }

    pub(super) fn counts(&self) -> CacheCounts {
        self.counts
    }

    fn put(&mut self, token: Box<[u8]>, verified: Rc<Verified>) {
        if self.young.len() >= self.generation {
            let dropped = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
            self.counts.evictions += dropped.len() as u64;
        }
        self.young.insert(token, verified);
    }
}
