//! Exact search over vectors: the nearest rows of a matrix.
//!
//! All vectors have length one, so the inner product is the cosine. Invariant: nothing is
//! approximated; the same rows and query give the same answer.
//! Deliberately absent: an index. A scope's vectors are few enough to be looked at.

use std::{cmp::Ordering, sync::Arc};

/// Rows that are copied when one is added: about 1.5 MB of 384 numbers.
const CHUNK_ROWS: usize = 1_024;

/// Sums kept side by side, so that the compiler can use vector instructions: floating-point
/// addition is not associative, so it may not regroup one sum by itself.
const LANES: usize = 16;

/// A vector brought to length one; `None` where it has no direction.
#[must_use]
pub fn normalized(vector: &[f32]) -> Option<Vec<f32>> {
    let square: f64 = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    let length = square.sqrt();
    let usable = length.is_finite() && length > f64::from(f32::MIN_POSITIVE);
    usable.then(|| {
        let scaled = vector.iter().map(|&x| (f64::from(x) / length) as f32);
        scaled.collect()
    })
}

/// The inner product of two vectors of one length.
#[must_use]
pub fn dot(one: &[f32], other: &[f32]) -> f32 {
    let (left, left_rest) = one.as_chunks::<LANES>();
    let (right, right_rest) = other.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for (a, b) in left.iter().zip(right) {
        for ((sum, x), y) in sums.iter_mut().zip(a).zip(b) {
            *sum += x * y;
        }
    }
    let rest: f32 = left_rest.iter().zip(right_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}

/// Rows of one length under numbers of the caller's. A clone shares what both hold.
#[derive(Debug, Clone, Default)]
pub struct Matrix {
    dimensions: usize,
    chunks: Vec<Arc<Chunk>>,
}

#[derive(Debug, Clone, Default)]
struct Chunk {
    numbers: Vec<i64>,
    values: Vec<f32>,
}

impl Matrix {
    /// A matrix without rows.
    #[must_use]
    pub fn new(dimensions: usize) -> Self {
        Self {
            dimensions: dimensions.max(1),
            chunks: Vec::new(),
        }
    }

    /// Adds a row of length one; a row of another shape is left out.
    pub fn push(&mut self, number: i64, row: impl ExactSizeIterator<Item = f32>) {
        if row.len() != self.dimensions {
            return;
        }
        let has_room = |chunk: &Arc<Chunk>| chunk.numbers.len() < CHUNK_ROWS;
        if !self.chunks.last().is_some_and(has_room) {
            self.chunks.push(Arc::default());
        }
        if let Some(last) = self.chunks.last_mut() {
            let chunk = Arc::make_mut(last);
            chunk.numbers.push(number);
            chunk.values.extend(row);
        }
    }

    /// The number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.numbers.len()).sum()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// What the rows occupy, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.len() * (self.dimensions * size_of::<f32>() + size_of::<i64>())
    }

    /// The `limit` rows nearest to a query of length one, nearest first, the lower number first
    /// among equals.
    #[must_use]
    pub fn nearest(&self, query: &[f32], limit: usize) -> Vec<(i64, f32)> {
        let order = |(a, x): &(i64, f32), (b, y): &(i64, f32)| -> Ordering {
            y.total_cmp(x).then(a.cmp(b))
        };
        let mut best: Vec<(i64, f32)> = Vec::new();
        if limit == 0 || query.len() != self.dimensions {
            return best;
        }
        // What is below the worst of the best is not kept; the rest is cut back in blocks.
        let (mut floor, block) = (f32::NEG_INFINITY, limit.max(CHUNK_ROWS));
        for chunk in &self.chunks {
            let rows = chunk.values.chunks_exact(self.dimensions);
            for (&number, row) in chunk.numbers.iter().zip(rows) {
                let similarity = dot(query, row);
                if similarity >= floor {
                    best.push((number, similarity));
                }
            }
            if best.len() > limit.saturating_add(block) {
                best.select_nth_unstable_by(limit - 1, order);
                best.truncate(limit);
                floor = best[limit - 1].1;
            }
        }
        best.sort_unstable_by(order);
        best.truncate(limit);
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: u32) -> Vec<f32> {
        let mut state = n.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        let numbers = (0..37).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(state >> 8) as f32 / 8e6 - 1.0
        });
        normalized(&numbers.collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn the_nearest_rows_are_those_of_a_plain_sort() {
        let mut matrix = Matrix::new(37);
        for n in 0..5_000 {
            matrix.push(i64::from(n), row(n % 4_500).into_iter());
        }
        for n in [3, 77, 4_999] {
            let query = row(n * 31 + 7);
            let mut all: Vec<(i64, f32)> = (0..5_000)
                .map(|n| (i64::from(n), dot(&query, &row(n % 4_500))))
                .collect();
            all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            for limit in [1, 10, 1_500, 9_999] {
                assert_eq!(matrix.nearest(&query, limit), all[..limit.min(5_000)]);
            }
        }
        assert_eq!(matrix.nearest(&row(1), 0), []);
        assert_eq!((matrix.len(), matrix.nearest(&[1.0], 3).len()), (5_000, 0));
    }

    #[test]
    fn a_vector_without_direction_is_none() {
        assert_eq!(normalized(&[0.0, 0.0]), None);
        assert_eq!(normalized(&[f32::NAN]), None);
        assert_eq!(normalized(&[3.0, 4.0]), Some(vec![0.6, 0.8]));
    }
}
