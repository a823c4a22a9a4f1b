//! How one channel is stored: a whole value, and pieces of what was written to it since.
//!
//! A checkpoint stores the writes it merged, not the value they were merged into, so that
//! a conversation costs what is added to it. Three rules keep that true in the long run:
//!
//! - The value is stored whole while it is small, and whenever the pieces would outweigh
//!   it: reading a channel costs at most twice its size.
//! - Eight pieces of about one size become one piece. A byte is so rewritten once per power
//!   of eight, and a checkpoint names few pieces however long the thread is. This is the
//!   logarithmic method of Bentley and Saxe (1980).
//! - A stored piece never changes: older checkpoints go on naming the pieces they had.
//!
//! Invariant: the first piece is a whole value. Deliberately absent: the meaning of writes.

use crate::saver::CheckpointId;

/// A value below this many bytes is always stored whole: naming pieces costs more.
const WHOLE_BYTES: usize = 512;

/// Pieces of one size before they become one, and the ratio of sizes.
const PIECES: usize = 8;

/// The first byte of stored writes; no JSON text begins with it.
const WRITES: u8 = b'+';

/// What a channel's stored bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stored<'a> {
    /// The JSON of the value.
    Whole(&'a [u8]),
    /// A JSON array of writes.
    Writes(&'a [u8]),
}

/// Says what stored bytes are.
pub(crate) fn stored(bytes: &[u8]) -> Stored<'_> {
    match bytes {
        [WRITES, writes @ ..] => Stored::Writes(writes),
        whole => Stored::Whole(whole),
    }
}

/// The stored pieces of one channel, oldest first; empty while it has its default.
#[derive(Debug, Default)]
pub(crate) struct Chain(Vec<Piece>);

#[derive(Debug)]
struct Piece {
    written_by: CheckpointId,
    /// The size of the value, or of the writes.
    size: usize,
    /// Writes with commas between them; empty for the whole value.
    writes: Vec<u8>,
}

impl Chain {
    /// The checkpoints that wrote the pieces.
    pub(crate) fn written_by(&self) -> impl Iterator<Item = CheckpointId> {
        self.0.iter().map(|piece| piece.written_by)
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Takes note of a piece that was read.
    pub(crate) fn restore(&mut self, written_by: CheckpointId, stored: &Stored<'_>) {
        match stored {
            Stored::Whole(value) => self.replace(written_by, value.len()),
            Stored::Writes(array) => {
                // The brackets around the writes.
                let inner = array.get(1..array.len().saturating_sub(1));
                self.push(written_by, inner.unwrap_or_default().to_vec());
            }
        }
    }

    /// Takes note of a whole value of this size.
    pub(crate) fn replace(&mut self, written_by: CheckpointId, size: usize) {
        self.0.clear();
        self.0.push(Piece {
            written_by,
            size,
            writes: Vec::new(),
        });
    }

    /// Adds writes, and says what to store for them; `None` when the whole value is due.
    pub(crate) fn add(&mut self, written_by: CheckpointId, writes: Vec<u8>) -> Option<Vec<u8>> {
        let (whole, pieces) = self.0.split_first()?;
        let added = pieces.iter().map(|piece| piece.size).sum::<usize>() + writes.len();
        if added > whole.size || whole.size + added < WHOLE_BYTES {
            return None;
        }
        self.push(written_by, writes);
        self.merge();
        let piece = self.0.last()?;
        let mut bytes = Vec::with_capacity(piece.size + 3);
        bytes.extend([WRITES, b'[']);
        bytes.extend(&piece.writes);
        bytes.push(b']');
        Some(bytes)
    }

    fn push(&mut self, written_by: CheckpointId, writes: Vec<u8>) {
        self.0.push(Piece {
            written_by,
            size: writes.len(),
            writes,
        });
    }

    /// Makes one piece of the newest ones while eight are no larger in kind than the last.
    fn merge(&mut self) {
        while let Some(last) = self.0.last() {
            let level = level(last.size);
            let larger = self
                .0
                .iter()
                .rposition(|piece| self::level(piece.size) > level);
            let start = larger.map_or(0, |larger| larger + 1).max(1);
            if self.0.len() < start + PIECES {
                return;
            }
            let written_by = last.written_by;
            let parts: Vec<_> = self.0.drain(start..).map(|piece| piece.writes).collect();
            self.push(written_by, parts.join(&b','));
        }
    }
}

/// The power of eight that a size belongs to.
fn level(size: usize) -> u32 {
    size.max(1).ilog(PIECES)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes stored and most pieces named for `steps` writes of `size` bytes.
    fn cost(steps: u64, size: usize) -> (usize, usize) {
        let (mut chain, mut stored, mut most) = (Chain::default(), 0, 0);
        for step in 1..=steps {
            let id = CheckpointId(step);
            let bytes = chain.add(id, vec![b'1'; size]);
            stored += bytes.map_or_else(
                || {
                    let whole = usize::try_from(step).unwrap() * (size + 1);
                    chain.replace(id, whole);
                    whole
                },
                |bytes| bytes.len(),
            );
            most = most.max(chain.written_by().count());
        }
        (stored, most)
    }

    #[test]
    fn appending_costs_what_is_appended() {
        for size in [12, 40, 700, 20_000] {
            let (thousand, _) = cost(1_000, size);
            let (ten_thousand, most) = cost(10_000, size);
            assert!(
                ten_thousand < 16 * thousand,
                "{size}: {thousand} {ten_thousand}"
            );
            let written = 10_000 * (size + 1);
            assert!(ten_thousand < 8 * written, "{size}: {ten_thousand}");
            assert!(most <= 8 * 5, "{size}: {most} pieces");
        }
    }

    #[test]
    fn merged_pieces_hold_every_write_in_order() {
        let mut chain = Chain::default();
        chain.replace(CheckpointId(1), 10_000);
        let mut named = std::collections::BTreeMap::new();
        for n in 2..=100_u64 {
            let bytes = chain.add(CheckpointId(n), n.to_string().into()).unwrap();
            named.insert(CheckpointId(n), bytes);
        }
        let mut writes: Vec<u64> = Vec::new();
        let mut again = Chain::default();
        again.replace(CheckpointId(1), 10_000);
        for id in chain.written_by().skip(1) {
            let Stored::Writes(array) = stored(&named[&id]) else {
                panic!("a piece is writes");
            };
            writes.extend(serde_json::from_slice::<Vec<u64>>(array).unwrap());
            again.restore(id, &stored(&named[&id]));
        }
        assert_eq!(writes, (2..=100).collect::<Vec<_>>());
        let next = |mut chain: Chain| chain.add(CheckpointId(101), b"101".to_vec());
        assert_eq!(next(again), next(chain), "a chain read back goes on alike");
    }
}
