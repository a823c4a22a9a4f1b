//! The router: every route, and what surrounds all of them.
//!
//! Invariant: a route of [`Gateway::new`] exists exactly when the OpenAPI document lists it,
//! because one expression registers both. The document leaves out what
//! [`Gateway::with_langgraph`] and [`Gateway::with_mcp`] add: those have documents of their own.

use std::{
    convert::Infallible,
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize},
    },
    time::{Duration, Instant},
};

use axum::{Router, body::Body, middleware};
use bytes::Bytes;
use http::{Request, Response};
use lyceum_core::{Archive, Hints, Notebook, Panel, Pupil, RecordStore, Student};
use lyceum_observe::{Health, LogLevels, ProcessWatch};
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service;

use crate::{
    auth::{ApiKey, Caller, Keys, Tickets},
    bell::Bell,
    catalog::Catalog,
    config::{GatewayConfig, Limits},
    edge::{
        self,
        address::{Client, TrustedProxies},
        audit,
        cache::ResponseCache,
        cors::CorsOrigins,
        holding::StreamCaps,
        once::Idempotency,
        rate::{self, Addresses, Standings},
    },
    error::ApiError,
    metrics,
    operator::{Failures, Operator},
    page::Assets,
    routes,
    streams::{self, Hub, Streams},
    traffic::{Minute, Traffic},
    usage::Accounts,
};

/// More would be noise, and zero would never end.
const SHORTEST_HEARTBEAT: Duration = Duration::from_secs(1);

/// What the server says about itself in `/health`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The program's version.
    pub version: String,
    /// Which of several replicas it is.
    pub service_id: String,
    /// Who answers: a provider's name, or `offline`.
    pub provider: String,
    /// The model, where there is one.
    pub model: Option<String>,
}

/// What the gateway is a face of.
pub struct Services {
    /// Who is taught.
    pub student: Arc<dyn Student>,
    /// The models that clients of the compatible APIs may name, beside the student.
    pub models: Catalog,
    /// The health of the process. A check's value named `queued` is shown as the number
    /// of calls that wait for a model.
    pub health: Health,
    /// Renders all metrics in the Prometheus text format.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
    /// What the process uses.
    pub process: Arc<ProcessWatch>,
    /// What the server says about itself.
    pub info: Info,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services")
            .field("student", &self.student)
            .field("health", &self.health)
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

/// What all requests share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) limits: Limits,
    heartbeat: Duration,
    pub(crate) keys: Keys,
    pub(crate) tickets: Tickets,
    pub(crate) addresses: Addresses,
    pub(crate) proxies: TrustedProxies,
    pub(crate) cors: CorsOrigins,
    pub(crate) idempotency: Idempotency,
    pub(crate) cache: ResponseCache,
    pub(crate) slots: Semaphore,
    pub(crate) services: Services,
    /// The models and the student.
    pub(crate) catalog: Catalog,
    /// Who discusses, where somebody does.
    pub(crate) panel: OnceLock<Arc<dyn Panel>>,
    /// Where responses are kept, where they are.
    pub(crate) responses: OnceLock<Arc<dyn RecordStore>>,
    /// Who tells what the student knows, where somebody does.
    pub(crate) pupil: OnceLock<Arc<dyn Pupil>>,
    /// What is kept of users, where they may see and govern it.
    pub(crate) archive: OnceLock<Arc<dyn Archive>>,
    pub(crate) notebook: OnceLock<Arc<dyn Notebook>>,
    /// Who tells of the parts behind, where somebody does.
    pub(crate) operator: OnceLock<Arc<dyn Operator>>,
    /// Who keeps the accounts, where somebody does.
    pub(crate) accounts: OnceLock<Arc<dyn Accounts>>,
    /// What is logged, where an operator may change it.
    pub(crate) log_levels: OnceLock<LogLevels>,
    /// Whether new work is refused.
    pub(crate) maintenance: AtomicBool,
    pub(crate) failures: Failures,
    pub(crate) assets: Assets,
    pub(crate) openapi: Bytes,
    pub(crate) streams: Streams,
    pub(crate) hub: Hub,
    /// WebSockets that are open, and how many more may be: as many as streams.
    pub(crate) sockets: TaskTracker,
    pub(crate) socket_places: Arc<Semaphore>,
    /// Cancelled when nothing new begins.
    pub(crate) draining: CancellationToken,
    /// Cancelled when streams must come to an end.
    pub(crate) closing: CancellationToken,
    /// Requests being answered, open streams included.
    pub(crate) active: AtomicUsize,
    /// Open client connections.
    pub(crate) connections: AtomicUsize,
    started: Instant,
    traffic: Mutex<Traffic>,
}

pub(crate) type Shared = Arc<App>;

impl App {
    /// The time since the gateway was made.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether who was identified a while ago may still ask: its key is there and has not
    /// expired, and where it came without one, none is needed yet.
    pub(crate) fn check_valid(&self, caller: &Caller, now: OffsetDateTime) -> Result<(), ApiError> {
        if caller.key.is_none() && !self.keys.is_anonymous() {
            return Err(ApiError::KeyMissing);
        }
        caller.check_valid(now)
    }

