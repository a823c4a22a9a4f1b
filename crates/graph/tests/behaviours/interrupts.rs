//! Questions to the outside, and effects that are not repeated.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use lyceum_graph::{Answers, END, NodeError, RunError, START, Status};

use crate::world::{Ctx, Log, LogUpdate, MODES, ask, bench, brittle, builder, work};

#[tokio::test]
async fn several_interrupts_need_ids_and_do_not_cancel_siblings() {
    for durability in MODES {
        let graph = builder()
            .node("a", ask)
            .node("b", ask)
            .node("good", brittle)
            .node("end", work)
            .edge(START, "a")
            .edge(START, "b")
            .edge(START, "good")
            .join(["a", "b", "good"], "end")
            .edge("end", END)
            .compile()
            .unwrap();
        let bench = bench(&graph);
        let config = || bench.config().durability(durability);
        let output = bench.thread.run(Log::default(), config()).await.unwrap();
        assert_eq!(
            (output.status, output.interrupts.len()),
            (Status::Interrupted, 2)
        );
        assert_eq!(bench.world.runs(), ["good"]);
        let one = &output.interrupts[1];
        assert_eq!((one.node.as_str(), one.key.as_str()), ("b", "ask"));
        assert_eq!(one.payload, "what?");

        let error = bench
            .thread
            .resume(Answers::Only("x".into()), config())
            .await
            .unwrap_err();
        assert!(matches!(error, RunError::AmbiguousAnswer { pending } if pending.len() == 2));
        let answer =
            |id: &str, text: &str| Answers::ById(BTreeMap::from([(id.to_owned(), text.into())]));
        let error = bench
            .thread
            .resume(answer("nope", "x"), config())
            .await
            .unwrap_err();
        assert!(matches!(error, RunError::UnknownInterrupt { id } if id == "nope"));

        let output = bench
            .thread
            .resume(answer(&one.id, "beta"), config())
            .await
            .unwrap();
        assert_eq!(output.status, Status::Interrupted);
        assert_eq!(output.interrupts.len(), 1, "{durability:?}");
        let snapshot = bench.thread.snapshot(None).await.unwrap().unwrap();
        assert_eq!(snapshot.interrupts, output.interrupts);
        let output = bench
            .thread
            .resume(Answers::Only("alpha".into()), config())
            .await
            .unwrap();
        assert_eq!(output.state.done, ["a=alpha", "b=beta", "good", "end"]);
        assert_eq!(bench.world.runs(), ["end"], "good ran once");
    }
}

#[tokio::test]
async fn interrupt_in_a_loop() {
    async fn quiz(_: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        let mut answers = Vec::new();
        for n in 0..3 {
            answers.push(ctx.interrupt::<String>("question", n).await?);
        }
        Ok(LogUpdate::new().done(answers))
    }
    let graph = builder()
        .node("quiz", quiz)
        .edge(START, "quiz")
        .edge("quiz", END);
    let bench = bench(&graph.compile().unwrap());
    let mut output = bench
        .thread
        .run(Log::default(), bench.config())
        .await
        .unwrap();
    for (n, text) in ["a", "b", "c"].iter().enumerate() {
        assert_eq!(output.interrupts[0].payload, n);
        let answer = Answers::Only((*text).into());
        output = bench.thread.resume(answer, bench.config()).await.unwrap();
    }
    assert_eq!(output.state.done, ["a", "b", "c"]);
}

#[tokio::test]
async fn parallel_tool_calls_interrupt_each_by_its_own_key() {
    async fn tools(_: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        let slow = ctx.once("slow", |_| async {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            ctx.shared().effects.fetch_add(1, Ordering::Relaxed);
            Ok("slow".to_owned())
        });
        let (mail, pay, slow) = tokio::join!(
            ctx.interrupt::<String>("mail", ()),
            ctx.interrupt::<String>("pay", ()),
            slow
        );
        Ok(LogUpdate::new().done([mail?, pay?, slow?]))
    }
    let graph = builder()
        .node("tools", tools)
        .edge(START, "tools")
        .edge("tools", END);
    let bench = bench(&graph.compile().unwrap());
    let output = bench
        .thread
        .run(Log::default(), bench.config())
        .await
        .unwrap();
    let keys: Vec<_> = output
        .interrupts
        .iter()
        .map(|asked| asked.key.as_str())
        .collect();
    assert_eq!(keys, ["mail", "pay"]);
    assert_eq!(
        bench.world.effects.load(Ordering::Relaxed),
        1,
        "the call in flight was finished"
    );
    let answers = output
        .interrupts
        .iter()
        .map(|asked| (asked.id.clone(), asked.key.clone().into()));
    let answers = Answers::ById(answers.collect());
    let output = bench.thread.resume(answers, bench.config()).await.unwrap();
    assert_eq!(output.state.done, ["mail", "pay", "slow"]);
    assert_eq!(
        bench.world.effects.load(Ordering::Relaxed),
        1,
        "and is not repeated"
    );
}

#[tokio::test]
async fn an_effect_is_not_repeated_after_a_failure() {
    async fn effect(log: Arc<Log>, ctx: Ctx) -> Result<LogUpdate, NodeError> {
        let number: usize = ctx
            .once("count", |id| {
                assert_eq!(id.as_str(), "@1:0:effect:count#1");
                std::future::ready(Ok(ctx.shared().effects.fetch_add(1, Ordering::Relaxed)))
            })
            .await?;
        brittle(log, ctx)
            .await
            .map(|update| update.last(number.to_string()))
    }
    for durability in MODES {
        let graph = builder()
            .node("effect", effect)
            .edge(START, "effect")
            .edge("effect", END);
        let bench = bench(&graph.compile().unwrap());
        bench.world.broken.store(true, Ordering::Relaxed);
        let config = || bench.config().durability(durability);
        bench
            .thread
            .run(Log::default(), config())
            .await
            .unwrap_err();
        bench.world.broken.store(false, Ordering::Relaxed);
        let output = bench.thread.resume(Answers::None, config()).await.unwrap();
        assert_eq!(output.state.last, "0");
        assert_eq!(
            bench.world.effects.load(Ordering::Relaxed),
            1,
            "{durability:?}"
        );
    }
}
