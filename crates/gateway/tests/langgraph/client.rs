//! A server with one graph, and records that can be told to wait or to refuse.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use lyceum_core::{
    MemoryRecords, Record, RecordError, RecordList, RecordStore, RecordWrite, TenantId, UserId,
};
use lyceum_gateway::{
    ApiKey, Gateway, GatewayConfig, KeyRules, ServerConfig,
    langgraph::{Invocation, Messages, Platform, Served, add_messages},
};
use lyceum_graph::{Context, END, GraphBuilder, MemorySaver, START, Saver, State};
use lyceum_observe::Health;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::{Reply, Running, Scripted, gateway, listen, request};

/// Records whose writes of runs wait for a permit, or are refused.
#[derive(Debug)]
pub(crate) struct Gated {
    records: MemoryRecords,
    /// A write of a run takes one; a closed one lets all pass.
    pub(crate) permits: Semaphore,
    /// Writes of runs that began.
    pub(crate) begun: Semaphore,
    pub(crate) refuses: AtomicBool,
}

impl Gated {
    pub(crate) fn open() -> Arc<Self> {
        let gated = Self::shut();
        gated.permits.close();
        gated
    }

    pub(crate) fn shut() -> Arc<Self> {
        Arc::new(Self {
            records: MemoryRecords::new(),
            permits: Semaphore::new(0),
            begun: Semaphore::new(0),
            refuses: AtomicBool::new(false),
        })
    }
}

fn makes_run(write: &RecordWrite) -> bool {
    matches!(write, RecordWrite::Put { kind, .. } if *kind == "lg_queue")
}

#[async_trait]
impl RecordStore for Gated {
    async fn write(
        &self,
        tenant: &TenantId,
        writes: Vec<RecordWrite>,
    ) -> Result<bool, RecordError> {
        if writes.iter().any(makes_run) {
            self.begun.add_permits(1);
            if let Ok(permit) = self.permits.acquire().await {
                permit.forget();
            }
            if self.refuses.load(Ordering::SeqCst) {
                return Ok(false);
            }
        }
        self.records.write(tenant, writes).await
    }

    async fn read(
        &self,
        tenant: &TenantId,
        kind: &'static str,
        id: &str,
    ) -> Result<Option<Record>, RecordError> {
        self.records.read(tenant, kind, id).await
    }

    async fn list(
        &self,
        tenant: &TenantId,
        list: RecordList<'_>,
    ) -> Result<Vec<Record>, RecordError> {
        self.records.list(tenant, list).await
    }

    async fn every(&self, kind: &'static str) -> Result<Vec<(TenantId, Record)>, RecordError> {
        self.records.every(kind).await
    }
}

/// What a conversation holds.
#[derive(State, Clone, Debug, Default)]
struct Talk {
    #[state(fold = add_messages)]
    messages: Messages,
    waits: bool,
}

/// A graph that answers "hello", after an answer of the client's where it is told to wait.
fn graph() -> Served {
    let graph = GraphBuilder::<Talk, Invocation, Value>::new()
        .node("greet", async |talk: Arc<Talk>, ctx: Context<_, _>| {
            if talk.waits {
                let _answer: Value = ctx.interrupt("ask", "who is there?").await?;
            }
            let user = ctx.shared().scope.user.to_string();
            Ok(TalkUpdate::new().messages(Messages::ai("hello", &format!("hello, {user}"))))
        })
        .edge(START, "greet")
        .edge("greet", END)
        .compile();
    Served::new("talk", graph.unwrap())
}

pub(crate) fn platform(records: Arc<dyn RecordStore>) -> Platform {
    platform_of(records, Arc::new(MemorySaver::new()))
}

pub(crate) fn platform_of(records: Arc<dyn RecordStore>, saver: Arc<dyn Saver>) -> Platform {
    Platform::new([graph()], records, saver)
}

/// A running server.
pub(crate) struct Api(pub(crate) Running);

/// Serves over these records, for anybody or for the bearers of these keys: secret, tenant
/// and user.
pub(crate) async fn serve(records: Arc<dyn RecordStore>, keys: &[(&str, &str, &str)]) -> Api {
    serve_platform(platform(records), keys).await
}

pub(crate) async fn serve_platform(platform: Platform, keys: &[(&str, &str, &str)]) -> Api {
    serve_gateway(&with_platform(platform, &keys_of(keys))).await
}

/// The keys of these secrets, tenants and users.
pub(crate) fn keys_of(keys: &[(&str, &str, &str)]) -> Vec<ApiKey> {
    let keys = keys.iter().map(|(secret, tenant, user)| ApiKey {
        name: (*secret).to_owned(),
        tenant: TenantId::new(tenant).unwrap(),
        user: UserId::new(user).unwrap(),
        sha256: ApiKey::digest(secret),
        replaced: None,
        rules: KeyRules::default(),
    });
    keys.collect()
}

pub(crate) fn with_platform(platform: Platform, keys: &[ApiKey]) -> Gateway {
    let mut config = GatewayConfig::default();
    config.auth.keys = keys.to_vec();
    let gateway = gateway(Scripted::thorough(), &config, Health::default());
    gateway.with_langgraph(platform)
}

pub(crate) async fn serve_gateway(gateway: &Gateway) -> Api {
    Api(listen(gateway.clone(), ServerConfig::default()).await)
}

impl Api {
    pub(crate) async fn call(&self, key: &str, method: &str, path: &str, body: Value) -> Reply {
        self.0.send(bytes(key, method, path, &body)).await
    }

    /// An anonymous call that succeeds.
    pub(crate) async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let reply = self.call("", method, path, body).await;
        assert!(reply.status < 300, "{method} {path}: {reply:?}");
        if reply.body.is_empty() {
            return Value::Null;
        }
        reply.json()
    }

    pub(crate) async fn thread(&self, key: &str) -> String {
        let made = self.call(key, "POST", "/threads", json!({})).await.json();
        made["thread_id"].as_str().unwrap().to_owned()
    }
}

/// A request's bytes.
pub(crate) fn bytes(key: &str, method: &str, path: &str, body: &Value) -> Vec<u8> {
    let mut headers = vec![("Content-Type", "application/json")];
    if !key.is_empty() {
        headers.push(("X-Api-Key", key));
    }
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    request(method, path, &headers, body.as_bytes())
}

/// The body of a run of the graph.
pub(crate) fn hi() -> Value {
    json!({ "assistant_id": "talk", "input": { "messages": [["human", "hi"]] } })
}
