//! Why an encoder cannot be opened.

use std::{io, path::PathBuf};

/// Why an encoder cannot be opened. Trying again gives the same.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A file is missing or cannot be read.
    #[error("read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// The weights are damaged, or of another architecture than BERT's.
    #[error("read the weights of the encoder")]
    Weights(#[from] candle_core::Error),
    /// The tokenizer cannot be read.
    #[error("read the tokenizer of the encoder")]
    Tokenizer(#[source] tokenizers::Error),
    /// The machine gives no further thread.
    #[error("start the thread of the encoder")]
    Thread(#[source] io::Error),
}

impl OpenError {
    /// Whether trying again may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Thread(_))
    }

    /// A bounded name for labels and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Weights(_) => "weights",
            Self::Tokenizer(_) => "tokenizer",
            Self::Thread(_) => "thread",
        }
    }
}
