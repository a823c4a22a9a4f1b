//! The execution of one run, from its turn to its stored end.
//!
//! Invariant: a run that another process has taken is told no further here. Deliberately
//! absent: retries of a failed run; nodes have their own.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use lyceum_core::{Scope, TenantId};
use lyceum_graph::{RunError, Status};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;

use super::{
    begin::{begin, durability},
    board::{Live, Stop},
    ending::{End, Work, finish, free},
    erased::{Call, What},
    lanes::{Beginning, topic},
    platform::Platform,
    refusal::Refusal,
    resources::{RUN, Run, THREAD, Thread, now},
    served::Raised,
    states::OFFSET,
    tape::{Hold, Tape},
    teller::Teller,
    wire::Wire,
};

/// Steps after which a cycle is taken for endless, unless the client says otherwise.
const STEP_LIMIT: u64 = 100;
/// How many processes may end while they hold a run: it may be what ends them.
const MOST_TRIES: u32 = 3;
/// The pause before records that could not be used are used again, and the longest between two
/// looks at a lane whose first run is elsewhere.
const PAUSE: Duration = Duration::from_millis(500);

/// Where a run was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Its end is stored, or it goes on after the next start.
    Here,
    /// Another process has it.
    Elsewhere,
}

/// The span of a run, by OpenTelemetry's conventions for generative AI.
pub(crate) fn span(run: &Run) -> tracing::Span {
    tracing::info_span!(
        parent: None,
        "run",
        otel.name = "invoke_workflow",
        otel.status_code = Empty,
        gen_ai.operation.name = "invoke_workflow",
        gen_ai.workflow.name = Empty,
        gen_ai.conversation.id = run.thread_id,
        run = run.run_id,
        status = Empty,
    )
}

/// Waits for the run's turn, runs it and stores its end.
pub(crate) async fn execute(
    platform: &Platform,
    owner: &TenantId,
    scope: &Scope,
    mut run: Run,
    live: &Arc<Live>,
    beginning: Beginning,
) -> Ended {
    let work = Work {
        platform,
        owner,
        live,
    };
    let is_shared = platform.0.bell.is_shared();
    let mut tape = is_shared.then(|| Tape::new(&run.run_id, &run.thread_id, &live.holder));
    if beginning.again
        && let Some(tape) = &mut tape
    {
        work.take_over(tape).await;
    }
    let attempt = if beginning.again {
        (beginning.tries + 1).max(2)
    } else {
        1
    };
    let told = json!({ "run_id": run.run_id, "attempt": attempt });
    live.log.push("metadata".to_owned(), &told);
    let mut teller = Teller::new(platform, owner, &run, live);
    let done = CancellationToken::new();
    let ended = async {
        let end = work.run(scope, &mut run, beginning, &mut teller).await;
        done.cancel();
        end
    };
    let taped = async {
        if let Some(tape) = &mut tape
            && tape.follow(platform, owner, live, &done).await == Hold::Lost
        {
            live.stop(Stop::Lost);
        }
    };
    let (end, ()) = tokio::join!(ended, taped);
    let Some(end) = end else {
        return Ended::Elsewhere;
    };
    let stopped = live.cancel.is_cancelled().then(|| live.how());
    match stopped {
        Some(Stop::Shutdown) => {
            work.leave(&run, tape.as_mut()).await;
            return Ended::Here;
        }
        Some(Stop::Lost) => return Ended::Elsewhere,
        _ => {}
    }
    let (status, is_open) = (end.status, end.is_open && stopped.is_none());
    let span = tracing::Span::current();
    span.record("status", status);
    if status == "error" {
        span.record("otel.status_code", "ERROR");
    }
    let error = end
        .error
        .as_ref()
        .and_then(|error| error.get("message")?.as_str());
    let error = error.map(str::to_owned);
    teller.tape_end(status, is_open, error.as_deref());
    match finish(work, &run, end, stopped, tape.as_mut()).await {
        Ok(Hold::Mine) => {
            teller.end(status, is_open, error.as_deref());
            Ended::Here
        }
        Ok(Hold::Lost) => Ended::Elsewhere,
        // The queue's record is still there: the run is taken up after the next start.
        Err(refusal) => {
            tracing::error!(?refusal, "the end of a run cannot be stored");
            Ended::Here
        }
    }
}

