//! Wires the layers: the one place that knows them all.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Result;
use lyceum_agents::{Consolidator, Feynman, FeynmanConfig, Mind, Savers, forget_knowledge};
use lyceum_core::{Student, Tool};
use lyceum_gateway::{Address, Bound, Gateway, Info, Services, langgraph::Platform};
use lyceum_llm::Ledger;
use lyceum_mcp::{Served, Servers};
use lyceum_memory::{Memory, MemoryConfig};
use lyceum_observe::{Health, Importance, Lifecycle, Telemetry};
use lyceum_tools::{Limited, keep_warm};
use tokio::signal::unix::Signal;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    access::{self, Access},
    accounts,
    archive::Cancelling,
    config::{Resolved, Samples},
    edge, embedders, graphs, health, mcp, meaning,
    models::{self, Accounts, Models},
    operator::View,
    privacy,
    provider::{Chosen, ProcessEnvironment},
    seats, spend,
    store::Store,
    tools, webhooks,
};

/// How often completed conversations are looked for, and how long they must have been idle.
const CLEAN_EVERY: Duration = Duration::from_secs(10 * 60);
const IDLE: Duration = Duration::from_secs(30 * 60);

/// How often the checks run when nobody asks for health, so that their metrics are there for
/// who only scrapes.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// Everything, ready to run.
#[derive(Debug)]
pub(crate) struct Server {
    /// Where the data is: a file, or a server's address without its password.
    pub place: String,
    /// Who may call.
    pub access: Access,
    bound: Bound,
    store: Store,
    platform: Platform,
    memory: Memory,
    consolidator: Option<Consolidator>,
    health: Health,
    ledger: Ledger,
    data_dir: PathBuf,
    servers: Arc<Servers>,
    tools: Vec<Arc<Limited>>,
    served: Served,
}

impl Server {
    /// Speaks the Model Context Protocol with whoever started this program, over its standard
    /// input and output, until that one leaves or `stop`.
    pub(crate) async fn run_mcp(self, stop: CancellationToken) -> Result<()> {
        let stop_background = CancellationToken::new();
        let background = TaskTracker::new();
        if let Some(consolidator) = self.consolidator {
            background.spawn(consolidator.run(stop_background.clone()));
        }
        background.spawn(meaning::embed(self.memory, stop_background.clone()));
        background.close();
        let (input, output) = (tokio::io::stdin(), tokio::io::stdout());
        let ended = self.served.over(input, output, stop).await;
        stop_background.cancel();
        background.wait().await;
        self.servers.close().await;
        self.store.close().await;
        Ok(ended?)
    }

    /// Where the page is.
    pub(crate) fn url(&self) -> String {
        match (self.bound.address(), self.bound.is_encrypted()) {
            (Address::Net(address), false) => format!("http://{address}"),
            (Address::Net(address), true) => format!("https://{address}"),
            (socket, _) => socket.to_string(),
        }
    }

