//! Where features go: they are kept by the hash of their name.
//!
//! Invariant: the same feature has the same hash on every platform. Deliberately absent:
//! weights, and names.

/// FNV-1a, 32 bit (draft-eastlake-fnv).
pub(super) fn hash(seed: u32, text: &str) -> u32 {
    text.bytes().fold(seed, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// The offset basis of [`hash`].
pub(super) const BASIS: u32 = 0x811c_9dc5;

/// The features of one thing, by hash.
#[derive(Debug, Clone, Default)]
pub(super) struct Features {
    /// Hash and value.
    pub list: Vec<(u32, f32)>,
}

impl Features {
    /// A sign that is there.
    pub(super) fn sign(&mut self, group: &str, parts: &[&str]) {
        let joined = |sofar, part: &&str| hash(hash(sofar, "\u{1}"), part);
        let name = parts.iter().fold(hash(BASIS, group), joined);
        self.list.push((name, 1.0));
    }

    /// A number as the steps it reaches, so that a line through zero can bend.
    pub(super) fn number(&mut self, group: &str, name: &str, value: f32, steps: &[f32]) {
        const LABELS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
        for (label, _) in LABELS.iter().zip(steps).filter(|(_, step)| value >= **step) {
            self.sign(group, &[name, label]);
        }
    }
}
