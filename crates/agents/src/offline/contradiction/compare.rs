//! Whether one claim contradicts another.

use super::{
    super::{
        markers::TURNS,
        text::{Document, has_any},
    },
    Claim,
};

/// Whether two claims say opposite things of the same, or differ in one number.
pub(super) fn contradicts(old: &Claim, new: &Claim, document: &Document<'_>) -> bool {
    if old.source == new.source && old.sentence == new.sentence {
        return false;
    }
    // Some do and some do not.
    let partly =
        |claim: &Claim| has_any(&claim.text.to_ascii_lowercase(), &["some", "有些", "有的"]);
    if partly(old) && partly(new) {
        return false;
    }
    let shared = old.about.intersection(&new.about).count();
    let all = old.about.union(&new.about).count();
    if shared == 0 || all == 0 {
        return false;
    }
    let alike = shared as f32 / all as f32;
    let smaller = old.about.len().min(new.about.len());
    let contained = shared == smaller;
    let turns = turns_against(new, document) && old.source == 0;
    if turns || old.conditional != new.conditional {
        return false;
    }
    let same_subject = old.subject == new.subject;
    let same_pairs = old.pairs == new.pairs;
    if old.negative != new.negative && same_pairs && same_numbers(old, new) {
        let enough = if new.pairs.is_empty() {
            (shared >= 2 && alike >= 0.6)
                || (shared >= 2 && contained && alike >= 0.5 && same_subject)
        } else {
            (same_subject && (alike >= 0.5 || contained))
                || alike >= 0.75
                || (shared >= 2 && alike >= 0.6)
        };
        if enough {
            return true;
        }
    }
    let alike_enough = shared >= 2 && alike >= 0.7 && same_subject;
    let whole = old.whole && new.whole || alike >= 0.9;
    old.negative == new.negative && same_pairs && alike_enough && whole && differ_in_one(old, new)
}

/// Whether the claim with fewer numbers has none that the other has not.
fn same_numbers(old: &Claim, new: &Claim) -> bool {
    let (few, many) = match old.numbers.len() <= new.numbers.len() {
        true => (&old.numbers, &new.numbers),
        false => (&new.numbers, &old.numbers),
    };
    few.len() == many.len()
        || !few.is_empty()
            && few
                .iter()
                .all(|(number, _)| many.iter().any(|(other, _)| other == number))
}

/// Whether the numbers of two claims are the same but for one of the same unit.
fn differ_in_one(old: &Claim, new: &Claim) -> bool {
    let pairs = || old.numbers.iter().zip(&new.numbers);
    old.numbers.len() == new.numbers.len()
        && pairs().all(|(a, b)| a.1 == b.1)
        && pairs().filter(|(a, b)| a.0 != b.0).count() == 1
}

/// Whether the sentence of a claim announces that it limits what stands before it.
pub(super) fn turns_against(claim: &Claim, document: &Document<'_>) -> bool {
    document
        .sentences
        .get(claim.sentence)
        .is_some_and(|sentence| has_any(&sentence.lower, &TURNS))
}