    /// Serves until `stop`, drains, ends the background work and closes the store.
    pub(crate) async fn run(self, stop: CancellationToken, hangups: Signal) {
        let background = TaskTracker::new();
        let stop_background = CancellationToken::new();
        if let Some(consolidator) = self.consolidator {
            background.spawn(consolidator.run(stop_background.clone()));
        }
        background.spawn(meaning::embed(self.memory.clone(), stop_background.clone()));
        let savers = self.store.savers();
        background.spawn(clean(self.memory, savers, stop_background.clone()));
        background.spawn(edge::forget(
            self.bound.gateway().clone(),
            stop_background.clone(),
        ));
        let (tools, stop_warming) = (self.tools, stop_background.clone());
        background.spawn(async move {
            stop_warming.run_until_cancelled(keep_warm(&tools)).await;
        });
        background.spawn(access::follow(
            self.access,
            self.bound.gateway().clone(),
            self.ledger.clone(),
            hangups,
            stop_background.clone(),
        ));
        background.spawn(spend::keep(
            self.data_dir,
            self.ledger,
            stop_background.clone(),
        ));
        let (platform, stop_tending) = (self.platform.clone(), stop_background.clone());
        background.spawn(async move { platform.tend_crons(stop_tending).await });
        let (platform, stop_tending) = (self.platform.clone(), stop_background.clone());
        background.spawn(async move { platform.tend_webhooks(stop_tending).await });
        let (platform, stop_tending) = (self.platform.clone(), stop_background.clone());
        background.spawn(async move { platform.tend_expiries(stop_tending).await });
        let (health, stop_checking) = (self.health.clone(), stop_background.clone());
        background.spawn(async move {
            while let Some(_report) = stop_checking.run_until_cancelled(health.report()).await {
                let pause = tokio::time::sleep(CHECK_EVERY);
                stop_checking.run_until_cancelled(pause).await;
            }
        });
        match self.platform.recover().await {
            Ok(0) => {}
            Ok(runs) => tracing::info!(runs, "runs go on after the restart"),
            Err(error) => tracing::error!(error = %error, "queued runs cannot be read"),
        }
        let (platform, stop_tending) = (self.platform.clone(), stop_background.clone());
        background.spawn(async move { platform.tend_peers(stop_tending).await });
        background.close();
        self.health.enter(Lifecycle::Ready);
        let stopped = self.bound.serve(stop).await;
        tracing::info!(cut = stopped.cut, "requests are done");
        // A job in hand goes back by its lease and is done after the next start.
        stop_background.cancel();
        self.platform.close().await;
        background.wait().await;
        self.servers.close().await;
        self.store.close().await;
    }
}

/// Which of several replicas this process is: the same after a restart, so that an alert that
/// was raised before one is resolved after it. In a container the machine's name is the
/// container's own; on one machine the address tells processes apart.
pub(crate) fn service_id(listen: &Address) -> String {
    let host = lyceum_observe::host_name().unwrap_or_else(|| "lyceum".to_owned());
    match listen {
        Address::Net(address) if address.port() == 0 => format!("{host}:{}", std::process::id()),
        Address::Net(address) => format!("{host}:{}", address.port()),
        socket => format!("{host}:{socket}"),
    }
}

