//! Gaps in the argument: effects without a mechanism, conclusions without a step between,
//! claims without support.

use std::{collections::HashSet, ops::Range};

use lyceum_core::{GapKind, Severity};

use super::{
    english::ADJECTIVE,
    finding::{Finding, Frame, is_example},
    markers::{
        ASSERTIONS, CAUSES, CAUSES_STRONGLY, CONCLUDES, EFFECTS, ELABORATES, FIGURES, HEARSAY,
        LIMIT, MEANS, RANKS, REASON, SEQUENCES, SKIPS,
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
            unsupported(document, index, &mut findings);
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

fn unsupported(document: &Document<'_>, index: usize, findings: &mut Vec<Finding>) {
    let sentence = &document.sentences[index];
    let (found, mut confidence) = if let Some(found) = find_any(&sentence.lower, &HEARSAY)
        .or_else(|| assertion(sentence))
        .or_else(|| unnamed_authority(sentence))
    {
        (found, 0.72_f32)
    } else if let Some(found) = find_any(&sentence.lower, &RANKS).or_else(|| superlative(sentence))
    {
        (found, 0.5)
    } else if let Some(found) = find_any(&sentence.lower, &FIGURES) {
        (found, 0.46)
    } else {
        return;
    };
    if has_any(&sentence.lower, &REASON) {
        confidence -= 0.35;
    }
    if is_elaborated(document, index) {
        confidence -= 0.3;
    }
    if is_example(document, index) {
        confidence -= 0.2;
    }
    if names_source(&sentence.lower) {
        confidence -= 0.3;
    }
    let at = sentence.start + found.start..sentence.start + found.end;
    findings.push(Finding {
        kind: GapKind::UnsupportedClaim,
        range: around(sentence, &at),
        sentence: index,
        confidence,
        severity: Severity::Medium,
        focus: sentence.text[found].to_owned(),
    });
}

/// "Obviously, …" opens a clause; "felt clearly better" does not.
fn assertion(sentence: &Sentence<'_>) -> Option<Range<usize>> {
    find_any(&sentence.lower, &ASSERTIONS).filter(|found| {
        let before = sentence.lower[..found.start].trim_end();
        before.is_empty() || before.ends_with([',', ';', ':', '—']) || before.ends_with("and")
    })
}

/// "The greatest achievement": ranked first by its form.
fn superlative(sentence: &Sentence<'_>) -> Option<Range<usize>> {
    sentence.words.windows(2).find_map(|pair| {
        let text = &sentence.lower
            [pair[1].range.start - sentence.start..pair[1].range.end - sentence.start];
        let ranked = pair[0].base == "the"
            && text.ends_with("est")
            && pair[1].may_be(ADJECTIVE)
            && pair[1].base != text;
        ranked.then(|| pair[0].range.start - sentence.start..pair[1].range.end - sentence.start)
    })
}

/// "Historians agree", "医生们建议": people of a trade who say so, without a name.
fn unnamed_authority(sentence: &Sentence<'_>) -> Option<Range<usize>> {
    const SAYING: &[&str] = &[
        "agree",
        "say",
        "believe",
        "claim",
        "think",
        "recommend",
        "show",
        "prove",
        "confirm",
        "suggest",
        "know",
        "argue",
        "认为",
        "说",
        "表明",
        "证明",
        "指出",
        "显示",
        "同意",
        "建议",
        "相信",
        "发现",
        "证实",
    ];
    const PEOPLE: &[&str] = &[
        "ist",
        "ian",
        "expert",
        "doctor",
        "people",
        "study",
        "research",
        "survey",
        "researcher",
        "scholar",
        "teacher",
        "家",
        "学者",
        "医生",
        "研究",
        "调查",
        "人们",
        "大家",
        "老师",
        "教授",
        "数据",
    ];
    let words = &sentence.words;
    words.iter().enumerate().find_map(|(at, people)| {
        let person =
            PEOPLE.iter().any(|ending| people.base.ends_with(ending)) && people.is_content();
        let saying = words[at + 1..]
            .iter()
            .take(3)
            .find(|word| SAYING.contains(&word.base.as_str()))?;
        person.then(|| people.range.start - sentence.start..saying.range.end - sentence.start)
    })
}

/// A year, a named source or a measurement is some support.
fn names_source(lower: &str) -> bool {
    let year = lower
        .split(|c: char| !c.is_ascii_digit())
        .any(|digits| digits.len() == 4 && (digits.starts_with("19") || digits.starts_with("20")));
    year || has_any(
        lower,
        &[
            "according to",
            "et al",
            "measured",
            "experiment",
            "根据",
            "实验",
            "测得",
            "《",
        ],
    )
}
