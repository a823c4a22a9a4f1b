//! All servers of a configuration, and their tools.

use std::{fmt, sync::Arc, time::Duration};

use lyceum_core::Tool;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    ConfigError, ServerConfig, ServerName,
    catalog::Catalog,
    link::{Link, State},
    supervise::Supervisor,
};

/// How long closing all servers may take.
const CLOSE: Duration = Duration::from_secs(12);

/// Puts something around a tool when it first appears, e.g. limits.
pub(crate) type Dress = Arc<dyn Fn(Arc<dyn Tool>) -> Arc<dyn Tool> + Send + Sync>;

/// How a server fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerStatus {
    /// Its name.
    pub name: ServerName,
    /// Whether it can be called now.
    pub up: bool,
    /// The tools it offers here.
    pub tools: usize,
    /// Why it cannot be called, where that is known: our words and the server's, bounded.
    pub why: Option<String>,
}

/// One of the servers. Clones share it.
#[derive(Debug, Clone)]
pub struct Server(Arc<Link>);

impl Server {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &ServerName {
        self.0.name()
    }

    /// How it fares.
    #[must_use]
    pub fn status(&self) -> ServerStatus {
        let (up, why) = match self.0.state() {
            State::Up(_) => (true, None),
            State::Starting => (false, Some("it is being started".to_owned())),
            State::Down { why, .. } => (false, Some(why.to_string())),
            State::Closed => (false, Some("it was closed".to_owned())),
        };
        ServerStatus {
            name: self.name().clone(),
            up,
            tools: self.0.offered().len(),
            why,
        }
    }

    /// Its tools, as they are known now.
    #[must_use]
    pub fn tools(&self) -> Vec<Arc<dyn Tool>> {
        let offered = self.0.offered();
        offered
            .iter()
            .map(|offered| Arc::clone(&offered.tool))
            .collect()
    }

    pub(crate) fn link(&self) -> &Link {
        &self.0
    }
}

/// Connected servers. They are ended when this is dropped; [`Servers::close`] does it in order.
pub struct Servers {
    servers: Vec<Server>,
    tasks: TaskTracker,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.servers).finish()
    }
}

impl Servers {
    /// Begins to connect to servers, in the background; each tool is dressed once, when it
    /// first appears, e.g. in limits. Needs a runtime.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Twice`].
    pub fn start(
        configs: Vec<ServerConfig>,
        dress: impl Fn(Arc<dyn Tool>) -> Arc<dyn Tool> + Send + Sync + 'static,
    ) -> Result<Self, ConfigError> {
        let dress: Dress = Arc::new(dress);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let mut servers: Vec<Server> = Vec::new();
        let mut supervisors = Vec::new();
        for config in configs {
            let ServerConfig {
                name,
                reach,
                allow,
                limits,
            } = config;
            if servers.iter().any(|server| *server.name() == name) {
                return Err(ConfigError::Twice { name });
            }
            let limits = limits.in_range();
            let catalog = Catalog::new(name.clone(), allow, limits.max_tools);
            let link = Arc::new(Link::new(name, limits));
            servers.push(Server(Arc::clone(&link)));
            supervisors.push(Supervisor::new(link, reach, catalog, Arc::clone(&dress)));
        }
        for supervisor in supervisors {
            tasks.spawn(supervisor.run(stop.clone()));
        }
        tasks.close();
        Ok(Self {
            servers,
            tasks,
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
        })
    }

    /// Waits until every server was reached or failed once, but no longer than `most`.
    pub async fn settled(&self, most: Duration) {
        let all = async {
            for server in &self.servers {
                server.0.settled().await;
            }
        };
        // Whoever is late is there later.
        let _ = tokio::time::timeout(most, all).await;
    }

    /// The servers, in the order of the configuration.
    #[must_use]
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The server of this name.
    #[must_use]
    pub fn server(&self, name: &str) -> Option<&Server> {
        self.servers
            .iter()
            .find(|server| server.name().as_str() == name)
    }

    /// The tools of all servers, as they are known now. Those of a server that is away stay
    /// until it is back, and fail at once meanwhile.
    #[must_use]
    pub fn tools(&self) -> Vec<Arc<dyn Tool>> {
        self.servers.iter().flat_map(Server::tools).collect()
    }

    /// Ends all connections and processes, within 12 seconds.
    pub async fn close(&self) {
        self.stop.cancel();
        if tokio::time::timeout(CLOSE, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("MCP servers are cut off");
        }
    }
}
