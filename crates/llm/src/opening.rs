//! The part of an answer before its content: as long as nothing was shown, a failed
//! call can be made again or given to another model.

use std::collections::VecDeque;

use futures_util::{Stream, StreamExt, stream};
use lyceum_core::{ChatError, ChatEvent, ChatStream, QueuePosition};

use crate::answer::is_content;

/// A stream whose content has not begun. What comes before it is held back, so that an
/// abandoned call leaves no trace.
pub(crate) struct Opening {
    stream: ChatStream,
    held: VecDeque<ChatEvent>,
}

/// What happens to an [`Opening`].
pub(crate) enum Opened {
    /// The call waits for its turn. Ask again.
    Waiting(QueuePosition),
    /// The content begins, or the answer is complete without any. There is no way back.
    Begun,
    /// The call failed before that.
    Failed(ChatError),
}

impl Opening {
    pub(crate) fn new(stream: ChatStream) -> Self {
        Self {
            stream,
            held: VecDeque::new(),
        }
    }

    pub(crate) async fn next(&mut self) -> Opened {
        loop {
            match self.stream.next().await {
                Some(Ok(ChatEvent::Queued(position))) => return Opened::Waiting(position),
                Some(Ok(event)) => {
                    let begun = is_content(&event) || matches!(event, ChatEvent::Finished(_));
                    self.held.push_back(event);
                    if begun {
                        return Opened::Begun;
                    }
                }
                Some(Err(error)) => return Opened::Failed(error),
                None => return Opened::Failed(ChatError::Truncated),
            }
        }
    }

    /// Everything from the beginning on, except the waiting.
    pub(crate) fn into_stream(
        self,
    ) -> impl Stream<Item = Result<ChatEvent, ChatError>> + Send + Unpin {
        stream::iter(self.held.into_iter().map(Ok)).chain(self.stream)
    }
}
