//! English words: a general vocabulary with parts of speech, and regular inflection.
//!
//! Invariant: the vocabulary (`data/en.txt`) holds everyday words only, never the terms of
//! a subject; whatever is not in it and cannot be derived from it counts as rare.
//! Deliberately absent: a statistical tagger.

use std::{cell::RefCell, collections::HashMap, sync::LazyLock};

use super::text::{Class, Word};

pub(super) const FUNCTION: u8 = 1;
pub(super) const NOUN: u8 = 2;
pub(super) const VERB: u8 = 4;
pub(super) const ADJECTIVE: u8 = 8;
pub(super) const ADVERB: u8 = 16;

static VOCABULARY: LazyLock<HashMap<&'static str, u8>> = LazyLock::new(|| {
    let mut words = HashMap::new();
    let mut section = 0;
    for line in include_str!("data/en.txt").lines() {
        if line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            section = match name.trim_end_matches(']') {
                "function" => FUNCTION,
                "noun" => NOUN,
                "verb" => VERB,
                "adjective" => ADJECTIVE,
                _ => ADVERB,
            };
            continue;
        }
        for word in line.split_whitespace() {
            *words.entry(word).or_insert(0) |= section;
        }
    }
    words
});

/// Splits a sentence into words; `start` is where it stands in the whole text.
pub(super) fn words(sentence: &str, start: usize) -> Vec<Word> {
    let mut found = Vec::new();
    let mut from = None;
    for (at, c) in sentence.char_indices() {
        let inner = from.is_some() && matches!(c, '\'' | '’' | '-' | '_');
        if c.is_alphanumeric() || inner {
            from.get_or_insert(at);
        } else if let Some(begin) = from.take() {
            push(sentence, begin, at, start, &mut found);
        }
    }
    if let Some(begin) = from {
        push(sentence, begin, sentence.len(), start, &mut found);
    }
    found
}

fn push(sentence: &str, begin: usize, end: usize, start: usize, into: &mut Vec<Word>) {
    let text = sentence[begin..end].trim_end_matches(['\'', '’', '-', '_']);
    let range = start + begin..start + begin + text.len();
    into.push(word(text, range));
}

/// Looks one word up.
pub(super) fn word(text: &str, range: std::ops::Range<usize>) -> Word {
    let (base, class, speech) = known(text);
    Word {
        range,
        base,
        class,
        speech,
        frequency: 0,
    }
}

/// A word's base form, what it is, and its parts of speech.
type Entry = (String, Class, u8);

/// How many words a thread remembers, as they are written; with their base forms some 250 KB.
/// They are forgotten together when they are more.
const KNOWN: usize = 2048;
/// The longest word that is remembered, in bytes.
const KNOWN_BYTES: usize = 40;

thread_local! {
    /// What [`classify`] said: the same words come again with every sentence, and one outside the
    /// vocabulary is looked up in some fifty forms.
    static LOOKED_UP: RefCell<HashMap<String, Entry>> = RefCell::default();
}

fn known(text: &str) -> Entry {
    LOOKED_UP.with_borrow_mut(|known| {
        if let Some(entry) = known.get(text) {
            return entry.clone();
        }
        let entry = classify(&text.to_lowercase().replace('’', "'"));
        if text.len() <= KNOWN_BYTES {
            if known.len() >= KNOWN {
                known.clear();
            }
            known.insert(text.to_owned(), entry.clone());
        }
        entry
    })
}

/// Numbers in words; "one" is left out, it is a pronoun as often.
const NUMBERS: &[&str] = &[
    "zero",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
    "thirty",
    "forty",
    "fifty",
    "sixty",
    "seventy",
    "eighty",
    "ninety",
    "hundred",
    "thousand",
    "million",
    "billion",
];

fn classify(lower: &str) -> Entry {
    if lower.chars().next().is_some_and(|c| c.is_ascii_digit()) {
        return (lower.to_owned(), Class::Number, 0);
    }
    if NUMBERS.contains(&lower) {
        return (lower.to_owned(), Class::Number, 0);
    }
    if let Some((base, speech)) = look_up(lower) {
        let class = if speech & FUNCTION != 0 {
            Class::Function
        } else {
            Class::Common
        };
        return (base, class, speech);
    }
    if let Some(speech) = closed_compound(lower) {
        return (plain_singular(lower), Class::Common, speech);
    }
    if let Some((left, right)) = lower.split_once('-')
        && let (Some((_, a)), Some((_, b))) = (look_up(left), look_up(right))
    {
        // "well-known", "two-way": everyday words joined by a hyphen.
        let speech = if a & (FUNCTION | ADVERB | ADJECTIVE) != 0 {
            ADJECTIVE
        } else {
            b & !FUNCTION
        };
        return (lower.to_owned(), Class::Common, speech | NOUN);
    }
    let speech = if lower.ends_with("ly") { ADVERB } else { 0 };
    (plain_singular(lower), Class::Rare, speech)
}

/// "landowner", "bookshelf": two everyday words written as one.
fn closed_compound(lower: &str) -> Option<u8> {
    if !lower.is_ascii() || lower.len() < 7 || lower.len() > 16 {
        return None;
    }
    (3..=lower.len() - 3).find_map(|cut| {
        let (left, right) = lower.split_at(cut);
        let known = VOCABULARY
            .get(left)
            .is_some_and(|s| s & (NOUN | ADJECTIVE | VERB) != 0);
        let (_, speech) = known.then(|| simple(right)).flatten()?;
        (speech & (NOUN | VERB) != 0).then_some(NOUN)
    })
}

