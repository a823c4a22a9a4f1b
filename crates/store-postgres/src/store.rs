//! The store: a pool of connections, and how a call goes over it.
//!
//! Invariant: a call waits a bounded time for a connection and, unless it is an operator's, for its
//! answer, and is repeated only where that cannot do anything twice. The calls of graphs' runs stand in
//! a queue of their own, where they wait for as long as it moves: a run is slowed down by others,
//! not failed.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bb8::{Pool, RunError};
use lyceum_memory::StoreError;
use lyceum_vault::OpenedKeys;
use rand::Rng as _;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::{Config, NoTls};

use crate::{
    OpenError, PostgresOptions,
    connection::{Limits, Session},
    error::{Failure, PoolError, connecting},
    hints::Ear,
    migrate::migrate,
    pool::{Connector, Held, LastFailure, build},
    sealing,
    vectors::{self, Graphs, VectorSupport, Vectors},
    words,
};

/// The first pause before a call is repeated; each further one may be twice as long.
const PAUSE: Duration = Duration::from_millis(20);

/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How much longer than its server a call waits for an answer, so that the server's own
/// refusal, which says more, comes first.
const GRACE: Duration = Duration::from_secs(1);

/// Everything Lyceum keeps, on a PostgreSQL server (13 or newer) that many processes share.
///
/// An acknowledged write survives the end of the process, of the server and of the power.
/// Leases are judged by the server's clock, so the processes' clocks may differ.
#[derive(Debug)]
pub struct PostgresStore {
    pool: Pool<Connector>,
    failures: LastFailure,
    host: String,
    options: PostgresOptions,
    /// A place for each connection, for the calls of runs.
    turns: Semaphore,
    /// How many of these calls have ended.
    ended: AtomicU64,
    /// What other processes tell.
    ear: Ear,
    /// With what texts are sealed.
    keys: Arc<OpenedKeys>,
    vectors: Vectors,
}

impl PostgresStore {
    /// Connects to the server at `address`, e.g. `postgresql://user:password@host:5432/name`,
    /// and brings its tables in the schema `lyceum` to the newest format; several processes may
    /// do so at once. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`OpenError`], whose text tells the operator what to do.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have migrated the tables; it can be repeated.
    pub async fn open(address: &str, options: PostgresOptions) -> Result<Self, OpenError> {
        let config: Config = address
            .parse()
            .map_err(|source| OpenError::Address { source })?;
        let masters = options.encryption.as_ref().map(|with| with.masters.clone());
        let keys = Arc::new(OpenedKeys::new(masters));
        let connector = Connector::new(config, &options);
        let support = connector.prepare(&options, &keys).await?;
        let graphs = Graphs::new(connector.config().clone(), options.index_vectors_from);
        let (failures, host) = (connector.failures(), connector.host());
        let ear = Ear::new(connector.config().clone());
        let pool = build(connector, &options);
        let store = Self {
            pool,
            failures,
            host,
            turns: Semaphore::new(options.max_connections.max(1) as usize),
            ended: AtomicU64::new(0),
            ear,
            keys,
            vectors: Vectors::new(support, graphs),
            options,
        };
        store
            .make_partitions()
            .await
            .map_err(|source| OpenError::Prepare { source })?;
        Ok(store)
    }

    /// The server's host and port, fit for a message.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether texts are sealed before they are stored.
    #[must_use]
    pub fn is_encrypting(&self) -> bool {
        self.keys.masters().is_some()
    }

    /// The keys that texts are sealed with.
    pub(crate) fn keys(&self) -> &Arc<OpenedKeys> {
        &self.keys
    }

    /// What the vector port remembers.
    pub(crate) fn kept_vectors(&self) -> &Vectors {
        &self.vectors
    }

    /// How the server is reached.
    pub(crate) fn config(&self) -> &Config {
        self.ear.config()
    }

    pub(crate) fn ear(&self) -> &Ear {
        &self.ear
    }

    /// How many connections are open, and how many of them are idle.
    #[must_use]
    pub fn connections(&self) -> (u32, u32) {
        let state = self.pool.state();
        (state.connections, state.idle_connections)
    }

    /// Runs `work` on a connection, and again on another one when the first was lost or a
    /// deadlock was: `work` must come to the same when it is done twice.
    pub(crate) async fn call<T, F>(
        &self,
        name: &'static str,
        work: impl Fn(Held) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let retry_for = self.options.retry_for;
        self.repeated(name, (retry_for, Limits::Set), work).await
    }

    /// [`call`](Self::call) for what an operator asks for, and which may take as long as it needs:
    /// no time-out ends a transaction of it.
    pub(crate) async fn operate<T, F>(
        &self,
        name: &'static str,
        work: impl Fn(Held) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let retry_for = self.options.retry_for;
        self.repeated(name, (retry_for, Limits::None), work).await
    }

