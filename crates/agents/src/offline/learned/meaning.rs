//! What an encoder's layers in the middle make of a text, of its units and of its terms.
//!
//! Invariant: a text that the encoder does not read has no meaning here, and is judged by its
//! other signs. Deliberately absent: any weighing.

use std::{ops::Range, sync::LazyLock};

use lyceum_encoder::{OpenError, Read, Reader};

use super::super::text::Language;

const WIDTH: usize = Reader::WIDTH;
/// Bytes beyond which a text has more tokens than a reader takes, so that it is not cut in vain.
const LONGEST: usize = 16 * 1024;

static ENGLISH: LazyLock<Option<Reader>> = LazyLock::new(|| opened(Reader::english()));
static CHINESE: LazyLock<Option<Reader>> = LazyLock::new(|| opened(Reader::chinese()));

/// The numbers of a text and of its parts.
#[derive(Debug, Clone, Default)]
pub struct Meaning {
    /// Of the text: mean and maximum of its tokens after the fourth layer.
    pub text: Vec<f32>,
    /// Of each unit: the mean after the second layer, mean and maximum after the fourth, and the
    /// mean of the whole text after the fourth.
    pub units: Vec<Vec<f32>>,
    /// Of each term: the mean after the fourth layer.
    pub terms: Vec<Vec<f32>>,
}

impl Meaning {
    /// Reads a text; nothing when it is too long.
    pub(super) fn of(
        (language, topic, text): (Language, &str, &str),
        units: &[Range<usize>],
        terms: &[Range<usize>],
    ) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let reader = match language {
            Language::English => &ENGLISH,
            Language::Chinese => &CHINESE,
        };
        let read = reader.as_ref()?.read(topic, text).ok()?;
        let all: Vec<usize> = (0..read.ranges.len()).collect();
        let whole = mean(&read.layers[1], &all);
        let unit = |range: &Range<usize>| {
            let tokens = tokens(&read, range);
            let mut numbers = mean(&read.layers[0], &tokens);
            numbers.extend(mean(&read.layers[1], &tokens));
            numbers.extend(most(&read.layers[1], &tokens));
            numbers.extend(&whole);
            numbers
        };
        let term = |range: &Range<usize>| mean(&read.layers[1], &tokens(&read, range));
        let mut of_text = whole.clone();
        of_text.extend(most(&read.layers[1], &all));
        Some(Self {
            text: of_text,
            units: units.iter().map(unit).collect(),
            terms: terms.iter().map(term).collect(),
        })
    }
}

fn opened(reader: Result<Reader, OpenError>) -> Option<Reader> {
    reader
        .inspect_err(|error| {
            let error: &dyn std::error::Error = error;
            tracing::error!(error, "the encoder of the offline student cannot be used");
        })
        .ok()
}

/// The tokens of a range, in their order.
fn tokens(read: &Read, range: &Range<usize>) -> Vec<usize> {
    let within = |token: &Range<usize>| token.start < range.end && range.start < token.end;
    let all = read.ranges.iter().enumerate();
    all.filter(|(_, token)| within(token))
        .map(|(at, _)| at)
        .collect()
}

/// Zeros when there are no tokens.
fn mean(numbers: &[f32], tokens: &[usize]) -> Vec<f32> {
    let mut sum = vec![0.0; WIDTH];
    for row in tokens.iter().filter_map(|at| row(numbers, *at)) {
        sum.iter_mut().zip(row).for_each(|(sum, own)| *sum += own);
    }
    let count = tokens.len().max(1) as f32;
    sum.iter_mut().for_each(|sum| *sum /= count);
    sum
}

/// Zeros when there are no tokens.
fn most(numbers: &[f32], tokens: &[usize]) -> Vec<f32> {
    let rows = tokens.iter().filter_map(|at| row(numbers, *at));
    rows.map(<[f32]>::to_vec)
        .reduce(|mut most, row| {
            most.iter_mut()
                .zip(row)
                .for_each(|(most, own)| *most = most.max(own));
            most
        })
        .unwrap_or_else(|| vec![0.0; WIDTH])
}

fn row(numbers: &[f32], at: usize) -> Option<&[f32]> {
    numbers.get(at * WIDTH..(at + 1) * WIDTH)
}
