//! Claims that contradict each other, within a text and against what was said before.
//!
//! A claim is reduced to what it speaks of (a set of content words), its numbers and a
//! sign; the sign flips with each negation and each word of decrease. Two claims of the
//! same things with different signs contradict each other; two flips cancel out, so that
//! "more supply, lower price" agrees with "less supply, higher price".
//! Work is bounded: a claim is compared with few others that share a rare word.
//! Deliberately absent: knowledge of the world.

mod compare;

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::LazyLock,
};

use compare::{contradicts, turns_against};
use lyceum_core::{GapKind, Severity};

use super::{
    english::{self, ADVERB},
    finding::Finding,
    markers::{CORRECTS, FORMS, Phrases, section},
    text::{Class, Document, Language, Sentence, Word, has_any},
};

/// The most contradictions reported of one text.
const MOST: usize = 3;
/// Claims compared through one shared word.
const PER_WORD: usize = 12;
/// The longest sentence that is compared with others word by word.
const PLAIN_WORDS: usize = 40;

/// Stands for "go up" and "go down" among the pairs.
const RISE: usize = usize::MAX;

/// Pairs of opposites of general language; the second of a pair carries a minus.
static OPPOSITES: LazyLock<HashMap<&'static str, (usize, bool)>> = LazyLock::new(|| {
    let mut opposites = HashMap::new();
    let lines = include_str!("data/opposites.txt").lines();
    for (pair, line) in lines.filter(|line| !line.starts_with('#')).enumerate() {
        for (side, minus) in line.split('|').zip([false, true]) {
            for word in side.split(',') {
                opposites.entry(word.trim()).or_insert((pair, minus));
            }
        }
    }
    opposites
});

/// Negations of English; Chinese ones are parts of words.
static NEGATIONS: Phrases = LazyLock::new(|| section(FORMS, "negations"));

/// Chinese words that begin with a negating character and do not negate.
static NOT_NEGATING: Phrases = LazyLock::new(|| section(FORMS, "not_negating"));

/// Words too plain to say what a claim is about.
static FILLERS: Phrases = LazyLock::new(|| section(FORMS, "fillers"));

#[derive(Debug, Default)]
struct Claim {
    /// What it speaks of.
    about: HashSet<String>,
    /// Opposites it uses, by pair.
    pairs: Vec<usize>,
    negative: bool,
    numbers: Vec<(String, String)>,
    /// Says that it holds under a condition only.
    conditional: bool,
    always: bool,
    text: String,
    range: Range<usize>,
    sentence: usize,
    /// Whether it is a sentence rather than a part of one.
    whole: bool,
    /// 0 is the text itself; earlier texts follow.
    source: usize,
    /// The subject: its first content word.
    subject: String,
    /// Its words up to a reason, without what only denies; empty where it is no plain claim.
    plain: String,
    /// Whether its plain words are denied.
    denied: bool,
}

/// Finds contradictions; `focus` holds the earlier claim.
pub(super) fn find(document: &Document<'_>, earlier: &[Document<'_>]) -> Vec<Finding> {
    let takes_back = has_any(&document.text.to_ascii_lowercase(), &CORRECTS);
    let mut claims = Vec::new();
    if !takes_back {
        for (source, before) in earlier.iter().enumerate() {
            collect(before, source + 1, &mut claims);
        }
    }
    collect(document, 0, &mut claims);
    let mut index: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut plain: HashMap<(&str, bool), usize> = HashMap::new();
    let mut findings: Vec<Finding> = Vec::new();
    for (at, claim) in claims.iter().enumerate() {
        if claim.source == 0 {
            let mut seen = HashSet::new();
            let found = claim
                .about
                .iter()
                .filter_map(|word| index.get(word.as_str()))
                .flatten()
                .copied()
                .filter(|other| seen.insert(*other))
                .filter(|&other| contradicts(&claims[other], claim, document))
                .chain(
                    plain
                        .get(&(claim.plain.as_str(), !claim.denied))
                        .copied()
                        .filter(|&other| {
                            claims[other].source > 0 || !turns_against(claim, document)
                        }),
                )
                .min();
            if let Some(other) = found
                && findings.len() < MOST
                && !findings.iter().any(|f| f.sentence == claim.sentence)
            {
                findings.push(Finding {
                    kind: GapKind::Contradiction,
                    range: claim.range.clone(),
                    sentence: claim.sentence,
                    confidence: 0.86,
                    severity: Severity::High,
                    focus: claims[other].text.clone(),
                });
            }
        }
        if !claim.plain.is_empty() {
            plain
                .entry((claim.plain.as_str(), claim.denied))
                .or_insert(at);
        }
        for word in &claim.about {
            let bucket = index.entry(word.as_str()).or_default();
            bucket.push(at);
            if bucket.len() > PER_WORD {
                bucket.remove(0);
            }
        }
    }
    findings
}

