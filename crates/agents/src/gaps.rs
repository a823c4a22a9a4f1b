//! Reads the gaps out of a model's answer, whatever form it took.
//!
//! Invariant: every quote is a piece of the learner's own text, character for
//! character. Deliberately absent: judging whether the model is right.

use lyceum_core::{Confidence, Gap, GapKind, Severity};
use serde_json::Value;

use crate::{knowledge::is_same, structured::extract_json};

/// Gaps kept of one answer.
const MAX_GAPS: usize = 8;
/// Characters kept of one reason.
const MAX_REASON_CHARS: usize = 300;

/// Why no gap could be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GapError {
    /// The answer holds neither JSON nor a list.
    #[error("find JSON or a list in the answer")]
    NoStructure,
    /// There is JSON, but no list of gaps in it.
    #[error("find a list of gaps in the answer's JSON")]
    NoList,
    /// There are gaps, and none of them quotes the explanation.
    #[error("find a quote of the answer in the explanation")]
    NoQuote,
}

/// Reads gaps from an answer: JSON in any wrapping, else the points of a list.
///
/// # Errors
///
/// [`GapError`] when there is neither. An empty list is a valid answer.
pub fn parse_gaps(answer: &str, explanation: &str) -> Result<Vec<Gap>, GapError> {
    let found = match extract_json(answer) {
        Some(value) => from_value(&value, explanation)?,
        None => from_list(answer, explanation)?,
    };
    let said = found.len();
    let mut gaps: Vec<Gap> = found.into_iter().flatten().collect();
    if gaps.is_empty() && said > 0 {
        return Err(GapError::NoQuote);
    }
    gaps.sort_by_key(|gap| std::cmp::Reverse(gap.severity));
    let mut kept: Vec<Gap> = Vec::new();
    for gap in gaps {
        if !kept.iter().any(|other| is_same(other, &gap)) && kept.len() < MAX_GAPS {
            kept.push(gap);
        }
    }
    Ok(kept)
}

/// The items of a list; `None` for one that quotes nothing of the explanation.
fn from_value(value: &Value, explanation: &str) -> Result<Vec<Option<Gap>>, GapError> {
    let list = match value {
        Value::Array(list) => Some(list),
        // The list has the name we asked for, or is the only one there.
        Value::Object(fields) => {
            let named = ["gaps", "unclear_points"]
                .iter()
                .find_map(|name| fields.get(*name));
            named
                .or_else(|| fields.values().find(|field| field.is_array()))
                .and_then(Value::as_array)
        }
        _ => None,
    };
    let list = list.ok_or(GapError::NoList)?;
    Ok(list
        .iter()
        .map(|item| from_item(item, explanation))
        .collect())
}

fn from_item(item: &Value, explanation: &str) -> Option<Gap> {
    if let Some(text) = item.as_str() {
        return from_text(text, explanation);
    }
    let field = |names: &[&str]| {
        let found = names.iter().find_map(|name| item.get(*name)?.as_str());
        found.map(str::trim).filter(|text| !text.is_empty())
    };
    let reason =
        field(&["reason", "why", "description", "missing", "explanation"]).unwrap_or_default();
    let quote = field(&["quote", "text", "words", "term"]).or(Some(reason))?;
    if quote.is_empty() {
        return None;
    }
    let kind = field(&["kind", "type", "category"]).map_or(GapKind::MissingMechanism, kind_named);
    let severity = match field(&["severity", "importance", "priority"]) {
        Some(text) if text.eq_ignore_ascii_case("high") => Severity::High,
        Some(text) if text.eq_ignore_ascii_case("low") => Severity::Low,
        _ => Severity::Medium,
    };
    let quote = locate(quote, explanation)?.to_owned();
    Some(Gap {
        kind,
        quote,
        reason: short(reason),
        severity,
        confidence: confidence(item),
    })
}