    /// Counts a frame of a connection that stays open like a request.
    pub(crate) fn admit_frame(
        &self,
        caller: &Caller,
        client: Client,
        endpoint: &'static str,
    ) -> Result<(), ApiError> {
        let (now, mut standings) = (self.uptime(), Standings::default());
        self.addresses.take(client, now, &mut standings)?;
        rate::take(caller.allowances(), now, &mut standings)?;
        audit::frame(caller, endpoint);
        Ok(())
    }

    /// The silence after which a stream that begins now carries a comment.
    pub(crate) fn heartbeat(&self) -> Duration {
        let load = self.services.process.stats().load_average;
        streams::heartbeat(self.heartbeat, load)
    }

    /// Counts one answer for the last minute's figures.
    pub(crate) fn count(&self, took: Duration, failed: bool) {
        let now = self.uptime();
        let mut traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        traffic.record(now, took, failed);
    }

    /// The figures of the last minute.
    pub(crate) fn minute(&self) -> Minute {
        let traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        traffic.minute(self.uptime())
    }
}

/// The HTTP face of a student. Clones share everything.
#[derive(Clone)]
pub struct Gateway {
    router: Router,
    app: Shared,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("info", &self.app.services.info)
            .finish_non_exhaustive()
    }
}

impl Gateway {
    /// Puts the routes together. Install the metrics recorder before.
    #[must_use]
    pub fn new(config: &GatewayConfig, services: Services) -> Self {
        metrics::begin();
        let (router, document) = routes::all().split_for_parts();
        let caps = StreamCaps::default();
        let keys = Keys::new(&config.auth, &config.rates, caps.clone());
        let openapi = routes::document::write(&document, !keys.is_anonymous());
        let app = Arc::new(App {
            limits: config.limits,
            heartbeat: config.heartbeat.max(SHORTEST_HEARTBEAT),
            keys,
            tickets: Tickets::default(),
            addresses: Addresses::new(&config.rates),
            proxies: config.proxies.clone(),
            cors: config.cors.clone(),
            idempotency: Idempotency::new(),
            cache: ResponseCache::new(config.cache),
            slots: Semaphore::new(config.limits.requests.min(Semaphore::MAX_PERMITS)),
            catalog: services
                .models
                .clone()
                .with_student(services.student.clone()),
            services,
            panel: OnceLock::new(),
            responses: OnceLock::new(),
            pupil: OnceLock::new(),
            archive: OnceLock::new(),
            notebook: OnceLock::new(),
            operator: OnceLock::new(),
            accounts: OnceLock::new(),
            log_levels: OnceLock::new(),
            maintenance: AtomicBool::new(false),
            failures: Failures::default(),
            assets: Assets::new(),
            openapi,
            streams: Streams::new(config.limits.streams, caps),
            hub: Hub::new(),
            sockets: TaskTracker::new(),
            socket_places: Arc::new(Semaphore::new(
                config.limits.streams.min(Semaphore::MAX_PERMITS),
            )),
            draining: CancellationToken::new(),
            closing: CancellationToken::new(),
            active: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            started: Instant::now(),
            traffic: Mutex::new(Traffic::new()),
        });
        let router = router
            .fallback(async || ApiError::NotFound)
            .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
            .layer(middleware::from_fn_with_state(Arc::clone(&app), edge::edge))
            .layer(middleware::from_fn(edge::compression::compress))
            .with_state(Arc::clone(&app));
        Self { router, app }
    }

    /// Has `/panel` answered by this panel; without one it is not found. The first one stays.
    #[must_use]
    pub fn with_panel(self, panel: Arc<dyn Panel>) -> Self {
        self.app.panel.get_or_init(|| panel);
        self
    }

    /// Keeps the answers of `/v1/responses`, so that clients can go on from them; without
    /// it they are told as not stored. The first store stays.
    #[must_use]
    pub fn with_responses(self, records: Arc<dyn RecordStore>) -> Self {
        self.app.responses.get_or_init(|| records);
        self
    }

    /// Keeps there what was answered to requests with an `Idempotency-Key`, so that they are
    /// done once across restarts too; without it, once in the life of this gateway. The first
    /// store stays.
    #[must_use]
    pub fn with_idempotency(self, records: Arc<dyn RecordStore>) -> Self {
        self.app.idempotency.keep_in(records);
        self
    }

    /// Says that other processes share the records, and how they tell each other of news. To be
    /// called before the records are given, in a tokio runtime. Requests with an `Idempotency-Key` are
    /// then done once among all of them, and a durable stream can be ended at each.
    #[must_use]
    pub fn shared(self, hints: Arc<dyn Hints>) -> Self {
        let bell = Bell::new(hints);
        self.app.hub.share(bell.clone());
        self.app.idempotency.share(bell);
        self
    }

    /// Keeps there what durable streams tell, so that a client can go on with one after a
    /// restart, and at every process that shares the store; without it, at this process only.
    /// The first store stays.
    #[must_use]
    pub fn with_streams(self, records: Arc<dyn RecordStore>) -> Self {
        self.app.hub.keep_in(records);
        self
    }

