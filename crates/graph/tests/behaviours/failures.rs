//! Failed nodes: what their siblings keep, and who takes over.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use lyceum_graph::{
    Answers, Command, END, Failure, GraphBuilder, NodeError, RetryPolicy, RunError, START, Worker,
};

use crate::world::{Ctx, Log, LogUpdate, MODES, World, bench, brittle, builder, siblings, work};

#[tokio::test]
async fn sibling_success_survives_failure_and_is_not_rerun() {
    for durability in MODES {
        let bench = bench(&siblings());
        bench.world.broken.store(true, Ordering::Relaxed);
        let config = || bench.config().durability(durability);
        let error = bench
            .thread
            .run(Log::default(), config())
            .await
            .unwrap_err();
        assert!(matches!(error, RunError::Node { .. }), "{error}");
        assert_eq!(bench.world.runs(), ["start", "good"]);
        bench.world.broken.store(false, Ordering::Relaxed);
        let output = bench.thread.resume(Answers::None, config()).await.unwrap();
        assert_eq!(bench.world.runs(), ["bad", "end"], "{durability:?}");
        assert_eq!(output.state.done, ["start", "bad", "good", "end"]);
    }
}

#[tokio::test]
async fn send_dedupe_on_resume() {
    const WORK: Worker<u8> = Worker::new("work");
    async fn split(_: Arc<Log>, _: Ctx) -> Result<Command<Log>, NodeError> {
        let sends = (0..3)
            .map(|n| WORK.send(&n))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(sends.into())
    }
    async fn one(n: u8, log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        let update = if n == 1 {
            brittle(log, ctx).await?
        } else {
            work(log, ctx).await?
        };
        Ok(update.done([n.to_string()]))
    }
    let graph = builder()
        .node("split", split)
        .worker(WORK, one)
        .edge(START, "split")
        .destinations("split", ["work"])
        .edge("work", END)
        .compile()
        .unwrap();
    let bench = bench(&graph);
    bench.world.broken.store(true, Ordering::Relaxed);
    bench
        .thread
        .run(Log::default(), bench.config())
        .await
        .unwrap_err();
    assert_eq!(bench.world.runs().len(), 2);
    bench.world.broken.store(false, Ordering::Relaxed);
    let output = bench
        .thread
        .resume(Answers::None, bench.config())
        .await
        .unwrap();
    assert_eq!(output.state.done, ["0", "1", "2"]);
    assert_eq!(bench.world.runs().len(), 1);
}

#[tokio::test]
async fn error_handler_resumes_after_a_crash() {
    const RESCUE: Worker<Failure> = Worker::new("rescue");
    async fn rescue(failure: Failure, log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        let update = brittle(log, ctx.clone()).await?;
        Ok(update.last(format!(
            "{} {} x{}",
            failure.node, failure.message, failure.attempts
        )))
    }
    let graph = builder()
        .node("bad", brittle)
        .worker(RESCUE, rescue)
        .edge(START, "bad")
        .edge("bad", END)
        .edge("rescue", END)
        .on_error("bad", RESCUE)
        .compile()
        .unwrap();
    let bench = bench(&graph);
    bench.world.broken.store(true, Ordering::Relaxed);
    let error = bench
        .thread
        .run(Log::default(), bench.config())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "run node rescue: broken");
    bench.world.broken.store(false, Ordering::Relaxed);
    let output = bench
        .thread
        .resume(Answers::None, bench.config())
        .await
        .unwrap();
    assert_eq!(output.state.last, "bad broken x1");
    assert_eq!(
        bench.world.runs(),
        ["rescue"],
        "the failed node is not tried again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_timed_out_attempts_writes_are_discarded() {
    async fn slow_once(log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        let update = work(log, ctx.clone()).await?;
        if ctx.attempt() == 1 {
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
        Ok(update.last(ctx.attempt().to_string()))
    }
    async fn chatty(log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(4)).await;
            ctx.heartbeat();
        }
        slow_once(log, ctx).await
    }
    type Limit = fn(GraphBuilder<Log, World, u8>) -> GraphBuilder<Log, World, u8>;
    let limits: [Limit; 2] = [
        |graph| {
            graph
                .node("n", slow_once)
                .time_limit("n", Duration::from_secs(5))
        },
        |graph| {
            graph
                .node("n", chatty)
                .idle_limit("n", Duration::from_secs(5))
        },
    ];
    for limit in limits {
        let graph = limit(builder()).edge(START, "n").edge("n", END);
        let bench = bench(&graph.compile().unwrap());
        let error = bench
            .thread
            .run(Log::default(), bench.config())
            .await
            .unwrap_err();
        assert!(
            error.is_retryable() && error.to_string().contains("within 5s"),
            "{error}"
        );

        let graph = limit(builder()).retry("n", RetryPolicy::default());
        let graph = graph.edge(START, "n").edge("n", END).compile().unwrap();
        let bench = self::bench(&graph);
        let output = bench
            .thread
            .run(Log::default(), bench.config())
            .await
            .unwrap();
        assert_eq!(
            (output.state.done.len(), output.state.last.as_str()),
            (1, "2")
        );
    }
}
