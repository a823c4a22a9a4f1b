//! The chat port over the inference thread.
//!
//! Invariant: one thread owns the model; requests and answers cross by channels only, and
//! every channel is bounded. A channel of events has room for every event its answer can
//! have, so the thread never waits for a reader. Deliberately absent: downloading models.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use async_stream::stream;
use lyceum_core::{
    CallContext, ChatError, ChatModel, ChatRequest, ChatStream, ModelTraits, Tokens,
};
use tokio::sync::mpsc;

use crate::{
    OpenError,
    engine::{Defaults, Engine, Outcome, Tally},
    gguf::Gguf,
    queue::{Job, Queue},
    template::ChatTemplate,
    threads::{threads, warn_if_too_many},
    tokenizer::Vocabulary,
    weights,
};

/// The provider's name in answers, logs and labels.
const NAME: &str = "local";

/// Models below this number of parameters count as small.
const SMALL_BELOW: u64 = 3_000_000_000;

/// The longest line that may be configured; its end would wait for hours.
const MOST_WAITING: usize = 1024;

/// Events of an answer besides its tokens and its places in line.
const EXTRA_EVENTS: usize = 8;

/// The longest model name kept from a file, in characters.
const LONGEST_NAME: usize = 64;

/// How a local model is run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LocalConfig {
    /// The most tokens of prompt and answer together; at most the model's own limit.
    /// `None` is the model's limit, 8,192 at the most. It bounds the key-value cache,
    /// which grows with use (SmolLM2-135M: 46 KB a token).
    pub context: Option<Tokens>,
    /// The most tokens of an answer whose request does not say.
    pub max_output: Tokens,
    /// How many requests may wait while one is answered, 1 to 1,024.
    pub waiting: usize,
    /// The temperature of requests that do not say, 0 to 2; zero always takes the
    /// likeliest token.
    pub temperature: f32,
    /// The nucleus of requests that do not say, 0 to 1.
    pub top_p: f32,
}

impl Default for LocalConfig {
    /// 512 tokens of answer, 32 waiting; temperature 0.2 and nucleus 0.9 as SmolLM2's
    /// model card recommends: small models lose the thread at higher ones.
    fn default() -> Self {
        Self {
            context: None,
            max_output: Tokens(512),
            waiting: 32,
            temperature: 0.2,
            top_p: 0.9,
        }
    }
}

/// What a model did since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalCounters {
    /// Prompt tokens that went through the model.
    pub read: Tokens,
    /// Prompt tokens that were still cached from the answer before.
    pub reused: Tokens,
    /// Tokens generated.
    pub written: Tokens,
    /// Answers completed.
    pub finished: u64,
    /// Answers stopped because their stream was dropped, in line or under way.
    pub abandoned: u64,
}

/// A GGUF chat model in this process, as a [`ChatModel`] named `local`.
///
/// One thread answers one request at a time, in order. Dropping the last handle, streams
/// included, ends the thread.
///
/// Not served: tools ([`ModelTraits::native_tools`] is false; offered ones are ignored,
/// required ones rejected), images, enforced response formats.
pub struct LocalModel {
    worker: Arc<Worker>,
    model: Arc<str>,
    traits: ModelTraits,
    parameters: u64,
}

impl LocalModel {
    /// Loads a model and starts its thread. Blocks while the file is read and converted
    /// (0.6 s for SmolLM2-135M): call it outside of async code.
    ///
    /// # Errors
    ///
    /// [`OpenError`], one variant for each thing that can be wrong with a file.
    pub fn open(path: impl AsRef<Path>, config: LocalConfig) -> Result<Self, OpenError> {
        let started = Instant::now();
        let mut file = Gguf::open(path.as_ref())?;
        let wanted = config.context.map(|most| usize::try_from(most.0));
        let wanted = wanted.map(|most| most.unwrap_or(usize::MAX));
        let vocabulary = Vocabulary::read(&file)?;
        let template = ChatTemplate::read(&file, &vocabulary)?;
        let llama = weights::load(&mut file, wanted)?;
        if llama.vocabulary() < vocabulary.len() {
            return Err(file.damaged("it has more tokens than embeddings".into()));
        }
        let context = llama.context();
        let model: Arc<str> = model_name(&file).into();
        let parameters = file.parameters();
        tracing::info!(
            model = &*model,
            parameters,
            context,
            threads = threads(),
            took = ?started.elapsed(),
            "opened the local model"
        );
        warn_if_too_many();
        let tally = Arc::new(Tally::default());
        let defaults = Defaults {
            max_output: usize::try_from(config.max_output.0).unwrap_or(usize::MAX),
            temperature: config.temperature,
            top_p: config.top_p,
        };
        let names = (NAME.into(), Arc::clone(&model));
        let engine = Engine::new(
            llama,
            vocabulary,
            template,
            defaults,
            Arc::clone(&tally),
            names,
        );
        let queue = Arc::new(Queue::new(config.waiting.clamp(1, MOST_WAITING)));
        let line = Arc::clone(&queue);
        std::thread::Builder::new()
            .name("local-model".into())
            .spawn(move || work(engine, &line))
            .map_err(|source| OpenError::Thread { source })?;
        Ok(Self {
            worker: Arc::new(Worker {
                queue,
                tally,
                longest_answer: context,
            }),
            model,
            traits: ModelTraits {
                native_tools: false,
                context: Tokens(context as u64),
                small: parameters < SMALL_BELOW,
            },
            parameters,
        })
    }

