//! The encoding half of a GGUF tokenizer as a pipeline of the `tokenizers` crate.
//!
//! Invariant: a file of an unknown cutting scheme still gets a tokenizer, with a warning.
//! Deliberately absent: decoders and post-processors; tokens are turned into text by
//! [`Vocabulary`](crate::tokenizer::Vocabulary), which has to do it piece by piece.

use std::collections::HashSet;

use tokenizers::{
    NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer,
    models::bpe::{BPE, BpeBuilder, Vocab},
    normalizers::{Prepend, Replace, Sequence as Normalizers, unicode::NFC},
    pre_tokenizers::{
        byte_level::ByteLevel,
        digits::Digits,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
};

use crate::{OpenError, gguf::Gguf};

/// SentencePiece's visible stand-in for a space.
pub(crate) const SPACE_MARK: char = '\u{2581}';

/// Byte-level BPE from tokens and merges (`gpt2`).
pub(crate) fn byte_level(file: &Gguf, pieces: &[&str]) -> Result<Tokenizer, OpenError> {
    let merges = file
        .texts("tokenizer.ggml.merges")
        .ok_or_else(|| OpenError::Tokenizer {
            detail: "it has no list of merges".into(),
        })?;
    let merges: Option<Vec<(String, String)>> = merges
        .into_iter()
        .map(|merge| {
            let (left, right) = merge.split_once(' ')?;
            Some((left.to_owned(), right.to_owned()))
        })
        .collect();
    let merges = merges.ok_or_else(|| OpenError::Tokenizer {
        detail: "a merge is not a pair".into(),
    })?;
    let scheme = file.text("tokenizer.ggml.pre").unwrap_or("gpt-2");
    let split = PreTokenization::of(scheme);
    build(pieces, merges, |bpe| {
        bpe.ignore_merges(split.whole_words_first)
    })
    .and_then(|mut tokenizer| {
        let pre = split.pipeline().map_err(tokenizer_error)?;
        tokenizer.with_pre_tokenizer(Some(pre));
        if split.compose {
            let nfc = NormalizerWrapper::from(NFC);
            tokenizer
                .with_normalizer(Some(nfc))
                .map_err(tokenizer_error)?;
        }
        Ok(tokenizer)
    })
}

/// How a byte-level tokenizer cuts text into words before merging.
struct PreTokenization {
    /// `None` for GPT-2's own pattern.
    pattern: Option<&'static str>,
    single_digits: bool,
    /// Unicode composition (NFC) comes first.
    compose: bool,
    /// A word that is a token is taken as it is, whatever the merges say.
    whole_words_first: bool,
}

impl PreTokenization {
    /// `tokenizer.ggml.pre` names the scheme; the patterns are those of the families'
    /// published `tokenizer.json` files.
    fn of(scheme: &str) -> Self {
        const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
        const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
        let gpt_2 = Self {
            pattern: None,
            single_digits: false,
            compose: false,
            whole_words_first: false,
        };
        match scheme {
            "llama-bpe" | "llama3" | "llama-v3" | "falcon3" => Self {
                pattern: Some(LLAMA_3),
                whole_words_first: true,
                ..gpt_2
            },
            "smaug-bpe" => Self {
                pattern: Some(LLAMA_3),
                ..gpt_2
            },
            "qwen2" | "deepseek-r1-qwen" => Self {
                pattern: Some(QWEN_2),
                compose: true,
                ..gpt_2
            },
            "smollm" => Self {
                single_digits: true,
                ..gpt_2
            },
            "gpt-2" | "gpt2" => gpt_2,
            other => {
                tracing::warn!(
                    scheme = other,
                    "unknown pre-tokenization, using that of GPT-2; answers may suffer"
                );
                gpt_2
            }
        }
    }

    fn pipeline(&self) -> Result<PreTokenizerWrapper, tokenizers::Error> {
        let mut steps: Vec<PreTokenizerWrapper> = Vec::new();
        if let Some(pattern) = self.pattern {
            let pattern = SplitPattern::Regex(pattern.to_owned());
            steps.push(Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?.into());
        }
        if self.single_digits {
            steps.push(Digits::new(true).into());
        }
        steps.push(ByteLevel::new(false, false, self.pattern.is_none()).into());
        Ok(Sequence::new(steps).into())
    }
}

/// SentencePiece joins the pair whose result scores best, which is BPE with the merges
/// sorted by the score of what they make.
pub(crate) fn sentence_piece(file: &Gguf, pieces: &[&str]) -> Result<Tokenizer, OpenError> {
    let scores = file
        .numbers("tokenizer.ggml.scores")
        .filter(|scores| scores.len() == pieces.len())
        .ok_or_else(|| OpenError::Tokenizer {
            detail: "its scores do not match its tokens".into(),
        })?;
    let known: HashSet<&str> = pieces.iter().copied().collect();
    let mut merges: Vec<(f32, &str, &str)> = Vec::new();
    for (piece, score) in pieces.iter().zip(&scores) {
        for (at, _) in piece.char_indices().skip(1) {
            let (left, right) = piece.split_at(at);
            if known.contains(left) && known.contains(right) {
                merges.push((*score, left, right));
            }
        }
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0));
    let merges = merges
        .into_iter()
        .map(|(_, left, right)| (left.to_owned(), right.to_owned()))
        .collect();
    build(pieces, merges, |bpe| bpe.byte_fallback(true).fuse_unk(true)).and_then(|mut tokenizer| {
        let mut steps: Vec<NormalizerWrapper> = Vec::new();
        if file.flag("tokenizer.ggml.add_space_prefix").unwrap_or(true) {
            steps.push(Prepend::new(SPACE_MARK.into()).into());
        }
        let mark = String::from(SPACE_MARK);
        steps.push(Replace::new(" ", mark).map_err(tokenizer_error)?.into());
        let normalizer = NormalizerWrapper::from(Normalizers::new(steps));
        tokenizer
            .with_normalizer(Some(normalizer))
            .map_err(tokenizer_error)?;
        Ok(tokenizer)
    })
}

fn build(
    pieces: &[&str],
    merges: Vec<(String, String)>,
    options: impl FnOnce(BpeBuilder) -> BpeBuilder,
) -> Result<Tokenizer, OpenError> {
    let vocabulary: Vocab = (0_u32..)
        .zip(pieces)
        .map(|(id, piece)| ((*piece).to_owned(), id))
        .collect();
    let bpe = options(BPE::builder().vocab_and_merges(vocabulary, merges));
    Ok(Tokenizer::new(bpe.build().map_err(tokenizer_error)?))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is used as the function of map_err"
)]
fn tokenizer_error(error: tokenizers::Error) -> OpenError {
    OpenError::Tokenizer {
        detail: error.to_string(),
    }
}
