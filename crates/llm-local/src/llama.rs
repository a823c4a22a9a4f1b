//! The forward pass of the llama family over quantised weights, with a key-value cache.
//!
//! Covers what `llama`, `qwen2` and `qwen3` files have in common: grouped-query
//! attention, rotary positions, gated feed-forward; biases and per-head norms where the
//! file has them. Written on candle-nn's pieces: candle-transformers costs 90 CPU-seconds
//! of build more, keeps its cache private (no prefix reuse) and stops at 4,096 tokens.
//!
//! Invariant: the cache holds exactly `position` tokens, and `position <= context`.
//! Deliberately absent: mixtures of experts, scaled rotary positions other than
//! llama 3's frequency factors, and devices other than the CPU.

use candle_core::{D, Device, Module, Result, Tensor, quantized::QMatMul};
use candle_nn::{
    attention::{AttnMask, flash_attn},
    ops::{rms_norm, silu},
    rotary_emb::rope_thd,
};

/// The numbers of one model, all checked by [`weights`](crate::weights).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) epsilon: f32,
    /// The most tokens the cache may hold.
    pub(crate) context: usize,
}

/// A matrix, with a bias where the file has one.
pub(crate) struct Linear {
    pub(crate) weight: QMatMul,
    pub(crate) bias: Option<Tensor>,
}

impl Linear {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.weight.forward(x)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

/// The weights of one layer.
pub(crate) struct Layer {
    pub(crate) attention_norm: Tensor,
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    pub(crate) output: Linear,
    /// Per-head norms of queries and keys (qwen3).
    pub(crate) head_norms: Option<(Tensor, Tensor)>,
    pub(crate) feed_norm: Tensor,
    pub(crate) gate: Linear,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

/// Rotary position angles for every position of the context.
pub(crate) struct Rotary {
    pub(crate) cos: Tensor,
    pub(crate) sin: Tensor,
}

impl Rotary {
    /// `factors` divide the frequencies (llama 3's `rope_freqs`), one a pair of dimensions.
    pub(crate) fn new(shape: &Shape, base: f32, factors: Option<&[f32]>) -> Result<Self> {
        let pairs = shape.head_dim / 2;
        let frequencies: Vec<f32> = (0..pairs)
            .map(|pair| {
                let exponent = (2 * pair) as f32 / shape.head_dim as f32;
                let factor = factors.and_then(|factors| factors.get(pair));
                1.0 / base.powf(exponent) / factor.copied().unwrap_or(1.0)
            })
            .collect();
        let angles: Vec<f32> = (0..shape.context)
            .flat_map(|position| frequencies.iter().map(move |f| position as f32 * f))
            .collect();
        let angles = Tensor::from_vec(angles, (shape.context, pairs), &Device::Cpu)?;
        Ok(Self {
            cos: angles.cos()?,
            sin: angles.sin()?,
        })
    }
}

/// Keys and values of one layer, `(1, capacity, kv_heads, head_dim)` each.
struct Cache {
    keys: Tensor,
    values: Tensor,
}

/// A model and the cache of the tokens it has seen.
pub(crate) struct Llama {
    shape: Shape,
    /// Token embeddings, kept quantised; also the output matrix of tied models.
    embeddings: QMatMul,
    layers: Vec<Layer>,
    norm: Tensor,
    output: QMatMul,
    rotary: Rotary,
    caches: Vec<Cache>,
    vocabulary: usize,
    capacity: usize,
    position: usize,
}

/// Tokens of cache allocated at once; the cache doubles from here up to the context.
const CACHE_STEP: usize = 256;

impl Llama {
    pub(crate) fn new(
        shape: Shape,
        vocabulary: usize,
        embeddings: QMatMul,
        layers: Vec<Layer>,
        norm: Tensor,
        output: QMatMul,
        rotary: Rotary,
    ) -> Self {
        Self {
            shape,
            embeddings,
            layers,
            norm,
            output,
            rotary,
            caches: Vec::new(),
            vocabulary,
            capacity: 0,
            position: 0,
        }
    }

    /// The most tokens a conversation may have.
    pub(crate) fn context(&self) -> usize {
        self.shape.context
    }

