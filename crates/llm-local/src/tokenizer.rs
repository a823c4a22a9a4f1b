//! The tokenizer inside a GGUF file, and the way back from tokens to text.
//!
//! Two kinds exist: byte-level BPE with merges (`gpt2`: SmolLM, Llama 3, Qwen) and
//! SentencePiece BPE with scores (`llama`: TinyLlama, Llama 2). Both become a pipeline
//! of the `tokenizers` crate. Invariant: decoding emits whole characters only, whatever
//! the pieces. Deliberately absent: unigram and word-piece models, which no chat model of
//! the supported architectures uses.

use std::collections::{HashMap, HashSet};

use tokenizers::{AddedToken, Tokenizer};

use crate::{
    OpenError,
    gguf::Gguf,
    pipeline::{SPACE_MARK, byte_level, sentence_piece},
};

/// GGUF's token type of the token for what has no token.
const UNKNOWN: u64 = 2;
/// GGUF's token type of control tokens, e.g. `<|im_end|>`.
const CONTROL: u64 = 3;
/// GGUF's token type of tokens added for a purpose of the user, matched in text as well.
const USER_DEFINED: u64 = 4;

/// Texts of control tokens that end a turn, over all supported model families. A file
/// names one or two of them in its metadata and expects the rest to be known.
const TURN_ENDS: &[&str] = &[
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|end|>",
    "</s>",
];

/// How a piece of the vocabulary spells bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    /// Every byte is one printable character.
    ByteLevel,
    /// Plain text with [`SPACE_MARK`], and `<0xNN>` for bytes without a piece.
    SentencePiece,
}

/// Text to tokens and back.
pub(crate) struct Vocabulary {
    tokenizer: Tokenizer,
    /// What each token adds to the text, by id; control tokens add nothing.
    bytes: Vec<Box<[u8]>>,
    /// Texts of the control tokens, which must not be smuggled in by a message.
    controls: Vec<String>,
    ends: HashSet<u32>,
    begin: Option<u32>,
    add_begin: bool,
    begin_text: String,
    end_text: String,
    longest_bytes: usize,
}

impl Vocabulary {
    pub(crate) fn read(file: &Gguf) -> Result<Self, OpenError> {
        let wrong = |detail: &str| OpenError::Tokenizer {
            detail: detail.to_owned(),
        };
        let kind = file
            .text("tokenizer.ggml.model")
            .ok_or_else(|| wrong("the file has none"))?;
        let pieces = file
            .texts("tokenizer.ggml.tokens")
            .filter(|pieces| !pieces.is_empty() && u32::try_from(pieces.len()).is_ok())
            .ok_or_else(|| wrong("it has no list of tokens"))?;
        let types = file
            .integers("tokenizer.ggml.token_type")
            .unwrap_or_default();
        let type_of = |id: usize| types.get(id).copied().unwrap_or(1);
        let (mut tokenizer, spelling) = match kind {
            "gpt2" => (byte_level(file, &pieces)?, Spelling::ByteLevel),
            "llama" => (sentence_piece(file, &pieces)?, Spelling::SentencePiece),
            other => return Err(wrong(&format!("its kind is {other:?}"))),
        };

        let named = |key: &str| {
            let id = file.integer(&format!("tokenizer.ggml.{key}_token_id"))?;
            (id < pieces.len() as u64).then_some(id as u32)
        };
        let is_control = |id: usize| type_of(id) == CONTROL;
        let is_added = |id: usize| is_control(id) || type_of(id) == USER_DEFINED;
        let added = |pick: &dyn Fn(usize) -> bool, special: bool| -> Vec<AddedToken> {
            (0..pieces.len())
                .filter(|id| pick(*id))
                .map(|id| AddedToken::from(pieces[id], special).normalized(false))
                .collect()
        };
        tokenizer
            .add_special_tokens(added(&is_control, true))
            .and_then(|_| tokenizer.add_tokens(added(&|id| is_added(id) && !is_control(id), false)))
            .map_err(|error| wrong(&error.to_string()))?;

        let alphabet = byte_alphabet();
        let bytes: Vec<Box<[u8]>> = (0..pieces.len())
            .map(|id| match type_of(id) {
                UNKNOWN | CONTROL => Box::default(),
                USER_DEFINED => pieces[id].as_bytes().into(),
                _ => spell(spelling, pieces[id], &alphabet),
            })
            .collect();
        let mut ends: HashSet<u32> = ["eos", "eot", "eom"]
            .into_iter()
            .filter_map(named)
            .collect();
        ends.extend(
            (0..pieces.len())
                .filter(|id| is_control(*id) && TURN_ENDS.contains(&pieces[*id]))
                .map(|id| id as u32),
        );
        if ends.is_empty() {
            return Err(wrong("it has no token that ends a turn"));
        }
        let text_of = |id: Option<u32>| id.map_or("", |id| pieces[id as usize]).to_owned();
        let begin = named("bos");
        Ok(Self {
            tokenizer,
            longest_bytes: pieces.iter().map(|piece| piece.len()).max().unwrap_or(1),
            bytes,
            controls: (0..pieces.len())
                .filter(|id| is_control(*id) && pieces[*id].len() > 1)
                .map(|id| pieces[id].to_owned())
                .collect(),
            ends,
            begin,
            add_begin: file
                .flag("tokenizer.ggml.add_bos_token")
                .unwrap_or(spelling == Spelling::SentencePiece),
            begin_text: text_of(begin),
            end_text: text_of(named("eos")),
        })
    }

