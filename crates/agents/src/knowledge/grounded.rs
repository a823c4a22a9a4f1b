//! Holds a model's words against what was taught.
//!
//! A sentence passes when its rare words and numbers all occur in the claims and most of its
//! other words do. Invariant: what passes brings no term and no figure that was not taught.
//! Deliberately absent: understanding; a claim turned into its opposite with the same words
//! passes.

use std::collections::BTreeSet;

use lyceum_core::Knowledge;

use crate::offline::taught;

/// The part of a sentence's words that has to be known, 0–1: the others join them.
const KNOWN: f64 = 0.55;

/// What is left of a text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Grounded {
    pub(super) text: String,
    /// The claims it rests on.
    pub(super) claims: Vec<u32>,
    /// The sentences that were left out.
    pub(super) removed: Vec<String>,
}

/// Leaves out what the claims do not support. `asked` are words that may be repeated: the
/// question's.
pub(super) fn ground(text: &str, knowledge: &Knowledge, asked: &str) -> Grounded {
    let claims: Vec<(u32, BTreeSet<String>)> = knowledge
        .claims
        .iter()
        .map(|claim| (claim.id, taught::words(&claim.text)))
        .collect();
    let mut known = taught::words(&knowledge.topic);
    known.extend(taught::words(asked));
    known.extend(claims.iter().flat_map(|(_, words)| words.iter().cloned()));
    let mut out = Grounded::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let before = out.text.len();
        for sentence in taught::sentences(&without_marks(line)) {
            let shared = sentence.words.intersection(&known).count();
            let enough = shared as f64 >= KNOWN * sentence.words.len() as f64;
            if !sentence.rare.is_subset(&known) || !enough {
                out.removed.push(sentence.text.to_owned());
                continue;
            }
            let rests = claims
                .iter()
                .map(|(id, words)| (words.intersection(&sentence.words).count(), *id))
                .filter(|(shared, _)| *shared > 0)
                .max_by_key(|(shared, id)| (*shared, std::cmp::Reverse(*id)));
            if out.text.len() > before && sentence.text.is_ascii() {
                out.text.push(' ');
            }
            out.text.push_str(sentence.text);
            if let Some((_, id)) = rests {
                out.text.push_str(&format!(" [{id}]"));
                if !out.claims.contains(&id) {
                    out.claims.push(id);
                }
            }
        }
        if out.text.len() > before {
            out.text.push('\n');
        }
    }
    out.text.truncate(out.text.trim_end().len());
    out
}

/// The model's own marks `[3]` and list numbers are no figures; ours are put in their place.
fn without_marks(line: &str) -> String {
    let line = line.trim_start_matches(['-', '*', '#', ' ']);
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find('[') {
        out.push_str(&rest[..start]);
        let inside = &rest[start + 1..];
        match inside.find(']') {
            Some(end)
                if inside[..end]
                    .chars()
                    .all(|c| c.is_ascii_digit() || " ,?".contains(c)) =>
            {
                rest = &inside[end + 1..];
            }
            _ => {
                out.push('[');
                rest = inside;
            }
        }
    }
    out.push_str(rest);
    // " ." is left where a mark stood before the full stop.
    out.replace(" .", ".").replace(" 。", "。")
}
