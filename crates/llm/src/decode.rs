//! An answer's bytes to events, in either dialect, without any input or output of its own.
//!
//! Invariant: the events are the same however the bytes were cut, memory stays bounded
//! whatever they hold, and [`AnswerDecoder::finish`] never says that an answer is complete
//! whose end was not seen. Deliberately absent: HTTP, time limits, retries.

use std::{fmt, sync::Arc};

use lyceum_core::{ChatError, ChatEvent, FinishReason};
use secrecy::SecretString;

use crate::{
    Dialect, anthropic::EventReader, failure::protocol, json::Text, openai::ChunkReader,
    sse::SseDecoder,
};

/// The longest event that is read. Real ones have a few hundred bytes; a whole tool
/// call in one event may have many thousands.
pub const MAX_EVENT_BYTES: usize = 4 << 20;

/// How much of a whole answer in JSON is read.
pub const MAX_WHOLE_BYTES: usize = 16 << 20;

/// Understands one answer of one dialect. Pure: bytes come in, events go out.
pub(crate) trait Reader: Send + 'static {
    /// Takes the data of one event of the stream.
    fn event(&mut self, data: &[u8], out: &mut Vec<ChatEvent>) -> Result<(), ChatError>;

    /// Takes a whole answer.
    fn whole(&mut self, body: &[u8], out: &mut Vec<ChatEvent>) -> Result<(), ChatError>;

    /// Whether the provider said that nothing follows.
    fn is_done(&self) -> bool;

    /// Why the model stopped; `None` as long as the answer's end was not seen.
    fn finish(&self) -> Option<FinishReason>;
}

/// Where an answer comes from.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) provider: Arc<str>,
    /// The model that was asked, for servers that do not say which one answers.
    pub(crate) asked: Arc<str>,
    /// Never shown, even where the provider repeats it.
    pub(crate) key: Option<SecretString>,
}

impl Origin {
    pub(crate) fn started(&self, model: Option<Text<'_>>) -> ChatEvent {
        ChatEvent::Started {
            provider: Arc::clone(&self.provider),
            model: match model {
                Some(model) if *model.0 == *self.asked => Arc::clone(&self.asked),
                Some(model) => model.0.into(),
                None => Arc::clone(&self.asked),
            },
        }
    }
}

/// The bytes of one answer on their way to its reader.
pub(crate) struct Intake<R> {
    reader: R,
    decoder: SseDecoder,
    /// A whole answer so far.
    body: Vec<u8>,
    pub(crate) out: Vec<ChatEvent>,
    /// What went wrong after the events in `out`.
    pub(crate) failure: Option<ChatError>,
}

impl<R: Reader> Intake<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self {
            reader,
            decoder: SseDecoder::new(MAX_EVENT_BYTES),
            body: Vec::new(),
            out: Vec::new(),
            failure: None,
        }
    }

    /// Takes a chunk of an event stream; says how many events it completed.
    pub(crate) fn chunk(&mut self, chunk: &[u8]) -> usize {
        let Self {
            reader,
            out,
            failure,
            ..
        } = self;
        let mut events = 0;
        let fed = self.decoder.feed(chunk, |event| {
            if failure.is_none() && !reader.is_done() {
                events += 1;
                *failure = reader.event(event.data, out).err();
            }
        });
        if let Err(error) = fed
            && !reader.is_done()
        {
            failure.get_or_insert_with(|| protocol(error));
        }
        events
    }

    /// Takes what a stream left behind that ended without a blank line: a whole event, or
    /// the piece of one that was cut.
    pub(crate) fn end(&mut self) -> usize {
        if self.failure.is_some() {
            return 0;
        }
        let events = self.chunk(b"\n\n");
        if let Some(ChatError::Protocol { .. }) = self.failure {
            self.failure = None;
        }
        events
    }

    /// Takes a part of a whole answer.
    pub(crate) fn part(&mut self, part: &[u8]) -> usize {
        if self.body.len() + part.len() > MAX_WHOLE_BYTES {
            let detail = format_args!("it has more than {MAX_WHOLE_BYTES} bytes");
            self.failure = Some(protocol(detail));
        } else {
            self.body.extend_from_slice(part);
        }
        1
    }

    pub(crate) fn whole(&mut self) -> usize {
        self.failure = self.reader.whole(&self.body, &mut self.out).err();
        1
    }

    pub(crate) fn is_done(&self) -> bool {
        self.reader.is_done()
    }

    pub(crate) fn finish(&self) -> Option<FinishReason> {
        self.reader.finish()
    }
}

