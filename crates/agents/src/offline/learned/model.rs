//! The weights: one table of hashed features a head, and the second stage over what the
//! heads say.
//!
//! A file is `LYST`, the version of the features, the fingerprint of what it was learnt from,
//! the number of heads, then of each head its
//! bits, bias, scale and one byte a weight; then lists of floats, each with its length: for each
//! language and head a linear function and a mix, the gate, the judge; and the threshold. All
//! numbers are little-endian. Invariant: a file of another version of the features is no model.
//! Deliberately absent: learning.

use super::features::VERSION;

/// Kinds that are judged of units.
pub(super) const UNIT_KINDS: usize = 10;
/// The heads: the kinds of units, "any gap", terms, and "the text is clean".
pub const HEADS: usize = UNIT_KINDS + 3;
/// The head that tells whether a unit has any gap.
pub(super) const ANY: usize = UNIT_KINDS;
/// The head of terms.
pub(super) const TERMS: usize = UNIT_KINDS + 1;
/// The head that tells whether a text is clean.
pub(super) const CLEAN: usize = UNIT_KINDS + 2;

/// The languages that have a blend: English, Chinese.
pub const LANGUAGES: usize = 2;

/// The table size of a head, as a power of two.
#[must_use]
pub fn bits_of(head: usize) -> u32 {
    match head {
        CLEAN => 12,
        TERMS => 14,
        _ => 15,
    }
}

/// The place of a hashed feature in a table.
#[must_use]
pub fn place(hash: u32, bits: u32) -> usize {
    let mixed = hash.wrapping_mul(0x9e37_79b1);
    (mixed >> (32 - bits)) as usize
}

/// A logistic model over hashed features.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// The size of the table as a power of two.
    pub bits: u32,
    /// What it says of no features.
    pub bias: f32,
    /// What one step of a weight is worth.
    pub scale: f32,
    /// The weights.
    pub table: Vec<i8>,
}

impl Head {
    /// Rounds weights to a byte each.
    #[must_use]
    pub fn rounded(bits: u32, bias: f64, weights: &[f64]) -> Self {
        let most = weights.iter().fold(1e-9_f64, |most, it| most.max(it.abs()));
        let scale = most / 127.0;
        Self {
            bits,
            bias: bias as f32,
            scale: scale as f32,
            table: weights
                .iter()
                .map(|it| (it / scale).round() as i8)
                .collect(),
        }
    }

    /// The sum of the weights of some features, without the bias.
    #[must_use]
    pub fn sum(&self, features: &[(u32, f32)]) -> f32 {
        let weight = |hash: u32| self.table.get(place(hash, self.bits)).copied().unwrap_or(0);
        let sum: f32 = features
            .iter()
            .map(|(hash, value)| f32::from(weight(*hash)) * value)
            .sum();
        sum * self.scale
    }
}

/// What the encoder's numbers tell in one language, and what that is worth beside the heads.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Blend {
    /// By head: from the numbers of a unit, a term or the text to what they say; the bias first.
    pub linear: Vec<Vec<f32>>,
    /// By head: from what the heads and the linear functions say to log odds; the bias first.
    pub mix: Vec<Vec<f32>>,
}

/// All that was learnt.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Of what it was learnt; see [`super::fingerprint`].
    pub fingerprint: u32,
    /// See [`HEADS`].
    pub heads: Vec<Head>,
    /// By language.
    pub blends: Vec<Blend>,
    /// From what the heads say to whether the text is clean; the bias first.
    pub gate: Vec<f32>,
    /// From what the heads say of a place to whether there is a gap; the bias first.
    pub judge: Vec<f32>,
    /// What a gap has to be worth, in its odds against the text being clean.
    pub threshold: f32,
}