/// A fraction, a percentage, or a word.
fn confidence(item: &Value) -> Confidence {
    let said = ["confidence", "certainty", "probability"]
        .iter()
        .find_map(|name| item.get(*name));
    let number = |value: &Value| match value {
        Value::String(text) => text.trim().trim_end_matches('%').trim().parse().ok(),
        value => value.as_f64(),
    };
    match (said.and_then(number), said.and_then(Value::as_str)) {
        (Some(percent), _) if percent > 1.0 => Confidence::from_fraction(percent / 100.0),
        (Some(fraction), _) => Confidence::from_fraction(fraction),
        (None, Some(word)) if word.eq_ignore_ascii_case("high") => Confidence::from_fraction(0.9),
        (None, Some(word)) if word.eq_ignore_ascii_case("low") => Confidence::from_fraction(0.3),
        _ => Confidence::default(),
    }
}

/// The points of a bulleted or numbered list.
fn from_list(answer: &str, explanation: &str) -> Result<Vec<Option<Gap>>, GapError> {
    let points: Vec<&str> = answer.lines().filter_map(list_item).collect();
    if points.is_empty() {
        return Err(GapError::NoStructure);
    }
    Ok(points
        .into_iter()
        .map(|point| from_text(point, explanation))
        .collect())
}

fn from_text(text: &str, explanation: &str) -> Option<Gap> {
    let quote = locate(text, explanation)?.to_owned();
    Some(Gap {
        kind: GapKind::MissingMechanism,
        quote,
        reason: short(text),
        severity: Severity::Medium,
        confidence: Confidence::default(),
    })
}

/// The text of a list item: `- x`, `* x`, `• x`, `1. x`, `2) x`, `3、x`.
pub(crate) fn list_item(line: &str) -> Option<&str> {
    let line = line.trim();
    if let Some(rest) = line.strip_prefix(['-', '*', '•']) {
        // `**bold**` is no bullet.
        return rest
            .starts_with(char::is_whitespace)
            .then(|| rest.trim())
            .filter(|rest| !rest.is_empty());
    }
    let digits = line.len() - line.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let rest = line[digits..].strip_prefix(['.', ')', '、', '．', '）'])?;
    (digits > 0)
        .then(|| rest.trim())
        .filter(|rest| !rest.is_empty())
}

fn kind_named(name: &str) -> GapKind {
    let name = name.to_lowercase().replace([' ', '-'], "_");
    let has = |word: &str| name.contains(word);
    match () {
        () if has("contradict") => GapKind::Contradiction,
        () if has("circular") => GapKind::CircularDefinition,
        () if has("mechanism") => GapKind::MissingMechanism,
        () if has("step") => GapKind::MissingStep,
        () if has("term") || has("definition") || has("undefined") => GapKind::UndefinedTerm,
        () if has("general") => GapKind::OverGeneralisation,
        () if has("bound") || has("limit") => GapKind::BoundaryCase,
        () if has("analog") => GapKind::BrokenAnalogy,
        () if has("example") => GapKind::MissingExample,
        () if has("vague") => GapKind::VagueWord,
        () if has("claim") || has("support") || has("evidence") => GapKind::UnsupportedClaim,
        () => GapKind::MissingMechanism,
    }
}

/// The piece of the explanation that a model's quote means: the same characters, the same
/// up to case, else the sentence that shares most words with it.
fn locate<'a>(quote: &str, explanation: &'a str) -> Option<&'a str> {
    let quote = quote.trim_matches(|c: char| c.is_whitespace() || "\"'“”‘’「」…".contains(c));
    if !quote.is_empty() {
        if let Some(at) = explanation.find(quote) {
            return Some(&explanation[at..at + quote.len()]);
        }
        // Lower-casing ASCII keeps every byte's place.
        if let Some(at) = explanation
            .to_ascii_lowercase()
            .find(&quote.to_ascii_lowercase())
        {
            return explanation.get(at..at + quote.len());
        }
    }
    let shared = |sentence: &&str| overlap(quote, sentence);
    let best = sentences(explanation).max_by_key(shared)?;
    (shared(&best) > 0).then_some(best)
}

