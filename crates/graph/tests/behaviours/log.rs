//! The log of a run's events: late readers, slow readers, readers that come back.

use std::sync::Arc;

use futures_util::{FutureExt as _, StreamExt as _};
use lyceum_graph::{END, EventLog, LogItem, NodeError, START};

use crate::world::{Ctx, Log, LogUpdate, bench, builder, work};

#[tokio::test]
async fn a_reader_that_comes_back_sees_what_the_first_one_saw() {
    async fn count(log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        for n in 0..20 {
            ctx.emit(n).await;
        }
        work(log, ctx).await
    }
    let graph = builder().node("n", count).edge(START, "n").edge("n", END);
    let bench = bench(&graph.compile().unwrap());
    let stream = bench.thread.stream(Log::default(), bench.config());
    let log = EventLog::new(100);
    let fill = log.fill(stream.map(|event| format!("{:?}", event.unwrap())));
    let read = |after| log.read(after).collect::<Vec<_>>();
    let ((), original) = tokio::join!(fill, read(0));
    assert_eq!(original.len(), 26);
    assert_eq!(original[0], LogItem::Event(1, "#1 step 0 state".to_owned()));
    for seen in [0, 1, 13, 26] {
        assert_eq!(read(seen as u64).await, original[seen..]);
    }
}

#[tokio::test]
async fn a_reader_that_is_too_far_behind_is_told_what_it_missed() {
    let log = EventLog::new(2);
    let mut slow = log.read(0);
    assert!(slow.next().now_or_never().is_none(), "nothing to read yet");
    for n in 1..=5 {
        assert_eq!(log.push(n), n);
    }
    assert_eq!(slow.next().await, Some(LogItem::Missed { from: 1, to: 3 }));
    assert_eq!(slow.next().await, Some(LogItem::Event(4, 4)));
    log.push(6);
    assert_eq!(slow.next().await, Some(LogItem::Event(5, 5)));
    let mut ahead = log.read(9);
    assert!(ahead.next().now_or_never().is_none());
    assert_eq!(slow.next().await, Some(LogItem::Event(6, 6)));
    let (next, ()) = tokio::join!(slow.next(), async {
        tokio::task::yield_now().await;
        log.end();
    });
    assert_eq!((next, slow.next().await), (None, None));
    assert_eq!(ahead.next().await, None);
}

#[tokio::test]
async fn a_log_whose_filling_is_dropped_ends() {
    let log = EventLog::<u8>::new(2);
    let mut reader = log.read(0);
    let mut fill = Box::pin(log.fill(futures_util::stream::pending()));
    assert!(fill.as_mut().now_or_never().is_none());
    assert!(reader.next().now_or_never().is_none());
    drop(fill);
    assert_eq!(reader.next().await, None);
}
