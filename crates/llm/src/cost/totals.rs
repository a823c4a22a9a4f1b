//! Who used and spent what, today, this month and in each session, and whether more may be
//! spent.
//!
//! Pure: callers pass the day. Invariant: `spent + held` of an account never exceeds its
//! budget through a reservation; every hold is taken back exactly once.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::Hash,
    ops::Bound,
};

use hashlink::LruCache;
use lyceum_core::{RequestId, SessionId, TenantId, Usage, UserId};

use super::{
    PicoUsd,
    used::{Entry, Statement, Used, month_of},
};

/// How many sessions and requests are remembered. The oldest is forgotten first; a
/// session that is forgotten starts with its whole budget again.
const SESSIONS: usize = 100_000;
const REQUESTS: usize = 20_000;

/// How many users are remembered; who was active longest ago is forgotten first.
const USERS: usize = 100_000;

/// Money of one session spent, and set aside for calls under way.
#[derive(Debug, Clone, Copy, Default)]
struct Purse {
    spent: PicoUsd,
    held: PicoUsd,
}

/// What somebody uses, day by day.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Account {
    pub(super) today: Used,
    month: Used,
    pub(super) held: PicoUsd,
}

impl Account {
    fn purse(&self) -> Purse {
        Purse {
            spent: self.today.spent,
            held: self.held,
        }
    }

    /// Begins a new day, and a new month where it is in one.
    fn turn(&mut self, new_month: bool) {
        self.today = Used::default();
        if new_month {
            self.month = Used::default();
        }
    }

    fn add(&mut self, used: &Used) {
        self.today += *used;
        self.month += *used;
    }

    fn is_blank(&self) -> bool {
        self.month == Used::default() && self.held == PicoUsd::default()
    }

    /// What is told of it.
    pub(super) fn statement(&self, day_limit: Option<PicoUsd>) -> Statement {
        Statement {
            today: self.today,
            month: self.month,
            held: self.held,
            day_limit,
        }
    }
}

/// The budgets, in the unit of the sums.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    pub(super) day: Option<PicoUsd>,
    pub(super) tenant_day: Option<PicoUsd>,
    pub(super) user_day: Option<PicoUsd>,
    pub(super) session: Option<PicoUsd>,
}

/// Why a reservation was refused. A refusal sets nothing aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Short {
    pub(super) budget: &'static str,
    pub(super) left: PicoUsd,
    pub(super) until: Until,
}

/// When a refused call may be paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// When calls under way have cost less than was set aside for them.
    Settled,
    /// When the day is over.
    Tomorrow,
    Never,
}

/// Whose call is paid.
#[derive(Debug, Clone)]
pub(super) struct Payer {
    pub(super) tenant: TenantId,
    pub(super) user: UserId,
    pub(super) session: Option<SessionId>,
    pub(super) request: RequestId,
}

#[derive(Debug)]
pub(super) struct Totals {
    day: u64,
    all: Account,
    tenants: BTreeMap<TenantId, Account>,
    users: LruCache<(TenantId, UserId), Account>,
    sessions: Recent<(TenantId, SessionId), Purse>,
    requests: Recent<RequestId, PicoUsd>,
}

impl Totals {
    pub(super) fn new(day: u64) -> Self {
        Self {
            day,
            all: Account::default(),
            tenants: BTreeMap::new(),
            users: LruCache::new(USERS),
            sessions: Recent::new(SESSIONS),
            requests: Recent::new(REQUESTS),
        }
    }

    /// Begins a new day. What is set aside stays: it will be spent today.
    fn roll(&mut self, day: u64) {
        if day <= self.day {
            return;
        }
        let new_month = month_of(day) != month_of(self.day);
        self.day = day;
        self.all.turn(new_month);
        self.tenants.retain(|_, account| {
            account.turn(new_month);
            !account.is_blank()
        });
        let mut blank = Vec::new();
        for (user, account) in &mut self.users {
            account.turn(new_month);
            if account.is_blank() {
                blank.push(user.clone());
            }
        }
        for user in blank {
            self.users.remove(&user);
        }
    }