/// A word of the vocabulary, or its plural.
fn simple(word: &str) -> Option<(&str, u8)> {
    let found = |word: &str| {
        VOCABULARY
            .get_key_value(word)
            .map(|(word, speech)| (*word, *speech))
    };
    found(word)
        .or_else(|| word.strip_suffix('s').and_then(found))
        .or_else(|| {
            word.trim_end_matches('s')
                .strip_suffix("er")
                .and_then(found)
        })
}

/// Whether a word is made of an everyday verb by a learned ending: "vibration".
pub(super) fn is_derived(word: &str) -> bool {
    [
        ("ation", "ate"),
        ("ation", "e"),
        ("ation", ""),
        ("ion", ""),
        ("ion", "e"),
        ("ance", ""),
        ("ence", ""),
        ("ability", "able"),
        ("ity", ""),
        ("ity", "e"),
        ("al", ""),
        ("al", "e"),
        ("ic", ""),
        ("ive", "e"),
        ("ive", ""),
    ]
    .iter()
    .any(|(ending, instead)| {
        word.strip_suffix(ending)
            .is_some_and(|stem| stem.len() > 2 && look_up(&format!("{stem}{instead}")).is_some())
    })
}

/// The base form and parts of speech of a word in or derivable from the vocabulary.
pub(super) fn look_up(lower: &str) -> Option<(String, u8)> {
    let known = |word: &str| VOCABULARY.get(word).copied();
    if let Some(speech) = known(lower) {
        return Some((irregular(lower).to_owned(), speech));
    }
    let lower = lower.strip_suffix("'s").unwrap_or(lower);
    if let Some(speech) = known(lower) {
        return Some((lower.to_owned(), speech));
    }
    for stem in inflected(lower, "s") {
        if let Some(speech) = known(&stem)
            && speech & (NOUN | VERB) != 0
        {
            return Some((stem, speech & !FUNCTION));
        }
    }
    for (ending, speech) in [
        ("ed", VERB | ADJECTIVE),
        ("ing", VERB | ADJECTIVE | NOUN),
        ("er", ADJECTIVE | NOUN),
        ("est", ADJECTIVE),
        ("or", NOUN),
    ] {
        for stem in inflected(lower, ending) {
            if known(&stem).is_some_and(|s| s & (VERB | ADJECTIVE | NOUN) != 0) {
                return Some((stem, speech));
            }
        }
    }
    for stem in inflected(lower, "ers") {
        if known(&stem).is_some_and(|s| s & VERB != 0) {
            return Some((stem, NOUN));
        }
    }
    for (ending, speech) in [
        ("ly", ADVERB),
        ("ness", NOUN),
        ("less", ADJECTIVE),
        ("ful", ADJECTIVE),
        ("able", ADJECTIVE),
        ("ment", NOUN),
        ("y", ADJECTIVE),
    ] {
        for stem in inflected(lower, ending) {
            if known(&stem).is_some_and(|s| s & (ADJECTIVE | VERB | NOUN) != 0) {
                return Some((stem, speech));
            }
        }
    }
    for prefix in ["un", "re", "over", "non-", "non", "mis"] {
        if let Some(rest) = lower.strip_prefix(prefix)
            && rest.len() > 2
            && let Some((base, speech)) = look_up(rest)
        {
            return Some((format!("{prefix}{base}"), speech));
        }
    }
    None
}

/// What may stand before a regular ending: `stopp|ed` → `stop`, `mak|ing` → `make`.
fn inflected(word: &str, ending: &str) -> Vec<String> {
    let Some(stem) = word.strip_suffix(ending) else {
        return Vec::new();
    };
    if stem.chars().count() < 2 {
        return Vec::new();
    }
    let mut stems = vec![stem.to_owned()];
    if let Some(short) = stem.strip_suffix('e') {
        stems.push(short.to_owned());
    }
    if ending != "s" {
        stems.push(format!("{stem}e"));
        let mut ends = stem.chars().rev();
        if ends.next().is_some_and(|last| Some(last) == ends.next()) {
            let mut short = stem.to_owned();
            short.pop();
            stems.push(short);
        }
    }
    if let Some(short) = stem
        .strip_suffix("ie")
        .or_else(|| stem.strip_suffix('i'))
        .filter(|short| !short.is_empty())
    {
        stems.push(format!("{short}y"));
    }
    if let Some(short) = stem.strip_suffix("ve") {
        stems.push(format!("{short}fe"));
    }
    stems
}

/// The base form of frequent irregular words, so that their forms compare equal.
fn irregular(word: &str) -> &str {
    match word {
        "fell" | "fallen" => "fall",
        "rose" | "risen" => "rise",
        "grew" | "grown" => "grow",
        "went" | "gone" | "goes" => "go",
        "made" | "makes" => "make",
        "gave" | "given" => "give",
        "took" | "taken" => "take",
        "lost" => "lose",
        "kept" => "keep",
        "held" => "hold",
        "says" | "said" => "say",
        "needs" => "need",
        "leaves" => "leaf",
        "lives" => "life",
        "men" => "man",
        "women" => "woman",
        "children" => "child",
        "teeth" => "tooth",
        "mice" => "mouse",
        "worse" => "bad",
        "better" | "best" => "good",
        _ => word,
    }
}

/// The singular of a rare word, by form alone.
fn plain_singular(word: &str) -> String {
    let word = word.strip_suffix("'s").unwrap_or(word);
    for (ending, singular) in [("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch")] {
        if let Some(stem) = word.strip_suffix(ending)
            && stem.len() > 2
        {
            return format!("{stem}{singular}");
        }
    }
    match word.strip_suffix('s') {
        Some(stem) if stem.len() > 2 && !stem.ends_with(['s', 'u', 'i']) => stem.to_owned(),
        _ => word.to_owned(),
    }
}
