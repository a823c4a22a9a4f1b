//! Chinese words: segmentation with parts of speech and general frequency.
//!
//! Invariant: the dictionary is loaded on the first Chinese text only (~35 MB, ~0.1 s).
//! Deliberately absent: subject vocabularies.

use std::sync::LazyLock;

use jieba_rs::Jieba;

use super::{
    english::{self, ADJECTIVE, ADVERB, FUNCTION, NOUN, VERB},
    text::{Class, Word, is_chinese},
};

static SEGMENTER: LazyLock<Jieba> = LazyLock::new(Jieba::new);

/// Occurrences in the segmenter's corpus from which a word counts as everyday language.
const COMMON_FROM: usize = 900;

/// Splits a sentence into words; `start` is where it stands in the whole text.
pub(super) fn words(sentence: &str, start: usize) -> Vec<Word> {
    let mut found = Vec::new();
    let mut at = 0;
    for tag in SEGMENTER.tag(sentence, true) {
        let range = start + at..start + at + tag.word.len();
        at += tag.word.len();
        if !tag.word.chars().any(char::is_alphanumeric) {
            continue;
        }
        if !tag.word.chars().any(is_chinese) {
            found.push(english::word(tag.word, range));
            continue;
        }
        let frequency = SEGMENTER.suggest_freq(tag.word);
        let speech = speech_of(tag.tag);
        let class = if tag.tag.starts_with('m') && tag.word.chars().all(is_numeral) {
            Class::Number
        } else if speech == FUNCTION {
            Class::Function
        } else if frequency >= COMMON_FROM {
            Class::Common
        } else {
            Class::Rare
        };
        found.push(Word {
            range,
            base: tag.word.to_owned(),
            class,
            speech,
            frequency,
        });
    }
    found
}

fn is_numeral(c: char) -> bool {
    "零〇一二两三四五六七八九十百千万亿".contains(c) || c.is_ascii_digit()
}

/// The part of speech of a tag of the ICTCLAS set that the segmenter uses.
fn speech_of(tag: &str) -> u8 {
    match tag.as_bytes() {
        b"vn" | b"an" => NOUN | VERB,
        b"nr" | b"l" | b"i" | b"j" | b"nz" | b"nt" => NOUN,
        [b'n', ..] | [b'g', ..] => NOUN,
        [b'v', ..] => VERB,
        [b'a', ..] | [b'b', ..] | [b'z', ..] => ADJECTIVE,
        [b'd', ..] => ADVERB,
        [b'x', ..] | [b's', ..] | [b't', ..] | [b'f', ..] => NOUN,
        _ => FUNCTION,
    }
}
