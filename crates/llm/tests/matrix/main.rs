//! Every fault of a provider, in both dialects and both forms of an answer, through all
//! decorators as the server composes them, over real sockets.
//!
//! Each case looks at the caller's answer, at the attempts on the wire, at what was
//! reserved, paid and counted, and at the calls that come after it.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod faults;
#[path = "../recorder/mod.rs"]
mod recorder;
mod stack;
#[path = "../support/mod.rs"]
mod support;
mod wire;

use std::{sync::Mutex, thread, time::Instant};

use faults::{FAULTS, Fault, HALF, MAIN, Outcome};
use futures_util::StreamExt;
use lyceum_core::ChatEvent;
use lyceum_llm::Dialect;
use recorder::Recorder;
use stack::{Seen, Stack, other};
use support::{Server, Step};
use wire::{Form, USED, Wire};

/// The next model's answer.
const NEXT: &str = "from the next";
/// The server's own default.
const FAILURES: u32 = 5;

/// How an answer is made and read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The provider streams, the caller reads the stream.
    Streamed,
    /// The provider streams, the caller waits for the whole answer.
    Collected,
    /// The provider gives one document, the caller waits for it.
    Whole,
}

impl Way {
    fn form(self) -> Form {
        match self {
            Self::Streamed | Self::Collected => Form::Events,
            Self::Whole => Form::Document,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Case {
    fault: &'static Fault,
    dialect: Dialect,
    way: Way,
    /// How many requests in a row meet the fault; later ones are answered well.
    times: usize,
}

impl Case {
    fn outcome(&self) -> Outcome {
        match self.way.form() {
            Form::Events => self.fault.events,
            Form::Document => self.fault.document,
        }
    }

    fn name(&self) -> String {
        let (fault, dialect, way) = (self.fault.name, self.dialect, self.way);
        format!("{fault}, {dialect:?}, {way:?}, {} times", self.times)
    }

    /// What the caller reads, whose words end with an error, and how often the main model
    /// is asked.
    fn expected(&self) -> (&'static str, Option<&'static str>, usize) {
        match self.outcome() {
            Outcome::Whole => (MAIN, None, 1),
            Outcome::Again(attempts) if self.times >= attempts => (NEXT, None, attempts),
            Outcome::Again(_) => (MAIN, None, self.times + 1),
            Outcome::Next => (NEXT, None, 1),
            Outcome::Broken(label) if self.way == Way::Streamed => (HALF, Some(label), 1),
            Outcome::Broken(label) => ("", Some(label), 1),
            Outcome::Absent => unreachable!("not a case"),
        }
    }

    async fn put(&self, stack: &Stack, question: &str) -> Seen {
        match self.way {
            Way::Streamed => stack.streamed(question).await,
            Way::Collected | Way::Whole => stack.collected(question).await,
        }
    }

    async fn check(&self, recorder: &Recorder) {
        let form = self.way.form();
        let dialect = self.dialect;
        let wire = Wire { dialect, form };
        let mut scripts = vec![(self.fault.script)(wire); self.times];
        scripts.push(wire.answer(MAIN));
        let mut main = Server::start(scripts).await;
        let spare = Wire {
            dialect: other(dialect),
            form,
        };
        let mut next = Server::start(vec![spare.answer(NEXT)]).await;
        let stack = Stack::new((&main, &next), dialect, 1, FAILURES);

        let seen = self.put(&stack, "first").await;
        let (text, error, attempts) = self.expected();
        let label = seen.error.as_ref().map(|error| error.label());
        assert_eq!(
            (seen.text.as_str(), label),
            (text, error),
            "{:?}",
            seen.error
        );
        assert!(seen.starts <= 1 && !seen.cached, "{seen:?}");
        assert_eq!(requests(&mut main), attempts, "attempts");
        let fell_back = text == NEXT;
        assert_eq!(requests(&mut next), usize::from(fell_back), "of the next");
        if self.fault.leaves {
            let faults = attempts.min(self.times);
            for _ in 0..faults {
                main.client_gone().await;
            }
        }
        self.books(&stack, attempts, fell_back);
        self.counted(recorder, fell_back);

        // The slot is free, and what was whole is kept, nothing else.
        let again = stack.collected("first").await;
        let left = self.times.saturating_sub(attempts);
        match error {
            None => {
                assert!(again.cached && again.text == text, "{again:?}");
                assert_eq!(requests(&mut main) + requests(&mut next), 0);
            }
            Some(_) if left == 0 => assert!(!again.cached && again.text == MAIN, "{again:?}"),
            Some(_) => {}
        }
        let after = self.put(&stack, "second").await;
        let answered = match self.fault.avoided && fell_back {
            true => NEXT,
            false => MAIN,
        };
        assert_eq!(after.text, answered, "{:?}", after.error);
    }

    /// Nothing is left reserved, and what was sent is counted once.
    fn books(&self, stack: &Stack, attempts: usize, fell_back: bool) {
        for (queue, sent) in stack.queues.iter().zip([attempts, usize::from(fell_back)]) {
            let snapshot = queue.snapshot();
            assert_eq!((snapshot.running, snapshot.waiting), (0, 0), "a slot leaks");
            let requests = snapshot.requests.unwrap().used;
            assert_eq!(requests, sent as u64, "requests in the books");
            let tokens = snapshot.tokens.unwrap().used;
            let whole = u64::from(sent > 0 && (!fell_back || queue_is(queue, stack)));
            let whole = whole * u64::from(!matches!(self.outcome(), Outcome::Broken(_)));
            let uncertain = sent as u64 - whole;
            match self.fault.refused || uncertain == 0 {
                true => assert_eq!(tokens, whole * USED, "tokens in the books"),
                // What may have been used is not given back.
                false => assert!(tokens > whole * USED + uncertain * USED, "{tokens}"),
            }
        }
        assert_eq!(stack.ledger.today().held.0, 0, "money stays set aside");
    }

    /// One call is one count, and every step of it is told.
    fn counted(&self, recorder: &Recorder, fell_back: bool) {
        let seen = recorder.seen();
        let sum = |name: &str| -> f64 {
            let of = seen.iter().filter(|(key, _)| key.starts_with(name));
            of.map(|(_, value)| value).sum()
        };
        let (_, error, attempts) = self.expected();
        let status = format!("status={}", error.unwrap_or("ok"));
        let mut calls = seen
            .iter()
            .filter(|(key, _)| key.starts_with("llm_requests_total"));
        assert_eq!(sum("llm_requests_total"), 1.0, "{seen:#?}");
        assert!(calls.any(|(key, _)| key.contains(&status)), "{seen:#?}");
        assert_eq!(sum("llm_fallbacks_total"), f64::from(u8::from(fell_back)));
        let again = sum("llm_retries_total") + sum("llm_throttled_total");
        // A refusal for rate is told even when it is the last.
        assert!(
            again >= attempts as f64 - 1.0 && again <= attempts as f64,
            "{seen:#?}"
        );
    }
}

/// Whether this is the next model's queue.
fn queue_is(queue: &lyceum_queue::Queue, stack: &Stack) -> bool {
    std::ptr::eq(queue, &raw const stack.queues[1])
}

fn requests(server: &mut Server) -> usize {
    std::iter::from_fn(|| server.requests.try_recv().ok()).count()
}

fn cases(dialect: Dialect) -> Vec<Case> {
    let mut cases = Vec::new();
    for fault in FAULTS {
        for way in [Way::Streamed, Way::Collected, Way::Whole] {
            let case = |times| Case {
                fault,
                dialect,
                way,
                times,
            };
            match case(1).outcome() {
                Outcome::Absent => {}
                Outcome::Again(attempts) => cases.extend([case(1), case(attempts)]),
                Outcome::Whole | Outcome::Next | Outcome::Broken(_) => cases.push(case(1)),
            }
        }
    }
    cases
}

/// Runs something with a runtime and a recorder of its own.
fn alone<T>(run: impl AsyncFnOnce(&Recorder) -> T) -> T {
    let recorder = Recorder::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    metrics::with_local_recorder(&recorder, || runtime.block_on(run(&recorder)))
}

/// Runs all cases, some at a time: most of them wait for something.
fn matrix(dialect: Dialect) {
    let left = Mutex::new(cases(dialect));
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                loop {
                    let Some(case) = left.lock().unwrap().pop() else {
                        return;
                    };
                    let check = move || alone(async |recorder| case.check(recorder).await);
                    let thread = thread::Builder::new().name(case.name());
                    if thread.spawn(check).unwrap().join().is_err() {
                        failed.lock().unwrap().push(case.name());
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} failed: {failed:#?}", failed.len());
}

#[test]
fn every_fault_of_the_openai_dialect_has_its_outcome() {
    matrix(Dialect::OpenAi);
}

#[test]
fn every_fault_of_the_anthropic_dialect_has_its_outcome() {
    matrix(Dialect::Anthropic);
}

/// A caller who leaves before the headers and in the middle of the answer.
async fn leaves(dialect: Dialect, script: Vec<Step>, begun: bool, recorder: &Recorder) {
    let form = Form::Events;
    let wire = Wire { dialect, form };
    let mut main = Server::start(vec![script, wire.answer(MAIN)]).await;
    let next = Server::start(vec![vec![Step::Hang]]).await;
    let stack = Stack::new((&main, &next), dialect, 1, FAILURES);
    let mut stream = stack.ask("first");
    let told = async {
        loop {
            match stream.next().await {
                Some(Ok(ChatEvent::Text(text))) => return Some(text),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    };
    tokio::select! {
        text = told => assert!(begun && text.as_deref() == Some(HALF), "{text:?}"),
        _ = main.requests.recv(), if !begun => {}
    }
    drop(stream);
    main.client_gone().await;
    let snapshot = stack.queues[0].snapshot();
    assert_eq!((snapshot.running, snapshot.waiting), (0, 0), "a slot leaks");
    assert!(
        snapshot.tokens.unwrap().used > USED,
        "what may be used counts"
    );
    assert_eq!(stack.ledger.today().held.0, 0);
    let cancelled = recorder.seen();
    let cancelled = cancelled
        .iter()
        .find(|(key, _)| key.contains("status=cancelled"));
    assert_eq!(cancelled.map(|(_, count)| *count), Some(1.0));
    let again = stack.streamed("first").await;
    assert_eq!((again.text.as_str(), again.cached), (MAIN, false));
}

#[test]
fn a_caller_who_leaves_ends_the_call_upstream_within_a_second() {
    for dialect in [Dialect::OpenAi, Dialect::Anthropic] {
        let form = Form::Events;
        let half = Wire { dialect, form }.begun(HALF);
        for (script, begun) in [
            (vec![Step::Hang], false),
            (vec![Step::Send(half), Step::Hang], true),
        ] {
            alone(async |recorder| leaves(dialect, script, begun, recorder).await);
        }
    }
}

/// Every attempt meets the next fault of the table, and the breaker never opens: all that
/// holds attempts back is the budget.
async fn attempts_over_all_faults(dialect: Dialect, calls: usize) {
    let form = Form::Events;
    let wire = Wire { dialect, form };
    // Who is told to stay away for an hour does, and no more is seen of it.
    let faults = FAULTS
        .iter()
        .filter(|fault| fault.name != "429 for an hour");
    let scripts: Vec<Vec<Step>> = faults.map(|fault| (fault.script)(wire)).collect();
    let scripts = scripts.iter().cycle().take(calls * 3).cloned().collect();
    let mut main = Server::start(scripts).await;
    let spare = Wire {
        dialect: other(dialect),
        form,
    };
    let next = Server::start(vec![spare.answer(NEXT)]).await;
    let stack = Stack::new((&main, &next), dialect, 8, u32::MAX);
    let start = Instant::now();
    let ask = |number: usize| {
        let stack = &stack;
        async move { stack.streamed(&format!("question {number}")).await }
    };
    let asked = futures_util::stream::iter(0..calls).map(ask);
    let seen: Vec<Seen> = asked.buffer_unordered(8).collect().await;
    let attempts = requests(&mut main);
    // What there was at first, and one more every ten seconds.
    let spare = 12 + start.elapsed().as_secs() as usize / 10;
    assert!(
        (calls + 1..=calls * 12 / 10 + spare).contains(&attempts),
        "{attempts} attempts for {calls} calls"
    );
    for seen in seen {
        let whole = seen.error.is_none() && (seen.text == MAIN || seen.text == NEXT);
        assert!(
            whole || seen.error.is_some(),
            "cut without a word: {seen:?}"
        );
    }
    let snapshot = stack.queues[0].snapshot();
    assert_eq!((snapshot.running, snapshot.waiting), (0, 0));
    assert_eq!(snapshot.requests.unwrap().used, attempts as u64);
}

#[test]
fn attempts_over_all_faults_stay_within_a_fifth_of_the_calls() {
    thread::scope(|scope| {
        for dialect in [Dialect::OpenAi, Dialect::Anthropic] {
            scope.spawn(move || alone(async |_| attempts_over_all_faults(dialect, 60).await));
        }
    });
}
