//! Cuts a text into sentences and words, with the byte range of each.
//!
//! Invariant: every range lies on character boundaries of the text it was cut from, so a
//! quote is always a piece of the learner's own words. Deliberately absent: any judgement.

use std::ops::Range;

use super::{chinese, english};

/// The longest piece of text that is read, in bytes; what follows is ignored.
pub(super) const MAX_TEXT_BYTES: usize = 256 * 1024;

/// The languages the student speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Language {
    English,
    Chinese,
}

/// What a word is, as far as form and general vocabulary tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Grammar: articles, pronouns, particles, auxiliaries.
    Function,
    /// A word everybody knows.
    Common,
    /// A word outside the general vocabulary.
    Rare,
    /// A number.
    Number,
}

/// One word of a sentence.
#[derive(Debug, Clone)]
pub(super) struct Word {
    /// Where it stands in the whole text.
    pub range: Range<usize>,
    /// Its base form in lower case.
    pub base: String,
    pub class: Class,
    /// The parts of speech it may have; see [`english::NOUN`] and its siblings.
    pub speech: u8,
    /// How often it is met in general Chinese text; 0 for English words.
    pub frequency: usize,
}

impl Word {
    pub(super) fn is_content(&self) -> bool {
        matches!(self.class, Class::Common | Class::Rare)
    }

    pub(super) fn may_be(&self, speech: u8) -> bool {
        self.speech & speech != 0
    }
}

/// One sentence.
#[derive(Debug, Clone)]
pub(super) struct Sentence<'t> {
    /// The sentence with its closing mark.
    pub text: &'t str,
    /// Where it begins in the whole text.
    pub start: usize,
    /// The text in ASCII lower case: same length, same offsets.
    pub lower: String,
    pub language: Language,
    pub words: Vec<Word>,
    pub is_question: bool,
}

impl Sentence<'_> {
    /// The range of the sentence without its closing marks.
    pub(super) fn body(&self) -> Range<usize> {
        let trimmed = self.text.trim_end_matches(is_edge_mark);
        let lead = trimmed.len() - trimmed.trim_start_matches(is_edge_mark).len();
        self.start + lead..self.start + trimmed.len().max(lead)
    }

    /// The part between commas around a range of the whole text; neighbours are added
    /// while the part is too short to be understood alone.
    pub(super) fn clause(&self, around: &Range<usize>) -> Range<usize> {
        let body = self.body();
        let (low, high) = (
            around.start.clamp(body.start, body.end) - self.start,
            around.end.clamp(body.start, body.end) - self.start,
        );
        let mut cuts = vec![body.start - self.start];
        for (at, mark) in self.text.char_indices() {
            if is_clause_mark(mark) && at >= cuts[0] && at < body.end - self.start {
                // A comma inside a number or a decimal point is no boundary.
                let next = self.text[at + mark.len_utf8()..].chars().next();
                if mark == ',' && next.is_some_and(|c| c.is_ascii_digit()) {
                    continue;
                }
                cuts.push(at + mark.len_utf8());
            }
        }
        cuts.push(body.end - self.start);
        let mut first = cuts.iter().rposition(|&cut| cut <= low).unwrap_or(0);
        let mut last = cuts
            .iter()
            .position(|&cut| cut >= high.max(low + 1))
            .unwrap_or(cuts.len() - 1)
            .max(first + 1)
            .min(cuts.len() - 1);
        first = first.min(last.saturating_sub(1));
        let enough = match self.language {
            Language::English => 18,
            Language::Chinese => 8,
        };
        while self.text[cuts[first]..cuts[last]].chars().count() < enough {
            if last + 1 < cuts.len() {
                last += 1;
            } else if first > 0 {
                first -= 1;
            } else {
                break;
            }
        }
        let piece = &self.text[cuts[first]..cuts[last]];
        let trimmed = piece.trim_end_matches(is_edge_mark);
        let lead = trimmed.len() - trimmed.trim_start_matches(is_edge_mark).len();
        let begin = self.start + cuts[first] + lead;
        begin..self.start + cuts[first] + trimmed.len().max(lead)
    }
}

