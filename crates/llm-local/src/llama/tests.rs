//! The forward pass against the same arithmetic written out in plain loops.

use super::*;

const SHAPE: Shape = Shape {
    width: 12,
    heads: 4,
    kv_heads: 2,
    head_dim: 6,
    epsilon: 1e-5,
    context: 600,
};
const FEED: usize = 10;
const VOCABULARY: usize = 17;
const BASE: f32 = 100.0;
const FACTORS: [f32; 3] = [1.0, 2.0, 4.0];

/// A matrix, or a vector of one row.
#[derive(Clone)]
struct Matrix {
    columns: usize,
    numbers: Vec<f32>,
}

impl Matrix {
    fn tensor(&self) -> Tensor {
        let dims = (self.numbers.len() / self.columns, self.columns);
        Tensor::from_vec(self.numbers.clone(), dims, &Device::Cpu).unwrap()
    }

    fn vector(&self) -> Tensor {
        self.tensor().flatten_all().unwrap()
    }

    fn times(&self, x: &[f32]) -> Vec<f32> {
        let rows = self.numbers.chunks(self.columns);
        rows.map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum())
            .collect()
    }
}

/// Deterministic numbers between -1 and 1.
struct Made(u32);

impl Made {
    fn matrix(&mut self, rows: usize, columns: usize) -> Matrix {
        let mut next = || {
            self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (self.0 >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        Matrix {
            columns,
            numbers: (0..rows * columns).map(|_| next()).collect(),
        }
    }
}

struct Weights {
    embeddings: Matrix,
    norm: Matrix,
    layers: Vec<Vec<Matrix>>,
}

impl Weights {
    /// Each layer: two norms, query, its bias, key, value, output, two head norms, gate,
    /// up, down.
    fn made() -> Self {
        let mut made = Made(7);
        let (queries, keys) = (
            SHAPE.heads * SHAPE.head_dim,
            SHAPE.kv_heads * SHAPE.head_dim,
        );
        let sizes = [
            (1, SHAPE.width),
            (1, SHAPE.width),
            (queries, SHAPE.width),
            (1, queries),
            (keys, SHAPE.width),
            (keys, SHAPE.width),
            (SHAPE.width, queries),
            (1, SHAPE.head_dim),
            (1, SHAPE.head_dim),
            (FEED, SHAPE.width),
            (FEED, SHAPE.width),
            (SHAPE.width, FEED),
        ];
        Self {
            embeddings: made.matrix(VOCABULARY, SHAPE.width),
            norm: made.matrix(1, SHAPE.width),
            layers: (0..3)
                .map(|_| {
                    sizes
                        .map(|(rows, columns)| made.matrix(rows, columns))
                        .into()
                })
                .collect(),
        }
    }

    fn llama(&self) -> Llama {
        let linear = |matrix: &Matrix| Linear {
            weight: QMatMul::Tensor(matrix.tensor()),
            bias: None,
        };
        let layers = self.layers.iter().map(|parts| Layer {
            attention_norm: parts[0].vector(),
            feed_norm: parts[1].vector(),
            query: Linear {
                bias: Some(parts[3].vector()),
                ..linear(&parts[2])
            },
            key: linear(&parts[4]),
            value: linear(&parts[5]),
            output: linear(&parts[6]),
            head_norms: Some((parts[7].vector(), parts[8].vector())),
            gate: linear(&parts[9]),
            up: linear(&parts[10]),
            down: linear(&parts[11]),
        });
        let embeddings = QMatMul::Tensor(self.embeddings.tensor());
        Llama::new(
            SHAPE,
            VOCABULARY,
            embeddings.clone(),
            layers.collect(),
            self.norm.vector(),
            embeddings,
            Rotary::new(&SHAPE, BASE, Some(&FACTORS)).unwrap(),
        )
    }

    /// The logits after all tokens, without cache, batches or tensors.
    fn plain(&self, tokens: &[u32]) -> Vec<f32> {
        let embedding = |token: &u32| {
            let start = *token as usize * SHAPE.width;
            self.embeddings.numbers[start..start + SHAPE.width].to_vec()
        };
        let mut xs: Vec<Vec<f32>> = tokens.iter().map(embedding).collect();
        for parts in &self.layers {
            let normed: Vec<_> = xs.iter().map(|x| norm(x, &parts[0])).collect();
            let heads = |matrix: &Matrix, bias: Option<&Matrix>, head_norm: &Matrix| {
                let rows = normed.iter().enumerate().map(|(position, x)| {
                    let mut y = matrix.times(x);
                    if let Some(bias) = bias {
                        y.iter_mut().zip(&bias.numbers).for_each(|(y, b)| *y += b);
                    }
                    let heads = y.chunks(SHAPE.head_dim);
                    let turned = heads.map(|head| turn(&norm(head, head_norm), position));
                    turned.collect::<Vec<_>>()
                });
                rows.collect::<Vec<_>>()
            };
            let queries = heads(&parts[2], Some(&parts[3]), &parts[7]);
            let keys = heads(&parts[4], None, &parts[8]);
            let values: Vec<_> = normed.iter().map(|x| parts[5].times(x)).collect();
            for (position, x) in xs.iter_mut().enumerate() {
                let mut joined = Vec::new();
                for (head, query) in queries[position].iter().enumerate() {
                    let kv = head * SHAPE.kv_heads / SHAPE.heads;
                    let scores = keys[..=position].iter().map(|key| {
                        let dot: f32 = query.iter().zip(&key[kv]).map(|(a, b)| a * b).sum();
                        (dot / (SHAPE.head_dim as f32).sqrt()).exp()
                    });
                    let scores: Vec<f32> = scores.collect();
                    let total: f32 = scores.iter().sum();
                    for dim in 0..SHAPE.head_dim {
                        let at = kv * SHAPE.head_dim + dim;
                        let seen = scores.iter().zip(&values);
                        joined.push(seen.map(|(s, v)| s / total * v[at]).sum());
                    }
                }
                add(x, &parts[6].times(&joined));
                let h = norm(x, &parts[1]);
                let gate = parts[9]
                    .times(&h)
                    .into_iter()
                    .map(|g| g / (1.0 + (-g).exp()));
                let gated: Vec<f32> = gate.zip(parts[10].times(&h)).map(|(g, u)| g * u).collect();
                add(x, &parts[11].times(&gated));
            }
        }
        self.embeddings
            .times(&norm(&xs[tokens.len() - 1], &self.norm))
    }
}

fn norm(x: &[f32], weight: &Matrix) -> Vec<f32> {
    let mean: f32 = x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32;
    let scale = (mean + SHAPE.epsilon).sqrt();
    x.iter()
        .zip(&weight.numbers)
        .map(|(x, w)| x / scale * w)
        .collect()
}

fn turn(head: &[f32], position: usize) -> Vec<f32> {
    let half = SHAPE.head_dim / 2;
    let mut turned = head.to_vec();
    for pair in 0..half {
        let frequency = BASE.powf(-2.0 * pair as f32 / SHAPE.head_dim as f32) / FACTORS[pair];
        let (sin, cos) = (position as f32 * frequency).sin_cos();
        turned[pair] = head[pair] * cos - head[pair + half] * sin;
        turned[pair + half] = head[pair] * sin + head[pair + half] * cos;
    }
    turned
}

fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    let far = found
        .iter()
        .zip(expected)
        .any(|(a, b)| (a - b).abs() > 1e-3);
    assert!(
        !far && found.len() == expected.len(),
        "{what}: {found:?} {expected:?}"
    );
}

fn some_tokens(count: u32) -> Vec<u32> {
    (0..count).map(|at| at * at % VOCABULARY as u32).collect()
}

#[test]
fn the_forward_pass_is_the_plain_arithmetic_however_tokens_are_grouped() {
    let weights = Weights::made();
    let tokens = some_tokens(23);
    let expected = weights.plain(&tokens);
    for group in [1, 5, 22, 23] {
        let mut llama = weights.llama();
        let mut logits = Vec::new();
        for group in tokens.chunks(group) {
            logits = llama.forward(group).unwrap();
        }
        assert_close(&logits, &expected, &format!("groups of {group}"));
    }
}

#[test]
fn a_truncated_cache_goes_on_as_if_the_rest_had_never_been() {
    let weights = Weights::made();
    let (tokens, others) = (some_tokens(9), [3, 3, 1, 16, 0]);
    let mut llama = weights.llama();
    llama.forward(&tokens).unwrap();
    llama.truncate(4);
    let logits = llama.forward(&others).unwrap();
    let whole = [&tokens[..4], &others].concat();
    assert_close(&logits, &weights.plain(&whole), "after truncation");
}

#[test]
fn the_cache_grows_to_the_context_and_no_further() {
    let weights = Weights::made();
    let mut llama = weights.llama();
    let tokens = some_tokens(SHAPE.context as u32);
    let (most, last) = tokens.split_at(SHAPE.context - 1);
    for group in most.chunks(100) {
        llama.forward(group).unwrap();
    }
    let logits = llama.forward(last).unwrap();
    assert_close(
        &logits,
        &weights.plain(&tokens),
        "at the end of the context",
    );
    assert!(llama.forward(&[1]).is_err() && llama.forward(&[]).is_err());
    // The refusals left the cache as it was.
    llama.truncate(SHAPE.context - 1);
    assert_close(&llama.forward(last).unwrap(), &logits, "again");
}
