//! Gaps in the argument: effects without a mechanism, conclusions without a step between,
//! claims without support.

mod support;

use std::{collections::HashSet, ops::Range};

use lyceum_core::{GapKind, Severity};

use super::{
    finding::{Finding, Frame, is_example},
    markers::{
        CAUSES, CAUSES_STRONGLY, CONCLUDES, EFFECTS, ELABORATES, LIMIT, MEANS, RANKS, REASON,
        SEQUENCES, SKIPS,
    },
    text::{Document, Language, Sentence, find_any, find_phrase, has_any},
};

/// Finds them all; at most one of a kind in a sentence.
pub(super) fn find(document: &Document<'_>, frame: Frame) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut known: HashSet<&str> = HashSet::new();
    for (index, sentence) in document.sentences.iter().enumerate() {
        if !sentence.is_question {
            mechanism(document, frame, index, &known, &mut findings);
            step(document, frame, index, &known, &mut findings);
            support::unsupported(document, index, &mut findings);
        }
        known.extend(
            sentence
                .words
                .iter()
                .filter(|word| word.is_content())
                .map(|word| word.base.as_str()),
        );
    }
    findings
}

/// Whether the sentence after this one explains it.
fn is_elaborated(document: &Document<'_>, index: usize) -> bool {
    document.sentences.get(index + 1).is_some_and(|next| {
        let opening = super::text::head(&next.lower, 48);
        ELABORATES
            .iter()
            .any(|phrase| find_phrase(opening, phrase).is_some_and(|found| found.start < 12))
    })
}

/// The first phrase of a list that really concludes or causes at its place.
fn conclusion(sentence: &Sentence<'_>) -> Option<Range<usize>> {
    CONCLUDES.iter().find_map(|phrase| {
        let found = find_phrase(&sentence.lower, phrase)?;
        if *phrase == "so" {
            let before = sentence.lower[..found.start].trim_end();
            let after = sentence.lower[found.end..].trim_start();
            let idiom = [
                "much", "many", "far", "that", "on", "called", "long", "forth", "to", "as", "-",
            ]
            .iter()
            .any(|word| {
                find_phrase(super::text::head(after, 16), word).is_some_and(|f| f.start == 0)
                    || after.starts_with("-")
            });
            let opens = before.is_empty()
                || before.ends_with([',', ';', ':', '.', '—', '-'])
                || before.ends_with("and")
                || before.ends_with("or");
            // "… is so hot that …" is a degree.
            let degree = [
                "is", "are", "was", "were", "be", "not", "become", "becomes", "do", "does",
                "think", "or",
            ]
            .iter()
            .any(|word| before.ends_with(word));
            if idiom || (degree && !opens) || after.is_empty() {
                return None;
            }
        }
        Some(found)
    })
}

fn mechanism(
    document: &Document<'_>,
    frame: Frame,
    index: usize,
    known: &HashSet<&str>,
    findings: &mut Vec<Finding>,
) {
    let sentence = &document.sentences[index];
    let concluded = conclusion(sentence);
    let is_conclusion = concluded.is_some();
    let (found, mut confidence) = if let Some(found) = concluded {
        (found, 0.52_f32)
    } else if let Some(found) = find_any(&sentence.lower, &EFFECTS) {
        (found, 0.62)
    } else if let Some(found) = find_whole(sentence, &CAUSES_STRONGLY) {
        (found, 0.5)
    } else if let Some(found) = find_whole(sentence, &CAUSES) {
        (found, 0.42)
    } else {
        return;
    };
    if !frame.has_reason {
        confidence += 0.1;
    }
    if has_any(&sentence.lower, &REASON) {
        confidence -= 0.35;
    }
    let own = &sentence.lower[..];
    if has_any(own, &MEANS) {
        confidence -= 0.14;
    }
    if says_by_doing(sentence) {
        confidence -= 0.14;
    }
    if is_elaborated(document, index) {
        confidence -= 0.3;
    }
    if index > 0 && has_any(&document.sentences[index - 1].lower, &REASON) {
        confidence -= 0.08;
    }
    if is_example(document, index) {
        confidence -= 0.25;
    }
    if sentence.lower.contains('=') {
        confidence -= 0.2;
    }
    confidence -= match content_before(sentence, found.start) {
        // A full premise stands in the sentence.
        6.. if is_conclusion => 0.16,
        4.. if is_conclusion || frame.has_reason => 0.08,
        _ => 0.0,
    };
    if is_conclusion && sentence.lower[found.clone()].ends_with("why") {
        confidence -= 0.1;
    }
    if !is_conclusion && is_definition(sentence, found.start) {
        confidence -= 0.25;
    }
    if frame.care() >= 2.9 {
        confidence -= 0.06;
    }
    if frame.reasoning >= 0.28 {
        confidence -= 0.06;
    }
    if index > 0 && is_continued(document, index) {
        // What comes about is taken up again: the text goes on to explain it.
        confidence -= 0.06;
    }
    if sentence.lower[found.end..].trim_start().starts_with("you ") && is_conclusion {
        // Advice rather than an effect.
        confidence -= 0.08;
    }
    if is_denied(&sentence.lower[..found.start]) || has_any(&sentence.lower, &LIMIT) {
        // It says what does not happen, or where it ends.
        confidence -= 0.15;
    }
    let opens = sentence.lower[..found.start].trim().is_empty();
    if opens && index > 0 && is_conclusion && newness(sentence, found.end, known) >= 0.5 {
        // A new sentence that concludes something new leaves a step out.
        confidence -= 0.2;
    }
    let judged = if is_conclusion { found.end } else { 0 };
    if has_any(&sentence.lower[judged..], &RANKS) {
        // What is concluded is a judgement: it wants evidence rather than a mechanism.
        confidence -= 0.2;
    }
    if newness(sentence, found.end, known) >= 0.6 {
        confidence += 0.06;
    }
    let at = sentence.start + found.start..sentence.start + found.end;
    findings.push(Finding {
        kind: GapKind::MissingMechanism,
        range: around(sentence, &at),
        sentence: index,
        confidence,
        severity: if confidence >= 0.55 {
            Severity::High
        } else {
            Severity::Medium
        },
        focus: sentence.text[found].to_owned(),
    });
}

