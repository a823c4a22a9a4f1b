//! What a thread costs: checkpoints hold what changed, not what there is.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use lyceum_graph::{
    Barrier, Batch, Checkpoint, CheckpointId, Claim, Context, Durability, END, Graph, GraphBuilder,
    Keep, Lease, MemorySaver, NodeError, RunConfig, START, Saved, Saver, SaverError, State, Thread,
    ThreadId,
};

#[derive(State, Clone, Debug, Default, PartialEq)]
struct Chat {
    #[state(append)]
    messages: Vec<String>,
    #[state(merge)]
    seen: BTreeMap<String, u64>,
    #[state(fold = keep_last, write = u64, delta)]
    window: Vec<u64>,
    #[state(topic)]
    news: Vec<String>,
    #[state(ephemeral)]
    mood: String,
    title: String,
}

fn keep_last(window: &mut Vec<u64>, write: u64) {
    window.push(write);
    let surplus = window.len().saturating_sub(150);
    window.drain(..surplus);
}

/// A memory saver that counts the bytes it is given.
#[derive(Debug, Default)]
struct Scales {
    saver: MemorySaver,
    bytes: AtomicUsize,
}

impl Saver for Scales {
    fn acquire<'a>(
        &'a self,
        thread: &'a ThreadId,
        ttl: Duration,
        claim: Claim,
    ) -> BoxFuture<'a, Result<Lease, SaverError>> {
        self.saver.acquire(thread, ttl, claim)
    }

    fn release<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), SaverError>> {
        self.saver.release(lease)
    }

    fn commit<'a>(
        &'a self,
        lease: &'a Lease,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<(), SaverError>> {
        let head = serde_json::to_vec(&batch.checkpoints).unwrap().len();
        let values = batch.values.iter().map(|value| value.bytes.len());
        self.bytes
            .fetch_add(head + values.sum::<usize>(), Ordering::Relaxed);
        self.saver.commit(lease, batch)
    }

    fn load<'a>(
        &'a self,
        thread: &'a ThreadId,
        namespace: &'a str,
        id: Option<CheckpointId>,
    ) -> BoxFuture<'a, Result<Option<Saved>, SaverError>> {
        self.saver.load(thread, namespace, id)
    }

    fn history<'a>(
        &'a self,
        thread: &'a ThreadId,
        namespace: &'a str,
        before: Option<CheckpointId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Checkpoint>, SaverError>> {
        self.saver.history(thread, namespace, before, limit)
    }

    fn prune<'a>(&'a self, lease: &'a Lease, keep: Keep) -> BoxFuture<'a, Result<u64, SaverError>> {
        self.saver.prune(lease, keep)
    }
}

async fn reply(chat: Arc<Chat>, _: Context) -> Result<ChatUpdate, NodeError> {
    let number = chat.messages.len() as u64;
    Ok(ChatUpdate::new()
        .messages([format!("{number}: {}", "word ".repeat(40))])
        .seen([(format!("key {}", number % 300), number)])
        .window(number))
}

fn chat() -> Graph<Chat> {
    GraphBuilder::new()
        .node("reply", reply)
        .edge(START, "reply")
        .edge("reply", END)
        .compile()
        .unwrap()
}

fn thread(graph: &Graph<Chat>) -> (Thread<Chat>, Arc<Scales>) {
    let scales = Arc::new(Scales::default());
    let id = ThreadId::new("growth").unwrap();
    (graph.thread(scales.clone(), id), scales)
}

async fn turns(thread: &Thread<Chat>, turns: usize) {
    for _ in 0..turns {
        let config = RunConfig::default();
        thread.run(ChatUpdate::new(), config).await.unwrap();
    }
}

#[tokio::test]
async fn a_long_conversation_costs_as_much_a_turn_as_a_short_one() {
    let (thread, scales) = thread(&chat());
    turns(&thread, 100).await;
    let hundred = scales.bytes.load(Ordering::Relaxed);
    turns(&thread, 900).await;
    let thousand = scales.bytes.load(Ordering::Relaxed);
    // Whole values would be a hundred times as much.
    assert!(thousand < 15 * hundred, "{hundred} {thousand}");
    let state = thread.snapshot(None).await.unwrap().unwrap().state;
    let said = serde_json::to_vec(&state.messages).unwrap().len();
    assert!(thousand < 8 * said, "{thousand} bytes for {said}");
}

