//! The shared account of all models: reserves before a call, settles after it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use lyceum_core::{
    CallContext, ChatError, MicroUsd, RequestId, Scope, SessionId, TenantId, Usage, UserId,
};
use tokio::time::Instant;

use super::{
    PicoUsd,
    totals::{Limits, Payer, Totals, Until},
    used::{Book, Statement, Used, UserBudgets, month_of},
};
use crate::metrics;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What may be spent. Days are those of UTC; a budget left `None` is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budgets {
    /// By everybody in a day.
    pub day: Option<MicroUsd>,
    /// By one tenant in a day.
    pub tenant_day: Option<MicroUsd>,
    /// By one session, from the first to the last call.
    pub session: Option<MicroUsd>,
    /// From which cost on a request is worth an alert. Default $1.
    pub alert: MicroUsd,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            day: None,
            tenant_day: None,
            session: None,
            alert: MicroUsd(1_000_000),
        }
    }
}

/// What was spent and is set aside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// By calls that ended.
    pub spent: PicoUsd,
    /// For calls under way, at most.
    pub held: PicoUsd,
}

/// Counts what calls cost and refuses those that a budget does not cover. Clones share
/// the account. It lives in memory; [`restore`](Self::restore) takes over what a
/// [`book`](Self::book) holds.
#[derive(Clone)]
pub struct Ledger {
    shared: Arc<Shared>,
}

struct Shared {
    limits: Limits,
    users: RwLock<Arc<UserBudgets>>,
    alert: PicoUsd,
    /// The wall clock at a moment of the runtime's clock.
    clock: (SystemTime, Instant),
    totals: Mutex<Totals>,
}

