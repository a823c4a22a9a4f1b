//! Gaps in the wording: vague words and claims without exception.

use lyceum_core::{GapKind, Severity};

use super::{
    finding::{Finding, Frame, is_example, is_limited_nearby},
    markers::{ABSOLUTE, ABSOLUTE_STRONGLY, DEGREE, HEDGED, MONOTONE, REASON, VAGUE},
    text::{Document, Sentence, find_any, find_phrase, has_any},
};

/// Finds vague words, over-generalisations and unbounded "the more, the more".
pub(super) fn find(document: &Document<'_>, frame: Frame) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, sentence) in document.sentences.iter().enumerate() {
        if sentence.is_question {
            continue;
        }
        vague(document, index, sentence, &mut findings);
        absolute(document, index, sentence, &mut findings);
        monotone(document, frame, index, sentence, &mut findings);
    }
    findings
}

/// The vague word of a text, if any.
pub(super) fn vague_word(lower: &str) -> Option<std::ops::Range<usize>> {
    VAGUE
        .iter()
        .chain(DEGREE.iter())
        .find_map(|phrase| find_phrase(lower, phrase).filter(|found| !is_idiom(lower, found)))
}

/// "Some things" may be meant exactly: lists that end in 等等 after named items are weak.
fn is_idiom(lower: &str, found: &std::ops::Range<usize>) -> bool {
    let word = &lower[found.clone()];
    let after = &lower[found.end..];
    match word {
        "kind of" | "sort of" => {
            let before = lower[..found.start].trim_end();
            [
                "a", "this", "that", "what", "one", "the", "each", "every", "any", "another",
                "same", "which", "special", "new", "first", "second",
            ]
            .iter()
            .any(|article| before.ends_with(article))
        }
        "的东西" => lower[..found.start].ends_with(['着', '了', '过']),
        "things" => after.trim_start().starts_with("are") || after.trim_start().starts_with("that"),
        "某个" | "某一" => true,
        // "Whatever you look at": a clause of its own.
        "whatever" => {
            !after.trim_start().is_empty() && !after.trim_start().starts_with(['.', ',', '!'])
        }
        // "大概一秒": a rounded figure.
        "大概" | "差不多" => after
            .chars()
            .take(3)
            .any(|c| c.is_ascii_digit() || "一两二三四五六七八九十百千半".contains(c)),
        _ => false,
    }
}

fn vague(
    document: &Document<'_>,
    index: usize,
    sentence: &Sentence<'_>,
    findings: &mut Vec<Finding>,
) {
    let strong = VAGUE.iter().find_map(|phrase| {
        find_phrase(&sentence.lower, phrase).filter(|found| !is_idiom(&sentence.lower, found))
    });
    let (found, mut confidence) = if let Some(found) = strong {
        let word = &sentence.lower[found.clone()];
        let mild = matches!(
            word,
            "things"
                | "various"
                | "这些东西"
                | "那些东西"
                | "etc"
                | "and so on"
                | "等等"
                | "something"
                | "更多"
                | "more or less"
                | "大概"
                | "一系列"
                | "某些"
                | "似乎"
                | "差不多"
                | "的东西"
        );
        (found, if mild { 0.5 } else { 0.74_f32 })
    } else if let Some(found) = find_any(&sentence.lower, &DEGREE) {
        let more = DEGREE
            .iter()
            .filter(|phrase| find_phrase(&sentence.lower, phrase).is_some())
            .count();
        (found, if more > 1 { 0.46 } else { 0.36 })
    } else {
        return;
    };
    if is_example(document, index) {
        confidence -= 0.15;
    }
    let at = sentence.start + found.start..sentence.start + found.end;
    findings.push(Finding {
        kind: GapKind::VagueWord,
        range: sentence.clause(&at),
        sentence: index,
        confidence,
        severity: if confidence >= 0.6 {
            Severity::Medium
        } else {
            Severity::Low
        },
        focus: sentence.text[found].to_owned(),
    });
}

/// The absolute word of a text, if any.
pub(super) fn absolute_word(lower: &str) -> Option<std::ops::Range<usize>> {
    if has_any(lower, &HEDGED) {
        return None;
    }
    find_any(lower, &ABSOLUTE_STRONGLY)
        .or_else(|| find_any(lower, &ABSOLUTE))
        .or_else(|| quantified(lower))
        .or_else(|| none_at_all(lower))
}

/// "All birds", "every cell": a quantifier over a kind of thing.
fn quantified(lower: &str) -> Option<std::ops::Range<usize>> {
    for quantifier in ["all", "every", "any"] {
        let Some(found) = find_phrase(lower, quantifier) else {
            continue;
        };
        let after = lower[found.end..].trim_start();
        let next = after.split_whitespace().next().unwrap_or_default();
        let counted = matches!(
            next.trim_matches(|c: char| !c.is_alphanumeric()),
            "" | "the"
                | "of"
                | "this"
                | "that"
                | "these"
                | "those"
                | "in"
                | "it"
                | "time"
                | "two"
                | "three"
                | "four"
                | "its"
                | "your"
                | "our"
                | "day"
                | "year"
                | "second"
                | "step"
                | "other"
                | "one"
                | "such"
                | "more"
                | "longer"
                | "at"
                | "you"
                | "we"
                | "i"
                | "way"
                | "and"
                | "right"
                | "their"
                | "my"
                | "month"
                | "week"
                | "hour"
                | "minute"
                | "single"
        );
        if !counted {
            return Some(found);
        }
    }
    None
}

