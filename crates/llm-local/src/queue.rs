//! The line of requests that wait for the one inference thread: first come, first served.
//!
//! Invariant: at most `limit` requests wait, and a request whose stream was dropped never
//! keeps a live one out. Deliberately absent: priorities and fairness, which
//! `lyceum-queue` decides before a call comes here.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use lyceum_core::{ChatError, ChatEvent, ChatRequest, QueuePosition};
use tokio::sync::mpsc;

/// Where the events of one answer go. Sized so that it is never full, see
/// [`LocalModel`](crate::LocalModel); a reader that stalls cannot hold up the thread.
pub(crate) type Events = mpsc::Sender<Result<ChatEvent, ChatError>>;

/// A request in line.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) request: Arc<ChatRequest>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) events: Events,
}

/// The line.
#[derive(Debug)]
pub(crate) struct Queue {
    limit: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<Job>,
    busy: bool,
    closed: bool,
    /// A moving average of what an answer takes; `None` before the first.
    typical: Option<Duration>,
}

/// What to tell a refused caller before any answer was timed: about what a short
/// answer of a small model takes.
const UNKNOWN_WAIT: Duration = Duration::from_secs(5);

impl Queue {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                busy: false,
                closed: false,
                typical: None,
            }),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Joins the line, or is told when to come back.
    pub(crate) fn push(&self, job: Job) -> Result<(), Duration> {
        let mut state = self.lock();
        if state.waiting.len() >= self.limit {
            state.waiting.retain(|job| !job.events.is_closed());
        }
        let ahead = state.waiting.len();
        if ahead >= self.limit {
            return Err(state.wait(ahead + 1).unwrap_or(UNKNOWN_WAIT));
        }
        if state.busy {
            state.tell(&job, ahead);
        }
        state.waiting.push_back(job);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for the next job; `None` once the line is closed.
    pub(crate) fn pop(&self) -> Option<Job> {
        let idle = |state: &mut State| state.waiting.is_empty() && !state.closed;
        let mut state = self
            .changed
            .wait_while(self.lock(), idle)
            .unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return None;
        }
        let job = state.waiting.pop_front();
        state.busy = true;
        for (ahead, waiting) in state.waiting.iter().enumerate() {
            state.tell(waiting, ahead);
        }
        job
    }

    /// The popped job is over; `took` is given when it was a whole answer.
    pub(crate) fn done(&self, took: Option<Duration>) {
        let mut state = self.lock();
        state.busy = false;
        if let Some(took) = took {
            let typical = state.typical.unwrap_or(took);
            state.typical = Some((typical * 3 + took) / 4);
        }
    }

    /// Lets the thread end; jobs still in line are dropped, which ends their streams.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.waiting.clear();
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wait(&self, ahead: usize) -> Option<Duration> {
        Some(self.typical? * u32::try_from(ahead).unwrap_or(u32::MAX))
    }

    /// Tells a waiting job how many wait before it, besides the one being served.
    fn tell(&self, job: &Job, waiting_ahead: usize) {
        let position = QueuePosition {
            position: waiting_ahead as u64 + 1,
            estimated_wait: self.wait(waiting_ahead + 1),
        };
        // A dropped stream needs no news.
        let _ = job.events.try_send(Ok(ChatEvent::Queued(position)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Answers = mpsc::Receiver<Result<ChatEvent, ChatError>>;

    fn job(name: &str) -> (Job, Answers) {
        let (events, answers) = mpsc::channel(16);
        let request = ChatRequest {
            model: Some(name.to_owned()),
            ..ChatRequest::default()
        };
        let job = Job {
            request: Arc::new(request),
            deadline: None,
            events,
        };
        (job, answers)
    }

    fn position(answers: &mut Answers) -> Option<u64> {
        match answers.try_recv() {
            Ok(Ok(ChatEvent::Queued(place))) => Some(place.position),
            _ => None,
        }
    }

    fn next(queue: &Queue) -> String {
        queue.pop().unwrap().request.model.clone().unwrap()
    }

    #[test]
    fn the_line_is_served_in_order_and_tells_positions() {
        let queue = Queue::new(2);
        let (a, mut a_events) = job("a");
        queue.push(a).unwrap();
        assert_eq!(next(&queue), "a");
        assert_eq!(position(&mut a_events), None);
        let ((b, mut b_events), (c, mut c_events)) = (job("b"), job("c"));
        queue.push(b).unwrap();
        queue.push(c).unwrap();
        assert_eq!(position(&mut b_events), Some(1));
        assert_eq!(position(&mut c_events), Some(2));
        queue.done(Some(Duration::from_secs(2)));
        assert_eq!(next(&queue), "b");
        assert_eq!(position(&mut c_events), Some(1));
    }

    #[test]
    fn a_full_line_refuses_unless_somebody_in_it_left() {
        let queue = Queue::new(1);
        let (a, _a_events) = job("a");
        queue.push(a).unwrap();
        queue.pop().unwrap();
        let ((b, b_events), (c, _c_events), (d, _d_events)) = (job("b"), job("c"), job("d"));
        queue.push(b).unwrap();
        assert_eq!(queue.push(c).unwrap_err(), UNKNOWN_WAIT);
        drop(b_events);
        queue.push(d).unwrap();
        queue.done(None);
        assert_eq!(next(&queue), "d");
    }

    #[test]
    fn closing_ends_the_thread_and_the_waiting_streams() {
        let queue = Queue::new(1);
        let (a, mut a_events) = job("a");
        queue.push(a).unwrap();
        queue.close();
        assert!(queue.pop().is_none());
        assert!(a_events.blocking_recv().is_none());
    }
}
