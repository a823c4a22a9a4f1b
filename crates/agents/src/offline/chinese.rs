//! Chinese words: segmentation with parts of speech and general frequency.
//!
//! Invariant: the dictionary is loaded on the first Chinese text only (~35 MB, ~0.1 s).
//! Deliberately absent: subject vocabularies.

use std::{collections::HashSet, sync::LazyLock};

use jieba_rs::Jieba;

use super::{
    english::{self, ADJECTIVE, ADVERB, FUNCTION, NOUN, VERB},
    text::{Class, Word, is_chinese},
};

static SEGMENTER: LazyLock<Jieba> = LazyLock::new(Jieba::new);

/// Occurrences in the segmenter's corpus from which a word counts as everyday language.
const COMMON_FROM: usize = 900;
/// The same for set phrases of four characters, which are rarer as a whole.
const IDIOM_FROM: usize = 300;
/// What an everyday word counts as: common, and too plain to be part of a term.
const EVERYDAY_FREQUENCY: usize = 20_000;

/// Everyday words that the corpus counts as rare.
static EVERYDAY: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    include_str!("data/zh.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::split_whitespace)
        .collect()
});

/// Characters of grammar and of the plainest verbs. The segmenter guesses words that its
/// dictionary lacks; a guess with one of these in it joins what does not belong together.
const PLAIN: &str = "而就走离要比和与在到会能更最很得也都又再把被让使从向对给跟用有没不是这那个们了着过上下里去来说看做叫买卖拿放吃喝写读想我你他她它一二两三四五六七八九十百千万每各某的地吗呢吧啊越愈才只还已将可以并且或若如果因为所于";

/// Verbs and adverbs that only help another verb.
const AUXILIARY: &[&str] = &[
    "会",
    "能",
    "可以",
    "要",
    "应该",
    "必须",
    "可能",
    "能够",
    "就",
    "也",
    "都",
    "是",
    "有",
    "在",
    "把",
    "被",
    "让",
    "使",
    "不",
    "没",
    "没有",
    "还",
    "又",
    "再",
    "才",
    "很",
    "最",
    "更",
    "越",
    "只",
    "已经",
    "正在",
    "一直",
    "不会",
    "不能",
    "不是",
    "就是",
    "总比",
    "就行了",
    "来",
    "去",
    "到",
    "起来",
    "出来",
    "下去",
    "下来",
    "上来",
    "看不出来",
    "得",
    "需要",
    "专门",
];

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
        // The rarest entries of the dictionary are as often pieces of sentences as words.
        let piece = SEGMENTER.suggest_freq(tag.word) <= 5
            && tag.word.contains([
                '我', '你', '他', '她', '它', '们', '给', '把', '被', '的', '了', '着',
            ]);
        let guessed = piece || !SEGMENTER.has_word(tag.word);
        if guessed && tag.word.chars().any(|c| PLAIN.contains(c)) && !tag.tag.starts_with('m') {
            push_letters(tag.word, range.start, &mut found);
            continue;
        }
        let frequency = if EVERYDAY.contains(tag.word) {
            EVERYDAY_FREQUENCY
        } else if guessed {
            1
        } else {
            SEGMENTER.suggest_freq(tag.word)
        };
        let speech = if AUXILIARY.contains(&tag.word) {
            FUNCTION
        } else if tag.tag == "m" && !tag.word.starts_with(is_numeral) && frequency < 100 {
            NOUN
        } else {
            speech_of(tag.tag)
        };
        let digits: usize = tag
            .word
            .chars()
            .take_while(|c| is_numeral(*c))
            .map(char::len_utf8)
            .sum();
        if tag.tag.starts_with('m') && digits > 0 && digits < tag.word.len() {
            // "七个" is a number and its unit.
            for (piece, class) in [
                (0..digits, Class::Number),
                (digits..tag.word.len(), Class::Function),
            ] {
                found.push(Word {
                    range: range.start + piece.start..range.start + piece.end,
                    base: tag.word[piece].to_owned(),
                    class,
                    speech: 0,
                    frequency,
                });
            }
            continue;
        }
        let class = if tag.tag.starts_with('m') && digits == tag.word.len() {
            Class::Number
        } else if speech == FUNCTION {
            Class::Function
        } else if frequency >= COMMON_FROM || tag.tag == "i" && frequency >= IDIOM_FROM {
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

/// Whether a word of four characters is made of two everyday words: "化学|反应".
pub(super) fn is_transparent(word: &str) -> bool {
    let Some((cut, _)) = word.char_indices().nth(2) else {
        return false;
    };
    let (left, right) = word.split_at(cut);
    [left, right]
        .iter()
        .all(|half| SEGMENTER.has_word(half) && SEGMENTER.suggest_freq(half) >= 2_000)
}

/// Whether a rare word of three characters is a plain verb and its object: "缝|衣服".
pub(super) fn is_verb_with_object(word: &str) -> bool {
    let mut chars = word.char_indices();
    let (Some(_), Some((cut, _)), Some(_), None) =
        (chars.next(), chars.next(), chars.next(), chars.next())
    else {
        return false;
    };
    let object = &word[cut..];
    EVERYDAY.contains(object)
        || SEGMENTER.has_word(object) && SEGMENTER.suggest_freq(object) >= 2_000
}

/// Takes a guessed word apart again.
fn push_letters(word: &str, start: usize, found: &mut Vec<Word>) {
    // "有|磁畴": what is left when grammar is taken off may be a word.
    let lead: usize = word
        .chars()
        .take_while(|c| PLAIN.contains(*c))
        .map(char::len_utf8)
        .sum();
    let rest = &word[lead..];
    let whole = lead > 0 && rest.chars().count() >= 2 && !rest.chars().any(|c| PLAIN.contains(c));
    let letters = if whole { &word[..lead] } else { word };
    if whole {
        push_letters(letters, start, found);
        found.push(Word {
            range: start + lead..start + word.len(),
            base: rest.to_owned(),
            class: Class::Rare,
            speech: NOUN,
            frequency: 1,
        });
        return;
    }
    for (at, c) in letters.char_indices() {
        let speech = if PLAIN.contains(c) {
            FUNCTION
        } else {
            NOUN | VERB
        };
        found.push(Word {
            range: start + at..start + at + c.len_utf8(),
            base: c.to_string(),
            class: if speech == FUNCTION {
                Class::Function
            } else {
                Class::Common
            },
            speech,
            frequency: COMMON_FROM,
        });
    }
}

fn is_numeral(c: char) -> bool {
    "零〇半一二两三四五六七八九十百千万亿".contains(c) || c.is_ascii_digit()
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
        [b'x', ..] => NOUN,
        [b's', ..] | [b't', ..] | [b'f', ..] => ADVERB,
        _ => FUNCTION,
    }
}
