//! What happens when a message comes while a thread is busy.

use std::sync::atomic::Ordering;

use futures_util::{FutureExt as _, StreamExt as _};
use lyceum_graph::{
    END, EventKind, Multitask, RunError, RunStream, START, SaverError, Status, Turns,
};

use crate::world::{Bench, Log, LogGraph, LogUpdate, bench, builder, hang, work};

/// `n`, which hangs until the world breaks, then `end`.
fn busy() -> LogGraph {
    builder()
        .node("n", hang)
        .node("end", work)
        .edge(START, "n")
        .edge("n", "end")
        .edge("end", END)
        .compile()
        .unwrap()
}

fn input(text: &str) -> LogUpdate {
    LogUpdate::new().done([text.to_owned()])
}

/// Starts a run and waits until its first node hangs.
async fn hanging(bench: &Bench, turns: &Turns, text: &str) -> RunStream<Log, u8> {
    let thread = bench.thread.clone().multitask(turns, Multitask::Enqueue);
    let mut stream = thread.stream(input(text), bench.config());
    loop {
        let event = stream.next().await.unwrap().unwrap();
        if let EventKind::Custom { .. } = event.kind {
            return stream;
        }
    }
}

async fn end(mut stream: RunStream<Log, u8>) -> Status {
    loop {
        if let EventKind::Finished(output) = stream.next().await.unwrap().unwrap().kind {
            return output.status;
        }
    }
}

#[tokio::test]
async fn four_multitask_strategies() {
    let cases: [(Multitask, Status, &[&str]); 4] = [
        (Multitask::Reject, Status::Done, &["seed", "one", "end"]),
        (
            Multitask::Interrupt,
            Status::Cancelled,
            &["seed", "one", "two", "end"],
        ),
        (
            Multitask::Rollback,
            Status::Cancelled,
            &["seed", "two", "end"],
        ),
        (
            Multitask::Enqueue,
            Status::Done,
            &["seed", "one", "end", "two", "end"],
        ),
    ];
    for (strategy, first_ends, done) in cases {
        let bench = bench(&busy());
        let turns = Turns::default();
        bench.thread.update(input("seed"), None).await.unwrap();
        let first = hanging(&bench, &turns, "one").await;
        let second = bench.thread.clone().multitask(&turns, strategy);
        let config = bench.config();
        let release = async {
            tokio::task::yield_now().await;
            // An interrupted run ends without this; the others, and the second, need it.
            if first_ends == Status::Cancelled {
                let status = end(first).await;
                bench.world.broken.store(true, Ordering::Relaxed);
                return status;
            }
            bench.world.broken.store(true, Ordering::Relaxed);
            end(first).await
        };
        let (second, first) = tokio::join!(second.run(input("two"), config), release);
        assert_eq!(first, first_ends, "{strategy:?}");
        match strategy {
            Multitask::Reject => assert!(matches!(
                second.unwrap_err(),
                RunError::Saver(SaverError::Busy { .. })
            )),
            _ => assert_eq!(second.unwrap().status, Status::Done),
        }
        let state = bench.thread.snapshot(None).await.unwrap().unwrap().state;
        assert_eq!(state.done, done, "{strategy:?}");
        assert!(format!("{turns:?}").contains("threads: 0"), "{turns:?}");
    }
}

#[tokio::test]
async fn a_rollback_of_the_first_run_leaves_an_empty_thread() {
    let bench = bench(&busy());
    let turns = Turns::default();
    let first = hanging(&bench, &turns, "one").await;
    let thread = bench.thread.clone().multitask(&turns, Multitask::Rollback);
    let run = thread.run(input("two"), bench.config());
    let (second, ()) = tokio::join!(run, async {
        assert_eq!(end(first).await, Status::Cancelled);
        bench.world.broken.store(true, Ordering::Relaxed);
    });
    assert_eq!(second.unwrap().state.done, ["two", "end"]);
    let heads = bench.thread.history(None, 10).await.unwrap();
    assert_eq!(heads.len(), 4, "what was rolled back stays in the history");
    assert_eq!(heads[2].parent, None);
}

#[tokio::test]
async fn runs_wait_in_order_a_displaced_one_says_so_and_a_dropped_one_is_passed_over() {
    let bench = bench(&busy());
    let turns = Turns::new(2);
    let run = |text: &'static str, strategy| {
        let thread = bench.thread.clone().multitask(&turns, strategy);
        let config = bench.config();
        async move { thread.run(input(text), config).await }
    };
    let first = hanging(&bench, &turns, "one").await;
    let mut second = Box::pin(run("two", Multitask::Enqueue));
    let mut third = Box::pin(run("three", Multitask::Enqueue));
    assert!(second.as_mut().now_or_never().is_none());
    assert!(third.as_mut().now_or_never().is_none());
    let refused = run("four", Multitask::Enqueue).await.unwrap_err();
    assert!(matches!(refused, RunError::Saver(SaverError::Busy { .. })));
    drop(second);
    let mut fourth = Box::pin(run("four", Multitask::Enqueue));
    assert!(fourth.as_mut().now_or_never().is_none());
    // A dropped run passes its turn on as a finished one does.
    drop(first);
    bench.world.broken.store(true, Ordering::Relaxed);
    let (third, fourth) = tokio::join!(third, fourth);
    assert_eq!(third.unwrap().state.done, ["one", "three", "end"]);
    let done = ["one", "three", "end", "four", "end"];
    assert_eq!(fourth.unwrap().state.done, done);

    bench.world.broken.store(false, Ordering::Relaxed);
    let fifth = hanging(&bench, &turns, "five").await;
    let mut sixth = Box::pin(run("six", Multitask::Enqueue));
    assert!(sixth.as_mut().now_or_never().is_none());
    let mut seventh = Box::pin(run("seven", Multitask::Interrupt));
    assert!(seventh.as_mut().now_or_never().is_none());
    assert!(matches!(sixth.await.unwrap_err(), RunError::NotStarted));
    assert_eq!(end(fifth).await, Status::Cancelled);
    bench.world.broken.store(true, Ordering::Relaxed);
    assert_eq!(seventh.await.unwrap().status, Status::Done);
}
