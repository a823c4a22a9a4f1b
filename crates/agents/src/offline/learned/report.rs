//! Makes findings of what was chosen: the quote, the word a question turns on, how grave it is.
//!
//! Invariant: quote and focus are words of the learner.

use lyceum_core::{GapKind, Severity};

use super::{
    super::{
        english::{ADJECTIVE, ADVERB},
        finding::Finding,
        text::{Language, Word},
        wording,
    },
    context::same_root,
    decide::{Choice, TERM_KIND},
    features::{KINDS, Reading, overlap},
    terms::Term,
};

/// The findings, in the order of the choices.
pub(super) fn findings(reading: &Reading<'_>, terms: &[Term], chosen: &[Choice]) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for choice in chosen {
        let Some(finding) = finding(reading, terms, choice) else {
            continue;
        };
        let quote = |finding: &Finding| reading.document.quote(&finding.range).to_owned();
        let again = |old: &Finding| old.kind == finding.kind && quote(old) == quote(&finding);
        if !found.iter().any(again) {
            found.push(finding);
        }
    }
    found
}

fn finding(reading: &Reading<'_>, terms: &[Term], choice: &Choice) -> Option<Finding> {
    let kind = *KINDS.get(choice.kind)?;
    let (range, unit) = if choice.kind == TERM_KIND {
        let term = terms.get(choice.at)?;
        (term.range.clone(), term.unit)
    } else {
        (reading.units.get(choice.at)?.range.clone(), choice.at)
    };
    let by_rule = reading
        .rules
        .iter()
        .find(|rule| rule.kind == kind && overlap(&rule.range, &range) && !rule.focus.is_empty());
    let focus = match by_rule {
        Some(rule) if kind != GapKind::UndefinedTerm => rule.focus.clone(),
        _ => focus(reading, kind, unit)?,
    };
    Some(Finding {
        kind,
        range,
        sentence: reading.units.get(unit)?.sentence,
        confidence: choice.probability,
        severity: severity(kind),
        focus,
    })
}

fn severity(kind: GapKind) -> Severity {
    match kind {
        GapKind::Contradiction
        | GapKind::CircularDefinition
        | GapKind::MissingMechanism
        | GapKind::MissingStep => Severity::High,
        GapKind::VagueWord => Severity::Low,
        _ => Severity::Medium,
    }
}

/// The word or the earlier claim that the question turns on, where no rule named one.
/// Nothing for a contradiction that nothing stands before.
fn focus(reading: &Reading<'_>, kind: GapKind, at: usize) -> Option<String> {
    let unit = reading.units.get(at)?;
    let document = reading.document;
    let said = |word: &Word| document.quote(&word.range).to_owned();
    let content: Vec<&Word> = unit.words.iter().filter(|word| word.is_content()).collect();
    Some(match kind {
        GapKind::Contradiction => {
            let relation = reading.relations.get(at)?;
            let before = relation.against.or(relation.partner);
            let before = before.or(at.checked_sub(1))?;
            document.quote(&reading.units.get(before)?.range).to_owned()
        }
        GapKind::CircularDefinition => {
            let again = content.iter().enumerate().find(|(at, word)| {
                let later = content.iter().skip(at + 1);
                later
                    .into_iter()
                    .any(|other| same_root(&other.base, &word.base))
            });
            let word = again.map(|(_, word)| *word).or(content.first().copied())?;
            said(word)
        }
        GapKind::VagueWord => match wording::vague_word(unit.lower) {
            Some(found) => document
                .quote(&(unit.range.start + found.start..unit.range.start + found.end))
                .to_owned(),
            None => {
                let manner = |word: &&&Word| match unit.language {
                    Language::English => word.may_be(ADVERB) || said(word).ends_with("ly"),
                    Language::Chinese => word.may_be(ADVERB),
                };
                let quality = |word: &&&Word| word.may_be(ADJECTIVE);
                let last = || content.iter().rev();
                let word = last().find(manner).or_else(|| last().find(quality));
                said(word.or(content.last())?)
            }
        },
        GapKind::OverGeneralisation => match wording::absolute_word(unit.lower) {
            Some(found) => document
                .quote(&(unit.range.start + found.start..unit.range.start + found.end))
                .to_owned(),
            None => document.quote(&unit.range).to_owned(),
        },
        _ => String::new(),
    })
}