    /// Removes what was kept for its time and is over it: answers to requests with an
    /// `Idempotency-Key` after a day, durable streams ten minutes after their end. To be called
    /// every few minutes.
    pub async fn forget_expired(&self) {
        self.app.idempotency.forget_expired().await;
        self.app.hub.forget_expired().await;
    }

    /// Has `/sessions/{id}/…` answered by this student; without one nothing is found there.
    /// The first one stays.
    #[must_use]
    pub fn with_pupil(self, pupil: Arc<dyn Pupil>) -> Self {
        self.app.pupil.get_or_init(|| pupil);
        self
    }

    /// Has `/sessions`, `/memories` and `/export` answered by these; without them nothing is
    /// found there. The first ones stay.
    #[must_use]
    pub fn with_library(self, archive: Arc<dyn Archive>, notebook: Arc<dyn Notebook>) -> Self {
        self.app.archive.get_or_init(|| archive);
        self.app.notebook.get_or_init(|| notebook);
        self
    }

    /// Has `/api/operator` tell of the parts behind too. The first one stays.
    #[must_use]
    pub fn with_operator(self, operator: Arc<dyn Operator>) -> Self {
        self.app.operator.get_or_init(|| operator);
        self
    }

    /// Counts what callers use there, and has `/usage` tell it; without accounts nothing is
    /// found there. The first ones stay.
    #[must_use]
    pub fn with_accounts(self, accounts: Arc<dyn Accounts>) -> Self {
        self.app.accounts.get_or_init(|| accounts);
        self
    }

    /// Takes these keys and no others, from the next request on. Streams and WebSockets of keys
    /// that are gone end, those of the others when their key's time is over. Counters of keys that
    /// stay, by tenant and name, go on. A server that needed a key before needs one still.
    pub fn set_keys(&self, keys: &[ApiKey]) {
        self.app.keys.set(keys);
    }

    /// Follows the keys of the issuer for ever, where there is one: a file is looked at every
    /// second, an address asked as often as it was configured.
    pub async fn follow_issuer(&self) {
        if let Some(issuer) = self.app.keys.issuer() {
            issuer.follow().await;
        }
    }

    /// Lets operators change what is logged, for a while. The first one stays.
    #[must_use]
    pub fn with_log_levels(self, levels: LogLevels) -> Self {
        self.app.log_levels.get_or_init(|| levels);
        self
    }

    /// Also offers graphs to clients of the LangGraph server's API.
    #[must_use]
    pub fn with_langgraph(mut self, platform: crate::langgraph::Platform) -> Self {
        let routes = crate::langgraph::routes(platform)
            .layer(middleware::from_fn_with_state(
                Arc::clone(&self.app),
                edge::edge,
            ))
            .layer(middleware::from_fn(edge::compression::compress))
            .with_state(Arc::clone(&self.app));
        self.router = self.router.merge(routes);
        self
    }

    /// Also answers the Model Context Protocol at `/mcp`, for callers with a key that opens
    /// the student. A request reaches the service with its caller's [`lyceum_core::Scope`]
    /// in its extensions.
    #[must_use]
    pub fn with_mcp<S, B>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
        B: http_body::Body<Data = Bytes, Error: Into<axum::BoxError>> + Send + 'static,
    {
        let scoped = |mut request: Request<Body>| {
            if let Some(caller) = request.extensions().get::<Caller>() {
                let scope = caller.scope.clone();
                request.extensions_mut().insert(scope);
            }
            std::future::ready(request)
        };
        let routes = Router::new()
            .route_service("/mcp", service)
            .layer(middleware::map_request(scoped))
            .layer(middleware::from_fn_with_state(
                Arc::clone(&self.app),
                edge::edge,
            ));
        self.router = self.router.merge(routes);
        self
    }

    /// The health that the gateway reports and that a [`crate::Server`] moves to draining.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.app.services.health
    }

    pub(crate) fn app(&self) -> &App {
        &self.app
    }

    /// Whether everybody who reaches it is the local user.
    pub(crate) fn is_anonymous(&self) -> bool {
        self.app.keys.is_anonymous()
    }

    /// Closes WebSockets on which nothing is under way, the others when nothing is any more.
    pub(crate) fn drain(&self) {
        self.app.draining.cancel();
    }

    /// Waits until no durable stream is under way and no WebSocket is open.
    pub(crate) async fn runs_ended(&self) {
        self.app.sockets.close();
        self.app.sockets.wait().await;
        self.app.hub.idle().await;
    }

    /// WebSockets and durable streams that have not ended.
    pub(crate) fn left(&self) -> usize {
        self.app.sockets.len() + self.app.hub.busy()
    }

    /// Tells open streams to come to an end.
    pub(crate) fn close_streams(&self) {
        self.app.closing.cancel();
    }

    /// Answers one request.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, or the body of a stream's answer, drops the student's work.
    pub(crate) fn answer(
        &self,
        request: Request<Body>,
    ) -> impl Future<Output = Response<Body>> + Send + use<> {
        let answered = self.router.clone().call(request);
        async {
            match answered.await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        }
    }
}
