//! What the layers in the middle make of each token of a text.
//!
//! The last layer is made to tell one text's subject from another's; those before it tell more of
//! how something is said. Invariant: linear in the text. Deliberately absent: threads of its own;
//! a call computes where it is made. A long text is not read: see [`ReadError::Long`].

use std::{fmt, io::Cursor, ops::Range};

use tokenizers::{Encoding, Tokenizer};

use crate::{
    OpenError,
    encoder::{TOKENIZER, WEIGHTS},
    network::Network,
};

/// The layers that are computed.
const LAYERS: usize = 4;
/// The layers whose numbers are given, counted from 1.
const GIVEN: [usize; 2] = [2, 4];
/// The most tokens of what stands before a text.
const LONGEST_BEFORE: usize = 40;
/// A longer text is read in pieces of so many tokens.
const PIECE: usize = 448;
/// The most pieces, for a piece takes tens of milliseconds.
const PIECES: usize = 4;

static CHINESE_WEIGHTS: &[u8] = include_bytes!("../data/e5-small-zh.gguf");
static CHINESE_TOKENIZER: &[u8] = include_bytes!("../data/e5-small-zh.json");

/// Why a text could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The tokenizer refused it.
    #[error("cut the text into tokens")]
    Tokens(#[source] tokenizers::Error),
    /// It has more tokens than are read.
    #[error("read a text of {tokens} tokens")]
    Long {
        /// How many it has.
        tokens: usize,
    },
    /// The network failed.
    #[error("compute what the layers say")]
    Network(#[from] candle_core::Error),
}

/// The lower layers of an encoder.
pub struct Reader {
    network: Network,
    tokenizer: Tokenizer,
    /// What the model was trained to see in front of every text.
    prefix: &'static str,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

/// What the layers make of a text.
#[derive(Debug, Clone, Default)]
pub struct Read {
    /// Where each token stands in the text, in bytes; empty at 0 for what stands before it and
    /// for marks of its ends.
    pub ranges: Vec<Range<usize>>,
    /// After the second and after the fourth layer, [`Reader::WIDTH`] numbers a token.
    pub layers: [Vec<f32>; 2],
}

impl Reader {
    /// The numbers of a token.
    pub const WIDTH: usize = 384;

    /// Unpacks the lower layers of [`BUNDLED`](crate::BUNDLED), English; takes a moment and some
    /// 50 MB.
    ///
    /// # Errors
    ///
    /// [`OpenError::Weights`] and [`OpenError::Tokenizer`] when what is bundled is damaged.
    pub fn english() -> Result<Self, OpenError> {
        Self::open(WEIGHTS, TOKENIZER, "")
    }

    /// Unpacks the lower layers of multilingual-e5-small with the words that Chinese needs;
    /// takes a moment and some 45 MB.
    ///
    /// # Errors
    ///
    /// As of [`english`](Self::english).
    pub fn chinese() -> Result<Self, OpenError> {
        Self::open(CHINESE_WEIGHTS, CHINESE_TOKENIZER, "query: ")
    }

    fn open(
        weights: &'static [u8],
        tokenizer: &'static [u8],
        prefix: &'static str,
    ) -> Result<Self, OpenError> {
        let mut tokenizer = Tokenizer::from_bytes(tokenizer).map_err(OpenError::Tokenizer)?;
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(OpenError::Tokenizer)?;
        // Pieces of what people said would be kept, whatever becomes of the texts.
        let mut model = tokenizer.get_model().clone();
        model.resize_cache(0);
        tokenizer.with_model(model);
        Ok(Self {
            network: Network::read(&mut Cursor::new(weights), LAYERS)?,
            tokenizer,
            prefix,
        })
    }

    /// Reads a text that stands after another, such as its title.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; the same text fails again.
    pub fn read(&self, before: &str, text: &str) -> Result<Read, ReadError> {
        let tokens = |text: &str| -> Result<Encoding, ReadError> {
            self.tokenizer.encode(text, true).map_err(ReadError::Tokens)
        };
        let before = tokens(&format!("{}{before}", self.prefix))?;
        let text = tokens(text)?;
        let before = before.get_ids();
        let before = &before[..before.len().min(LONGEST_BEFORE)];
        let ids = text.get_ids();
        // Without the marks of its ends.
        let last = ids.len().saturating_sub(1).max(1);
        let content = ids.get(1..last).unwrap_or_default();
        let offsets = text.get_offsets().get(1..last).unwrap_or_default();
        if content.len() > PIECE * PIECES {
            let tokens = content.len();
            return Err(ReadError::Long { tokens });
        }
        let end = ids.last().copied();
        let mut read = Read::default();
        for (piece, offsets) in content.chunks(PIECE).zip(offsets.chunks(PIECE)) {
            let ids: Vec<u32> = before.iter().chain(piece).copied().chain(end).collect();
            let states = self.network.states(&ids, &GIVEN)?;
            for (all, own) in read.layers.iter_mut().zip(states) {
                all.extend(own);
            }
            read.ranges.extend(before.iter().map(|_| 0..0));
            read.ranges
                .extend(offsets.iter().map(|(from, to)| *from..*to));
            read.ranges.extend(end.map(|_| 0..0));
        }
        Ok(read)
    }
}