    /// [`call`](Self::call) for a run of a graph: it waits until those before it have had a
    /// connection, however many they are, unless none of them gets anywhere.
    pub(crate) async fn call_in_turn<T, F>(
        &self,
        name: &'static str,
        work: impl Fn(Held) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let _turn = self.turn().await.map_err(Failure::Pool)?;
        let result = self.call(name, work).await;
        self.ended.fetch_add(1, Ordering::Relaxed);
        result
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, PoolError> {
        let after = self.options.acquire_timeout;
        let exhausted = PoolError::Exhausted {
            connections: self.options.max_connections.max(1),
            after,
        };
        let mut turn = pin!(self.turns.acquire());
        loop {
            let ended = self.ended.load(Ordering::Relaxed);
            match tokio::time::timeout(after, &mut turn).await {
                Ok(turn) => return turn.map_err(|_never_closed| exhausted),
                Err(_) if self.ended.load(Ordering::Relaxed) == ended => return Err(exhausted),
                Err(_) => {}
            }
        }
    }

    /// [`call`](Self::call) for `work` that must not be done twice.
    pub(crate) async fn call_once<T, F>(
        &self,
        name: &'static str,
        work: impl Fn(Held) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let limits = (Duration::ZERO, Limits::Set);
        self.repeated(name, limits, work).await
    }

    async fn repeated<T, F>(
        &self,
        name: &'static str,
        (retry_for, limits): (Duration, Limits),
        work: impl Fn(Held) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let started = Instant::now();
        let (mut pause, mut made_key) = (PAUSE, false);
        let result = loop {
            let mut failure = match self.once(limits, &work).await {
                Ok(value) => break Ok(value),
                Err(failure) => failure,
            };
            if let (Failure::NoKey { tenant }, false) = (&failure, made_key) {
                // Nothing of the call is done yet, so it may be done now.
                let make = |session| self.make_key(session, tenant);
                match self.once(limits, make).await {
                    Ok(()) => {
                        made_key = true;
                        continue;
                    }
                    Err(other) => failure = other,
                }
            }
            if !failure.is_passing() || started.elapsed() + pause > retry_for {
                break Err(failure.into());
            }
            tracing::warn!(operation = name, ?failure, "a database call is repeated");
            let jitter = rand::rng().random_range(Duration::ZERO..=pause);
            tokio::time::sleep(jitter).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        let elapsed = started.elapsed();
        if elapsed > self.options.slow {
            tracing::warn!(operation = name, ?elapsed, "the database is slow");
        }
        result
    }

    async fn once<T, F>(&self, limits: Limits, work: impl Fn(Held) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut session = self.session().await?;
        session.limit(limits);
        if limits == Limits::None {
            return work(session).await;
        }
        let after = self.options.statement_timeout + GRACE;
        match tokio::time::timeout(after, work(session)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Pool(PoolError::Silent { after })),
        }
    }

    async fn session(&self) -> Result<Held, Failure> {
        match self.pool.get_owned().await {
            Ok(session) => {
                self.failures.clear();
                Ok(session)
            }
            // Connections that cannot be made and those that are all in use look the same to
            // the one who waits; the last attempt to make one tells them apart.
            Err(RunError::TimedOut) => {
                let failure = self.failures.get().unwrap_or(PoolError::Exhausted {
                    connections: self.options.max_connections.max(1),
                    after: self.options.acquire_timeout,
                });
                tracing::warn!(%failure, "a database call got no connection");
                Err(Failure::Pool(failure))
            }
            Err(RunError::User(failure)) => Err(Failure::Pool(failure)),
        }
    }
}

impl Connector {
    /// Migrates over a connection of its own, and looks whether the server keeps vectors.
    async fn prepare(
        &self,
        options: &PostgresOptions,
        keys: &OpenedKeys,
    ) -> Result<VectorSupport, OpenError> {
        let patience = options.acquire_timeout;
        let connected = tokio::time::timeout(patience, self.config().connect(NoTls)).await;
        let (mut client, connection) = match connected {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => return Err(connecting(self.host(), error)),
            Err(_) => {
                return Err(OpenError::Unreachable {
                    host: self.host(),
                    source: PoolError::Silent { after: patience }.into(),
                });
            }
        };
        let connection = async {
            // Its end reaches the client's calls.
            let _ended = connection.await;
            std::future::pending::<std::convert::Infallible>().await
        };
        let work = async {
            sealing::check(&mut client, self.host(), options.encryption.as_ref()).await?;
            migrate(&mut client).await?;
            let session = Session::over(client);
            let prepared = async {
                words::refresh(&session, keys).await?;
                vectors::enable(&session, keys.masters().is_some()).await
            };
            let prepared = prepared.await;
            prepared.map_err(|failure| OpenError::Prepare {
                source: failure.into(),
            })
        };
        tokio::select! {
            biased;
            prepared = work => prepared,
            never = connection => match never {},
        }
    }
}