    pub(super) fn reserve(
        &mut self,
        payer: &Payer,
        amount: PicoUsd,
        limits: &Limits,
        day: u64,
    ) -> Result<(), Short> {
        self.roll(day);
        let session = self.session(payer);
        let tenant = self.tenants.get(&payer.tenant).copied().unwrap_or_default();
        let user = self.users.peek(&payer.owner()).copied().unwrap_or_default();
        for (budget, purse, limit, until) in [
            ("session", session, limits.session, Until::Never),
            ("user_day", user.purse(), limits.user_day, Until::Tomorrow),
            (
                "tenant_day",
                tenant.purse(),
                limits.tenant_day,
                Until::Tomorrow,
            ),
            ("day", self.all.purse(), limits.day, Until::Tomorrow),
        ] {
            let Some(limit) = limit else { continue };
            let left = limit - purse.spent - purse.held;
            if amount > left {
                let settled = purse.held > PicoUsd::default() && amount <= limit - purse.spent;
                let until = if settled { Until::Settled } else { until };
                return Err(Short {
                    budget,
                    left,
                    until,
                });
            }
        }
        self.each(payer, |account| account.held += amount);
        if let Some(purse) = self.purse(payer) {
            purse.held += amount;
        }
        Ok(())
    }

    /// Ends a reservation of `amount` with what the call cost and used; returns what its
    /// request cost before and after.
    pub(super) fn settle(
        &mut self,
        payer: &Payer,
        amount: PicoUsd,
        cost: PicoUsd,
        usage: &Usage,
        day: u64,
    ) -> (PicoUsd, PicoUsd) {
        self.roll(day);
        let used = Used::of_call(usage, cost);
        self.each(payer, |account| {
            account.held = account.held - amount;
            account.add(&used);
        });
        if let Some(purse) = self.purse(payer) {
            purse.held = purse.held - amount;
            purse.spent += cost;
        }
        let sum = self.requests.entry(payer.request.clone());
        let before = *sum;
        *sum += cost;
        (before, *sum)
    }

    /// Counts a request of a client.
    pub(super) fn asked(&mut self, tenant: &TenantId, user: &UserId, day: u64) {
        self.roll(day);
        let used = Used {
            requests: 1,
            ..Used::default()
        };
        self.all.add(&used);
        self.tenant_entry(tenant).add(&used);
        self.user_entry((tenant.clone(), user.clone())).add(&used);
    }

    fn each(&mut self, payer: &Payer, change: impl Fn(&mut Account)) {
        change(&mut self.all);
        change(self.tenant_entry(&payer.tenant));
        change(self.user_entry(payer.owner()));
    }

    fn tenant_entry(&mut self, tenant: &TenantId) -> &mut Account {
        self.tenants.entry(tenant.clone()).or_default()
    }

    fn user_entry(&mut self, owner: (TenantId, UserId)) -> &mut Account {
        self.users.entry(owner).or_insert_with(Account::default)
    }

    fn purse(&mut self, payer: &Payer) -> Option<&mut Purse> {
        let session = payer.session.clone()?;
        Some(self.sessions.entry((payer.tenant.clone(), session)))
    }

    fn session(&self, payer: &Payer) -> Purse {
        let key = payer
            .session
            .clone()
            .map(|session| (payer.tenant.clone(), session));
        let purse = key.and_then(|key| self.sessions.get(&key).copied());
        purse.unwrap_or_default()
    }

    pub(super) fn all(&mut self, day: u64) -> Account {
        self.roll(day);
        self.all
    }

    pub(super) fn tenant(&mut self, tenant: &TenantId, day: u64) -> Account {
        self.roll(day);
        self.tenants.get(tenant).copied().unwrap_or_default()
    }