    /// The number of tokens that have embeddings.
    pub(crate) fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Forgets all but the first `position` tokens.
    pub(crate) fn truncate(&mut self, position: usize) {
        self.position = self.position.min(position);
    }

    /// Appends tokens and returns the logits that follow the last of them.
    ///
    /// On an error the cache keeps its former position.
    pub(crate) fn forward(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        let end = self.position + tokens.len();
        if tokens.is_empty() || end > self.shape.context {
            candle_core::bail!("{end} tokens in a context of {}", self.shape.context);
        }
        self.reserve(end)?;
        let ids = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
        let mut x = self.embeddings.embedding(&ids)?;
        let cos = self.rotary.cos.narrow(0, self.position, tokens.len())?;
        let sin = self.rotary.sin.narrow(0, self.position, tokens.len())?;
        for (layer, cache) in self.layers.iter().zip(&self.caches) {
            let h = rms_norm(&x, &layer.attention_norm, self.shape.epsilon)?;
            let h = layer.attend(&h, cache, &self.shape, self.position, (&cos, &sin))?;
            x = (x + h)?;
            let h = rms_norm(&x, &layer.feed_norm, self.shape.epsilon)?;
            let gated = (silu(&layer.gate.forward(&h)?)? * layer.up.forward(&h)?)?;
            x = (x + layer.down.forward(&gated)?)?;
        }
        let last = x.narrow(1, tokens.len() - 1, 1)?.contiguous()?;
        let last = rms_norm(&last, &self.norm, self.shape.epsilon)?;
        let logits = self.output.forward(&last)?.flatten_all()?.to_vec1()?;
        self.position = end;
        Ok(logits)
    }

    fn reserve(&mut self, tokens: usize) -> Result<()> {
        if tokens <= self.capacity {
            return Ok(());
        }
        let capacity = tokens
            .max(self.capacity * 2)
            .next_multiple_of(CACHE_STEP)
            .min(self.shape.context);
        let dims = (1, capacity, self.shape.kv_heads, self.shape.head_dim);
        let grown = |old: Option<&Tensor>| -> Result<Tensor> {
            let new = Tensor::zeros(dims, candle_core::DType::F32, &Device::Cpu)?;
            if let Some(old) = old {
                new.slice_set(old, 1, 0)?;
            }
            Ok(new)
        };
        let caches = (0..self.layers.len())
            .map(|at| {
                let old = self.caches.get(at);
                Ok(Cache {
                    keys: grown(old.map(|cache| &cache.keys))?,
                    values: grown(old.map(|cache| &cache.values))?,
                })
            })
            .collect::<Result<_>>()?;
        self.caches = caches;
        self.capacity = capacity;
        Ok(())
    }
}

impl Layer {
    fn attend(
        &self,
        x: &Tensor,
        cache: &Cache,
        shape: &Shape,
        position: usize,
        (cos, sin): (&Tensor, &Tensor),
    ) -> Result<Tensor> {
        let count = x.dim(1)?;
        let split = |y: Tensor, heads: usize| y.reshape((1, count, heads, shape.head_dim));
        let mut query = split(self.query.forward(x)?, shape.heads)?;
        let mut key = split(self.key.forward(x)?, shape.kv_heads)?;
        let value = split(self.value.forward(x)?, shape.kv_heads)?;
        if let Some((query_norm, key_norm)) = &self.head_norms {
            query = rms_norm(&query, query_norm, shape.epsilon)?;
            key = rms_norm(&key, key_norm, shape.epsilon)?;
        }
        cache
            .keys
            .slice_set(&rope_thd(&key, cos, sin)?, 1, position)?;
        cache.values.slice_set(&value, 1, position)?;
        let attended = flash_attn::<f32>(
            &rope_thd(&query, cos, sin)?,
            &cache.keys.narrow(1, 0, position + count)?,
            &cache.values.narrow(1, 0, position + count)?,
            1.0 / (shape.head_dim as f32).sqrt(),
            AttnMask::causal_with_offset(position),
            None,
            None,
        )?;
        let joined = attended
            .transpose(1, 2)?
            .contiguous()?
            .flatten_from(D::Minus2)?;
        self.output.forward(&joined)
    }
}

#[cfg(test)]
mod tests;
