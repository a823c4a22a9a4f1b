//! When two quotes of a learner are the same words.
//!
//! Letter case, full-width forms, spaces and marks do not count. Invariant: a Latin word is
//! never found inside a longer one. Deliberately absent: meaning.

use lyceum_core::Gap;

/// Whether two gaps are one: the same kind in the same words, or in words of which one
/// quote has most of the other's.
pub(crate) fn is_same(a: &Gap, b: &Gap) -> bool {
    if a.kind != b.kind {
        return false;
    }
    let (a, b) = (folded(&a.quote), folded(&b.quote));
    let (short, long) = match a.len() <= b.len() {
        true => (a, b),
        false => (b, a),
    };
    short == long || (short.len() * 2 >= long.len() && has(&long, &short))
}

/// Whether two gaps quote the same words, of whatever kind they are.
pub(super) fn quotes_same(a: &Gap, b: &Gap) -> bool {
    folded(&a.quote) == folded(&b.quote)
}

/// Whether a text holds a quote.
pub(super) fn holds(text: &str, quote: &str) -> bool {
    let quote = folded(quote);
    !quote.is_empty() && has(&folded(text), &quote)
}

fn has(text: &str, part: &str) -> bool {
    let letter = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.match_indices(part).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + part.len()..].chars().next();
        let cuts_front = letter(before) && letter(part.chars().next());
        let cuts_back = letter(after) && letter(part.chars().next_back());
        !cuts_front && !cuts_back
    })
}

/// Letters and digits in one form, words apart by one space, none beside Chinese.
fn folded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut gap = false;
    for c in text.chars().map(narrow).flat_map(char::to_lowercase) {
        if !c.is_alphanumeric() {
            gap = true;
            continue;
        }
        let apart = out.chars().next_back().is_some_and(|last| last.is_ascii()) && c.is_ascii();
        if gap && apart {
            out.push(' ');
        }
        gap = false;
        out.push(c);
    }
    out
}

/// The usual form of a full-width one.
fn narrow(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    use lyceum_core::{Confidence, GapKind, Severity};

    use super::*;

    fn gap(quote: &str) -> Gap {
        Gap {
            kind: GapKind::UndefinedTerm,
            quote: quote.to_owned(),
            reason: String::new(),
            severity: Severity::Low,
            confidence: Confidence::default(),
        }
    }

    #[test]
    fn form_does_not_count_and_words_stay_whole() {
        for (a, b, same) in [
            ("Osmosis", "osmosis", true),
            ("ＴＣＰ 握手", "TCP握手", true),
            ("the  cell-wall", "The cell wall", true),
            ("a thin cell wall", "cell wall", true),
            ("ion", "a motion", false),
            ("wall", "a wall of the cell of a plant", false),
        ] {
            assert_eq!(is_same(&gap(a), &gap(b)), same, "{a} and {b}");
        }
        assert!(holds("What does “OSMOSIS” mean?", "osmosis"));
        assert!(!holds("What is the question?", "quest"));
    }
}