fn collect(document: &Document<'_>, source: usize, claims: &mut Vec<Claim>) {
    for (index, sentence) in document.sentences.iter().enumerate() {
        if sentence.is_question {
            continue;
        }
        let mut whole = claim(sentence, sentence.body(), index, source);
        (whole.plain, whole.denied) = plain(sentence);
        whole.whole = true;
        let clauses = clause_ranges(sentence);
        if clauses.len() > 1 {
            for range in clauses {
                let mut part = claim(sentence, range, index, source);
                // A part of a conditional sentence says nothing without its condition.
                part.conditional = whole.conditional;
                // A part that leans on the one before it does not name its subject.
                let leans = part.text.starts_with(['又', '并', '却', '还', '而', '也']);
                if part.about.len() >= 2 && !part.conditional && !leans {
                    claims.push(part);
                }
            }
        }
        if whole.about.len() >= 2
            || !whole.plain.is_empty()
            || (!whole.about.is_empty() && !whole.pairs.is_empty())
        {
            claims.push(whole);
        }
    }
}

/// What a sentence says word by word and whether it denies it: "things do not fall" says
/// "thing fall" and denies it. Nothing where only some are meant, or too little is said.
fn plain(sentence: &Sentence<'_>) -> (String, bool) {
    const PARTLY: &[&str] = &[
        "some",
        "sometimes",
        "often",
        "usually",
        "many",
        "most",
        "may",
        "might",
        "could",
        "other",
        "think",
        "believe",
        "say",
        "有些",
        "有的",
        "有时",
        "一些",
        "可能",
        "一定",
        "往往",
        "通常",
        "多数",
        "以为",
        "认为",
        "说",
    ];
    const EMPTY: &[&str] = &[
        "the", "a", "an", "do", "does", "did", "and", "but", "并", "了", "的", "其实", "really",
        "actually", "also", "都", "也", "就",
    ];
    let (mut said, mut denied, mut content) = (String::new(), false, 0_usize);
    if sentence.words.len() > PLAIN_WORDS || has_any(&sentence.lower, PARTLY) {
        return (said, false);
    }
    for word in &sentence.words {
        let base = word.base.as_str();
        if matches!(base, "because" | "因为" | "由于" | "since") {
            break;
        }
        if negates(sentence.language, base, &sentence.lower) {
            denied = !denied;
            let bare = base.trim_start_matches(['并', '不', '没', '未', '非', '无']);
            match sentence.language {
                Language::Chinese if base == "并非" => said.push('是'),
                Language::Chinese => said.push_str(bare),
                Language::English if base.starts_with("can") => said.push_str("can "),
                Language::English if matches!(base, "isn't" | "aren't") => said.push_str("is "),
                Language::English => {}
            }
            continue;
        }
        if EMPTY.contains(&base) {
            continue;
        }
        content += usize::from(word.is_content());
        // "Falls faster" and "falls slower" differ as "falls" and "does not fall" do; a
        // subject and its opposite are two subjects.
        match opposite(base) {
            Some((pair, minus)) if content > 1 => {
                denied ^= minus;
                said.push_str(&format!("{pair}"));
            }
            _ => said.push_str(if base == "are" { "is" } else { base }),
        }
        if sentence.language == Language::English {
            said.push(' ');
        }
    }
    if content < 2 {
        said.clear();
    }
    (said, denied)
}

fn clause_ranges(sentence: &Sentence<'_>) -> Vec<Range<usize>> {
    let body = sentence.body();
    let mut ranges = Vec::new();
    let mut from = body.start;
    for (at, mark) in sentence.text.char_indices() {
        let at = sentence.start + at;
        if at > from && at < body.end && ",;，；:：".contains(mark) {
            ranges.push(from..at);
            from = at + mark.len_utf8();
        }
    }
    ranges.push(from..body.end);
    ranges
        .into_iter()
        .map(|range| {
            let text = &sentence.text[range.start - sentence.start..range.end - sentence.start];
            let lead = text.len() - text.trim_start().len();
            range.start + lead..range.start + text.trim_end().len().max(lead)
        })
        .collect()
}

