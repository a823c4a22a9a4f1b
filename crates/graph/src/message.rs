//! A message that a node tells piece by piece while it runs.
//!
//! Invariant: pieces are numbered from 0 in the order in which they were sent.
//! Deliberately absent: what a piece is; a graph knows no models.

use std::{fmt, sync::Arc};

use crate::{Context, Mode, event::Chunk, outlet::Told};

/// The sending side of one message: see [`Context::message`].
pub struct Message<C = (), E = ()> {
    context: Context<C, E>,
    id: Arc<str>,
    index: u32,
}

impl<C, E> Message<C, E> {
    pub(crate) fn new(context: Context<C, E>, id: Arc<str>) -> Self {
        let index = 0;
        Self { context, id, index }
    }

    /// The message's id: the same in every attempt of the task.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Puts the next piece into the run's stream, for readers of `Mode::Messages`.
    ///
    /// Waits while the stream's buffer is full, and does nothing when nobody streams.
    ///
    /// # Cancel safety
    ///
    /// A piece whose sending was dropped while it waited is not sent, and its number is
    /// not given again.
    pub async fn send(&mut self, value: E) {
        let Context { run, task, attempt } = &self.context;
        task.touch();
        let index = self.index;
        self.index += 1;
        let told = || {
            Told::Message(Chunk {
                task: run.task_id(task),
                node: task.node.clone(),
                attempt: *attempt,
                message: self.id.clone(),
                index,
                value,
            })
        };
        run.tell(Mode::Messages, task.step, told).await;
    }
}

impl<C, E> fmt::Debug for Message<C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id)
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}
