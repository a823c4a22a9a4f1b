//! English terms: rare words, names with a noun, compounds.

use std::{ops::Range, sync::LazyLock};

use super::{
    super::{
        english::{self, ADJECTIVE, ADVERB, NOUN, VERB},
        markers::{FORMS, Phrases, section},
        text::{Class, Sentence},
    },
    Candidate, EVERYDAY_CAPITALS, LONGEST, adjoin, push, surface,
};

/// Endings and beginnings of learned words, from Greek and Latin.
static ENDINGS: Phrases = LazyLock::new(|| section(FORMS, "learned_endings"));
static BEGINNINGS: Phrases = LazyLock::new(|| section(FORMS, "learned_beginnings"));

/// Finds them in a sentence.
pub(super) fn runs(sentence: &Sentence<'_>, index: usize, found: &mut Vec<Candidate>) {
    let words = &sentence.words;
    let shouting = is_shouting(sentence);
    let mut at = 0;
    while at < words.len() {
        if !may_stand_in_term(sentence, at) {
            at += 1;
            continue;
        }
        let mut end = at + 1;
        while end < words.len()
            && end - at < LONGEST + 2
            && may_stand_in_term(sentence, end)
            && adjoin(sentence, &words[end - 1], &words[end])
            && !is_verb_here(sentence, end)
        {
            end += 1;
        }
        run(sentence, index, at..end, shouting, found);
        at = end;
    }
}

fn may_stand_in_term(sentence: &Sentence<'_>, at: usize) -> bool {
    let word = &sentence.words[at];
    match word.class {
        Class::Rare => {
            let letter = surface(sentence, word).chars().count() == 1;
            let kind = word.base != "i" && word.base != "a" && is_before_noun(sentence, at);
            !word.may_be(ADVERB) && (!letter || kind)
        }
        Class::Common => word.may_be(NOUN | ADJECTIVE) && surface(sentence, word) != "means",
        Class::Function | Class::Number => false,
    }
}

fn is_before_noun(sentence: &Sentence<'_>, at: usize) -> bool {
    sentence.words.get(at + 1).is_some_and(|next| {
        next.class == Class::Common
            && next.may_be(NOUN)
            && adjoin(sentence, &sentence.words[at], next)
    })
}

/// Whether a rare word looks like a verb at this place, or a common one acts as one.
fn is_verb_here(sentence: &Sentence<'_>, at: usize) -> bool {
    let word = &sentence.words[at];
    let text = surface(sentence, word);
    let determiner_follows = sentence.words.get(at + 1).is_some_and(|next| {
        next.class == Class::Function
            && matches!(
                next.base.as_str(),
                "the"
                    | "a"
                    | "an"
                    | "its"
                    | "their"
                    | "our"
                    | "this"
                    | "that"
                    | "these"
                    | "into"
                    | "to"
                    | "from"
                    | "it"
                    | "them"
                    | "your"
                    | "us"
                    | "when"
                    | "by"
            )
    });
    let verbal = text.ends_with('s') && !text.ends_with("ss") && !text.ends_with("sis")
        || text.ends_with("ed")
        || text.ends_with("ing");
    match word.class {
        Class::Rare => {
            (verbal && determiner_follows)
                || [
                    "izes", "ises", "ifies", "ized", "ised", "ified", "ates", "ated",
                ]
                .iter()
                .any(|ending| text.ends_with(ending))
        }
        _ => {
            word.may_be(VERB)
                && (determiner_follows && !text.ends_with("ion") || !word.may_be(NOUN))
        }
    }
}

fn run(
    sentence: &Sentence<'_>,
    index: usize,
    run: Range<usize>,
    shouting: bool,
    found: &mut Vec<Candidate>,
) {
    let words = &sentence.words;
    let rare: Vec<usize> = run
        .clone()
        .filter(|&at| words[at].class == Class::Rare)
        .collect();
    let (Some(&first), Some(&last)) = (rare.first(), rare.last()) else {
        everyday_compound(sentence, index, run, found);
        return;
    };
    // A verb-like or evaluating word in front does not belong to the term.
    let mut begin = first;
    while begin > run.start && {
        let word = &words[begin - 1];
        word.may_be(NOUN) && !word.may_be(VERB | ADJECTIVE)
    } {
        begin -= 1;
    }
    let mut end = last + 1;
    while end < run.end && {
        let word = &words[end];
        word.may_be(NOUN)
            && !(word.may_be(VERB) && surface(sentence, &words[last]).ends_with('s'))
            && !(word.may_be(ADJECTIVE) && surface(sentence, word).ends_with("er"))
            && (is_capitalised(sentence, last) || !surface(sentence, word).ends_with("ing"))
            && !(word.may_be(VERB) && surface(sentence, word).ends_with('s'))
    } {
        end += 1;
    }
    let (begin, end) = if end - begin > LONGEST {
        (first, (first + LONGEST).min(end))
    } else {
        (begin, end)
    };
    let mut score = rare
        .iter()
        .filter(|&&at| at < end)
        .map(|&at| rarity(sentence, at, shouting))
        .fold(0.0, f32::max);
    let is_name = is_capitalised(sentence, first);
    if end > last + 1 {
        score += 0.08;
    }
    if end - begin > 1 && (is_name || rare.len() > 1) {
        score = score.max(0.62);
    }
    if is_name
        && words[begin..end]
            .iter()
            .any(|word| PLACE_HEADS.contains(&word.base.as_str()))
    {
        return;
    }
    push(sentence, index, begin..end, score, found);
}