impl Ledger {
    /// An account with these budgets, empty. Needs a tokio runtime with time.
    #[must_use]
    pub fn new(budgets: Budgets) -> Self {
        let limit = |budget: Option<MicroUsd>| budget.map(PicoUsd::from);
        let clock = (SystemTime::now(), Instant::now());
        let shared = Shared {
            limits: Limits {
                day: limit(budgets.day),
                tenant_day: limit(budgets.tenant_day),
                user_day: None,
                session: limit(budgets.session),
            },
            users: RwLock::default(),
            alert: budgets.alert.into(),
            clock,
            totals: Mutex::new(Totals::new(0)),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Whether anything is limited.
    #[must_use]
    pub fn has_budgets(&self) -> bool {
        let limits = &self.shared.limits;
        limits
            .day
            .or(limits.tenant_day)
            .or(limits.session)
            .is_some()
            || self.users().limit_anybody()
    }

    /// Changes what single users may spend in a day, from the next call on.
    pub fn limit_users(&self, budgets: UserBudgets) {
        let users = &self.shared.users;
        *users.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(budgets);
    }

    fn users(&self) -> Arc<UserBudgets> {
        let users = &self.shared.users;
        Arc::clone(&users.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets aside what a call may cost at most.
    ///
    /// # Errors
    ///
    /// [`ChatError::OverBudget`] when a budget does not cover it; nothing is set aside then.
    pub fn reserve(&self, call: &CallContext, at_most: PicoUsd) -> Result<Hold, ChatError> {
        let payer = Payer {
            tenant: call.scope.tenant.clone(),
            user: call.scope.user.clone(),
            session: call.scope.session.clone(),
            request: call.request.clone(),
        };
        let (day, left_of_day) = self.now();
        let limits = Limits {
            user_day: self.users().of(&payer.tenant, &payer.user),
            ..self.shared.limits
        };
        let reserved = self.totals().reserve(&payer, at_most, &limits, day);
        match reserved {
            Ok(()) => Ok(Hold {
                ledger: self.clone(),
                payer,
                amount: at_most,
                usage: Usage::default(),
                cost: Some(PicoUsd::default()),
            }),
            Err(short) => {
                metrics::over_budget(short.budget, &payer.tenant, at_most.to_micro());
                Err(ChatError::OverBudget {
                    budget: short.budget,
                    needed: at_most.to_micro(),
                    left: MicroUsd(short.left.0 / 1_000_000),
                    retry_after: match short.until {
                        Until::Settled => Some(Duration::from_secs(1)),
                        Until::Tomorrow => Some(left_of_day),
                        Until::Never => None,
                    },
                })
            }
        }
    }

    /// What everybody spent today.
    #[must_use]
    pub fn today(&self) -> Spent {
        let day = self.now().0;
        let account = self.totals().all(day);
        Spent {
            spent: account.today.spent,
            held: account.held,
        }
    }

    /// Tells the metrics what was spent today, which is nothing at the beginning of a day: call
    /// it now and then, because a day without calls ends without one.
    pub fn publish(&self) {
        metrics::spent_today(self.today().spent.dollars());
    }

    /// What a tenant spent today.
    #[must_use]
    pub fn tenant_today(&self, tenant: &TenantId) -> Spent {
        let day = self.now().0;
        let account = self.totals().tenant(tenant, day);
        Spent {
            spent: account.today.spent,
            held: account.held,
        }
    }

    /// Counts a request of a client.
    pub fn asked(&self, scope: &Scope) {
        let day = self.now().0;
        self.totals().asked(&scope.tenant, &scope.user, day);
    }

    /// What a user used, and may still spend.
    #[must_use]
    pub fn user(&self, scope: &Scope) -> Statement {
        let (day, limit) = (self.now().0, self.users().of(&scope.tenant, &scope.user));
        let account = self.totals().user(&scope.tenant, &scope.user, day);
        account.statement(limit)
    }

    /// What a tenant used, and may still spend.
    #[must_use]
    pub fn tenant(&self, tenant: &TenantId) -> Statement {
        let day = self.now().0;
        let account = self.totals().tenant(tenant, day);
        account.statement(self.shared.limits.tenant_day)
    }

    /// What at most `most` tenants used whose names come after one, by name.
    #[must_use]
    pub fn tenants_after(
        &self,
        after: Option<&TenantId>,
        most: usize,
    ) -> Vec<(TenantId, Statement)> {
        let (day, limit) = (self.now().0, self.shared.limits.tenant_day);
        self.totals().tenants_after(after, most, limit, day)
    }

    /// What at most `most` users of a tenant used whose names come after one, by name.
    #[must_use]
    pub fn users_after(
        &self,
        tenant: &TenantId,
        after: Option<&UserId>,
        most: usize,
    ) -> Vec<(UserId, Statement)> {
        let (day, users) = (self.now().0, self.users());
        let limit = |user: &UserId| users.of(tenant, user);
        self.totals().users_after(tenant, after, most, limit, day)
    }

    /// What everybody used today and this month: what is to be kept over a restart.
    #[must_use]
    pub fn book(&self) -> Book {
        let day = self.now().0;
        Book {
            day,
            entries: self.totals().entries(day),
        }
    }

    /// Takes over what [`book`](Self::book) said before a restart; of another day only the
    /// month counts, of another month nothing.
    pub fn restore(&self, book: Book) {
        let today = self.now().0;
        if month_of(book.day) != month_of(today) {
            return;
        }
        let mut totals = self.totals();
        totals.all(today);
        for mut entry in book.entries {
            if book.day != today {
                entry.today = Used::default();
            }
            totals.restore(entry);
        }
    }

    /// What a session spent, as long as it is remembered.
    #[must_use]
    pub fn session(&self, tenant: &TenantId, session: &SessionId) -> PicoUsd {
        self.totals().of_session(tenant, session)
    }

    /// What a request cost so far, all its calls together; `None` when it made none or
    /// is long ago.
    #[must_use]
    pub fn request(&self, request: &RequestId) -> Option<PicoUsd> {
        self.totals().of_request(request)
    }

    /// Poison is ignored: every change of the totals is complete.
    fn totals(&self) -> MutexGuard<'_, Totals> {
        let totals = &self.shared.totals;
        totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The day, and how much of it is left.
    fn now(&self) -> (u64, Duration) {
        let (wall, at) = self.shared.clock;
        let since = (wall + at.elapsed())
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let seconds = since.as_secs();
        let left = DAY.as_secs() - seconds % DAY.as_secs();
        (seconds / DAY.as_secs(), Duration::from_secs(left))
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("today", &self.today())
            .finish_non_exhaustive()
    }
}

/// Money set aside for one call. Dropping it charges what was last [noted](Self::note),
/// nothing at first.
#[derive(Debug)]
#[must_use = "dropping a hold ends it with the cost that was last noted"]
pub struct Hold {
    ledger: Ledger,
    payer: Payer,
    amount: PicoUsd,
    usage: Usage,
    cost: Option<PicoUsd>,
}

impl Hold {
    /// Notes what the call has used so far, as far as it is known.
    pub fn count(&mut self, usage: Usage) {
        self.usage = usage;
    }

    /// Notes what the call has cost so far, as far as it is known.
    pub fn note(&mut self, cost: PicoUsd) {
        self.cost = Some(cost);
    }

    /// Ends it with what the call cost.
    pub fn settle(mut self, cost: PicoUsd) {
        self.cost = Some(cost);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let Some(cost) = self.cost.take() else { return };
        let day = self.ledger.now().0;
        let mut totals = self.ledger.totals();
        let (before, after) = totals.settle(&self.payer, self.amount, cost, &self.usage, day);
        let today = totals.all(day).today.spent;
        drop(totals);
        metrics::spent_today(today.dollars());
        let alert = self.ledger.shared.alert;
        if before < alert && after >= alert {
            metrics::costly_request(&self.payer.request, &self.payer.tenant, after);
        }
    }
}
