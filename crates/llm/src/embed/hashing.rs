//! An embedder without a model: it hashes words and pieces of words.
//!
//! Texts that share words or letter sequences get similar vectors, which is enough to
//! work offline and for tests; it knows no meaning. Algorithm: the hashing trick
//! (Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009)
//! over words and letter trigrams, signed, scaled to length one.

use std::sync::Arc;

use async_trait::async_trait;
use lyceum_core::{CallContext, EmbedError, EmbedKind, Embedder, Embeddings, Usage, Vector};

/// See the module's text. Its vectors are the same in every process and version.
#[derive(Debug, Clone)]
pub struct HashingEmbedder {
    dimensions: usize,
    model: Arc<str>,
}

impl HashingEmbedder {
    /// An embedder of vectors with `dimensions` numbers, at least one. 256 or more keep
    /// collisions rare in texts of a few sentences.
    #[must_use]
    pub fn new(dimensions: usize) -> Self {
        let dimensions = dimensions.max(1);
        Self {
            dimensions,
            model: format!("hashing-v1-{dimensions}").into(),
        }
    }

    fn vector(&self, text: &str) -> Vector {
        let mut sums = vec![0_f32; self.dimensions];
        let mut add = |feature: u64, weight: f32| {
            let sign = if feature >> 63 == 0 { weight } else { -weight };
            let place = feature as usize % self.dimensions;
            sums[place] += sign;
        };
        for word in text.split(|c: char| !c.is_alphanumeric()) {
            if word.is_empty() {
                continue;
            }
            let word: Vec<char> = word.chars().flat_map(char::to_lowercase).collect();
            add(hash(&word), 1.0);
            for length in [2, 3] {
                for piece in word.windows(length) {
                    add(hash(piece), 0.5);
                }
            }
        }
        let length = sums.iter().map(|n| n * n).sum::<f32>().sqrt();
        if length > 0.0 {
            sums.iter_mut().for_each(|number| *number /= length);
        }
        sums.into()
    }
}

/// FNV-1a (Fowler, Noll, Vo) with a final mix, so that the low bits depend on all.
fn hash(letters: &[char]) -> u64 {
    let fnv = letters.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, c| {
        (hash ^ u64::from(u32::from(*c))).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (fnv ^ (fnv >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

#[async_trait]
impl Embedder for HashingEmbedder {
    fn model(&self) -> &str {
        &self.model
    }

    fn dimensions(&self) -> usize {
        self.dimensions
    }

    async fn embed(
        &self,
        _call: &CallContext,
        _kind: EmbedKind,
        texts: &[Arc<str>],
    ) -> Result<Embeddings, EmbedError> {
        Ok(Embeddings {
            vectors: texts.iter().map(|text| self.vector(text)).collect(),
            usage: Usage::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_with_common_words_are_nearer() {
        let embedder = HashingEmbedder::new(512);
        let near = |a: &str, b: &str| -> f32 {
            let (a, b) = (embedder.vector(a), embedder.vector(b));
            a.iter().zip(&*b).map(|(a, b)| a * b).sum()
        };
        let sun = "Plants turn sunlight into sugar";
        assert!(near(sun, "sugar from sunlight in plants") > 0.5);
        assert!(near(sun, "the bank raised its interest rates") < 0.2);
        assert!(near("光合作用需要阳光", "植物的光合作用") > 0.3);
        assert!((near(sun, sun) - 1.0).abs() < 1e-5);
    }
}
