//! One connection: its prepared statements, and the transactions that are asked of it.
//!
//! Invariant: every transaction begins with the rights of its call, and is over when the call is.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::future::{join3, join4, join5};
use lyceum_vault::Wrapped;
use tokio_postgres::{Client, Error, Row, Statement, types::ToSql};

use crate::error::is_lost;

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

    /// Whether it is to be given up.
    pub(crate) fn is_spent(&self) -> bool {
        self.client.is_closed() || self.pending.load(Ordering::Relaxed) > 0
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}
