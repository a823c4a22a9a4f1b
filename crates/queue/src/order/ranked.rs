//! An ordered set that knows the rank of each key.
//!
//! Sorted chunks of at most [`CHUNK`] keys, with a Fenwick tree over their lengths.
//! Invariants: no chunk is empty while there are several, and chunk `i` holds the
//! keys in `low[i]..low[i + 1]`. A decision touches one chunk and one path of the
//! tree, which stays close to logarithmic up to some millions of keys and is far
//! kinder to the cache than a binary tree. Deliberately absent: iteration.

use std::collections::VecDeque;

/// A virtual start tag and the index of whom it belongs to.
pub(super) type Key = (u64, u32);

/// The largest chunk: 256 keys of 16 bytes are one page.
const CHUNK: usize = 256;

#[derive(Debug)]
struct Chunk {
    low: Key,
    keys: Vec<Key>,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct RankedSet {
    chunks: VecDeque<Chunk>,
    /// Fenwick tree over the chunks' lengths; rebuilt when their number changes.
    sums: Vec<u32>,
}

impl RankedSet {
    /// Adds a key; a key that is there already stays as it is.
    pub(super) fn insert(&mut self, key: Key) {
        let Some(at) = self.chunk_of(key) else {
            self.chunks.push_back(Chunk {
                low: key,
                keys: vec![key],
            });
            self.rebuild();
            return;
        };
        let at = if self.chunks[at].keys.len() == CHUNK {
            self.split(at);
            at + usize::from(self.chunks[at + 1].low <= key)
        } else {
            at
        };
        let keys = &mut self.chunks[at].keys;
        if let Err(place) = keys.binary_search(&key) {
            keys.insert(place, key);
            self.add(at, true);
        }
    }

    /// Splits a full chunk in two.
    fn split(&mut self, at: usize) {
        let keys = self.chunks[at].keys.split_off(CHUNK / 2);
        let low = keys[0];
        self.chunks.insert(at + 1, Chunk { low, keys });
        self.rebuild();
    }

    /// Removes a key and says whether it was there.
    pub(super) fn remove(&mut self, key: Key) -> bool {
        let Some(at) = self.chunk_of(key) else {
            return false;
        };
        let keys = &mut self.chunks[at].keys;
        let Ok(place) = keys.binary_search(&key) else {
            return false;
        };
        keys.remove(place);
        if keys.is_empty() {
            self.chunks.remove(at);
            self.rebuild();
        } else {
            self.add(at, false);
        }
        true
    }

    /// The smallest key.
    pub(super) fn first(&self) -> Option<Key> {
        self.chunks.front()?.keys.first().copied()
    }

    /// How many keys are smaller.
    pub(super) fn rank(&self, key: Key) -> usize {
        let Some(at) = self.chunk_of(key) else {
            return 0;
        };
        let mut below = 0;
        let mut node = at;
        while node > 0 {
            below += self.sums[node - 1] as usize;
            node &= node - 1;
        }
        below + self.chunks[at].keys.partition_point(|k| *k < key)
    }

    fn chunk_of(&self, key: Key) -> Option<usize> {
        if self.chunks.is_empty() {
            return None;
        }
        let after = self.chunks.partition_point(|chunk| chunk.low <= key);
        Some(after.saturating_sub(1))
    }

    fn add(&mut self, at: usize, more: bool) {
        let mut node = at + 1;
        while node <= self.sums.len() {
            let sum = &mut self.sums[node - 1];
            *sum = if more { *sum + 1 } else { *sum - 1 };
            node += node & node.wrapping_neg();
        }
    }

    fn rebuild(&mut self) {
        self.sums.clear();
        self.sums
            .extend(self.chunks.iter().map(|c| c.keys.len() as u32));
        for node in 1..=self.sums.len() {
            let parent = node + (node & node.wrapping_neg());
            if parent <= self.sums.len() {
                self.sums[parent - 1] += self.sums[node - 1];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn agrees_with_a_sorted_set(steps in prop::collection::vec((any::<bool>(), 0u64..900), 0..3000)) {
            let mut set = RankedSet::default();
            let mut model = BTreeSet::new();
            for (insert, tag) in steps {
                let key = (tag, 7);
                if insert {
                    set.insert(key);
                    model.insert(key);
                } else {
                    prop_assert_eq!(set.remove(key), model.remove(&key));
                }
                prop_assert_eq!(set.first(), model.first().copied());
            }
            for tag in 0..900 {
                prop_assert_eq!(set.rank((tag, 7)), model.range(..(tag, 7)).count());
            }
        }
    }
}
