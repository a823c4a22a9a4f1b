//! Answers that are lost after the server has committed: the run converges, nothing is doubled.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use lyceum_graph::{
    Answers, Context, END, Graph, GraphBuilder, NodeError, RunConfig, START, State, Status,
    ThreadId,
};
use lyceum_store_postgres::PostgresStore;

use crate::{SERVER, options, proxy::Proxy};

#[derive(State, Clone, Debug, Default)]
pub(crate) struct Order {
    #[state(append)]
    pub(crate) log: Vec<String>,
}

/// What the nodes did to the world.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) paid: AtomicU32,
    pub(crate) sent: AtomicU32,
}

async fn pay(_: Arc<Order>, ctx: Context<World>) -> Result<OrderUpdate, NodeError> {
    let world = ctx.shared().clone();
    let receipt = ctx
        .once("pay", async |_| {
            Ok(format!(
                "receipt {}",
                world.paid.fetch_add(1, Ordering::SeqCst) + 1
            ))
        })
        .await?;
    Ok(OrderUpdate::new().log([receipt]))
}

async fn ask(_: Arc<Order>, ctx: Context<World>) -> Result<OrderUpdate, NodeError> {
    let size: String = ctx.interrupt("size", "which size?").await?;
    Ok(OrderUpdate::new().log([size]))
}

async fn send(_: Arc<Order>, ctx: Context<World>) -> Result<OrderUpdate, NodeError> {
    let world = ctx.shared().clone();
    let sent = ctx
        .once("send", async |_| {
            Ok(format!(
                "parcel {}",
                world.sent.fetch_add(1, Ordering::SeqCst) + 1
            ))
        })
        .await?;
    Ok(OrderUpdate::new().log([sent]))
}

pub(crate) fn order() -> Graph<Order, World> {
    GraphBuilder::new()
        .node("pay", pay)
        .node("ask", ask)
        .node("send", send)
        .edge(START, "pay")
        .edge("pay", "ask")
        .edge("ask", "send")
        .edge("send", END)
        .compile()
        .unwrap()
}

#[tokio::test]
async fn a_lost_answer_changes_nothing_wherever_it_is_lost() {
    let address = SERVER.database().unwrap();
    let proxy = Proxy::before(SERVER.port()).await;
    let through = proxy.through(&address, SERVER.port());
    let store = PostgresStore::open(&through, options()).await.unwrap();
    let store = Arc::new(store);
    let graph = order();
    let mut lost = 0;
    for place in 0.. {
        let world = Arc::new(World::default());
        let thread = ThreadId::new(format!("order/{place}")).unwrap();
        let thread = graph.thread(store.clone(), thread);
        let config = || RunConfig::new(world.clone());
        proxy.lose_after(place);
        let output = thread.run(Order::default(), config()).await.unwrap();
        assert_eq!(output.status, Status::Interrupted, "answer {place} lost");
        let answer = Answers::Only("small".into());
        let output = thread.resume(answer, config()).await.unwrap();
        assert_eq!(output.status, Status::Done, "answer {place} lost");
        assert_eq!(output.state.log, ["receipt 1", "small", "parcel 1"]);
        let history = thread.history(None, 100).await.unwrap();
        let ids: Vec<u64> = history.iter().map(|head| head.id.0).collect();
        assert_eq!(ids, [4, 3, 2, 1], "answer {place} lost");
        let done = (
            world.paid.load(Ordering::SeqCst),
            world.sent.load(Ordering::SeqCst),
        );
        assert_eq!(done, (1, 1), "answer {place} lost");
        if !proxy.has_lost() {
            break;
        }
        lost += 1;
    }
    println!("{lost} places");
    assert!(
        lost >= 10,
        "a run and its resumption ask the server often, not {lost} times"
    );
}
