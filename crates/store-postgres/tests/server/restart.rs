//! A server that crashes and comes back under load: runs continue, acknowledged ones are there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use lyceum_graph::{Answers, RunConfig, Status, ThreadId};
use lyceum_store_postgres::{PostgresOptions, PostgresStore, test_server::TestServer};
use tokio::{sync::watch, task::spawn_blocking};

use crate::{
    ambiguous::{Order, World, order},
    options,
};

const CRASHES: u32 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_of_the_server_under_load_loses_nothing() {
    let server = Arc::new(TestServer::start().unwrap());
    let address = server.database().unwrap();
    // How long the server takes to come back is the machine's matter.
    let options = PostgresOptions {
        acquire_timeout: Duration::from_secs(60),
        retry_for: Duration::from_secs(60),
        ..options()
    };
    let store = Arc::new(PostgresStore::open(&address, options).await.unwrap());
    let (stop, done) = (AtomicBool::new(false), watch::Sender::new(0));
    let runners = join_all((0..8).map(|runner| {
        let (store, stop, done) = (store.clone(), &stop, &done);
        async move {
            let graph = order();
            let mut acknowledged = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                let name = format!("order/{runner}/{}", acknowledged.len());
                let thread = graph.thread(store.clone(), ThreadId::new(name).unwrap());
                let world = Arc::new(World::default());
                let config = || RunConfig::new(world.clone());
                thread.run(Order::default(), config()).await.unwrap();
                let answer = Answers::Only("small".into());
                let output = thread.resume(answer, config()).await.unwrap();
                assert_eq!(output.status, Status::Done);
                let effects = [&world.paid, &world.sent];
                let effects = effects.map(|count| count.load(Ordering::SeqCst));
                assert_eq!(effects, [1, 1], "an effect was doubled");
                acknowledged.push(thread);
                done.send_modify(|done| *done += 1);
            }
            acknowledged
        }
    }));
    let crashes = async {
        let mut progress = done.subscribe();
        for _ in 0..CRASHES {
            let before = *progress.borrow_and_update();
            progress
                .wait_for(|done| *done >= before + 30)
                .await
                .unwrap();
            let server = server.clone();
            // In a thread of its own: the load goes on while the server is down.
            let crash = spawn_blocking(move || {
                server.crash().unwrap();
                server.restart().unwrap();
            });
            crash.await.unwrap();
        }
        let before = *progress.borrow_and_update();
        progress
            .wait_for(|done| *done >= before + 30)
            .await
            .unwrap();
        stop.store(true, Ordering::SeqCst);
    };
    let (acknowledged, ()) = tokio::join!(runners, crashes);
    let mut threads = 0;
    for thread in acknowledged.into_iter().flatten() {
        let snapshot = thread.snapshot(None).await.unwrap().unwrap();
        assert_eq!(snapshot.state.log, ["receipt 1", "small", "parcel 1"]);
        assert_eq!(snapshot.next, []);
        threads += 1;
    }
    println!("{threads} acknowledged runs over {CRASHES} crashes");
    assert!(threads >= 30 * (CRASHES + 1));
}
