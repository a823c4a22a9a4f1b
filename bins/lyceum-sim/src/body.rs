//! A response body that follows a plan.
//!
//! Invariant: the call that the body belongs to ends when the body is dropped, and
//! counts as cancelled if the plan was not finished by then.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::{call::Call, plan::Step};

/// The body of any response.
#[derive(Debug)]
pub(crate) enum SimBody {
    Whole(Option<Bytes>),
    Planned(Box<Planned>),
}

/// A body that is sent step by step.
#[derive(Debug)]
pub(crate) struct Planned {
    steps: std::vec::IntoIter<Step>,
    /// When the next step is due; behind the clock after a late timer.
    due: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
    call: Call,
}

impl SimBody {
    pub(crate) fn planned(steps: Vec<Step>, mut call: Call, streamed: bool) -> Self {
        if streamed {
            call.stream_opened();
        }
        Self::Planned(Box::new(Planned {
            steps: steps.into_iter(),
            due: Instant::now(),
            sleep: None,
            call,
        }))
    }
}

impl From<Bytes> for SimBody {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes))
    }
}

impl Planned {
    fn pause(&mut self, length: Duration) {
        self.due += length;
        if self.due > Instant::now() {
            self.sleep = Some(Box::pin(tokio::time::sleep_until(self.due)));
        }
    }

    fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                if sleep.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                self.sleep = None;
            }
            match self.steps.next() {
                Some(Step::Send(bytes, tokens)) => {
                    self.call.sent(tokens);
                    if self.steps.as_slice().is_empty() {
                        self.call.finish();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(Step::Pause(length)) => self.pause(length),
                Some(Step::Hang) => {
                    // Never woken: only the client's leaving ends this.
                    self.steps = vec![Step::Hang].into_iter();
                    return Poll::Pending;
                }
                Some(Step::Reset) => {
                    self.call.reset_connection();
                    let reset = io::Error::from(io::ErrorKind::ConnectionReset);
                    return Poll::Ready(Some(Err(reset)));
                }
                None => {
                    self.call.finish();
                    return Poll::Ready(None);
                }
            }
        }
    }
}

impl http_body::Body for SimBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Planned(planned) => planned.poll_step(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Planned(planned) => {
                planned.steps.as_slice().is_empty() && planned.sleep.is_none()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            Self::Planned(_) => SizeHint::default(),
        }
    }
}
