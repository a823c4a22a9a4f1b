//! Gaps in the shape of an explanation: no example, no limits, a comparison that carries
//! too much.

use std::ops::Range;

use lyceum_core::{GapKind, Severity};

use super::{
    english::{NOUN, VERB},
    finding::{Finding, Frame, has_quiet_limit, is_example, is_limited_nearby},
    markers::{ANALOGY, CONCLUDES, NOT_ANALOGY, REASON, TURNS},
    text::{Document, Language, Sentence, find_phrase, has_any},
};

/// The shortest text, in words, that is asked for an example or for limits.
const SHORTEST: usize = 14;

/// Finds them all.
pub(super) fn find(document: &Document<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, sentence) in document.sentences.iter().enumerate() {
        if sentence.is_question {
            continue;
        }
        analogy(document, index, sentence, &mut findings);
    }
    findings
}

/// What a whole text lacks: an example, limits. It is asked about the most central claim
/// that no other finding speaks of.
pub(super) fn whole(
    document: &Document<'_>,
    frame: Frame,
    topic: &str,
    others: &[Finding],
) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    if document.word_count() < SHORTEST || document.sentences.len() < 2 {
        return findings;
    }
    let claims = central(document, topic);
    let mut add = |kind, confidence: f32| {
        let free = claims.iter().copied().take(3).find(|&index| {
            !others
                .iter()
                .chain(&findings)
                .any(|other| other.sentence == index && other.kind != GapKind::UndefinedTerm)
        });
        let Some(index) = free.or(claims.first().copied()) else {
            return;
        };
        findings.push(Finding {
            kind,
            range: short_body(&document.sentences[index]),
            sentence: index,
            confidence,
            severity: Severity::Medium,
            focus: String::new(),
        });
    };
    if !frame.has_example {
        add(
            GapKind::MissingExample,
            if frame.has_half_example { 0.46 } else { 0.56 },
        );
    }
    let bounded = others
        .iter()
        .any(|other| other.kind == GapKind::BoundaryCase);
    if !frame.has_limit && !bounded {
        let contrast = document
            .sentences
            .iter()
            .any(|s| has_any(&s.lower, &super::markers::CONTRAST));
        let confidence = match (contrast, has_quiet_limit(document)) {
            (false, false) => 0.56,
            (true, true) => 0.4,
            _ => 0.48,
        };
        add(GapKind::BoundaryCase, confidence);
    }
    findings
}

/// The sentence, or as many of its first clauses as fit where it is long.
pub(super) fn short_body(sentence: &Sentence<'_>) -> Range<usize> {
    let body = sentence.body();
    let limit = match sentence.language {
        Language::English => 140,
        Language::Chinese => 50,
    };
    let text = &sentence.text[body.start - sentence.start..body.end - sentence.start];
    let Some((cut, _)) = text.char_indices().nth(limit) else {
        return body;
    };
    match text[..cut].rfind([',', '，', ';', '；', ':', '：']) {
        Some(at) if at * 3 > cut => body.start..body.start + at,
        _ => sentence.clause(&(body.start..body.start + 1)),
    }
}

/// The sentences that carry the explanation, most central first: those that speak of the
/// topic and of what the rest speaks of.
pub(super) fn central(document: &Document<'_>, topic: &str) -> Vec<usize> {
    let mut counts: std::collections::HashMap<&str, f32> = std::collections::HashMap::new();
    for sentence in &document.sentences {
        for word in sentence.words.iter().filter(|word| word.is_content()) {
            *counts.entry(word.base.as_str()).or_default() += 1.0;
        }
    }
    let topic = topic.to_lowercase();
    let mut scored: Vec<(f32, usize)> = document
        .sentences
        .iter()
        .enumerate()
        .filter(|(_, sentence)| !sentence.is_question && sentence.words.len() >= 3)
        .map(|(index, sentence)| {
            let weight: f32 = sentence
                .words
                .iter()
                .filter(|word| word.is_content())
                .map(|word| {
                    let count = counts.get(word.base.as_str()).copied().unwrap_or(0.0);
                    let named = !word.base.is_empty() && topic.contains(word.base.as_str());
                    count.min(4.0) + if named { 2.0 } else { 0.0 }
                })
                .sum();
            let length = sentence.words.len() as f32;
            // Explanations say first what they are about.
            let place = if index == 0 { 0.6 } else { 0.0 };
            let lower = sentence.lower.trim_start();
            let leans = [
                "it ", "it's", "they ", "this ", "that ", "these ", "he ", "she ", "here ", "它",
                "这", "那", "他", "其",
            ]
            .iter()
            .any(|word| lower.starts_with(word));
            let aside = is_example(document, index) || has_any(lower, &TURNS);
            let place = place - if leans { 0.4 } else { 0.0 } - if aside { 0.4 } else { 0.0 };
            let hearsay = if has_any(&sentence.lower, &super::markers::HEARSAY) {
                0.5
            } else {
                0.0
            };
            (weight / (length + 6.0) + place - hearsay, index)
        })
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    scored.into_iter().map(|(_, index)| index).collect()
}

