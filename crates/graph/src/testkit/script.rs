//! A node that does what a test tells it, attempt by attempt.
//!
//! Invariant: each attempt takes one line of the script, in order, whichever run it is of.
//! Deliberately absent: looking at the state; a closure does that better.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;

use crate::{Command, Context, NodeError, State};

/// One attempt of a scripted node.
pub type Scripted<S> = BoxFuture<'static, Result<Command<S>, NodeError>>;

/// What a node does in its attempts. Clones share the script and its count.
pub struct Script<S: State>(Arc<Mutex<Lines<S>>>);

struct Lines<S: State> {
    lines: Vec<Line<S>>,
    /// The wait of the line that is being written.
    wait: Duration,
    repeats: bool,
    calls: usize,
}

struct Line<S: State> {
    wait: Duration,
    act: Act<S>,
}

enum Act<S: State> {
    Return(Command<S>),
    Fail {
        is_retryable: bool,
        text: String,
    },
    Hang,
    Ask {
        key: String,
        payload: serde_json::Value,
    },
}

impl<S: State> Clone for Act<S> {
    fn clone(&self) -> Self {
        match self {
            Self::Return(command) => Self::Return(command.clone()),
            Self::Fail { is_retryable, text } => Self::Fail {
                is_retryable: *is_retryable,
                text: text.clone(),
            },
            Self::Hang => Self::Hang,
            Self::Ask { key, payload } => Self::Ask {
                key: key.clone(),
                payload: payload.clone(),
            },
        }
    }
}

impl<S: State> Script<S> {
    /// An empty script: every attempt fails for good, saying that the script is over.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Lines {
            lines: Vec::new(),
            wait: Duration::ZERO,
            repeats: false,
            calls: 0,
        })))
    }

    /// The attempt of the next line waits this long first.
    #[must_use]
    pub fn waits(self, time: Duration) -> Self {
        self.lines().wait += time;
        self
    }

    /// An attempt writes, goes or sends this.
    #[must_use]
    pub fn writes(self, command: impl Into<Command<S>>) -> Self {
        self.act(Act::Return(command.into()))
    }

    /// An attempt fails with a copy of this error.
    #[must_use]
    pub fn fails(self, error: NodeError) -> Self {
        let act = Act::Fail {
            is_retryable: error.is_retryable(),
            text: error.to_string(),
        };
        drop(error);
        self.act(act)
    }

    /// An attempt never ends by itself.
    #[must_use]
    pub fn hangs(self) -> Self {
        self.act(Act::Hang)
    }

    /// An attempt asks, and writes nothing. When the node is started again with the answer,
    /// that attempt takes the next line.
    #[must_use]
    pub fn asks(self, key: &str, payload: impl Into<serde_json::Value>) -> Self {
        let (key, payload) = (key.to_owned(), payload.into());
        self.act(Act::Ask { key, payload })
    }

    /// The last line holds for all further attempts.
    #[must_use]
    pub fn and_so_on(self) -> Self {
        self.lines().repeats = true;
        self
    }

    /// How many attempts there were.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.lines().calls
    }

    /// The node's function, for `GraphBuilder::node`. Several nodes may share a script.
    pub fn node<C, E>(
        &self,
    ) -> impl Fn(Arc<S>, Context<C, E>) -> Scripted<S> + Send + Sync + use<S, C, E>
    where
        C: Send + Sync + 'static,
        E: Send + 'static,
    {
        let script = self.clone();
        move |_, context| {
            let line = script.next();
            Box::pin(async move {
                let Some(Line { wait, act }) = line else {
                    return Err(NodeError::permanent("the script is over"));
                };
                if !wait.is_zero() {
                    tokio::time::sleep(wait).await;
                }
                match act {
                    Act::Return(command) => Ok(command),
                    Act::Fail {
                        is_retryable: true,
                        text,
                    } => Err(NodeError::transient(text)),
                    Act::Fail { text, .. } => Err(NodeError::permanent(text)),
                    Act::Hang => std::future::pending().await,
                    Act::Ask { key, payload } => {
                        context
                            .interrupt::<serde_json::Value>(&key, payload)
                            .await?;
                        Ok(().into())
                    }
                }
            })
        }
    }

    fn act(self, act: Act<S>) -> Self {
        {
            let mut lines = self.lines();
            let wait = std::mem::take(&mut lines.wait);
            lines.lines.push(Line { wait, act });
        }
        self
    }

    fn next(&self) -> Option<Line<S>> {
        let mut lines = self.lines();
        let index = lines.calls;
        lines.calls += 1;
        let last = lines.lines.last().filter(|_| lines.repeats);
        let line = lines.lines.get(index).or(last)?;
        Some(Line {
            wait: line.wait,
            act: line.act.clone(),
        })
    }

    fn lines(&self) -> MutexGuard<'_, Lines<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: State> Default for Script<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: State> Clone for Script<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: State> fmt::Debug for Script<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.lines();
        f.debug_struct("Script")
            .field("lines", &lines.lines.len())
            .field("calls", &lines.calls)
            .finish_non_exhaustive()
    }
}