    /// The number of tokens.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The text of the token that begins a sequence, empty when there is none.
    pub(crate) fn begin_text(&self) -> &str {
        &self.begin_text
    }

    /// The text of the token that ends a sequence, empty when there is none.
    pub(crate) fn end_text(&self) -> &str {
        &self.end_text
    }

    pub(crate) fn has_control(&self, text: &str) -> bool {
        self.controls.iter().any(|control| control == text)
    }

    pub(crate) fn ends_turn(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }

    /// A number of tokens that a text of this length needs at the least.
    pub(crate) fn fewest_tokens(&self, text: &str) -> usize {
        text.len() / self.longest_bytes
    }

    /// The tokens of a rendered prompt; control tokens in it are recognised.
    pub(crate) fn encode(&self, prompt: &str) -> Result<Vec<u32>, tokenizers::Error> {
        let encoding = self.tokenizer.encode_fast(prompt, false)?;
        let mut tokens = encoding.get_ids().to_vec();
        if let Some(begin) = self.begin.filter(|_| self.add_begin)
            && tokens.first() != Some(&begin)
        {
            tokens.insert(0, begin);
        }
        Ok(tokens)
    }

    /// A person's words with control tokens broken up by a space, so that nobody can end
    /// their turn and speak as the system.
    pub(crate) fn disarm(&self, text: &str) -> String {
        let mut safe = text.to_owned();
        for control in &self.controls {
            if safe.contains(control.as_str()) {
                let mut broken = control.clone();
                let first = control.chars().next().map_or(0, char::len_utf8);
                broken.insert(first, ' ');
                safe = safe.replace(control.as_str(), &broken);
            }
        }
        safe
    }

    /// What a token adds to the text.
    pub(crate) fn bytes(&self, token: u32) -> &[u8] {
        self.bytes
            .get(token as usize)
            .map(AsRef::as_ref)
            .unwrap_or_default()
    }
}

/// GPT-2's spelling of bytes as printable characters: the printable ones of Latin-1 stand
/// for themselves, the others follow from U+0100 on.
fn byte_alphabet() -> HashMap<char, u8> {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let plain = (0..=255_u8)
        .filter(printable)
        .map(|byte| (byte.into(), byte));
    let others = (0..=255_u8).filter(|byte| !printable(byte));
    plain.chain(('\u{100}'..).zip(others)).collect()
}

fn spell(spelling: Spelling, piece: &str, alphabet: &HashMap<char, u8>) -> Box<[u8]> {
    match spelling {
        Spelling::ByteLevel => piece
            .chars()
            .filter_map(|c| alphabet.get(&c).copied())
            .collect(),
        Spelling::SentencePiece => {
            let byte = piece
                .strip_prefix("<0x")
                .and_then(|rest| rest.strip_suffix('>'))
                .and_then(|digits| u8::from_str_radix(digits, 16).ok());
            match byte {
                Some(byte) => [byte].into(),
                None => piece.replace(SPACE_MARK, " ").into_bytes().into(),
            }
        }
    }
}

#[cfg(test)]
mod tests;
