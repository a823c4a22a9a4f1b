//! The words of any text with what is known of them, for those who compare texts.
//!
//! Invariant: `text` is a piece of the text it was read from, in lower case. Deliberately
//! absent: any judgement.

use super::{
    english::{NOUN, VERB},
    text::{Class, Document, Word},
};

/// What a word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Grammar.
    Grammar,
    /// A word that everybody knows.
    Common,
    /// A name or a verb outside the general vocabulary.
    Rare,
    /// A number.
    Number,
}

/// One word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// As it is written, in lower case.
    pub(crate) text: String,
    /// Its base form: the same for all its forms.
    pub(crate) base: String,
    pub(crate) kind: Kind,
}

/// The words of a text in order.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let document = Document::new(text);
    let words = document.sentences.iter().flat_map(|it| &it.words);
    words
        .map(|word| Token {
            text: document.quote(&word.range).to_lowercase(),
            base: word.base.clone(),
            kind: kind(word),
        })
        .collect()
}

/// The base forms of a text's words in order, with what each word is.
pub(crate) fn bases(text: &str) -> impl Iterator<Item = (String, Kind)> {
    let sentences = Document::new(text).sentences.into_iter();
    let words = sentences.flat_map(|sentence| sentence.words);
    words.map(|word| {
        let kind = kind(&word);
        (word.base, kind)
    })
}

fn kind(word: &Word) -> Kind {
    match word.class {
        Class::Function => Kind::Grammar,
        Class::Common => Kind::Common,
        // Chinese is cut into places and directions that no dictionary lists.
        Class::Rare if word.frequency > 0 && !word.may_be(NOUN | VERB) => Kind::Common,
        Class::Rare => Kind::Rare,
        Class::Number => Kind::Number,
    }
}