fn claim(sentence: &Sentence<'_>, range: Range<usize>, index: usize, source: usize) -> Claim {
    let text = &sentence.text[range.start - sentence.start..range.end - sentence.start];
    let mut claim = Claim {
        text: text.to_owned(),
        sentence: index,
        source,
        ..Claim::default()
    };
    let lower = text.to_ascii_lowercase();
    claim.conditional = has_any(
        &lower,
        &[
            "if",
            "when",
            "unless",
            "except",
            "sometimes",
            "only",
            "while",
            "until",
            "in some",
            "other",
            "others",
            "如果",
            "当",
            "除非",
            "有时",
            "只有",
            "时候",
            "另一",
            "其他",
            "否则",
            "有些",
            "有的",
            "若",
        ],
    );
    let words: Vec<&Word> = sentence
        .words
        .iter()
        .filter(|word| word.range.start >= range.start && word.range.end <= range.end)
        .collect();
    for (at, word) in words.iter().enumerate() {
        let base = word.base.as_str();
        if negates(sentence.language, base, &lower) {
            claim.negative = !claim.negative;
            let rest: String = base.chars().skip(1).collect();
            if sentence.language == Language::Chinese && rest.chars().count() >= 2 {
                claim.about.insert(rest);
            }
            continue;
        }
        let moved = |word: &&Word| {
            matches!(
                word.base.as_str(),
                "go" | "come" | "move" | "drive" | "push" | "turn" | "bring"
            )
        };
        if matches!(base, "up" | "down") {
            // "Prices go up" is a rise; "slow down" only repeats its verb.
            if at
                .checked_sub(1)
                .and_then(|left| words.get(left))
                .is_some_and(moved)
            {
                claim.pairs.push(RISE);
                claim.negative ^= base == "down";
            }
            continue;
        }
        if let Some((pair, minus)) = opposite(base) {
            if matches!(base, "can" | "possible" | "可能") {
                // What can be is said of what is.
                continue;
            }
            claim.pairs.push(pair);
            claim.negative ^= minus;
            continue;
        }
        match word.class {
            Class::Number => {
                let unit = words
                    .get(at + 1)
                    .map(|next| next.base.clone())
                    .unwrap_or_default();
                claim.numbers.push((base.to_owned(), unit));
            }
            Class::Common | Class::Rare if !is_filler(base) && word.speech != ADVERB => {
                let base = match affirmed(sentence.language, base) {
                    Some(affirmed) => {
                        claim.negative = !claim.negative;
                        affirmed
                    }
                    None => base,
                };
                if claim.subject.is_empty() {
                    claim.subject = base.to_owned();
                }
                claim.about.insert(base.to_owned());
            }
            _ => {}
        }
    }
    claim.always = has_any(
        &lower,
        &["always", "every", "all", "总是", "永远", "所有", "任何"],
    );
    claim.pairs.sort_unstable();
    claim.pairs.dedup();
    claim.range = range;
    claim
}

/// The opposite of a word negated by its prefix: "irreversible" → "reversible".
fn affirmed(language: Language, base: &str) -> Option<&str> {
    if language == Language::Chinese {
        return None;
    }
    let rest = ["un", "ir", "in", "im", "non-", "non"]
        .iter()
        .find_map(|prefix| base.strip_prefix(prefix))?;
    let adjective =
        rest.ends_with("ible") || rest.ends_with("able") || rest.ends_with("ant") && rest.len() > 6;
    let known = base.starts_with("un") && rest.len() > 3 && english::look_up(rest).is_some();
    (rest.len() > 4 && adjective || known).then_some(rest)
}

fn is_filler(base: &str) -> bool {
    FILLERS.contains(&base)
}

pub(super) fn negates(language: Language, base: &str, lower: &str) -> bool {
    match language {
        Language::English => {
            NEGATIONS.contains(&base) && !(base == "not" && lower.contains("not only"))
        }
        Language::Chinese => {
            (base.starts_with(['不', '没', '未'])
                || matches!(
                    base,
                    "无" | "并非" | "无法" | "绝不" | "从不" | "毫无" | "并不"
                ))
                && !NOT_NEGATING.contains(&base)
                && opposite(base).is_none()
        }
    }
}

pub(super) fn opposite(base: &str) -> Option<(usize, bool)> {
    listed_opposite(base).or_else(|| {
        let bare = base.trim_start_matches(['更', '变', '得', '较', '越', '最', '很']);
        (bare.len() < base.len() && !bare.is_empty())
            .then(|| listed_opposite(bare))
            .flatten()
    })
}

fn listed_opposite(base: &str) -> Option<(usize, bool)> {
    OPPOSITES.get(base).copied()
}
