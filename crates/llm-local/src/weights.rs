//! From a GGUF file to a runnable [`Llama`]: checked numbers, tensors in the layout
//! and the number format that candle runs fast.
//!
//! Invariant: no tensor reaches candle whose shape was not derived from the checked
//! numbers. Deliberately absent: a cache of converted weights on disk; converting is
//! a fraction of reading a model of the size where a cache would matter.

use candle_core::{
    Device, Result as CandleResult, Tensor,
    quantized::{GgmlDType, QMatMul, QStorage, QTensor},
};

use crate::{
    OpenError,
    gguf::{Gguf, first_line},
    llama::{Layer, Linear, Llama, Rotary, Shape},
};

/// The context used when neither the configuration nor the model asks for less, in
/// tokens; it bounds the memory of the key-value cache.
const DEFAULT_CONTEXT: usize = 8192;

/// The longest context that may be asked for: 1 Mi tokens.
const MAX_CONTEXT: usize = 1 << 20;

/// No layer count, width or head count of a real model comes near.
const MAX_DIMENSION: usize = 1 << 20;

/// The architecture's rotary convention in GGUF files.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pairs {
    /// Dimensions `2i` and `2i + 1` turn together.
    Interleaved,
    /// Dimensions `i` and `i + d/2` turn together.
    Halves,
}

/// Loads the weights. `context` is the number of tokens wanted, at most the model's.
pub(crate) fn load(file: &mut Gguf, context: Option<usize>) -> Result<Llama, OpenError> {
    let architecture = file.text("general.architecture").unwrap_or_default();
    let pairs = match architecture {
        "llama" => Pairs::Interleaved,
        "qwen2" | "qwen3" => Pairs::Halves,
        other => {
            let detail = format!("its architecture is {other:?}");
            return Err(OpenError::Unsupported { detail });
        }
    };
    let numbers = Numbers::read(file, architecture, context)?;
    let shape = numbers.shape;
    let mut loader = Loader { file, pairs, shape };

    let (width, feed) = (shape.width, numbers.feed);
    let (queries, keys) = (
        shape.heads * shape.head_dim,
        shape.kv_heads * shape.head_dim,
    );
    let embeddings = loader.matrix("token_embd.weight", numbers.vocabulary, width)?;
    let norm = loader.vector("output_norm.weight", width)?;
    let output = if loader.file.has_tensor("output.weight") {
        loader.matrix("output.weight", numbers.vocabulary, width)?
    } else {
        embeddings.clone()
    };
    let factors = if loader.file.has_tensor("rope_freqs.weight") {
        let factors = loader.vector("rope_freqs.weight", shape.head_dim / 2)?;
        Some(loader.candle(factors.to_vec1::<f32>())?)
    } else {
        None
    };
    let layers = (0..numbers.layers)
        .map(|at| {
            let name = |part: &str| format!("blk.{at}.{part}");
            Ok(Layer {
                attention_norm: loader.vector(&name("attn_norm.weight"), width)?,
                query: loader.turned(&name("attn_q"), queries, width)?,
                key: loader.turned(&name("attn_k"), keys, width)?,
                value: loader.linear(&name("attn_v"), keys, width)?,
                output: loader.linear(&name("attn_output"), width, queries)?,
                head_norms: if loader.file.has_tensor(&name("attn_q_norm.weight")) {
                    let query = loader.vector(&name("attn_q_norm.weight"), shape.head_dim)?;
                    let key = loader.vector(&name("attn_k_norm.weight"), shape.head_dim)?;
                    Some((query, key))
                } else {
                    None
                },
                feed_norm: loader.vector(&name("ffn_norm.weight"), width)?,
                gate: loader.linear(&name("ffn_gate"), feed, width)?,
                up: loader.linear(&name("ffn_up"), feed, width)?,
                down: loader.linear(&name("ffn_down"), width, feed)?,
            })
        })
        .collect::<Result<Vec<_>, OpenError>>()?;
    let rotary = Rotary::new(&shape, numbers.rope_base, factors.as_deref());
    let rotary = loader.candle(rotary)?;
    Ok(Llama::new(
        shape,
        numbers.vocabulary,
        embeddings,
        layers,
        norm,
        output,
        rotary,
    ))
}