    pub(super) fn user(&mut self, tenant: &TenantId, user: &UserId, day: u64) -> Account {
        self.roll(day);
        let owner = (tenant.clone(), user.clone());
        self.users.peek(&owner).copied().unwrap_or_default()
    }

    /// The statements of tenants, by name.
    pub(super) fn tenants_after(
        &mut self,
        after: Option<&TenantId>,
        most: usize,
        limit: Option<PicoUsd>,
        day: u64,
    ) -> Vec<(TenantId, Statement)> {
        self.roll(day);
        let from = after.map_or(Bound::Unbounded, |name| Bound::Excluded(name.clone()));
        self.tenants
            .range((from, Bound::Unbounded))
            .take(most)
            .map(|(tenant, account)| (tenant.clone(), account.statement(limit)))
            .collect()
    }

    /// The statements of a tenant's users, by name.
    pub(super) fn users_after(
        &mut self,
        tenant: &TenantId,
        after: Option<&UserId>,
        most: usize,
        limit: impl Fn(&UserId) -> Option<PicoUsd>,
        day: u64,
    ) -> Vec<(UserId, Statement)> {
        self.roll(day);
        let mut users: Vec<_> = self
            .users
            .iter()
            .filter(|((of, user), _)| of == tenant && after.is_none_or(|name| user > name))
            .map(|((_, user), account)| (user.clone(), *account))
            .collect();
        users.sort_by(|one, other| one.0.cmp(&other.0));
        users.truncate(most);
        users
            .into_iter()
            .map(|(user, account)| {
                let limit = limit(&user);
                (user, account.statement(limit))
            })
            .collect()
    }

    /// All that is to be kept over a restart: tenants with `user: None`, then users.
    pub(super) fn entries(&mut self, day: u64) -> Vec<Entry> {
        self.roll(day);
        let entry = |tenant: &TenantId, user: Option<&UserId>, account: &Account| Entry {
            tenant: tenant.clone(),
            user: user.cloned(),
            today: account.today,
            month: account.month,
        };
        let tenants = self.tenants.iter();
        let users = self.users.iter();
        tenants
            .map(|(tenant, account)| entry(tenant, None, account))
            .chain(users.map(|((tenant, user), account)| entry(tenant, Some(user), account)))
            .collect()
    }

    /// Adds what was used before this process began.
    pub(super) fn restore(&mut self, entry: Entry) {
        let account = match entry.user {
            None => {
                self.all.today += entry.today;
                self.all.month += entry.month;
                self.tenants.entry(entry.tenant).or_default()
            }
            Some(user) => self.user_entry((entry.tenant, user)),
        };
        account.today += entry.today;
        account.month += entry.month;
    }

    pub(super) fn of_session(&self, tenant: &TenantId, session: &SessionId) -> PicoUsd {
        let key = (tenant.clone(), session.clone());
        self.sessions
            .get(&key)
            .map_or_else(PicoUsd::default, |purse| purse.spent)
    }

    pub(super) fn of_request(&self, request: &RequestId) -> Option<PicoUsd> {
        self.requests.get(request).copied()
    }
}

impl Payer {
    fn owner(&self) -> (TenantId, UserId) {
        (self.tenant.clone(), self.user.clone())
    }
}

/// A map of the keys that came last.
#[derive(Debug)]
struct Recent<K, V> {
    capacity: usize,
    entries: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K: Clone + Eq + Hash, V: Default> Recent<K, V> {
    fn new(capacity: usize) -> Self {
        Self {
            capacity,
            entries: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }

    fn entry(&mut self, key: K) -> &mut V {
        if !self.entries.contains_key(&key) {
            if self.order.len() >= self.capacity
                && let Some(oldest) = self.order.pop_front()
            {
                self.entries.remove(&oldest);
            }
            self.order.push_back(key.clone());
        }
        self.entries.entry(key).or_default()
    }
}

#[cfg(test)]
mod tests;