/// "A catalyst is a substance that speeds up …": the effect is what the word means.
fn is_definition(sentence: &Sentence<'_>, until: usize) -> bool {
    let before = &sentence.lower[..until];
    match sentence.language {
        Language::English => {
            has_any(before, &["is", "are", "means"])
                && has_any(
                    before,
                    &["that", "which", "how", "when", "who", "to", "means"],
                )
        }
        Language::Chinese => {
            let body = sentence.text.trim_end_matches(['。', '！', '.', '；']);
            let tail: Vec<char> = body.chars().rev().take(5).collect();
            before.contains('是') && tail.contains(&'的')
        }
    }
}

/// "It makes lift by turning air downward": the way is told.
fn says_by_doing(sentence: &Sentence<'_>) -> bool {
    sentence.words.windows(2).any(|pair| {
        let doing = &sentence.lower
            [pair[1].range.start - sentence.start..pair[1].range.end - sentence.start];
        pair[0].base == "by" && doing.ends_with("ing")
    })
}

/// Whether one of the next two sentences speaks of what this one ends with.
fn is_continued(document: &Document<'_>, index: usize) -> bool {
    let sentence = &document.sentences[index];
    let Some(last) = sentence.words.iter().rev().find(|word| word.is_content()) else {
        return false;
    };
    let next = document.sentences.iter().skip(index + 1).take(2);
    next.flat_map(|next| &next.words)
        .any(|word| word.is_content() && word.base == last.base)
}

fn is_denied(before: &str) -> bool {
    has_any(
        before,
        &[
            "not", "cannot", "never", "can't", "doesn't", "不", "没", "并非",
        ],
    )
}

/// The first of several phrases; one of a single Chinese character only as a word of its
/// own, for 使 is no cause in 使用.
fn find_whole(sentence: &Sentence<'_>, phrases: &[&str]) -> Option<Range<usize>> {
    phrases.iter().find_map(|phrase| {
        let found = find_phrase(&sentence.lower, phrase)?;
        let at = sentence.start + found.start..sentence.start + found.end;
        let single = phrase.chars().count() == 1;
        (!single || sentence.words.iter().any(|word| word.range == at)).then_some(found)
    })
}

fn content_before(sentence: &Sentence<'_>, until: usize) -> usize {
    sentence
        .words
        .iter()
        .filter(|word| word.is_content() && word.range.end - sentence.start <= until)
        .count()
}

/// The share of content words after an offset that were not said before.
fn newness(sentence: &Sentence<'_>, from: usize, known: &HashSet<&str>) -> f32 {
    let (mut new, mut all) = (0.0_f32, 0.0_f32);
    for word in &sentence.words {
        if word.is_content() && word.range.start - sentence.start >= from {
            all += 1.0;
            new += f32::from(u8::from(!known.contains(word.base.as_str())));
        }
    }
    if all == 0.0 { 0.0 } else { new / all }
}

