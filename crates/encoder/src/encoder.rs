//! The encoder as core's [`Embedder`].

use std::{borrow::Cow, fmt, fs, path::Path, sync::Arc};

use async_trait::async_trait;
use lyceum_core::{CallContext, EmbedError, EmbedKind, Embedder, Embeddings, Tokens, Usage};
use tokio::sync::oneshot;

use crate::{
    OpenError,
    worker::{self, Files, Order, Orders, State},
};

/// The id of the bundled model: sentence-transformers' all-MiniLM-L6-v2, word vectors in 4 bits
/// and layers in 8.
pub const BUNDLED: &str = "all-MiniLM-L6-v2:q4-q8";

/// Its vectors' numbers.
const BUNDLED_WIDTH: usize = 384;

pub(crate) static WEIGHTS: &[u8] = include_bytes!("../data/all-MiniLM-L6-v2.gguf");
pub(crate) static TOKENIZER: &[u8] = include_bytes!("../data/tokenizer.json");

/// A sentence encoder in this process. Cheap to clone; clones share one thread, which ends with
/// the last of them.
#[derive(Clone)]
pub struct Encoder {
    model: Arc<str>,
    width: usize,
    orders: Orders,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder")
            .field("model", &self.model)
            .field("width", &self.width)
            .finish_non_exhaustive()
    }
}

impl Encoder {
    /// The encoder that comes with this crate, English. It is unpacked by the first call, on its
    /// own thread.
    ///
    /// # Errors
    ///
    /// [`OpenError::Thread`].
    pub fn bundled() -> Result<Self, OpenError> {
        let files = Files {
            weights: Cow::Borrowed(WEIGHTS),
            tokenizer: Cow::Borrowed(TOKENIZER),
        };
        Ok(Self {
            model: BUNDLED.into(),
            width: BUNDLED_WIDTH,
            orders: worker::spawn(State::Unread(files))?,
        })
    }

    /// The encoder of a folder with `model.gguf` and `tokenizer.json`: a BERT of 32 numbers a
    /// head. `model` is the id of its vectors' space; name another file by another id.
    ///
    /// # Errors
    ///
    /// [`OpenError`], for whatever is missing or cannot be read.
    pub fn open(folder: &Path, model: &str) -> Result<Self, OpenError> {
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read(&path).map_err(|source| OpenError::File { path, source })
        };
        let files = Files {
            weights: read("model.gguf")?.into(),
            tokenizer: read("tokenizer.json")?.into(),
        };
        let loaded = files.load()?;
        Ok(Self {
            model: model.into(),
            width: loaded.network.width(),
            orders: worker::spawn(State::Loaded(Box::new(loaded)))?,
        })
    }
}

#[async_trait]
impl Embedder for Encoder {
    fn model(&self) -> &str {
        &self.model
    }

    fn dimensions(&self) -> usize {
        self.width
    }

    async fn embed(
        &self,
        _: &CallContext,
        kind: EmbedKind,
        texts: &[Arc<str>],
    ) -> Result<Embeddings, EmbedError> {
        if texts.is_empty() {
            return Ok(Embeddings {
                vectors: Vec::new(),
                usage: Usage::default(),
            });
        }
        let (reply, answer) = oneshot::channel();
        let texts = texts.to_vec();
        let order = Order { texts, reply };
        let way = match kind {
            EmbedKind::Query => &self.orders.questions,
            EmbedKind::Document => &self.orders.documents,
        };
        let sent = way.send(order).await;
        sent.map_err(|_| EmbedError::Closed)?;
        let (vectors, tokens) = answer.await.ok().flatten().ok_or(EmbedError::Closed)?;
        let usage = Usage {
            input: Tokens(tokens),
            ..Usage::default()
        };
        Ok(Embeddings { vectors, usage })
    }
}
