//! Connections: how they are made, what they remember, and when one is given up.
//!
//! Invariant: a connection goes back to the pool only when everything that was asked over it has
//! been answered, so no call ever waits behind the remains of a dropped one.
//! Deliberately absent: a check before use, which would cost every call a round trip; a call
//! that finds its connection dead is repeated on another.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bb8::{ErrorSink, ManageConnection, Pool, PooledConnection};
use futures_util::future::{join3, join4, join5};
use lyceum_vault::Wrapped;
use rand::Rng as _;
use tokio_postgres::{Client, Config, Error, NoTls, Row, Statement, types::ToSql};

use crate::{
    PostgresOptions,
    error::{PoolError, is_lost, said},
};

/// The longest pause between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(250);

/// A connection of the pool while a call uses it.
pub(crate) type Held = PooledConnection<'static, Connector>;

/// A parameter of a statement.
pub(crate) type Param<'a> = &'a (dyn ToSql + Sync);

/// Which rows a transaction may see.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whose<'a> {
    /// One tenant's.
    Tenant(&'a str),
    /// Everybody's: for the calls of the ports that have no scope.
    Operator,
}

impl<'a> Whose<'a> {
    fn settings(self) -> (&'a str, &'static str) {
        match self {
            Self::Tenant(tenant) => (tenant, "off"),
            Self::Operator => ("", "on"),
        }
    }
}

/// How long the server lets a transaction take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limits {
    /// As the options say, statement by statement.
    Set,
    /// As long as it needs: for an operator's calls, which go over all that somebody has.
    None,
}

/// Names the tenant to the policies, until the transaction's end.
const RIGHTS: &str =
    "SELECT set_config('lyceum.tenant', $1, true), set_config('lyceum.operator', $2, true)";

/// The same for a transaction that writes: nobody changes the tenant's keys until its end. Gives
/// the server's present.
const RIGHTS_TO_WRITE: &str = "\
    SELECT set_config('lyceum.tenant', $1, true), set_config('lyceum.operator', $2, true), \
        lyceum.share_keys($1), lyceum.now_ms()";

/// The wrapped keys of a tenant, oldest first.
pub(crate) const KEYS: &str =
    "SELECT version, wrapped FROM lyceum.tenant_key WHERE tenant = $1 ORDER BY version";

/// What a transaction that writes begins with.
#[derive(Debug)]
pub(crate) struct Begun {
    /// The keys of the tenant that it writes for.
    pub(crate) wrapped: Vec<Wrapped>,
    /// The server's present, in milliseconds.
    pub(crate) now: i64,
}

/// The keys that rows of [`KEYS`] are.
pub(crate) fn wrapped(rows: &[Row]) -> Result<Vec<Wrapped>, Error> {
    let key = |row: &Row| {
        Ok(Wrapped {
            // What is no version of a key does not open.
            version: u32::try_from(row.try_get::<_, i64>(0)?).unwrap_or(u32::MAX),
            bytes: row.try_get(1)?,
        })
    };
    rows.iter().map(key).collect()
}

/// One connection with its prepared statements.
pub(crate) struct Session {
    client: Client,
    statements: Mutex<HashMap<String, Statement>>,
    /// How much was asked and not answered.
    pending: AtomicUsize,
    /// Of the call that holds the connection.
    limits: Limits,
}

impl Session {
    /// A connection that nothing was asked of yet.
    pub(crate) fn over(client: Client) -> Self {
        Self {
            client,
            statements: Mutex::default(),
            pending: AtomicUsize::new(0),
            limits: Limits::Set,
        }
    }

    /// Sets the limits of the transactions to come.
    pub(crate) fn limit(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// What a transaction begins with. The client may take long between two statements too.
    fn beginning(&self) -> &'static str {
        match self.limits {
            Limits::Set => "BEGIN",
            Limits::None => {
                "BEGIN; SET LOCAL statement_timeout = 0; \
                 SET LOCAL idle_in_transaction_session_timeout = 0"
            }
        }
    }