    /// The model's name as its file gives it, else the file's name.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The number of parameters.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.parameters
    }

    /// What the model did so far.
    #[must_use]
    pub fn counters(&self) -> LocalCounters {
        let tally = &self.worker.tally;
        LocalCounters {
            read: Tokens(tally.read.load(Ordering::Relaxed)),
            reused: Tokens(tally.reused.load(Ordering::Relaxed)),
            written: Tokens(tally.written.load(Ordering::Relaxed)),
            finished: tally.finished.load(Ordering::Relaxed),
            abandoned: tally.abandoned.load(Ordering::Relaxed),
        }
    }
}

impl fmt::Debug for LocalModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalModel")
            .field("model", &self.model)
            .field("parameters", &self.parameters)
            .field("traits", &self.traits)
            .finish_non_exhaustive()
    }
}

impl ChatModel for LocalModel {
    fn name(&self) -> &str {
        NAME
    }

    fn traits(&self) -> ModelTraits {
        self.traits
    }

    fn stream(&self, call: CallContext, request: Arc<ChatRequest>) -> ChatStream {
        let worker = Arc::clone(&self.worker);
        Box::pin(stream! {
            let (events, mut answer) = mpsc::channel(worker.most_events());
            let job = Job { request, deadline: call.deadline, events };
            if let Err(retry_after) = worker.queue.push(job) {
                yield Err(ChatError::Shed { retry_after });
                return;
            }
            while let Some(event) = answer.recv().await {
                yield event;
            }
        })
    }
}

/// What a model and its streams share; the thread ends with the last of them.
#[derive(Debug)]
struct Worker {
    queue: Arc<Queue>,
    tally: Arc<Tally>,
    longest_answer: usize,
}

impl Worker {
    fn most_events(&self) -> usize {
        self.longest_answer + self.queue.limit() + EXTRA_EVENTS
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// The inference thread.
fn work(mut engine: Engine, queue: &Queue) {
    while let Some(job) = queue.pop() {
        let took = serve(&mut engine, &job);
        // Before the job is dropped: who sees the stream end finds the thread free.
        queue.done(took);
    }
}

/// Answers one job; the time is given when the answer was completed.
fn serve(engine: &mut Engine, job: &Job) -> Option<Duration> {
    let started = Instant::now();
    if job.events.is_closed() {
        engine.count_abandoned();
        return None;
    }
    let error = if job.deadline.is_some_and(|deadline| deadline <= started) {
        ChatError::Shed {
            retry_after: Duration::ZERO,
        }
    } else {
        // A panic in the numeric code must cost one answer, not the model.
        match catch_unwind(AssertUnwindSafe(|| {
            engine.answer(&job.request, &job.events)
        })) {
            Ok(Ok(Outcome::Finished)) => return Some(started.elapsed()),
            Ok(Ok(Outcome::Abandoned)) => {
                engine.count_abandoned();
                return None;
            }
            Ok(Err(error)) => error,
            Err(_) => {
                engine.forget();
                tracing::error!("the local model panicked; its cache was dropped");
                ChatError::Local {
                    detail: "it panicked".into(),
                }
            }
        }
    };
    // A dropped stream needs no error.
    let _ = job.events.try_send(Err(error));
    None
}

fn model_name(file: &Gguf) -> String {
    let stem = file.path().file_stem().unwrap_or_default();
    let name = match file.text("general.name") {
        Some(name) if !name.trim().is_empty() => name.trim().to_owned(),
        _ => stem.to_string_lossy().into_owned(),
    };
    let printable = name.chars().filter(|c| !c.is_control());
    printable.take(LONGEST_NAME).collect()
}