/// Decodes the body of one streamed answer. See the module's text.
///
/// ```
/// use lyceum_core::{ChatEvent, FinishReason};
/// use lyceum_llm::{Dialect, decode::AnswerDecoder};
///
/// let mut decoder = AnswerDecoder::new(Dialect::OpenAi, "deepseek", "deepseek-chat");
/// let mut events = Vec::new();
/// for chunk in [
///     "data: {\"choices\":[{\"delta\":{\"content\":\"Hel",
///     "lo\"}}]}\n\ndata: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
///     "data: [DONE]\n\n",
/// ] {
///     decoder.feed(chunk.as_bytes(), &mut events)?;
/// }
/// assert_eq!(events[1], ChatEvent::Text("Hello".into()));
/// assert_eq!(decoder.finish(&mut events)?, FinishReason::Stop);
/// # Ok::<(), lyceum_core::ChatError>(())
/// ```
pub struct AnswerDecoder {
    intake: Intake<Box<dyn Reader>>,
    provider: Arc<str>,
}

impl AnswerDecoder {
    /// A decoder of an answer of `provider` by the model `asked`; both names are what
    /// [`ChatEvent::Started`] says, the model's only where the answer names none.
    #[must_use]
    pub fn new(
        dialect: Dialect,
        provider: impl Into<Arc<str>>,
        asked: impl Into<Arc<str>>,
    ) -> Self {
        let origin = Origin {
            provider: provider.into(),
            asked: asked.into(),
            key: None,
        };
        let provider = Arc::clone(&origin.provider);
        let reader: Box<dyn Reader> = match dialect {
            Dialect::OpenAi => Box::new(ChunkReader::new(origin)),
            Dialect::Anthropic => Box::new(EventReader::new(origin, None)),
        };
        Self {
            intake: Intake::new(reader),
            provider,
        }
    }

    /// Takes more of the body and appends what it means to `events`.
    ///
    /// # Errors
    ///
    /// [`ChatError::Protocol`] for what is no answer or too long, and whatever an error event
    /// of the provider says. The events before it were appended; nothing follows.
    pub fn feed(&mut self, chunk: &[u8], events: &mut Vec<ChatEvent>) -> Result<(), ChatError> {
        self.intake.chunk(chunk);
        self.hand_over(events)
    }

    /// Whether the provider said that nothing follows.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.intake.is_done()
    }

    /// Ends the body.
    ///
    /// # Errors
    ///
    /// [`ChatError::Truncated`] when the answer's end was not seen.
    pub fn finish(mut self, events: &mut Vec<ChatEvent>) -> Result<FinishReason, ChatError> {
        self.intake.end();
        self.hand_over(events)?;
        self.intake.finish().ok_or(ChatError::Truncated)
    }

    /// Reads a whole answer in JSON, which some providers give although a stream was asked for.
    ///
    /// # Errors
    ///
    /// As for [`feed`](Self::feed) and [`finish`](Self::finish).
    pub fn whole(
        mut self,
        body: &[u8],
        events: &mut Vec<ChatEvent>,
    ) -> Result<FinishReason, ChatError> {
        self.intake.part(body);
        if self.intake.failure.is_none() {
            self.intake.whole();
        }
        self.hand_over(events)?;
        self.intake.finish().ok_or(ChatError::Truncated)
    }

    fn hand_over(&mut self, events: &mut Vec<ChatEvent>) -> Result<(), ChatError> {
        events.append(&mut self.intake.out);
        self.intake.failure.take().map_or(Ok(()), Err)
    }
}

impl fmt::Debug for AnswerDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerDecoder")
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}

impl Reader for Box<dyn Reader> {
    fn event(&mut self, data: &[u8], out: &mut Vec<ChatEvent>) -> Result<(), ChatError> {
        (**self).event(data, out)
    }
    fn whole(&mut self, body: &[u8], out: &mut Vec<ChatEvent>) -> Result<(), ChatError> {
        (**self).whole(body, out)
    }
    fn is_done(&self) -> bool {
        (**self).is_done()
    }
    fn finish(&self) -> Option<FinishReason> {
        (**self).finish()
    }
}