/// Short sentences are quoted whole: the premise belongs to the conclusion.
fn around(sentence: &Sentence<'_>, at: &Range<usize>) -> Range<usize> {
    let body = sentence.body();
    let limit = match sentence.language {
        Language::English => 110,
        Language::Chinese => 40,
    };
    let characters = sentence.text.chars().count();
    if characters <= limit {
        body
    } else {
        sentence.clause(at)
    }
}

fn step(
    document: &Document<'_>,
    frame: Frame,
    index: usize,
    known: &HashSet<&str>,
    findings: &mut Vec<Finding>,
) {
    let sentence = &document.sentences[index];
    let skipped = find_any(&sentence.lower, &SKIPS);
    let (found, mut confidence) = if let Some(found) = skipped {
        (found, 0.64_f32)
    } else if let Some(found) = find_any(&sentence.lower, &SEQUENCES)
        && conclusion(sentence).is_none()
    {
        (found, 0.52)
    } else if let Some(found) = leap(sentence) {
        (found, 0.62)
    } else {
        // A conclusion made of nothing that was said before leaves a step out.
        let Some(found) = conclusion(sentence) else {
            return;
        };
        let before = newness(sentence, 0, known);
        if index > 0
            && sentence.lower[..found.start].trim().is_empty()
            && newness(sentence, found.end, known) >= 0.5
            && !sentence.lower[found.clone()].ends_with("why")
        {
            (found, if frame.has_reason { 0.5 } else { 0.58 })
        } else if newness(sentence, found.end, known) < 0.8 || before < 0.5 || index == 0 {
            return;
        } else {
            (found, 0.46)
        }
    };
    if has_any(&sentence.lower, &REASON) {
        confidence -= 0.25;
    }
    if is_elaborated(document, index) {
        confidence -= 0.25;
    }
    if is_example(document, index) {
        confidence -= 0.15;
    }
    let at = sentence.start + found.start..sentence.start + found.end;
    findings.push(Finding {
        kind: GapKind::MissingStep,
        range: around(sentence, &at),
        sentence: index,
        confidence,
        severity: Severity::High,
        focus: sentence.text[found].to_owned(),
    });
}

/// "And in the end the court pays", "最后法院就判赔了": a short clause jumps to the result.
fn leap(sentence: &Sentence<'_>) -> Option<Range<usize>> {
    const ENDS: &[&str] = &[
        "in the end",
        "before you know it",
        "after that",
        "finally",
        "eventually",
        "years later",
        "days later",
        "weeks later",
        "and then",
        "sooner or later",
        "at some point",
    ];
    const LATER: &[&str] = &[
        "最后",
        "最终",
        "后来",
        "以后",
        "之后",
        "然后",
        "终于",
        "不知不觉",
        "慢慢",
        "过几天",
        "到头来",
        "一阵子",
    ];
    match sentence.language {
        Language::English => {
            let found = find_any(&sentence.lower, ENDS)?;
            let before = sentence.lower[..found.start].trim_end();
            let cut = before.rfind([',', ';']).map_or(0, |cut| cut + 1);
            let short = before[cut..].split_whitespace().count() <= 4;
            let rest = sentence.lower[found.end..].trim_end_matches(['.', '!']);
            let words = rest.split_whitespace().count();
            let told = !rest.contains(',') && (2..=9).contains(&words);
            let ordered = matches!(&sentence.lower[found.clone()], "and then" | "after that");
            let result = has_any(
                rest,
                &[
                    "is",
                    "are",
                    "it's",
                    "becomes",
                    "become",
                    "just",
                    "gone",
                    "exists",
                    "you have",
                    "no longer",
                ],
            );
            (short && told && (!ordered || result)).then_some(found)
        }
        Language::Chinese => {
            let body = sentence
                .text
                .trim_end_matches(['。', '！', '.', '；', '，']);
            let cut = body
                .rfind(['，', '；', '：'])
                .map_or(0, |cut| cut + "，".len());
            let clause = &body[cut..];
            let then = clause.find('就')?;
            let short = clause.chars().count() <= 16 && clause.ends_with('了');
            let found = find_any(clause, LATER).filter(|found| found.start <= then);
            let before = &body[..cut];
            let previous = before
                .trim_end_matches('，')
                .rsplit('，')
                .next()
                .unwrap_or_default();
            let drawn = find_any(previous, LATER)
                .filter(|_| !previous.is_empty())
                .is_some();
            match found {
                Some(found) if short => Some(cut + found.start..cut + found.end),
                None if short && drawn => Some(cut + then..cut + then + "就".len()),
                _ => None,
            }
        }
    }
}
