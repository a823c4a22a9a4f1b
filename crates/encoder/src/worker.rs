//! The thread that owns the network.
//!
//! Invariant: a question, which somebody waits for, waits for one text at most besides questions
//! before it: the work on documents is left between two texts. An order whose caller is gone is
//! not begun, and is left between two texts. Deliberately absent: batching over callers; a text
//! alone uses the processor well enough.

use std::{
    borrow::Cow,
    io::{self, Cursor},
    sync::Arc,
    thread,
};

use lyceum_core::Vector;
use tokenizers::{Tokenizer, TruncationParams};
use tokio::sync::{mpsc, oneshot};

use crate::{OpenError, network::Network};

/// Texts beyond this many tokens are cut: what the model was trained with.
pub(crate) const LONGEST: usize = 256;

/// Orders that may wait; further callers wait for a place.
const WAITING: usize = 64;

/// Vectors and how many tokens they took.
pub(crate) type Encoded = (Vec<Vector>, u64);

pub(crate) struct Order {
    pub(crate) texts: Vec<Arc<str>>,
    pub(crate) reply: oneshot::Sender<Option<Encoded>>,
}

/// What an encoder is made of, unread.
pub(crate) struct Files {
    pub(crate) weights: Cow<'static, [u8]>,
    pub(crate) tokenizer: Cow<'static, [u8]>,
}

/// What an order needs.
pub(crate) struct Loaded {
    pub(crate) network: Network,
    tokenizer: Tokenizer,
}

impl Files {
    /// Reads both; padding and the tokenizer's own length are left to the network.
    pub(crate) fn load(&self) -> Result<Loaded, OpenError> {
        let mut tokenizer =
            Tokenizer::from_bytes(&*self.tokenizer).map_err(OpenError::Tokenizer)?;
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(Some(TruncationParams {
                max_length: LONGEST,
                ..TruncationParams::default()
            }))
            .map_err(OpenError::Tokenizer)?;
        let network = Network::read(&mut Cursor::new(&*self.weights), usize::MAX)?;
        Ok(Loaded { network, tokenizer })
    }
}

/// An encoder before and after its first order.
pub(crate) enum State {
    Unread(Files),
    Loaded(Box<Loaded>),
    /// What it was made of is damaged; every order is refused.
    Damaged,
}

impl State {
    /// Reads what is unread, which takes a moment.
    fn loaded(&mut self) -> Option<&Loaded> {
        if let Self::Unread(files) = self {
            *self = match files.load() {
                Ok(loaded) => Self::Loaded(Box::new(loaded)),
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::error!(error, "the encoder cannot be used");
                    Self::Damaged
                }
            };
        }
        match self {
            Self::Loaded(loaded) => Some(loaded),
            Self::Unread(_) | Self::Damaged => None,
        }
    }
}

/// The ways to the thread.
#[derive(Clone)]
pub(crate) struct Orders {
    /// Questions, which go first.
    pub(crate) questions: mpsc::Sender<Order>,
    /// Everything else.
    pub(crate) documents: mpsc::Sender<Order>,
}

/// Starts the thread. It ends when nobody can order any more.
pub(crate) fn spawn(state: State) -> Result<Orders, OpenError> {
    let (questions, asked) = mpsc::channel(WAITING);
    let (documents, brought) = mpsc::channel(WAITING);
    thread::Builder::new()
        .name("encoder".into())
        .spawn(move || serve(state, asked, brought))
        .map_err(|source: io::Error| OpenError::Thread(source))?;
    Ok(Orders {
        questions,
        documents,
    })
}

/// Both senders are dropped together, so a closed way means that no order comes any more.
fn serve(mut state: State, mut asked: mpsc::Receiver<Order>, mut brought: mpsc::Receiver<Order>) {
    let Ok(waiting) = tokio::runtime::Builder::new_current_thread().build() else {
        tracing::error!("the encoder cannot wait for texts");
        return;
    };
    loop {
        let next = async {
            tokio::select! {
                biased;
                order = asked.recv() => order,
                order = brought.recv() => order,
            }
        };
        let Some(order) = waiting.block_on(next) else {
            return;
        };
        serve_one(&mut state, order, &mut asked);
    }
}

/// Does an order, and between its texts the questions that came meanwhile.
fn serve_one(state: &mut State, order: Order, asked: &mut mpsc::Receiver<Order>) {
    let Order { texts, mut reply } = order;
    if reply.is_closed() {
        return;
    }
    let Some(loaded) = state.loaded() else {
        drop(reply.send(None));
        return;
    };
    let encoded = encode(loaded, &texts, &mut reply, &mut || {
        while let Ok(Order { texts, mut reply }) = asked.try_recv() {
            let encoded = encode(loaded, &texts, &mut reply, &mut || {});
            drop(reply.send(encoded));
        }
    });
    // Where this fails nobody waits any more.
    drop(reply.send(encoded));
}

fn encode(
    Loaded { network, tokenizer }: &Loaded,
    texts: &[Arc<str>],
    reply: &mut oneshot::Sender<Option<Encoded>>,
    between: &mut dyn FnMut(),
) -> Option<Encoded> {
    let (mut vectors, mut count) = (Vec::with_capacity(texts.len()), 0);
    let longest = network.longest().min(LONGEST);
    for text in texts {
        between();
        if reply.is_closed() {
            return None;
        }
        let encoding = match tokenizer.encode_fast(&**text, true) {
            Ok(encoding) => encoding,
            Err(error) => {
                tracing::error!(%error, "the encoder cannot read a text");
                return None;
            }
        };
        let tokens = encoding.get_ids();
        let tokens = &tokens[..tokens.len().min(longest)];
        count += tokens.len() as u64;
        match network.forward(tokens) {
            Ok(vector) => vectors.push(vector.into()),
            Err(error) => {
                tracing::error!(%error, "the encoder failed");
                return None;
            }
        }
    }
    Some((vectors, count))
}