#[tokio::test]
async fn every_checkpoint_reads_back_what_was_there_before_and_after_pruning() {
    let (thread, _) = thread(&chat());
    let mut states = Vec::new();
    for _ in 0..200 {
        let config = RunConfig::default();
        states.push(thread.run(ChatUpdate::new(), config).await.unwrap().state);
    }
    // Two checkpoints a run: the input's and the step's.
    let step = |run: usize| CheckpointId(2 * run as u64 + 2);
    for (run, state) in states.iter().enumerate() {
        let snapshot = thread.snapshot(Some(step(run))).await.unwrap().unwrap();
        assert_eq!(&snapshot.state, state);
    }
    assert_eq!(states[199].window.len(), 150);

    assert_eq!(thread.prune(Keep::Last(40)).await.unwrap(), 360);
    for (run, state) in states.iter().enumerate().skip(180) {
        let snapshot = thread.snapshot(Some(step(run))).await.unwrap().unwrap();
        assert_eq!(&snapshot.state, state);
    }
    thread.fork(step(185)).await.unwrap();
    let output = thread
        .run(ChatUpdate::new(), RunConfig::default())
        .await
        .unwrap();
    assert_eq!(output.state, states[186], "a branch grows from old pieces");
    let newest = thread.snapshot(None).await.unwrap().unwrap();
    assert_eq!(newest.state, output.state);
    let old = thread.snapshot(Some(step(199))).await.unwrap().unwrap();
    assert_eq!(old.state, states[199], "the old branch is as it was");
}

#[tokio::test]
async fn what_lives_for_one_step_is_stored_in_that_step_only() {
    async fn tell(_: Arc<Chat>, _: Context) -> Result<ChatUpdate, NodeError> {
        Ok(ChatUpdate::new().news(["hello".to_owned()]).mood("glad"))
    }
    async fn idle(_: Arc<Chat>, _: Context) -> Result<(), NodeError> {
        Ok(())
    }
    let graph = GraphBuilder::new()
        .node("tell", tell)
        .node("a", idle)
        .node("b", idle)
        .edge(START, "tell")
        .edge("tell", "a")
        .edge("a", "b")
        .edge("b", END)
        .compile()
        .unwrap();
    let (thread, _) = thread(&graph);
    let config = RunConfig::default;
    thread
        .run(ChatUpdate::new().title("t"), config())
        .await
        .unwrap();
    let stored = async || -> Vec<Vec<String>> {
        let heads = thread.history(None, 9).await.unwrap();
        let heads = heads.into_iter().rev();
        heads
            .map(|head| head.values.into_iter().map(|v| v.channel).collect())
            .collect()
    };
    let told: [&[&str]; 4] = [
        &["title"],
        &["news", "mood", "title"],
        &["title"],
        &["title"],
    ];
    assert_eq!(stored().await, told);
    let at = async |id| {
        let snapshot = thread.snapshot(Some(CheckpointId(id))).await.unwrap();
        snapshot.unwrap().state
    };
    assert_eq!((at(2).await.news.len(), &*at(2).await.mood), (1, "glad"));
    assert_eq!((at(3).await.news.len(), &*at(3).await.mood), (0, ""));
}

#[tokio::test]
async fn a_thread_that_keeps_the_last_ones_does_not_grow() {
    let (thread, _) = thread(&chat());
    let thread = thread.keep_last(10);
    for durability in [Durability::Sync, Durability::Async, Durability::Exit] {
        for _ in 0..60 {
            let config = RunConfig::default().durability(durability);
            thread.run(ChatUpdate::new(), config).await.unwrap();
            let kept = thread.history(None, 100).await.unwrap().len();
            assert!(kept <= 20, "{durability:?}: {kept}");
        }
        assert!(thread.history(None, 100).await.unwrap().len() >= 10);
    }
    let state = thread.snapshot(None).await.unwrap().unwrap().state;
    assert_eq!(state.messages.len(), 180, "the state is whole");
}

#[derive(State, Clone, Debug, Default)]
struct Paper {
    #[state(barrier = 2)]
    reviews: Barrier<String>,
    #[state(append)]
    decided: Vec<String>,
}

#[tokio::test]
async fn a_barrier_opens_once_when_enough_different_values_have_arrived() {
    async fn review(paper: Arc<Paper>, ctx: Context<String>) -> Result<PaperUpdate, NodeError> {
        assert!(!paper.reviews.is_open());
        Ok(PaperUpdate::new().reviews(ctx.shared().as_str()))
    }
    async fn decide(paper: Arc<Paper>, _: Context<String>) -> Result<PaperUpdate, NodeError> {
        let names: Vec<_> = paper.reviews.members().map(String::as_str).collect();
        Ok(PaperUpdate::new().decided([names.join("+")]))
    }
    let graph = GraphBuilder::new()
        .node("review", review)
        .node("decide", decide)
        .edge(START, "review")
        .route("review", ["decide", END], |paper: &Paper| {
            if paper.reviews.is_open() {
                "decide"
            } else {
                END
            }
        })
        .edge("decide", END)
        .compile()
        .unwrap();
    let id = ThreadId::new("paper").unwrap();
    let thread = graph.thread(Arc::new(MemorySaver::new()), id);
    let mut decided = Vec::new();
    for name in ["eve", "eve", "bob", "bob", "ann"] {
        let config = RunConfig::new(name.to_owned());
        let output = thread.run(PaperUpdate::new(), config).await.unwrap();
        decided.push(output.state.decided.clone());
    }
    let (none, one) = (Vec::<String>::new(), vec!["bob+eve".to_owned()]);
    let two = vec!["bob+eve".to_owned(), "ann+bob".to_owned()];
    assert_eq!(decided, [none.clone(), none, one.clone(), one, two]);
}