/// A text cut into sentences.
#[derive(Debug)]
pub(super) struct Document<'t> {
    pub text: &'t str,
    /// The language of most of it, in which the learner is answered.
    pub language: Language,
    pub sentences: Vec<Sentence<'t>>,
}

impl<'t> Document<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let text = head(text, MAX_TEXT_BYTES);
        Self {
            text,
            language: language_of(text),
            sentences: sentences(text),
        }
    }

    pub(super) fn quote(&self, range: &Range<usize>) -> &'t str {
        self.text.get(range.clone()).unwrap_or_default()
    }

    /// Number of words: Latin words, and Chinese words as segmented.
    pub(super) fn word_count(&self) -> usize {
        self.sentences.iter().map(|s| s.words.len()).sum()
    }
}

/// The beginning of a text, cut at a character boundary.
pub(super) fn head(text: &str, max_bytes: usize) -> &str {
    &text[..text.floor_char_boundary(max_bytes)]
}

pub(super) fn is_chinese(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}')
}

/// The language a text is answered in: Chinese when it has at least as many Chinese
/// characters as Latin words.
pub(super) fn language_of(text: &str) -> Language {
    let mut chinese = 0_usize;
    let mut latin = 0_usize;
    let mut inside = false;
    for c in text.chars() {
        chinese += usize::from(is_chinese(c));
        let letter = c.is_ascii_alphabetic();
        latin += usize::from(letter && !inside);
        inside = letter;
    }
    if chinese > 0 && chinese >= latin {
        Language::Chinese
    } else {
        Language::English
    }
}

fn is_edge_mark(c: char) -> bool {
    c.is_whitespace() || ".!?。！？；;，,、:：…*#-–—>•".contains(c)
}

fn is_clause_mark(c: char) -> bool {
    ",;:，；：—()（）".contains(c)
}

/// Abbreviations whose full stop does not end a sentence.
const ABBREVIATIONS: &[&str] = &[
    "e.g", "i.e", "etc", "vs", "mr", "mrs", "ms", "dr", "prof", "fig", "eq", "approx", "no", "cf",
    "st",
];

fn sentences(text: &str) -> Vec<Sentence<'_>> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let end = at + c.len_utf8();
        let ends = match c {
            '。' | '！' | '？' | '；' | '\n' | '!' | '?' | ';' => true,
            '.' => {
                let next = chars.peek().map(|&(_, n)| n);
                let closes = next.is_none_or(|n| n.is_whitespace() || is_chinese(n) || n == '"');
                closes && !is_abbreviated(&text[start..at])
            }
            _ => false,
        };
        if !ends {
            continue;
        }
        let mut stop = end;
        while let Some(&(next, mark)) = chars.peek() {
            if !"。！？!?.…\"”’」』）)".contains(mark) {
                break;
            }
            stop = next + mark.len_utf8();
            chars.next();
        }
        push_sentence(text, start..stop, &mut found);
        start = stop;
    }
    push_sentence(text, start..text.len(), &mut found);
    found
}

fn is_abbreviated(before: &str) -> bool {
    let word = before
        .rsplit(|c: char| c.is_whitespace() || c == '(')
        .next()
        .unwrap_or_default();
    let lower = head(word, 12).to_ascii_lowercase();
    ABBREVIATIONS.contains(&lower.as_str())
        || (word.len() == 1 && word.chars().all(char::is_uppercase))
}

fn push_sentence<'t>(text: &'t str, range: Range<usize>, into: &mut Vec<Sentence<'t>>) {
    let raw = &text[range.clone()];
    let lead = raw.len() - raw.trim_start().len();
    let piece = raw.trim();
    if !piece.chars().any(char::is_alphanumeric) {
        return;
    }
    let start = range.start + lead;
    let language = language_of(piece);
    let words = match language {
        Language::English => english::words(piece, start),
        Language::Chinese => chinese::words(piece, start),
    };
    into.push(Sentence {
        text: piece,
        start,
        lower: piece.to_ascii_lowercase(),
        language,
        words,
        is_question: piece
            .trim_end_matches(['"', '”', ')', '）'])
            .ends_with(['?', '？']),
    });
}

