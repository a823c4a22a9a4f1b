//! BERT's forward pass (Devlin et al., "BERT", 2019) with the mean of all tokens as the text's
//! vector (Reimers and Gurevych, "Sentence-BERT", 2019).
//!
//! One text at a time without padding, so a vector depends on nothing but its text.
//! Deliberately absent: training, masks, devices other than the CPU.

use candle_core::{DType, Device, Error, Result, Tensor, quantized::gguf_file::Content};
use candle_nn::ops::{layer_norm, softmax_last_dim};
use std::io::{Read, Seek};

/// What BERT adds to a variance.
const EPSILON: f32 = 1e-12;

/// The numbers of a head in all models of the MiniLM family.
const HEAD: usize = 32;

struct Linear {
    /// Turned, so that rows are inputs.
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.matmul(&self.weight)?.broadcast_add(&self.bias)
    }
}

struct Norm {
    weight: Tensor,
    bias: Tensor,
}

impl Norm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        layer_norm(x, &self.weight, &self.bias, EPSILON)
    }
}

struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    attended: Linear,
    attended_norm: Norm,
    up: Linear,
    down: Linear,
    norm: Norm,
}

/// A network with its weights.
pub(crate) struct Network {
    /// Half precision: they are most of the weights, and a text uses few of them.
    words: Tensor,
    /// Positions, with the one kind of text there is added to them.
    positions: Tensor,
    norm: Norm,
    layers: Vec<Layer>,
    width: usize,
}

/// Reads tensors by BERT's names.
struct Reader<'a, R> {
    content: Content,
    from: &'a mut R,
}

impl<R: Read + Seek> Reader<'_, R> {
    fn tensor(&mut self, name: &str) -> Result<Tensor> {
        let quantised = self.content.tensor(self.from, name, &Device::Cpu)?;
        quantised.dequantize(&Device::Cpu)
    }

    fn linear(&mut self, name: &str) -> Result<Linear> {
        let weight = self.tensor(&format!("{name}.weight"))?;
        Ok(Linear {
            weight: weight.t()?.contiguous()?,
            bias: self.tensor(&format!("{name}.bias"))?,
        })
    }

    fn norm(&mut self, name: &str) -> Result<Norm> {
        Ok(Norm {
            weight: self.tensor(&format!("{name}.weight"))?,
            bias: self.tensor(&format!("{name}.bias"))?,
        })
    }

    fn layer(&mut self, number: usize) -> Result<Layer> {
        let name = |part: &str| format!("encoder.layer.{number}.{part}");
        Ok(Layer {
            query: self.linear(&name("attention.self.query"))?,
            key: self.linear(&name("attention.self.key"))?,
            value: self.linear(&name("attention.self.value"))?,
            attended: self.linear(&name("attention.output.dense"))?,
            attended_norm: self.norm(&name("attention.output.LayerNorm"))?,
            up: self.linear(&name("intermediate.dense"))?,
            down: self.linear(&name("output.dense"))?,
            norm: self.norm(&name("output.LayerNorm"))?,
        })
    }
}

impl Network {
    /// Reads a GGUF file of BERT's tensors under their usual names, `most` of its layers.
    pub(crate) fn read(from: &mut (impl Read + Seek), most: usize) -> Result<Self> {
        let content = Content::read(from)?;
        let layers = (0..most)
            .take_while(|n| {
                let name = format!("encoder.layer.{n}.output.dense.weight");
                content.tensor_infos.contains_key(&name)
            })
            .count();
        let mut reader = Reader { content, from };
        let words = reader.tensor("embeddings.word_embeddings.weight")?;
        let width = words.dim(1)?;
        if layers == 0 || width % HEAD != 0 {
            return Err(Error::msg("the layers have another shape than MiniLM's"));
        }
        let kinds = reader.tensor("embeddings.token_type_embeddings.weight")?;
        let positions = reader.tensor("embeddings.position_embeddings.weight")?;
        Ok(Self {
            words: words.to_dtype(DType::F16)?,
            positions: positions.broadcast_add(&kinds.narrow(0, 0, 1)?)?,
            norm: reader.norm("embeddings.LayerNorm")?,
            layers: (0..layers)
                .map(|n| reader.layer(n))
                .collect::<Result<_>>()?,
            width,
        })
    }

    /// The numbers of a vector.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// The longest text, in tokens.
    pub(crate) fn longest(&self) -> usize {
        self.positions.dim(0).unwrap_or(0)
    }

    /// The vector of a text's tokens, of length one; at least one token and at most
    /// [`longest`](Self::longest).
    pub(crate) fn forward(&self, tokens: &[u32]) -> Result<Vec<f32>> {
        let mut x = self.embedded(tokens)?;
        for layer in &self.layers {
            x = self.layer(layer, &x)?;
        }
        let mean = x.mean(0)?;
        let length = mean.sqr()?.sum_all()?.sqrt()?;
        mean.broadcast_div(&length)?.to_vec1()
    }

    /// What each token's numbers are after some of the layers, which are counted from 1 and
    /// ascend: a row a token, for each of `after`. As many tokens as [`forward`](Self::forward)
    /// takes.
    pub(crate) fn states(&self, tokens: &[u32], after: &[usize]) -> Result<Vec<Vec<f32>>> {
        let mut x = self.embedded(tokens)?;
        let mut states = Vec::with_capacity(after.len());
        for (number, layer) in (1..).zip(&self.layers) {
            x = self.layer(layer, &x)?;
            if after.contains(&number) {
                states.push(x.flatten_all()?.to_vec1()?);
            }
        }
        Ok(states)
    }

    fn embedded(&self, tokens: &[u32]) -> Result<Tensor> {
        let ids = Tensor::new(tokens, &Device::Cpu)?;
        let words = self.words.index_select(&ids, 0)?.to_dtype(DType::F32)?;
        let positions = self.positions.narrow(0, 0, tokens.len())?;
        self.norm.forward(&(words + positions)?)
    }

    fn layer(&self, layer: &Layer, x: &Tensor) -> Result<Tensor> {
        let tokens = x.dim(0)?;
        let heads = |linear: &Linear| {
            let split = linear
                .forward(x)?
                .reshape((tokens, self.width / HEAD, HEAD))?;
            split.transpose(0, 1)?.contiguous()
        };
        let (query, key, value) = (
            heads(&layer.query)?,
            heads(&layer.key)?,
            heads(&layer.value)?,
        );
        let scores = query.matmul(&key.transpose(1, 2)?.contiguous()?)?;
        let scores = (scores / (HEAD as f64).sqrt())?;
        let mixed = softmax_last_dim(&scores)?.matmul(&value)?;
        let mixed = mixed
            .transpose(0, 1)?
            .contiguous()?
            .reshape((tokens, self.width))?;
        let x = (layer.attended.forward(&mixed)? + x)?;
        let x = layer.attended_norm.forward(&x)?;
        let wide = layer.up.forward(&x)?.gelu_erf()?;
        layer.norm.forward(&(layer.down.forward(&wide)? + &x)?)
    }
}