fn sentences(text: &str) -> impl Iterator<Item = &str> {
    let ends = ['.', '!', '?', '。', '！', '？', '；', '\n'];
    text.split_inclusive(ends)
        .map(str::trim)
        .filter(|sentence| !sentence.is_empty())
}

/// Words of at least four letters, or pairs of other letters (Chinese), that both share.
fn overlap(quote: &str, sentence: &str) -> usize {
    let sentence = sentence.to_lowercase();
    let quote = quote.to_lowercase();
    let words = quote
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| word.len() >= 4);
    let word_hits = words.filter(|word| sentence.contains(word)).count();
    let letters: Vec<char> = quote
        .chars()
        .filter(|c| c.is_alphanumeric() && !c.is_ascii())
        .collect();
    let pair_hits = letters
        .windows(2)
        .filter(|pair| sentence.contains(&String::from_iter(*pair)))
        .count();
    word_hits + pair_hits
}

fn short(text: &str) -> String {
    text.chars().take(MAX_REASON_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "Plants eat light. So they grow. 光合作用产生氧气。";

    fn quotes(answer: &str) -> Vec<String> {
        parse_gaps(answer, TEXT)
            .unwrap()
            .into_iter()
            .map(|gap| gap.quote)
            .collect()
    }

    #[test]
    fn reads_json_in_any_wrapping() {
        let fenced = "Here:\n```json\n{\"gaps\":[{\"kind\":\"missing_mechanism\",\"quote\":\"plants EAT light\",\"reason\":\"how?\",\"severity\":\"high\"}]}\n```";
        let gaps = parse_gaps(fenced, TEXT).unwrap();
        assert_eq!(gaps[0].quote, "Plants eat light");
        assert_eq!(gaps[0].severity, Severity::High);
        assert_eq!(
            quotes("[\"they grow because of what?\"]"),
            ["So they grow."]
        );
        assert_eq!(
            quotes("{\"unclear_points\":[{\"quote\":\"氧气\"}]}"),
            ["氧气"]
        );
        assert_eq!(
            quotes("{\"gaps\": [{\"quote\": \"they grow\", \"reason\": \"unfinis"),
            ["they grow"]
        );
    }

    #[test]
    fn reads_lists_and_finds_the_sentence_meant() {
        assert_eq!(
            quotes("1. how the plants use light\n2) 产生氧气的过程"),
            ["Plants eat light.", "光合作用产生氧气。"]
        );
    }

    #[test]
    fn says_when_there_is_nothing_to_read() {
        assert_eq!(
            parse_gaps("I do not know.", TEXT),
            Err(GapError::NoStructure)
        );
        assert_eq!(parse_gaps("{\"answer\": 4}", TEXT), Err(GapError::NoList));
        assert_eq!(parse_gaps("{\"gaps\": []}", TEXT), Ok(Vec::new()));
    }

    #[test]
    fn a_quote_that_is_nowhere_is_dropped_and_an_answer_of_nothing_else_is_refused() {
        let invented = "{\"quote\":\"quantum\",\"reason\":\"\"}";
        assert_eq!(
            quotes(&format!("[{invented}, {{\"quote\":\"they grow\"}}]")),
            ["they grow"]
        );
        assert_eq!(
            parse_gaps(&format!("{{\"gaps\":[{invented}]}}"), TEXT),
            Err(GapError::NoQuote)
        );
    }

    proptest! {
        #[test]
        fn quotes_are_the_learners_own_words(answer in "\\PC{0,200}", text in "\\PC{0,200}") {
            for gap in parse_gaps(&answer, &text).unwrap_or_default() {
                prop_assert!(text.contains(&gap.quote));
            }
        }
    }
}
