//! Ridge regression (Hoerl and Kennard 1970) of several targets on the same dense rows, by the
//! normal equations, so that leaving an author out is a subtraction.
//!
//! Every column's weight is held back by the column's variance, which is as if the columns had
//! been scaled; the bias is free. Deterministic: a fixed order of sums.

use std::iter;

/// What some rows add to the normal equations.
#[derive(Clone)]
pub(crate) struct Normal {
    /// Columns, the bias first.
    size: usize,
    /// Products of columns, row by row; only the lower triangle is kept.
    gram: Vec<f64>,
    /// For each column its products with the targets.
    right: Vec<f64>,
    targets: usize,
}

impl Normal {
    pub(crate) fn new(columns: usize, targets: usize) -> Self {
        let size = columns + 1;
        Self {
            size,
            gram: vec![0.0; size * size],
            right: vec![0.0; size * targets],
            targets,
        }
    }

    pub(crate) fn add_row(&mut self, row: &[f32], targets: &[f64]) {
        let row: Vec<f64> = iter::once(1.0)
            .chain(row.iter().map(|it| f64::from(*it)))
            .collect();
        for (at, own) in row.iter().enumerate() {
            let line = &mut self.gram[at * self.size..][..=at];
            for (sum, other) in line.iter_mut().zip(&row) {
                *sum += own * other;
            }
            let right = &mut self.right[at * self.targets..][..self.targets];
            for (sum, target) in right.iter_mut().zip(targets) {
                *sum += own * target;
            }
        }
    }

    /// Adds another's rows `times`; −1 takes them away.
    pub(crate) fn add(&mut self, other: &Self, times: f64) {
        let add = |to: &mut [f64], from: &[f64]| {
            to.iter_mut()
                .zip(from)
                .for_each(|(to, from)| *to += times * from);
        };
        add(&mut self.gram, &other.gram);
        add(&mut self.right, &other.right);
    }

    /// The weights of each target, the bias first.
    pub(crate) fn solve(&self, penalty: f64) -> Vec<Vec<f32>> {
        let size = self.size;
        let mut factor = self.gram.clone();
        let rows = factor[0].max(1.0);
        for at in 1..size {
            let mean = self.gram[at * size] / rows;
            let variance = self.gram[at * size + at] / rows - mean * mean;
            factor[at * size + at] += penalty * variance.max(1e-9);
        }
        cholesky(&mut factor, size);
        let solved = (0..self.targets).map(|target| {
            let mut x: Vec<f64> = (0..size)
                .map(|at| self.right[at * self.targets + target])
                .collect();
            for at in 0..size {
                let line = &factor[at * size..][..at];
                let sum: f64 = line.iter().zip(&x).map(|(a, b)| a * b).sum();
                x[at] = (x[at] - sum) / factor[at * size + at];
            }
            for at in (0..size).rev() {
                x[at] /= factor[at * size + at];
                let own = x[at];
                let line = &factor[at * size..][..at];
                for (x, weight) in x.iter_mut().zip(line) {
                    *x -= weight * own;
                }
            }
            x.into_iter().map(|it| it as f32).collect()
        });
        solved.collect()
    }
}

/// Turns the lower triangle of a matrix into its Cholesky factor.
fn cholesky(matrix: &mut [f64], size: usize) {
    for at in 0..size {
        let (before, rest) = matrix.split_at_mut(at * size);
        let line = &mut rest[..size];
        for other in 0..at {
            let above = &before[other * size..][..=other];
            let sum = dot(&line[..other], &above[..other]);
            line[other] = (line[other] - sum) / above[other];
        }
        let sum = dot(&line[..at], &line[..at]);
        line[at] = (line[at] - sum).max(1e-12).sqrt();
    }
}

/// In eight sums, which a processor adds at once.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    for (a, b) in a.iter().zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}