/// After a name they make the name of a place, a person or a group.
static PLACE_HEADS: Phrases = LazyLock::new(|| section(FORMS, "place_heads"));

/// Two everyday nouns that together may be a term: "opportunity cost", "base case".
fn everyday_compound(
    sentence: &Sentence<'_>,
    index: usize,
    run: Range<usize>,
    found: &mut Vec<Candidate>,
) {
    let words = &sentence.words;
    for head in run.clone().skip(1) {
        let (left, right) = (&words[head - 1], &words[head]);
        let next_is_noun = head + 1 < run.end && words[head + 1].may_be(NOUN);
        if next_is_noun || !right.may_be(NOUN) {
            continue;
        }
        let ends_term = COMPOUND_HEADS.contains(&right.base.as_str());
        let noun_first = left.may_be(NOUN) && (!left.may_be(VERB) || ends_term);
        let plain = left.may_be(ADJECTIVE) && !left.may_be(NOUN);
        if plain && PLAIN_ADJECTIVES.contains(&left.base.as_str()) {
            continue;
        }
        let score = match (noun_first, ends_term) {
            (true, true) => 0.5,
            (true, false) => 0.3,
            (false, true) if left.may_be(ADJECTIVE) => 0.4,
            _ => continue,
        };
        let begin = if head >= run.start + 2
            && words[head - 2].may_be(NOUN)
            && !words[head - 2].may_be(VERB | ADJECTIVE)
        {
            head - 2
        } else {
            head - 1
        };
        push(sentence, index, begin..head + 1, score, found);
    }
}

/// Nouns that name abstract constructions in every subject, so that what stands before
/// them is often a term.
static COMPOUND_HEADS: Phrases = LazyLock::new(|| section(FORMS, "compound_heads"));

/// Adjectives that say nothing special about a noun.
static PLAIN_ADJECTIVES: Phrases = LazyLock::new(|| section(FORMS, "plain_adjectives"));

fn is_capitalised(sentence: &Sentence<'_>, at: usize) -> bool {
    at > 0
        && surface(sentence, &sentence.words[at])
            .chars()
            .next()
            .is_some_and(char::is_uppercase)
}

fn is_shouting(sentence: &Sentence<'_>) -> bool {
    let (mut upper, mut lower) = (0, 0);
    for c in sentence.text.chars() {
        upper += usize::from(c.is_ascii_uppercase());
        lower += usize::from(c.is_ascii_lowercase());
    }
    upper > lower
}

/// How technical one rare word looks.
fn rarity(sentence: &Sentence<'_>, at: usize, shouting: bool) -> f32 {
    let word = &sentence.words[at];
    let text = surface(sentence, word);
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    let upper = text.chars().filter(|c| c.is_uppercase()).count();
    if EVERYDAY_CAPITALS.contains(&text) {
        return 0.0;
    }
    if letters == 1 {
        // "B cells", "p value": a letter that tells kinds apart.
        return if upper == 1 { 0.5 } else { 0.0 };
    }
    if !shouting && upper >= 2 && letters <= 7 {
        return 0.72;
    }
    if text.contains('_') || (upper > 0 && !text.starts_with(char::is_uppercase)) {
        return 0.62;
    }
    if text.contains('-') {
        return if upper > 0 { 0.62 } else { 0.5 };
    }
    if is_capitalised(sentence, at) && !shouting {
        // A lone capitalised word in mid-sentence is most often a name.
        return if looks_technical(&word.base) {
            0.5
        } else {
            0.2
        };
    }
    if is_graded(&word.base) || is_ordinal(&word.base) {
        return 0.2;
    }
    if english::is_derived(&word.base) {
        return 0.45;
    }
    let mut score: f32 = 0.47;
    if looks_technical(&word.base) {
        score += 0.2;
    }
    if letters >= 9 {
        score += 0.08;
    }
    score
}

/// Whether a word is formed like a learned word: Greek and Latin pieces.
fn looks_technical(word: &str) -> bool {
    let strong = |affix: &&str| affix.len() >= 4;
    ENDINGS.iter().any(|ending| {
        word.strip_suffix(ending)
            .is_some_and(|stem| stem.chars().count() >= 3)
    }) || BEGINNINGS.iter().any(|beginning| {
        word.strip_prefix(beginning)
            .is_some_and(|rest| rest.chars().count() >= if strong(beginning) { 3 } else { 6 })
    })
}

/// "Deeper", "fewest": a known adjective, compared.
fn is_graded(word: &str) -> bool {
    let Some(stem) = word.strip_suffix("er").or_else(|| word.strip_suffix("est")) else {
        return false;
    };
    let known = |stem: &str| english::look_up(stem).is_some();
    let doubled = stem.char_indices().next_back();
    known(stem)
        || known(&format!("{stem}e"))
        || stem
            .strip_suffix('i')
            .is_some_and(|short| known(&format!("{short}y")))
        || doubled.is_some_and(|(at, last)| stem[..at].ends_with(last) && known(&stem[..at]))
}

/// "Seventh", "twentieth".
fn is_ordinal(word: &str) -> bool {
    const NUMBERS: &[&str] = &[
        "four",
        "fif",
        "six",
        "seven",
        "eigh",
        "nin",
        "ten",
        "eleven",
        "twelf",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
        "twentie",
        "thirtie",
        "fortie",
        "fiftie",
        "hundred",
        "thousand",
        "million",
    ];
    word.strip_suffix("th")
        .is_some_and(|stem| NUMBERS.contains(&stem))
}
