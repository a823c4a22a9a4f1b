//! The pool: how connections are made, and when one is given up.
//!
//! Invariant: a connection goes back to the pool only when everything that was asked over it has
//! been answered, so no call ever waits behind the remains of a dropped one.
//! Deliberately absent: a check before use, which would cost every call a round trip; a call
//! that finds its connection dead is repeated on another.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bb8::{ErrorSink, ManageConnection, Pool, PooledConnection};
use rand::Rng as _;
use tokio_postgres::{Config, Error, NoTls};

use crate::{
    PostgresOptions,
    connection::Session,
    error::{PoolError, said},
};

/// The longest pause between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(250);

/// A connection of the pool while a call uses it.
pub(crate) type Held = PooledConnection<'static, Connector>;

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
