//! Why a model file cannot be used, with what to do about it.
//!
//! Invariant: every message names the file or the field that is wrong and a next
//! step. Deliberately absent: failures of a running model, which are
//! [`ChatError`](lyceum_core::ChatError)s.

use std::{io, path::PathBuf};

/// Why [`LocalModel::open`](crate::LocalModel::open) refused a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Nothing is at the path.
    #[error("open the model file {}: it does not exist; give the path of a GGUF chat model", path.display())]
    Missing {
        /// The path as it was given.
        path: PathBuf,
    },
    /// The path names a directory or a device.
    #[error("open the model file {}: it is not a file; give the path of the .gguf file itself", path.display())]
    NotAFile {
        /// The path as it was given.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("read the model file {}: check its permissions and the disk", path.display())]
    Io {
        /// The path as it was given.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The file does not start with the GGUF magic.
    #[error(
        "open the model file {}: it is not a GGUF file (it does not start with \"GGUF\"); \
         safetensors and PyTorch files have to be converted first", path.display()
    )]
    NotGguf {
        /// The path as it was given.
        path: PathBuf,
    },
    /// The header or a tensor contradicts the file.
    #[error("read the model file {}: it is damaged or cut short ({detail}); fetch it again", path.display())]
    Damaged {
        /// The path as it was given.
        path: PathBuf,
        /// What does not fit.
        detail: String,
    },
    /// A model that this crate has no code for.
    #[error(
        "run the model: {detail}; supported are chat models of the architectures llama, qwen2 and qwen3"
    )]
    Unsupported {
        /// What is not supported.
        detail: String,
    },
    /// No tokenizer, or none that this crate can build.
    #[error("build the model's tokenizer: {detail}; use a GGUF file that contains its tokenizer")]
    Tokenizer {
        /// What is missing or wrong.
        detail: String,
    },
    /// No chat template, or a broken one.
    #[error(
        "use the model's chat template: {detail}; use an instruct or chat model, not a base model"
    )]
    ChatTemplate {
        /// What is missing or wrong.
        detail: String,
    },
    /// The inference thread could not be started.
    #[error("start the inference thread")]
    Thread {
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}

impl OpenError {
    /// A bounded name for logs and labels.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "missing",
            Self::NotAFile { .. } => "not_a_file",
            Self::Io { .. } => "io",
            Self::NotGguf { .. } => "not_gguf",
            Self::Damaged { .. } => "damaged",
            Self::Unsupported { .. } => "unsupported",
            Self::Tokenizer { .. } => "tokenizer",
            Self::ChatTemplate { .. } => "chat_template",
            Self::Thread { .. } => "thread",
        }
    }
}
