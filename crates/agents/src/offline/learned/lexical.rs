//! The wording of a unit: n-grams of grammar and everyday words.
//!
//! Words outside the everyday vocabulary become their shape, so that no subject is learnt.

use super::{
    super::text::{Class, Language, Word, is_chinese},
    ranks,
    sink::Features,
    units::Unit,
};

/// A Chinese word this frequent in general text is kept as it is.
const EVERYDAY: usize = 1_500;

/// What of a word may be learnt: itself when everybody uses it, else its shape.
pub(super) fn shape<'w>(word: &'w Word, lower: &'w str) -> &'w str {
    match word.class {
        Class::Number => "#n",
        Class::Function => word.base.as_str(),
        Class::Common if word.frequency == 0 && ranks::grade(&word.base) <= 1 => &word.base,
        Class::Common if word.frequency >= EVERYDAY => &word.base,
        _ if word.frequency > 0 || lower.chars().any(is_chinese) => "#z",
        _ => ENDINGS
            .iter()
            .find(|ending| lower.ends_with(&ending[1..]))
            .copied()
            .unwrap_or("#w"),
    }
}

const ENDINGS: [&str; 8] = ["#ing", "#ed", "#tion", "#ly", "#ity", "#ness", "#al", "#s"];

/// The shapes of the words of a unit.
pub(super) fn shapes<'u>(unit: &'u Unit<'_>) -> Vec<&'u str> {
    let word = |word: &'u Word| {
        let from = word.range.start.saturating_sub(unit.range.start);
        let to = word.range.end.saturating_sub(unit.range.start);
        shape(word, unit.lower.get(from..to).unwrap_or_default())
    };
    unit.words.iter().map(word).collect()
}

/// Adds the n-grams of a unit.
pub(super) fn add(unit: &Unit<'_>, shapes: &[&str], out: &mut Features) {
    for (at, word) in shapes.iter().enumerate() {
        out.sign("w", &[word]);
        if let Some(next) = shapes.get(at + 1) {
            out.sign("b", &[word, next]);
        }
        if let Some(later) = shapes.get(at + 2) {
            out.sign("k", &[word, later]);
        }
    }
    opening("o", shapes, out);
    if let [.., before, last] = shapes {
        out.sign("e1", &[last]);
        out.sign("e2", &[before, last]);
    }
    if unit.language == Language::Chinese {
        letters(unit, shapes, out);
    }
}

/// Adds the first words of a unit under a name.
pub(super) fn opening(group: &str, shapes: &[&str], out: &mut Features) {
    for count in 1..=3.min(shapes.len()) {
        out.sign(group, &shapes[..count]);
    }
}

/// Chinese words are cut by guess; characters are not. Rare words become one sign.
fn letters(unit: &Unit<'_>, shapes: &[&str], out: &mut Features) {
    let mut text = String::with_capacity(unit.lower.len());
    let mut from = 0;
    for (word, shape) in unit.words.iter().zip(shapes) {
        let start = word.range.start.saturating_sub(unit.range.start);
        let end = word.range.end.saturating_sub(unit.range.start);
        text.push_str(unit.lower.get(from..start).unwrap_or_default());
        match shape.strip_prefix('#') {
            Some(_) => text.push('□'),
            None => text.push_str(unit.lower.get(start..end).unwrap_or_default()),
        }
        from = end;
    }
    text.push_str(unit.lower.get(from..).unwrap_or_default());
    let ends: Vec<usize> = text
        .char_indices()
        .map(|(at, _)| at)
        .chain([text.len()])
        .collect();
    for size in 1..=3 {
        for window in ends.windows(size + 1) {
            out.sign("c", &[&text[window[0]..window[size]]]);
        }
    }
}
