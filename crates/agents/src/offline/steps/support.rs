//! Claims without support: hearsay, assurances, rankings and figures without a source.

use std::ops::Range;

use lyceum_core::{GapKind, Severity};

use super::{
    super::{
        english::{ADJECTIVE, VERB},
        finding::{Finding, is_example},
        markers::{ASSERTIONS, FIGURES, HEARSAY, RANKS, REASON},
        text::{Class, Document, Sentence, find_any, has_any},
    },
    around, is_elaborated,
};

/// A claim that rests on hearsay, an assurance or a ranking alone.
pub(super) fn unsupported(document: &Document<'_>, index: usize, findings: &mut Vec<Finding>) {
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
    let figures = sentence
        .words
        .iter()
        .filter(|word| word.class == Class::Number && word.base != "one" && word.base != "一")
        .count();
    if figures >= 2 {
        // It is reckoned.
        confidence -= 0.15;
    }
    if sentence.lower.starts_with('我') && has_any(&sentence.lower, &["老师说", "听说"]) {
        confidence -= 0.3;
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
        let cut = before.rfind([',', ';', ':', '—']).map_or(0, |cut| cut + 1);
        let clause = before.get(cut..).unwrap_or(before);
        // "White obviously has …": between a short subject and its verb.
        let verb = sentence
            .words
            .iter()
            .find(|word| word.range.start - sentence.start >= found.end);
        let asserts = (1..=3).contains(&clause.split_whitespace().count())
            && verb.is_some_and(|verb| {
                verb.may_be(VERB) && !verb.may_be(ADJECTIVE)
                    || matches!(verb.base.as_str(), "is" | "are" | "has" | "have" | "was")
            });
        asserts
            || before.is_empty()
            || before.ends_with([',', ';', ':', '—'])
            || before.ends_with("and")
    })
}

/// "The greatest achievement": ranked first by its form.
fn superlative(sentence: &Sentence<'_>) -> Option<Range<usize>> {
    sentence.words.windows(3).find_map(|triple| {
        let be = matches!(
            triple[0].base.as_str(),
            "is" | "are" | "was" | "were" | "remain" | "become" | "be"
        );
        let pair = &triple[1..];
        if !be {
            return None;
        }
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
