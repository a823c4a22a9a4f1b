//! Logistic regression over sparse rows, by limited-memory BFGS (Liu and Nocedal 1989).
//!
//! Deterministic: no chance, a fixed order of sums.

/// How many steps are remembered.
const MEMORY: usize = 8;
/// The most steps.
const STEPS: usize = 80;

/// A column and a value, for each entry of a row.
pub(crate) type Row = Vec<(u32, f32)>;

/// One row to learn from.
pub(crate) struct Lesson<'r> {
    pub(crate) row: &'r [(u32, f32)],
    pub(crate) is: bool,
    pub(crate) weight: f64,
}

/// Minimises half the squared weights plus `c` times the weighted logistic loss; the bias,
/// which comes first, is free.
pub(crate) fn fit(lessons: &[Lesson<'_>], columns: usize, c: f64) -> (f64, Vec<f64>) {
    // The last place is the bias.
    let mut x = vec![0.0; columns + 1];
    let mut gradient = vec![0.0; columns + 1];
    let mut loss = value(lessons, c, &x, &mut gradient);
    let mut memory: Vec<(Vec<f64>, Vec<f64>, f64)> = Vec::new();
    for _ in 0..STEPS {
        let direction = direction(&gradient, &memory);
        let slope = dot(&direction, &gradient);
        if slope > -1e-6 * loss.max(1.0) {
            break;
        }
        let mut step = if memory.is_empty() {
            1.0 / norm(&gradient).max(1.0)
        } else {
            1.0
        };
        let mut next = vec![0.0; x.len()];
        let mut next_gradient = vec![0.0; x.len()];
        let mut next_loss = loss;
        for _ in 0..20 {
            for (to, (from, by)) in next.iter_mut().zip(x.iter().zip(&direction)) {
                *to = from + step * by;
            }
            next_loss = value(lessons, c, &next, &mut next_gradient);
            if next_loss <= loss + 1e-4 * step * slope {
                break;
            }
            step *= 0.5;
        }
        let moved: Vec<f64> = next.iter().zip(&x).map(|(a, b)| a - b).collect();
        let turned: Vec<f64> = next_gradient
            .iter()
            .zip(&gradient)
            .map(|(a, b)| a - b)
            .collect();
        let curvature = dot(&moved, &turned);
        if curvature > 1e-12 {
            memory.push((moved, turned, 1.0 / curvature));
            if memory.len() > MEMORY {
                memory.remove(0);
            }
        }
        let gained = loss - next_loss;
        (x, gradient, loss) = (next, next_gradient, next_loss);
        if gained < 1e-5 * loss {
            break;
        }
    }
    let bias = x.pop().unwrap_or_default();
    (bias, x)
}

fn value(lessons: &[Lesson<'_>], c: f64, x: &[f64], gradient: &mut [f64]) -> f64 {
    let columns = x.len() - 1;
    gradient.copy_from_slice(x);
    gradient[columns] = 0.0;
    let mut loss = 0.5 * dot(&x[..columns], &x[..columns]);
    for lesson in lessons {
        let sum = lesson
            .row
            .iter()
            .map(|(at, value)| x[*at as usize] * f64::from(*value));
        let odds = x[columns] + sum.sum::<f64>();
        let sign = if lesson.is { 1.0 } else { -1.0 };
        let margin = sign * odds;
        // log(1 + exp(-m)) without overflow.
        loss += c * lesson.weight * ((-margin.abs()).exp().ln_1p() + (-margin).max(0.0));
        let slope = -sign * c * lesson.weight / (1.0 + margin.exp());
        for (at, value) in lesson.row {
            gradient[*at as usize] += slope * f64::from(*value);
        }
        gradient[columns] += slope;
    }
    loss
}

fn direction(gradient: &[f64], memory: &[(Vec<f64>, Vec<f64>, f64)]) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|it| -it).collect();
    let mut alphas = Vec::with_capacity(memory.len());
    for (moved, turned, rho) in memory.iter().rev() {
        let alpha = rho * dot(moved, &q);
        add(&mut q, -alpha, turned);
        alphas.push(alpha);
    }
    if let Some((moved, turned, _)) = memory.last() {
        let scale = dot(moved, turned) / dot(turned, turned);
        q.iter_mut().for_each(|it| *it *= scale);
    }
    for ((moved, turned, rho), alpha) in memory.iter().zip(alphas.into_iter().rev()) {
        let beta = rho * dot(turned, &q);
        add(&mut q, alpha - beta, moved);
    }
    q
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

fn add(to: &mut [f64], by: f64, what: &[f64]) {
    to.iter_mut()
        .zip(what)
        .for_each(|(to, what)| *to += by * what);
}

/// A model over few dense numbers: each is brought to mean 0 and spread 1 first, and the
/// weights are given for the numbers as they come. The bias comes first.
pub(crate) fn fit_dense(inputs: &[&[f32]], is: &[bool], c: f64) -> Vec<f32> {
    let columns = inputs.first().map_or(0, |row| row.len());
    let count = inputs.len().max(1) as f64;
    let mean: Vec<f64> = (0..columns)
        .map(|at| inputs.iter().map(|row| f64::from(row[at])).sum::<f64>() / count)
        .collect();
    let spread: Vec<f64> = (0..columns)
        .map(|at| {
            let square = |row: &&[f32]| (f64::from(row[at]) - mean[at]).powi(2);
            (inputs.iter().map(square).sum::<f64>() / count)
                .sqrt()
                .max(1e-6)
        })
        .collect();
    let rows: Vec<Row> = inputs
        .iter()
        .map(|row| {
            let scaled = |at: usize| ((f64::from(row[at]) - mean[at]) / spread[at]) as f32;
            (0..columns).map(|at| (at as u32, scaled(at))).collect()
        })
        .collect();
    let lessons: Vec<Lesson<'_>> = rows
        .iter()
        .zip(is)
        .map(|(row, is)| Lesson {
            row,
            is: *is,
            weight: 1.0,
        })
        .collect();
    let (bias, weights) = fit(&lessons, columns, c);
    let shift: f64 = (0..columns)
        .map(|at| weights[at] * mean[at] / spread[at])
        .sum();
    let scaled = (0..columns).map(|at| (weights[at] / spread[at]) as f32);
    std::iter::once((bias - shift) as f32)
        .chain(scaled)
        .collect()
}