/// The architecture's numbers, checked against each other.
struct Numbers {
    shape: Shape,
    layers: usize,
    feed: usize,
    vocabulary: usize,
    rope_base: f32,
}

impl Numbers {
    fn read(file: &Gguf, architecture: &str, context: Option<usize>) -> Result<Self, OpenError> {
        let unsupported = |detail: String| OpenError::Unsupported { detail };
        let optional = |name: &str| file.integer(&format!("{architecture}.{name}"));
        let count = |name: &str| match optional(name) {
            Some(n) => match usize::try_from(n) {
                Ok(n) if (1..=MAX_DIMENSION).contains(&n) => Ok(n),
                _ => Err(file.damaged(format!("{architecture}.{name} is {n}"))),
            },
            None => Err(file.damaged(format!("{architecture}.{name} is missing"))),
        };
        if optional("expert_count").is_some_and(|experts| experts > 0) {
            return Err(unsupported("it is a mixture of experts".into()));
        }
        if let Some(scaling) = file.text(&format!("{architecture}.rope.scaling.type"))
            && scaling != "none"
        {
            return Err(unsupported(format!("it uses {scaling} rope scaling")));
        }
        let width = count("embedding_length")?;
        let heads = count("attention.head_count")?;
        let kv_heads = match optional("attention.head_count_kv") {
            Some(_) => count("attention.head_count_kv")?,
            None => heads,
        };
        let head_dim = match optional("attention.key_length") {
            Some(_) => count("attention.key_length")?,
            None => width / heads,
        };
        if !heads.is_multiple_of(kv_heads) || head_dim == 0 || !head_dim.is_multiple_of(2) {
            return Err(file.damaged(format!(
                "{heads} heads, {kv_heads} key heads and a head size of {head_dim} do not fit"
            )));
        }
        for name in ["rope.dimension_count", "attention.value_length"] {
            if optional(name).is_some_and(|found| found != head_dim as u64) {
                return Err(unsupported(format!("its {name} is not the head size")));
            }
        }
        let epsilon = format!("{architecture}.attention.layer_norm_rms_epsilon");
        let vocabulary = file.dims("token_embd.weight").and_then(|dims| dims.first());
        let context = context
            .unwrap_or(DEFAULT_CONTEXT)
            .min(count("context_length")?)
            .clamp(1, MAX_CONTEXT);
        Ok(Self {
            shape: Shape {
                width,
                heads,
                kv_heads,
                head_dim,
                epsilon: file
                    .number(&epsilon)
                    .filter(|epsilon| epsilon.is_finite() && *epsilon > 0.0)
                    .ok_or_else(|| file.damaged(format!("{epsilon} is missing")))?,
                context,
            },
            layers: count("block_count")?,
            feed: count("feed_forward_length")?,
            vocabulary: vocabulary.copied().unwrap_or_default(),
            rope_base: file
                .number(&format!("{architecture}.rope.freq_base"))
                .filter(|base| base.is_finite() && *base >= 1.0)
                // The base of the RoFormer paper (arXiv:2104.09864), llama.cpp's default too.
                .unwrap_or(10_000.0),
        })
    }
}

/// Reads tensors by name and brings them into the form the forward pass wants.
struct Loader<'a> {
    file: &'a mut Gguf,
    pairs: Pairs,
    shape: Shape,
}