/// The comparing phrase of a text, if any.
pub(super) fn comparison(lower: &str) -> Option<Range<usize>> {
    ANALOGY.iter().find_map(|phrase| {
        let found = find_phrase(lower, phrase)?;
        let near = &lower[lower.floor_char_boundary(found.start.saturating_sub(12))
            ..lower.floor_char_boundary(found.end + 8)];
        let idiom = has_any(near, &NOT_ANALOGY);
        // "听起来像，是因为" likens nothing.
        let rest = &lower[found.end..];
        let clause = rest.split(['，', '。', '；']).next().unwrap_or_default();
        // "第一年像亏了" says how something looks.
        let seems = clause.ends_with('了') && clause.chars().count() <= 4;
        let loose = *phrase == "像" && (rest.starts_with(['，', '。', '不', '是']) || seems);
        (!idiom && !loose).then_some(found)
    })
}

/// "和人脑一样工作": likened as a whole rather than in one measure.
fn likened(lower: &str) -> Option<Range<usize>> {
    let at = lower.find("一样")?;
    let before = &lower[..at];
    let clause = before.rsplit(['，', '。', ',']).next().unwrap_or_default();
    let joined = clause.contains(['和', '跟', '像', '同', '与', '如']) && !clause.ends_with('不');
    let after = lower[at + "一样".len()..].chars().next();
    let measure = after.is_some_and(|c| "大长多高重快的宽深远".contains(c));
    let plain = ["我", "你", "他", "她", "它", "前", "原", "以往", "上次"]
        .iter()
        .any(|word| clause.contains(word));
    let stands = after.is_some_and(super::text::is_chinese) && after != Some('也');
    (joined && !measure && !plain && stands).then(|| at..at + "一样".len())
}

/// "Plates float like rafts": a verb compared with "like".
fn compared_action(sentence: &Sentence<'_>) -> Option<Range<usize>> {
    let words = &sentence.words;
    (1..words.len()).find_map(|at| {
        let (verb, like) = (&words[at - 1], &words[at]);
        let article = words
            .get(at + 1)
            .is_some_and(|next| matches!(next.base.as_str(), "a" | "an" | "the"));
        let plain = matches!(
            verb.base.as_str(),
            "look" | "feel" | "sound" | "thing" | "people" | "seem" | "smell" | "taste" | "work"
        );
        let text =
            &sentence.lower[like.range.start - sentence.start..like.range.end - sentence.start];
        (text == "like" && verb.may_be(VERB) && !plain && (article || !verb.may_be(NOUN)))
            .then(|| like.range.start - sentence.start..like.range.end - sentence.start)
    })
}

fn analogy(
    document: &Document<'_>,
    index: usize,
    sentence: &Sentence<'_>,
    findings: &mut Vec<Finding>,
) {
    let found = comparison(&sentence.lower)
        .or_else(|| compared_action(sentence))
        .or_else(|| likened(&sentence.lower));
    let Some(found) = found else {
        return;
    };
    let phrase = &sentence.lower[found.clone()];
    let mut confidence: f32 = match phrase {
        "像" | "当成" | "is basically a" | "is essentially a" | "like a" | "像是" => 0.56,
        "类似" | "相当于" => 0.6,
        _ => 0.66,
    };
    if has_any(&sentence.lower, &REASON) || has_any(&sentence.lower[found.end..], &CONCLUDES) {
        // It says in what respect.
        confidence -= 0.15;
    }
    if is_limited_nearby(document, index, 1) {
        confidence -= 0.3;
    } else if is_limited_nearby(document, index, 2) {
        confidence -= 0.12;
    }
    findings.push(Finding {
        kind: GapKind::BrokenAnalogy,
        range: short_body(sentence),
        sentence: index,
        confidence,
        severity: Severity::Medium,
        focus: sentence.text[found].to_owned(),
    });
}