/// "No language can avoid it", "nothing else works": a denial of all, at the beginning.
fn none_at_all(lower: &str) -> Option<std::ops::Range<usize>> {
    let lead = lower.len() - lower.trim_start().len();
    let text = &lower[lead..];
    if text.starts_with("nothing else ") {
        return Some(lead..lead + "nothing else".len());
    }
    let rest = text.strip_prefix("no ")?;
    let flat = rest
        .split_whitespace()
        .skip(1)
        .take(3)
        .any(|word| matches!(word, "can" | "could" | "will" | "ever" | "would"));
    flat.then(|| lead..lead + "no".len())
}

fn absolute(
    document: &Document<'_>,
    index: usize,
    sentence: &Sentence<'_>,
    findings: &mut Vec<Finding>,
) {
    let Some(found) = absolute_word(&sentence.lower) else {
        return;
    };
    if sentence.lower[..found.start].ends_with(['把', '将']) {
        // An instruction: "add up all the numbers".
        return;
    }
    let strong = ABSOLUTE_STRONGLY.contains(&&sentence.lower[found.clone()])
        || none_at_all(&sentence.lower).as_ref() == Some(&found);
    let before = &sentence.lower[..found.start];
    let clause = before
        .rfind([',', '，', ':', '：'])
        .map_or(before, |cut| &before[cut..]);
    if ["not ", "n't ", "cannot ", "不", "没", "并非"]
        .iter()
        .any(|no| clause.contains(no))
        && !clause.contains("不管")
    {
        // "Not the same everywhere" says the opposite of an over-generalisation.
        return;
    }
    // "永远不要一起用" and "nobody would buy it" forbid and suppose; "任何人都可以" allows.
    let after = &sentence.lower[found.end..];
    let forbids = ["不要", "别", "不可", "would", "want"]
        .iter()
        .any(|word| after.trim_start().starts_with(word));
    let allows = ["可以", "可能", "may ", "might ", "can be "]
        .iter()
        .any(|word| super::text::head(after, 36).contains(word));
    if forbids || allows && !strong {
        return;
    }
    // "Every acid is dangerous": the sentence as a whole is about all of a kind.
    let leads = sentence.lower[..found.start].trim().is_empty();
    let mut confidence: f32 = match (strong, leads) {
        (true, _) => 0.66,
        (false, true) => 0.56,
        (false, false) => 0.47,
    };
    if is_limited_nearby(document, index, 0) {
        confidence -= 0.25;
    } else if is_limited_nearby(document, index, 1) {
        confidence -= 0.12;
    }
    if is_example(document, index) {
        confidence -= 0.15;
    }
    if has_any(&sentence.lower, &REASON) {
        confidence -= 0.1;
    }
    if has_any(
        before,
        &[
            "if", "when", "where", "to", "for", "如果", "要是", "给", "向",
        ],
    ) {
        confidence -= 0.15;
    }
    let at = sentence.start + found.start..sentence.start + found.end;
    findings.push(Finding {
        kind: GapKind::OverGeneralisation,
        range: sentence.clause(&at),
        sentence: index,
        confidence,
        severity: if strong {
            Severity::High
        } else {
            Severity::Medium
        },
        focus: sentence.text[found].to_owned(),
    });
}

/// "The more …, the more …" has an end somewhere.
fn monotone(
    document: &Document<'_>,
    frame: Frame,
    index: usize,
    sentence: &Sentence<'_>,
    findings: &mut Vec<Finding>,
) {
    let Some(found) =
        the_more_the_more(&sentence.lower).or_else(|| find_any(&sentence.lower, &MONOTONE))
    else {
        return;
    };
    let phrase = &sentence.lower[found.clone()];
    let again = match phrase {
        "只要" => sentence.lower[found.end..].contains('就'),
        "越" => {
            // "越堆越高" is one verb; "物体越大，就越容易浮" is a law.
            let (first, last) = (sentence.lower.find('越'), sentence.lower.rfind('越'));
            let apart = first.zip(last).is_some_and(|(a, b)| b - a > 3 * "越".len());
            apart && !sentence.lower.contains("越来越")
        }
        comparative if comparative.starts_with("the ") => {
            the_more_the_more(&sentence.lower).is_some()
                || MONOTONE
                    .iter()
                    .filter(|other| other.starts_with("the "))
                    .chain(&["the better", "the slower", "the heavier"])
                    .map(|other| sentence.lower.matches(other).count())
                    .sum::<usize>()
                    > 1
        }
        _ => true,
    };
    if !again {
        return;
    }
    let mut confidence: f32 = if frame.has_limit { 0.5 } else { 0.6 };
    if is_limited_nearby(document, index, 1) {
        confidence -= 0.25;
    }
    if is_example(document, index) {
        confidence -= 0.1;
    }
    findings.push(Finding {
        kind: GapKind::BoundaryCase,
        range: sentence.body(),
        sentence: index,
        confidence,
        severity: Severity::Medium,
        focus: phrase.to_owned(),
    });
}

/// "The darker it gets, the better it tastes": two comparatives, each opening a clause.
fn the_more_the_more(lower: &str) -> Option<std::ops::Range<usize>> {
    let graded = |clause: &str| {
        let mut words = clause
            .split_whitespace()
            .skip_while(|word| matches!(*word, "and" | "so" | "but"));
        let the = words.next() == Some("the");
        let next = words.next().unwrap_or_default();
        let compared = matches!(next, "more" | "less" | "worse")
            || next.len() > 4
                && next.ends_with("er")
                && !matches!(
                    next,
                    "other" | "number" | "latter" | "former" | "water" | "paper"
                );
        the && compared
    };
    let cut = lower.find(',')?;
    let second = &lower[cut + 1..];
    let lead = lower.len() - lower.trim_start().len();
    (graded(&lower[..cut]) && graded(second)).then(|| {
        let end = lower[lead..].find(' ').map_or(lower.len(), |at| lead + at);
        lead..end
    })
}
