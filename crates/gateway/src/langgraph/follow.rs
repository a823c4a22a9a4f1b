//! A thread's runs as one stream of their own events, for as long as a client stays.
//!
//! Invariant: the runs come one after the other, each with all its events from where the
//! reader begins. Deliberately absent: runs that ended before the reader came, unless it
//! names an event of one.

use std::{sync::Arc, time::Duration};

use axum::extract::Path;
use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use super::{
    board::Live,
    lanes::topic,
    refusal::Answer,
    request::{Asked, uuid},
};
use crate::streams::RETRY;

/// How often it is looked for a run of another process, where nobody tells of it.
const LOOK: Duration = Duration::from_secs(1);

pub(crate) async fn follow(Path(thread): Path<String>, asked: Asked) -> Answer {
    let thread = uuid(&thread)?;
    asked.platform.thread(asked.owner(), &thread).await?;
    let open = asked.app.streams.open(asked.asker)?;
    let (beat, closing) = (asked.app.heartbeat(), asked.app.closing.clone());
    let mut changed = asked.platform.0.lanes_changed.subscribe();
    let mut news = asked.platform.0.bell.listen(&topic(asked.owner(), &thread));
    let mut last: Option<(Arc<Live>, u64)> = begin(&asked, &thread).await?;
    let mut seen: Option<String> = None;
    let stream = async_stream::stream! {
        yield Bytes::from_static(b": open\n\n");
        let mut beat_at = Instant::now() + beat;
        loop {
            if last.is_none() {
                let next = asked.platform.following(asked.owner(), &thread, seen.as_deref());
                // What cannot be read now is read at the next look.
                last = next.await.ok().flatten().map(|live| (live, 0));
            }
            let told = async {
                match &last {
                    Some((live, from)) => Some((live.log.at(*from).await, live.run_id.clone())),
                    None => {
                        tokio::select! {
                            _closed = changed.changed() => {}
                            () = news.news(LOOK) => {}
                        }
                        None
                    }
                }
            };
            let told = tokio::select! {
                biased;
                () = closing.cancelled() => {
                    yield Bytes::from_static(RETRY);
                    break;
                }
                told = told => told,
                () = sleep_until(beat_at) => {
                    beat_at += beat;
                    yield Bytes::from_static(b": heartbeat\n\n");
                    continue;
                }
            };
            match told {
                None => {}
                Some((None, run)) => {
                    seen = Some(run);
                    last = None;
                }
                Some((Some(entry), run)) => {
                    if let Some((_, from)) = &mut last {
                        *from = entry.id + 1;
                    }
                    beat_at = Instant::now() + beat;
                    let (id, event, data) = (entry.id, entry.event, entry.data);
                    let text = format!("id: {run}/{id}\nevent: {event}\ndata: {data}\n\n");
                    yield Bytes::from(text);
                }
            }
        }
    };
    Ok(crate::streams::answer(open, stream))
}

/// The run that a reader comes back to, and its next event.
async fn begin(asked: &Asked, thread: &str) -> Answer<Option<(Arc<Live>, u64)>> {
    let last = asked.last_event.as_deref();
    let Some((run, id)) = last.and_then(|last| last.split_once('/')) else {
        return Ok(None);
    };
    let Ok(id) = id.parse::<u64>() else {
        return Ok(None);
    };
    let live = asked
        .platform
        .find(asked.owner(), Some(thread), run)
        .await?;
    Ok(live.map(|live| (live, id.saturating_add(1))))
}
