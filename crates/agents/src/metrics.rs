//! The metrics of the agents. Labels are bounded; there is none of a session or a user.

use std::time::Instant;

use lyceum_core::{Lesson, TeachError};
use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};

use crate::check::Fault;

/// Counter. Turns by `status`: `ok`, `degraded`, `dropped`, or an error's label.
pub const REQUESTS: &str = "agent_requests_total";
/// Histogram, seconds. Time of `operation`: `teach`, `memorize`, `teach_back`, `exam`.
pub const DURATION: &str = "agent_request_duration_seconds";

/// Counter. Questions of models that the learner did not hear, by `fault`: `leak`, `generic`,
/// `repeat`, `language`, `not_a_question`.
pub const REJECTED: &str = "agent_questions_rejected_total";
/// Histogram, tokens. The size of the context that a turn begins with.
pub const CONTEXT: &str = "agent_context_size_tokens";
/// Counter. Tokens of conversations that were summarised.
pub const SUMMARISED: &str = "agent_summarised_tokens_total";
/// Counter. Tokens of the summaries made of them; the former divided by this is how much they
/// shrink.
pub const SUMMARIES: &str = "agent_summary_tokens_total";

/// Describes the metrics to the installed recorder.
pub fn describe() {
    describe_counter!(REQUESTS, Unit::Count, "Turns of agents by status.");
    describe_counter!(
        REJECTED,
        Unit::Count,
        "Questions of models that were not passed on, by fault."
    );
    describe_histogram!(DURATION, Unit::Seconds, "Time of agents' operations.");
    describe_histogram!(
        CONTEXT,
        "Tokens of the context that a turn begins with: summary, memories, messages."
    );
    describe_counter!(SUMMARISED, "Tokens of conversations that were summarised.");
    describe_counter!(SUMMARIES, "Tokens of the summaries made of them.");
}

/// Notes the size of a turn's context.
pub(crate) fn context(tokens: usize) {
    histogram!(CONTEXT).record(tokens as f64);
}

/// Notes a summary and what it was made of.
pub(crate) fn shrunk(before: usize, after: usize) {
    counter!(SUMMARISED).increment(before as u64);
    counter!(SUMMARIES).increment(after as u64);
}

/// Counts a question of a model that is not passed on.
pub(crate) fn rejected(fault: Fault) {
    counter!(REJECTED, "fault" => fault.label()).increment(1);
}

/// Counts one turn when it ends, whichever way; dropped before that it counts as `dropped`.
#[derive(Debug)]
pub(crate) struct Watched {
    operation: &'static str,
    start: Instant,
    status: &'static str,
}

impl Watched {
    pub(crate) fn begin(operation: &'static str) -> Self {
        Self {
            operation,
            start: Instant::now(),
            status: "dropped",
        }
    }

    pub(crate) fn answered(&mut self, lesson: &Lesson) {
        self.done(&lesson.degraded);
    }

    pub(crate) fn done(&mut self, degraded: &[String]) {
        self.status = match degraded.is_empty() {
            true => "ok",
            false => "degraded",
        };
    }

    pub(crate) fn stored(&mut self) {
        self.status = "ok";
    }

    pub(crate) fn failed(&mut self, error: &TeachError) {
        self.status = error.label();
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        counter!(REQUESTS, "status" => self.status).increment(1);
        histogram!(DURATION, "operation" => self.operation)
            .record(self.start.elapsed().as_secs_f64());
    }
}