/// What a thread's lane says of a run that waits.
enum Turn {
    Come,
    After(String),
    Lost,
}

impl Work<'_> {
    /// Goes on with what the process before told.
    async fn take_over(&self, tape: &mut Tape) {
        loop {
            let Err(refusal) = tape.take_over(self.platform, self.owner, self.live).await else {
                return;
            };
            tracing::warn!(?refusal, "what a run told cannot be read");
            // A run that was stopped is ended all the same, one that is left is not.
            let is_stopped = self.live.cancel.is_cancelled();
            let is_left = is_stopped && matches!(self.live.how(), Stop::Shutdown | Stop::Lost);
            if is_left || self.platform.is_closing() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The run from its turn to its end; `None` when another process has it.
    async fn run(
        &self,
        scope: &Scope,
        run: &mut Run,
        beginning: Beginning,
        teller: &mut Teller,
    ) -> Option<End> {
        let (platform, owner) = (self.platform, self.owner);
        let turn = async {
            if !beginning.is_first && !self.turn(run).await {
                return None;
            }
            let after = run.asked.get("after_seconds").and_then(Value::as_f64);
            if let Some(after) = after.and_then(|after| Duration::try_from_secs_f64(after).ok())
                && !beginning.again
            {
                tokio::time::sleep(after).await;
            }
            let slot = platform.0.slots.acquire().await;
            // Another process may have taken the run while it waited.
            if platform.0.bell.is_shared() && !self.turn(run).await {
                return None;
            }
            Some(slot)
        };
        let _slot = match self.live.cancel.run_until_cancelled(turn).await {
            Some(None) => return None,
            None | Some(Some(Err(_))) => return Some(End::stopped()),
            Some(Some(Ok(slot))) => slot,
        };
        if beginning.tries >= MOST_TRIES {
            let told = format!("{} processes ended while they ran it", beginning.tries);
            let _free = free(platform, owner, &run.thread_id).await;
            return Some(End::failed("ProcessLost", &told));
        }
        run.status = "running".to_owned();
        run.updated_at = now();
        let _stored = platform
            .change::<Run>(owner, RUN, &run.run_id, |stored| {
                if !stored.is_over() {
                    stored.status = "running".to_owned();
                }
            })
            .await;
        let running = async {
            if beginning.again && platform.0.bell.is_shared() {
                // The process before may have left the thread taken.
                free(platform, owner, &run.thread_id).await?;
            }
            drive(
                platform,
                owner,
                scope,
                run,
                self.live,
                (beginning.again, teller),
            )
            .await
        };
        Some(match AssertUnwindSafe(running).catch_unwind().await {
            Ok(Ok(end)) => end,
            Ok(Err(refusal)) => {
                tracing::error!(?refusal, "a run failed inside");
                End::failed("InternalError", "the server failed")
            }
            Err(_panic) => End::failed("InternalError", "the run panicked"),
        })
    }

    /// Waits until the run is the first of its thread; gives whether it comes to that here.
    async fn turn(&self, run: &Run) -> bool {
        let (platform, owner) = (self.platform, self.owner);
        let mut news = platform.0.bell.listen(&topic(owner, &run.thread_id));
        let mut changed = platform.0.lanes_changed.subscribe();
        loop {
            let before = match self.look(run).await {
                Ok(Turn::Come) => return true,
                Ok(Turn::Lost) => return false,
                Ok(Turn::After(before)) => before,
                Err(refusal) => {
                    tracing::warn!(?refusal, "a thread's lane cannot be read");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            // One that has left here and stands in the lane yet is another process's.
            let here = platform.live(owner, &before);
            match here.filter(|before| !before.log.is_over()) {
                Some(before) => before.log.ended().await,
                None => tokio::select! {
                    _closed = changed.changed() => {}
                    () = news.news(PAUSE) => {}
                },
            }
        }
    }

    async fn look(&self, run: &Run) -> Result<Turn, Refusal> {
        let thread = self
            .platform
            .get::<Thread>(self.owner, THREAD, &run.thread_id);
        let Some(thread) = thread.await? else {
            return Ok(Turn::Lost);
        };
        let place = thread.lane.iter().position(|one| one.run == run.run_id);
        let Some((place, mine)) = place.and_then(|at| Some((at, thread.lane.get(at)?))) else {
            return Ok(Turn::Lost);
        };
        if mine.holder != self.live.holder {
            return Ok(Turn::Lost);
        }
        let before = place.checked_sub(1).and_then(|at| thread.lane.get(at));
        Ok(before.map_or(Turn::Come, |before| Turn::After(before.run.clone())))
    }

    /// The process ends: another one goes on with the run.
    async fn leave(&self, run: &Run, tape: Option<&mut Tape>) {
        let Some(tape) = tape else { return };
        let _told = tape.flush(self.platform, self.owner, self.live).await;
        let left = self.platform.let_go(self.owner, run, &self.live.holder);
        if let Err(refusal) = left.await {
            tracing::warn!(?refusal, "a run waits until this process is taken for gone");
        }
    }
}

fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(many)) => {
            let many = many.iter().filter_map(Value::as_str);
            many.map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

/// The name and the words under which clients see a failure.
fn failure(error: &RunError) -> Value {
    let (name, message) = match error {
        RunError::Node { source, .. } => {
            if let Some(raised) = source.get_ref().downcast_ref::<Raised>() {
                return raised.shown();
            }
            match source.get_ref().downcast_ref::<RunError>() {
                Some(inner) => return failure(inner),
                None => ("Error", source.to_string()),
            }
        }
        RunError::StepLimit { .. } => ("GraphRecursionError", error.to_string()),
        RunError::Refused { .. } | RunError::Conflict { .. } => {
            ("InvalidUpdateError", error.to_string())
        }
        error => ("Error", error.to_string()),
    };
    json!({ "error": name, "message": message })
}

async fn drive(
    platform: &Platform,
    owner: &TenantId,
    scope: &Scope,
    run: &Run,
    live: &Arc<Live>,
    (again, teller): (bool, &mut Teller),
) -> Result<End, Refusal> {
    let begun = begin(platform, owner, scope, run, again).await?;
    let asked = &run.asked;
    let config = asked.get("config");
    let limit = config.and_then(|config| config.get("recursion_limit")?.as_u64());
    let mut about = begun.metadata.clone();
    about.remove(OFFSET);
    about.extend(begun.configurable.clone());
    let mut wire = Wire::new(asked, &run.thread_id, Value::Object(about));
    let null = Value::Null;
    let input = asked.get("input").unwrap_or(&null);
    let name = begun.thread.graph().unwrap_or_default();
    tracing::Span::current().record("gen_ai.workflow.name", name);
    teller.begin(begun.thread.graph().unwrap_or_default(), &begun.fields);
    wire.begin(&live.log, begun.before.clone(), &begun.fields, input);
    let _stored = platform
        .change::<Thread>(owner, THREAD, &run.thread_id, |thread| {
            thread.config.clone_from(&begun.thread.config);
        })
        .await?;
    let mut said = begun.graph.run(Call {
        saver: platform.0.saver.clone(),
        thread: Platform::key(owner, &run.thread_id)?,
        at: begun.at,
        start: begun.start,
        before: texts(asked.get("interrupt_before")),
        after: texts(asked.get("interrupt_after")),
        step_limit: limit.unwrap_or(STEP_LIMIT),
        durability: durability(asked),
        metadata: begun.metadata,
        cancel: live.cancel.clone(),
        invocation: begun.invocation,
    });
    let mut last = None;
    while let Some(event) = said.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                return Ok(End {
                    values: last,
                    status: "error",
                    error: Some(failure(&error)),
                    ..End::stopped()
                });
            }
        };
        wire.tell(&live.log, &event);
        teller.say(&event);
        match event.what {
            What::Finished {
                status,
                values,
                interrupts,
            } => {
                if status == Status::Paused {
                    wire.paused(&live.log);
                }
                return Ok(End {
                    status: if status == Status::Done {
                        "success"
                    } else {
                        "interrupted"
                    },
                    values: Some(wire.shown(values)),
                    interrupts,
                    is_open: matches!(status, Status::Paused | Status::Interrupted),
                    error: None,
                });
            }
            What::Values(values) if event.namespace.is_empty() => {
                last = Some(wire.shown(values));
            }
            _ => {}
        }
    }
    Ok(End::failed("Error", "the run ended without a result"))
}
