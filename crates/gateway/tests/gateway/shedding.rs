//! More requests than can be answered at once.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use lyceum_gateway::{GatewayConfig, Limits, ServerConfig};
use lyceum_observe::Health;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::support::{EXPLANATION, Reply, Scripted, all_events, gateway, listen, post, soon};

const AT_ONCE: usize = 8;
const OFFERED: usize = 10 * AT_ONCE;

#[tokio::test]
async fn ten_times_the_load_is_refused_at_once_and_costs_no_goodput() {
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let student = Scripted::new(move |explanation| {
        let gate = held.clone();
        let events = stream::iter(all_events(&explanation).map(Ok));
        let wait = stream::once(async move {
            gate.acquire().await.unwrap().forget();
            events
        });
        Box::pin(wait.flatten())
    });
    let limits = Limits {
        requests: AT_ONCE,
        ..Limits::default()
    };
    let config = GatewayConfig {
        limits,
        ..GatewayConfig::default()
    };
    let gateway = gateway(student.clone(), &config, Health::default());
    let server = Arc::new(listen(gateway, ServerConfig::default()).await);
    for wave in 1..=3 {
        let mut sending = JoinSet::new();
        for _ in 0..OFFERED {
            let server = server.clone();
            sending.spawn(async move {
                server
                    .send(post("/chat", &[], EXPLANATION.as_bytes()))
                    .await
            });
        }
        // The refusals wait for no student: none has answered yet.
        for _ in 0..OFFERED - AT_ONCE {
            let refused: Reply = soon(sending.join_next()).await.unwrap().unwrap();
            assert_eq!(refused.status, 503);
            assert!(refused.header("retry-after").is_some());
        }
        assert_eq!(server.get("/livez").await.status, 200);
        assert_eq!(server.get("/metrics").await.status, 200);
        gate.add_permits(AT_ONCE);
        while let Some(answered) = soon(sending.join_next()).await {
            assert_eq!(answered.unwrap().status, 200);
        }
        assert_eq!(student.taught.lock().unwrap().len(), wave * AT_ONCE);
    }
}