impl Loader<'_> {
    fn candle<T>(&self, result: CandleResult<T>) -> Result<T, OpenError> {
        result.map_err(|error| self.file.damaged(first_line(&error)))
    }

    fn vector(&mut self, name: &str, length: usize) -> Result<Tensor, OpenError> {
        let tensor = self.file.tensor(name, &[length])?;
        self.candle(tensor.dequantize(&Device::Cpu))
    }

    fn matrix(&mut self, name: &str, rows: usize, columns: usize) -> Result<QMatMul, OpenError> {
        let tensor = self.file.tensor(name, &[rows, columns])?;
        self.candle(fast_format(tensor).and_then(QMatMul::from_qtensor))
    }

    fn bias(&mut self, name: &str, length: usize) -> Result<Option<Tensor>, OpenError> {
        let name = format!("{name}.bias");
        let exists = self.file.has_tensor(&name);
        exists.then(|| self.vector(&name, length)).transpose()
    }

    fn linear(&mut self, name: &str, rows: usize, columns: usize) -> Result<Linear, OpenError> {
        Ok(Linear {
            weight: self.matrix(&format!("{name}.weight"), rows, columns)?,
            bias: self.bias(name, rows)?,
        })
    }

    /// A query or key matrix, its rows in the order in which halves turn together.
    fn turned(&mut self, name: &str, rows: usize, columns: usize) -> Result<Linear, OpenError> {
        if self.pairs == Pairs::Halves {
            return self.linear(name, rows, columns);
        }
        let tensor = self
            .file
            .tensor(&format!("{name}.weight"), &[rows, columns])?;
        let head_dim = self.shape.head_dim;
        let weight = fast_format(tensor)
            .and_then(|tensor| halves_first(&tensor, head_dim))
            .and_then(QMatMul::from_qtensor);
        let bias = match self.bias(name, rows)? {
            Some(bias) => {
                let order = Tensor::new(order_of_rows(rows, head_dim), &Device::Cpu);
                Some(self.candle(order.and_then(|order| bias.index_select(&order, 0)))?)
            }
            None => None,
        };
        Ok(Linear {
            weight: self.candle(weight)?,
            bias,
        })
    }
}

/// For each row after the change, the row before it: the even dimensions of a head
/// come first, then the odd ones.
fn order_of_rows(rows: usize, head_dim: usize) -> Vec<u32> {
    let half = head_dim / 2;
    (0..rows)
        .map(|row| {
            let (head, at) = (row / head_dim, row % head_dim);
            let source = head * head_dim + 2 * (at % half) + at / half;
            source as u32
        })
        .collect()
}

/// Reorders the rows of a quantised matrix without decoding it: blocks never span rows.
fn halves_first(tensor: &QTensor, head_dim: usize) -> CandleResult<QTensor> {
    let (rows, columns) = tensor.shape().dims2()?;
    let dtype = tensor.dtype();
    let row_bytes = columns / dtype.block_size() * dtype.type_size();
    let data = tensor.data()?;
    let mut turned = Vec::with_capacity(data.len());
    for source in order_of_rows(rows, head_dim) {
        let start = source as usize * row_bytes;
        turned.extend_from_slice(&data[start..start + row_bytes]);
    }
    let storage = QStorage::from_data(turned.into(), &Device::Cpu, dtype)?;
    QTensor::new(storage, (rows, columns))
}

/// The same matrix in a format that candle has vector kernels for. Q4_1, Q5_0 and Q5_1
/// run on a scalar path several times slower than Q8_0, and F16, BF16 and F32 would be
/// held as F32; all of them fit in Q8_0 without a loss that matters.
fn fast_format(tensor: QTensor) -> CandleResult<QTensor> {
    use GgmlDType::{Q2K, Q3K, Q4_0, Q4K, Q5K, Q6K, Q8_0};
    let (_, columns) = tensor.shape().dims2()?;
    match tensor.dtype() {
        Q4_0 | Q8_0 | Q2K | Q3K | Q4K | Q5K | Q6K => Ok(tensor),
        _ if columns.is_multiple_of(Q8_0.block_size()) => {
            QTensor::quantize(&tensor.dequantize(&Device::Cpu)?, Q8_0)
        }
        _ => Ok(tensor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interleaved_rows_are_sorted_into_halves_within_each_head() {
        assert_eq!(order_of_rows(8, 4), [0, 2, 1, 3, 4, 6, 5, 7]);
        let rows: Vec<f32> = (0..4).flat_map(|row| [row as f32; 32]).collect();
        let tensor = Tensor::from_vec(rows, (4, 32), &Device::Cpu).unwrap();
        let tensor = QTensor::quantize(&tensor, GgmlDType::Q8_0).unwrap();
        let turned = halves_first(&tensor, 4).unwrap();
        let turned = turned.dequantize(&Device::Cpu).unwrap();
        let firsts: Vec<f32> = turned
            .narrow(1, 0, 1)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        let rounded: Vec<f32> = firsts.iter().map(|number| number.round()).collect();
        assert_eq!(rounded, [0.0, 2.0, 1.0, 3.0]);
    }
}