/// Finds a phrase in an ASCII-lower-case text; Latin phrases only at word boundaries.
///
/// Some thousand phrases are looked for in each sentence, most in vain: a search that has to
/// be prepared, as that of the standard library, takes longer than this one.
pub(super) fn find_phrase(lower: &str, phrase: &str) -> Option<Range<usize>> {
    let latin = phrase.is_ascii();
    let (text, wanted) = (lower.as_bytes(), phrase.as_bytes());
    // The characters of Chinese differ in their third byte more than in their first.
    let anchor = if latin { 0 } else { wanted.len().min(3) - 1 };
    let mark = *wanted.get(anchor)?;
    let mut from = 0;
    while let Some(rest) = text.get(from + anchor..) {
        let start = from + memchr::memchr(mark, rest)?;
        let range = start..start + wanted.len();
        from = start + 1;
        if text.get(range.clone())? == wanted {
            if !latin || is_bounded(lower, &range) {
                return Some(range);
            }
            from = range.end;
        }
    }
    None
}

fn is_bounded(text: &str, range: &Range<usize>) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !text[..range.start].chars().next_back().is_some_and(letter)
        && !text[range.end..].chars().next().is_some_and(letter)
}

/// From so many phrases on it pays to note first which pairs of bytes a text has.
const MANY: usize = 6;

/// The first of several phrases found, in the order of the list.
pub(super) fn find_any(lower: &str, phrases: &[&str]) -> Option<Range<usize>> {
    let pairs = (phrases.len() >= MANY).then(|| Pairs::of(lower));
    let may_hold = |phrase: &str| pairs.as_ref().is_none_or(|pairs| pairs.may_hold(phrase));
    phrases
        .iter()
        .filter(|phrase| may_hold(phrase))
        .find_map(|phrase| find_phrase(lower, phrase))
}

/// Whether any of several phrases occurs.
pub(super) fn has_any(lower: &str, phrases: &[&str]) -> bool {
    find_any(lower, phrases).is_some()
}

/// The pairs of neighbouring bytes of a text, by five bits of each: a sentence has few of the
/// 1,024, so nearly all phrases that it lacks have one that it lacks.
struct Pairs([u32; 32]);

impl Pairs {
    fn of(text: &str) -> Self {
        let mut pairs = [0; 32];
        for (a, b) in text.bytes().zip(text.bytes().skip(1)) {
            pairs[usize::from(a & 31)] |= 1 << (b & 31);
        }
        Self(pairs)
    }

    /// Whether the text has all pairs of the phrase, as it does where it has the phrase.
    fn may_hold(&self, phrase: &str) -> bool {
        let mut pairs = phrase.bytes().zip(phrase.bytes().skip(1));
        pairs.all(|(a, b)| self.0[usize::from(a & 31)] & (1 << (b & 31)) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_long_list_is_found_wherever_it_stands() {
        let list = [
            "because",
            "as",
            "由于",
            "so that",
            "因为",
            "due to",
            "given that",
        ];
        assert!(list.len() >= MANY);
        for phrase in list {
            for text in [
                format!("it rises {phrase} it pulls"),
                format!("海水上升{phrase}，月亮"),
                phrase.to_owned(),
            ] {
                let found = find_phrase(&text, phrase);
                assert_eq!(find_any(&text, &list), found, "{text}");
                assert_eq!(found.map(|found| &text[found]), Some(phrase), "{text}");
            }
        }
        let both = find_any("so that it rises because it pulls", &list);
        assert_eq!(both, Some(17..24));
        assert!(!has_any("it sobs and toils, given to that", &list));
    }
}