impl Model {
    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = b"LYST".to_vec();
        out.extend(VERSION.to_le_bytes());
        out.extend(self.fingerprint.to_le_bytes());
        out.extend((self.heads.len() as u32).to_le_bytes());
        for head in &self.heads {
            out.extend(head.bits.to_le_bytes());
            out.extend(head.bias.to_le_bytes());
            out.extend(head.scale.to_le_bytes());
            out.extend(head.table.iter().flat_map(|weight| weight.to_le_bytes()));
        }
        let blends = self.blends.iter();
        let lists = blends.flat_map(|blend| blend.linear.iter().chain(&blend.mix));
        for list in lists.chain([&self.gate, &self.judge]) {
            out.extend((list.len() as u32).to_le_bytes());
            out.extend(list.iter().flat_map(|weight| weight.to_le_bytes()));
        }
        out.extend(self.threshold.to_le_bytes());
        out
    }

    /// Reads it; nothing when the file is of another version or broken.
    #[must_use]
    pub fn decode(file: &[u8]) -> Option<Self> {
        let mut rest = file.strip_prefix(b"LYST")?;
        if number(&mut rest)? != VERSION {
            return None;
        }
        let fingerprint = number(&mut rest)?;
        if number(&mut rest)? != HEADS as u32 {
            return None;
        }
        let mut heads = Vec::with_capacity(HEADS);
        for head in 0..HEADS {
            let bits = number(&mut rest)?;
            if bits != bits_of(head) {
                return None;
            }
            let (bias, scale) = (float(&mut rest)?, float(&mut rest)?);
            let (table, after) = rest.split_at_checked(1 << bits)?;
            rest = after;
            heads.push(Head {
                bits,
                bias,
                scale,
                table: table
                    .iter()
                    .map(|byte| i8::from_le_bytes([*byte]))
                    .collect(),
            });
        }
        let mut blends = Vec::with_capacity(LANGUAGES);
        for _ in 0..LANGUAGES {
            let mut lists = || (0..HEADS).map(|_| floats(&mut rest)).collect();
            let linear: Option<Vec<Vec<f32>>> = lists();
            let (linear, mix) = (linear?, lists());
            blends.push(Blend { linear, mix: mix? });
        }
        let gate = floats(&mut rest)?;
        let judge = floats(&mut rest)?;
        let threshold = float(&mut rest)?;
        rest.is_empty().then_some(Self {
            fingerprint,
            heads,
            blends,
            gate,
            judge,
            threshold,
        })
    }
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    let (bytes, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    Some(u32::from_le_bytes(*bytes))
}

fn float(rest: &mut &[u8]) -> Option<f32> {
    number(rest).map(f32::from_bits)
}

fn floats(rest: &mut &[u8]) -> Option<Vec<f32>> {
    let count = number(rest)?;
    (0..count.min(4_096)).map(|_| float(rest)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Model {
        let head = |head: usize| Head::rounded(bits_of(head), 0.5, &vec![-2.0; 1 << bits_of(head)]);
        Model {
            fingerprint: 7,
            heads: (0..HEADS).map(head).collect(),
            blends: vec![
                Blend {
                    linear: vec![vec![0.5; 3]; HEADS],
                    mix: vec![vec![1.0; 2]; HEADS],
                };
                LANGUAGES
            ],
            gate: vec![0.25; 3],
            judge: vec![-0.5; 4],
            threshold: 0.125,
        }
    }

    #[test]
    fn what_is_written_is_read_again_and_nothing_else_is() {
        let file = model().encode();
        assert_eq!(Model::decode(&file), Some(model()));
        assert_eq!(Model::decode(&file[..file.len() - 1]), None);
        let mut longer = file.clone();
        longer.push(0);
        assert_eq!(Model::decode(&longer), None);
        let mut other = file;
        other[4] ^= 1;
        assert_eq!(
            Model::decode(&other),
            None,
            "another version of the features"
        );
    }

    #[test]
    fn a_sum_is_that_of_its_weights() {
        let head = &model().heads[0];
        assert!((head.sum(&[(1, 1.0), (2, 0.5)]) + 3.0).abs() < 0.01);
    }
}