    /// Runs a statement and reads its rows. The text is prepared once per connection; from then
    /// on the call is one round trip.
    pub(crate) async fn query(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, Error> {
        self.answered(async {
            let statement = self.prepared(sql).await?;
            self.noted(self.client.query(&statement, params).await)
        })
        .await
    }

    /// Runs a statement that gives one row or none.
    pub(crate) async fn query_opt(
        &self,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Option<Row>, Error> {
        Ok(self.query(sql, params).await?.pop())
    }

    /// Runs a statement for its effect, and says how many rows it touched.
    pub(crate) async fn execute(&self, sql: &str, params: &[Param<'_>]) -> Result<u64, Error> {
        self.answered(async {
            let statement = self.prepared(sql).await?;
            self.noted(self.client.execute(&statement, params).await)
        })
        .await
    }

    /// Runs statements without parameters or results.
    pub(crate) async fn batch(&self, sql: &str) -> Result<(), Error> {
        self.answered(self.client.batch_execute(sql)).await
    }

    /// Runs one statement with the rights of `whose`, in a transaction and in one round trip:
    /// nothing waits for the answer to what stands before it.
    pub(crate) async fn ask(
        &self,
        whose: Whose<'_>,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, Error> {
        self.answered(async {
            let statement = self.prepared(sql).await?;
            self.asked((self.beginning(), whose), &statement, params)
                .await
        })
        .await
    }

    /// The same in a transaction that begins with these statements, for a statement that few calls
    /// repeat word for word: it is prepared for this one, and forgotten after it.
    pub(crate) async fn ask_anew(
        &self,
        begin: &str,
        whose: Whose<'_>,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, Error> {
        self.answered(async {
            let statement = self.client.prepare(sql).await?;
            self.asked((begin, whose), &statement, params).await
        })
        .await
    }

    async fn asked(
        &self,
        (begin, whose): (&str, Whose<'_>),
        statement: &Statement,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, Error> {
        let rights = self.prepared(RIGHTS).await?;
        let (tenant, operator) = whose.settings();
        let named: [Param<'_>; 2] = [&tenant, &operator];
        // These are polled, and so sent, in this order. After an error the server ignores
        // what follows, and takes the commit for an undoing.
        let (begun, bound, rows, ended) = join4(
            self.client.batch_execute(begin),
            self.client.query(&rights, &named),
            self.client.query(statement, params),
            self.client.batch_execute("COMMIT"),
        )
        .await;
        begun.and(bound.map(drop))?;
        let rows = self.noted(rows)?;
        ended.map(|()| rows)
    }

    /// [`ask`](Self::ask) for a read of a tenant's rows, and its keys as of the same moment.
    pub(crate) async fn ask_with_keys(
        &self,
        tenant: &str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<(Vec<Wrapped>, Vec<Row>), Error> {
        self.answered(async {
            let rights = self.prepared(RIGHTS).await?;
            let keys = self.prepared(KEYS).await?;
            let statement = self.prepared(sql).await?;
            let (tenant, operator) = Whose::Tenant(tenant).settings();
            let named: [Param<'_>; 2] = [&tenant, &operator];
            let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
            let (begun, bound, keys, rows, ended) = join5(
                self.client.batch_execute(begin),
                self.client.query(&rights, &named),
                self.client.query(&keys, &named[..1]),
                self.client.query(&statement, params),
                self.client.batch_execute("COMMIT"),
            )
            .await;
            begun.and(bound.map(drop))?;
            let (keys, rows) = (wrapped(&self.noted(keys)?)?, self.noted(rows)?);
            ended.map(|()| (keys, rows))
        })
        .await
    }

    /// Runs `work` in a transaction with the rights of `whose`, during which the tenant's keys
    /// stay as they are.
    pub(crate) async fn write<T, E: From<Error>, F>(
        &self,
        whose: Whose<'_>,
        work: impl FnOnce(Begun) -> F,
    ) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        self.answered(async {
            let result = match self.begin(whose).await {
                Ok(begun) => work(begun).await,
                Err(error) => Err(error.into()),
            };
            self.end(result).await
        })
        .await
    }

    async fn begin(&self, whose: Whose<'_>) -> Result<Begun, Error> {
        let rights = self.prepared(RIGHTS_TO_WRITE).await?;
        let keys = self.prepared(KEYS).await?;
        let (tenant, operator) = whose.settings();
        let named: [Param<'_>; 2] = [&tenant, &operator];
        let (begun, bound, keys) = join3(
            self.client.batch_execute(self.beginning()),
            self.client.query(&rights, &named),
            self.client.query(&keys, &named[..1]),
        )
        .await;
        begun?;
        let (bound, keys) = (self.noted(bound)?, self.noted(keys)?);
        Ok(Begun {
            wrapped: wrapped(&keys)?,
            now: bound.first().map_or(Ok(0), |row| row.try_get(3))?,
        })
    }

    /// Runs `work` in a transaction that changes the keys of a tenant, or of all: with the rights
    /// of `whose`, and when nobody else writes for them.
    pub(crate) async fn change_keys<T, E: From<Error>>(
        &self,
        whose: Whose<'_>,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.transaction(async {
            let (tenant, operator) = whose.settings();
            self.query(RIGHTS, &[&tenant, &operator]).await?;
            let one = (!tenant.is_empty()).then_some(tenant);
            self.query("SELECT lyceum.hold_keys($1)", &[&one]).await?;
            work.await
        })
        .await
    }

    /// Runs `work`, which reads, in a transaction that sees one state.
    pub(crate) async fn snapshot<T, E: From<Error>>(
        &self,
        whose: Whose<'_>,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.transaction(async {
            let level = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";
            self.client.batch_execute(level).await?;
            let (tenant, operator) = whose.settings();
            self.query(RIGHTS, &[&tenant, &operator]).await?;
            work.await
        })
        .await
    }

    /// Runs `work` in a transaction of the isolation level "read committed". A dropped future
    /// undoes it: the connection is given up with it.
    pub(crate) async fn transaction<T, E: From<Error>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.answered(async {
            self.client.batch_execute(self.beginning()).await?;
            self.end(work.await).await
        })
        .await
    }

    async fn end<T, E: From<Error>>(&self, result: Result<T, E>) -> Result<T, E> {
        match result {
            Ok(value) => {
                self.client.batch_execute("COMMIT").await?;
                Ok(value)
            }
            Err(error) => {
                // On a dead connection there is nothing left to undo.
                let _rolled_back = self.client.batch_execute("ROLLBACK").await;
                Err(error)
            }
        }
    }

    /// Runs statements as they stand, and gives the first column of their rows as text.
    #[cfg(test)]
    pub(crate) async fn simple(&self, sql: &str) -> Result<Vec<String>, Error> {
        use tokio_postgres::SimpleQueryMessage::Row;
        let messages = self.answered(self.client.simple_query(sql)).await?;
        let first = |message: &_| match message {
            Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        };
        Ok(messages.iter().filter_map(first).collect())
    }

    async fn answered<T>(&self, asked: impl Future<Output = T>) -> T {
        self.pending.fetch_add(1, Ordering::Relaxed);
        let answer = asked.await;
        self.pending.fetch_sub(1, Ordering::Relaxed);
        answer
    }

    /// Gives up a connection whose error says that others would fail on it too.
    fn noted<T>(&self, answer: Result<T, Error>) -> Result<T, Error> {
        if answer.as_ref().is_err_and(is_lost) {
            self.pending.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    async fn prepared(&self, sql: &str) -> Result<Statement, Error> {
        let known = {
            let statements = self.statements();
            statements.get(sql).cloned()
        };
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await?;
        self.statements().insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    fn statements(&self) -> MutexGuard<'_, HashMap<String, Statement>> {
        self.statements
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn is_spent(&self) -> bool {
        self.client.is_closed() || self.pending.load(Ordering::Relaxed) > 0
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

/// Makes connections.
#[derive(Debug)]
pub(crate) struct Connector {
    config: Config,
    prelude: String,
    patience: Duration,
    failures: LastFailure,
}

impl Connector {
    pub(crate) fn new(mut config: Config, options: &PostgresOptions) -> Self {
        config
            .application_name(&options.application_name)
            .connect_timeout(options.acquire_timeout)
            // A server that vanished without a word is noticed by its missing answers.
            .tcp_user_timeout(options.statement_timeout)
            .keepalives_idle(options.statement_timeout.max(Duration::from_secs(1)));
        Self {
            config,
            prelude: prelude(options.statement_timeout),
            patience: options.acquire_timeout.max(Duration::from_millis(1)),
            failures: LastFailure::default(),
        }
    }

    /// The last failure to connect, for the calls that wait in vain.
    pub(crate) fn failures(&self) -> LastFailure {
        self.failures.clone()
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// The server's host and port, fit for a message.
    pub(crate) fn host(&self) -> String {
        let host = match self.config.get_hosts().first() {
            Some(tokio_postgres::config::Host::Tcp(host)) => host.clone(),
            Some(tokio_postgres::config::Host::Unix(path)) => path.display().to_string(),
            None => "localhost".to_owned(),
        };
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        format!("{host}:{port}")
    }
}

/// What every connection is told first.
fn prelude(statement_timeout: Duration) -> String {
    let limit = statement_timeout.as_millis().max(1);
    // A process that is stopped in a transaction must not hold its locks for ever. Where the
    // database says that a commit need not be on the disk, this store disagrees; settings that
    // promise more (a replica's disk) stay.
    format!(
        "SET statement_timeout = {limit}; \
         SET idle_in_transaction_session_timeout = {limit}; \
         SET default_transaction_isolation = 'read committed'; \
         SELECT set_config('synchronous_commit', 'on', false) \
         WHERE current_setting('synchronous_commit') = 'off'"
    )
}

impl Connector {
    async fn attempt(&self) -> Result<Session, Error> {
        let (client, connection) = self.config.connect(NoTls).await?;
        tokio::spawn(async move {
            // What ends a connection reaches the call that uses it; an idle one is nobody's loss.
            if let Err(error) = connection.await {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "a connection ended"
                );
            }
        });
        client.batch_execute(&self.prelude).await?;
        Ok(Session::over(client))
    }
}

impl ManageConnection for Connector {
    type Connection = Session;
    type Error = PoolError;

    /// Tries until the time is over: a server that restarts refuses connections for a while,
    /// and is found soon after it is back.
    async fn connect(&self) -> Result<Session, PoolError> {
        let started = Instant::now();
        loop {
            let left = self.patience.saturating_sub(started.elapsed());
            let failure = match tokio::time::timeout(left, self.attempt()).await {
                Ok(Ok(session)) => return Ok(session),
                Ok(Err(error)) => PoolError::Unreachable { last: said(&error) },
                Err(_) => {
                    return Err(PoolError::Silent {
                        after: self.patience,
                    });
                }
            };
            let pause = rand::rng().random_range(PAUSE / 2..PAUSE);
            if started.elapsed() + pause > self.patience {
                return Err(failure);
            }
            self.failures.sink(failure);
            tokio::time::sleep(pause).await;
        }
    }

    /// Not asked for; see the top of this file.
    async fn is_valid(&self, session: &mut Session) -> Result<(), PoolError> {
        match self.has_broken(session) {
            true => Err(PoolError::Unreachable {
                last: "the connection was lost".to_owned(),
            }),
            false => Ok(()),
        }
    }

    fn has_broken(&self, session: &mut Session) -> bool {
        session.is_spent()
    }
}

/// The last failure to connect, as long as no connection was made since.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastFailure(Arc<Mutex<Option<PoolError>>>);

impl LastFailure {
    pub(crate) fn clear(&self) {
        self.lock().take();
    }

    pub(crate) fn get(&self) -> Option<PoolError> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<PoolError>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ErrorSink<PoolError> for LastFailure {
    fn sink(&self, failure: PoolError) {
        tracing::debug!(%failure, "cannot connect to the database");
        *self.lock() = Some(failure);
    }

    fn boxed_clone(&self) -> Box<dyn ErrorSink<PoolError>> {
        Box::new(self.clone())
    }
}

/// The pool, not yet connected.
pub(crate) fn build(connector: Connector, options: &PostgresOptions) -> Pool<Connector> {
    let most = options.max_connections.max(1);
    Pool::builder()
        .max_size(most)
        .min_idle(options.min_connections.min(most))
        .idle_timeout(options.idle_timeout)
        .reaper_rate(
            options
                .idle_timeout
                .clamp(Duration::from_secs(1), Duration::from_secs(30)),
        )
        .connection_timeout(options.acquire_timeout.max(Duration::from_millis(1)))
        .test_on_check_out(false)
        .error_sink(connector.failures.boxed_clone())
        .build_unchecked(connector)
}