/// Opens the store, builds model, tools, student and gateway, and binds the address.
///
/// # Errors
///
/// Whatever cannot be opened, built or bound, in words for the person who started it.
pub(crate) async fn compose(
    resolved: &Resolved,
    chosen: &Chosen,
    telemetry: &Telemetry,
) -> Result<Server> {
    let config = &resolved.config;
    describe_metrics();
    let access = Access::open(resolved)?;
    let auth = access.config()?;
    let (store, place) = Store::open(resolved).await?;
    let memory = store.memory(
        MemoryConfig::default(),
        meaning::encoder(&config.memory.encoder),
        &config.vectors,
    )?;
    let memory = match privacy::for_embedding(resolved)? {
        Some(scrubber) => memory.with_scrubber(scrubber),
        None => memory,
    };
    let accounts = Accounts::of(config, access.budgets())?;
    let embedders = embedders::build(config, &accounts, &ProcessEnvironment)?;
    let Models {
        mind,
        name,
        catalog,
        watch,
        ledger,
    } = models::build(chosen, config, accounts, &embedders).await?;
    spend::restore(&resolved.data_dir, &ledger);
    let model = match &mind {
        Mind::Model(model) => Some(model.clone()),
        Mind::Offline => None,
    };
    let tools = tools::build(&config.tools, &memory, model).await?;
    let own: Vec<Arc<dyn Tool>> = tools.iter().map(|tool| tool.clone() as _).collect();
    let allowed = config.tools.student.as_deref();
    let (toolbox, servers) = mcp::toolbox(&config.mcp, &ProcessEnvironment, own, allowed).await?;
    let student = Feynman::with_source(
        mind.clone(),
        toolbox.clone(),
        memory.clone(),
        FeynmanConfig {
            recent: config.memory.recent_messages,
            recalled: config.memory.recalled,
            consolidate: config.memory.consolidate,
            tone: config.student.tone,
            graded: config.student.graded,
            react: seats::limits(config, name.as_deref())?,
        },
        store.savers(),
    )?;
    let health = Health::default();
    health.register(
        "store",
        Importance::Critical,
        health::StoreProbe(memory.clone()),
    );
    let capacity = config.queue.capacity;
    let seen = watch.clone();
    health.register("model", Importance::Advisory, move || {
        health::model(&watch, capacity)
    });
    let metrics = telemetry.clone();
    let pupil = Arc::new(student.clone());
    let student: Arc<dyn Student> = Arc::new(student);
    let samples = config.langgraph.samples;
    let platform = store.platform(graphs::all(student.clone(), samples)?);
    let platform = match samples {
        Samples::Off => platform,
        Samples::Classic | Samples::Streaming => platform.with_truncate(),
    };
    let platform = match webhooks::sender(&config.langgraph.webhooks)? {
        Some(sender) => platform.with_webhooks(sender),
        None => platform,
    };
    let panel = Arc::new(seats::panel(&config.panel, &mind)?);
    let served = Served::new(student.clone(), pupil.clone(), panel.clone(), toolbox);
    let services = Services {
        student,
        models: catalog.with_panel(panel.clone()),
        health: health.clone(),
        metrics: Box::new(move || metrics.render()),
        process: telemetry.process().clone(),
        info: Info {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            service_id: service_id(&resolved.listen),
            provider: mind.name().to_owned(),
            model: name,
        },
    };
    let archive = Arc::new(Cancelling {
        archive: pupil.clone(),
        queues: seen.queues.clone(),
    });
    let mut gateway = Gateway::new(&edge::gateway(config, auth)?, services)
        .with_panel(panel)
        .with_log_levels(telemetry.levels().clone())
        .with_operator(Arc::new(View {
            watch: seen,
            ledger: ledger.clone(),
        }))
        .with_accounts(Arc::new(accounts::Told(ledger.clone())))
        .with_library(archive, pupil.clone())
        .with_pupil(pupil)
        .with_mcp(served.clone().over_http());
    if let Some(hints) = store.hints() {
        gateway = gateway.shared(hints);
    }
    let records = store.records();
    let gateway = gateway
        .with_langgraph(platform.clone())
        .with_responses(records.clone())
        .with_idempotency(records.clone())
        .with_streams(records);
    let bound = edge::bind(gateway, &config.server, &resolved.listen).await?;
    let consolidator = config
        .memory
        .consolidate
        .then(|| Consolidator::new(memory.clone(), mind));
    Ok(Server {
        place,
        access,
        bound,
        store,
        platform,
        memory,
        consolidator,
        health,
        ledger,
        data_dir: resolved.data_dir.clone(),
        servers,
        tools,
        served,
    })
}

fn describe_metrics() {
    lyceum_observe::describe(lyceum_observe::metrics_of("lyceum-gateway"));
    lyceum_cache::describe();
    lyceum_llm::metrics::describe();
    lyceum_queue::metrics::describe();
    lyceum_tools::metrics::describe();
    lyceum_mcp::metrics::describe();
    lyceum_agents::metrics::describe();
}

/// Removes completed conversations that nobody used for a while, and what was taught in them,
/// until it is cancelled.
async fn clean(memory: Memory, savers: Savers, stop: CancellationToken) {
    while stop
        .run_until_cancelled(tokio::time::sleep(CLEAN_EVERY))
        .await
        .is_some()
    {
        match memory.expire(IDLE).await {
            Ok(gone) if gone.is_empty() => {}
            Ok(gone) => {
                for scope in &gone {
                    // A failure leaves a thread, which `lyceum memory rebuild` finds.
                    if let Err(error) = forget_knowledge(savers.clone(), scope).await {
                        tracing::warn!(%error, "what was taught in a conversation stays");
                    }
                }
                tracing::info!(removed = gone.len(), "removed completed conversations");
            }
            Err(error) => tracing::warn!(error = %error, "cannot remove completed conversations"),
        }
    }
}
