//! Who spent what, today and in each session, and whether more may be spent.
//!
//! Pure: callers pass the day. Invariant: `spent + held` of an account never exceeds its
//! budget through a reservation; every hold is taken back exactly once.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

use lyceum_core::{RequestId, SessionId, TenantId};

use super::PicoUsd;

/// How many sessions and requests are remembered. The oldest is forgotten first; a
/// session that is forgotten starts with its whole budget again.
const SESSIONS: usize = 100_000;
const REQUESTS: usize = 20_000;

/// Money spent, and money set aside for calls under way.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Account {
    pub(super) spent: PicoUsd,
    pub(super) held: PicoUsd,
}

impl Account {
    fn left(&self, budget: PicoUsd) -> PicoUsd {
        budget - self.spent - self.held
    }
}

/// The budgets, in the unit of the sums.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    pub(super) day: Option<PicoUsd>,
    pub(super) tenant_day: Option<PicoUsd>,
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
    pub(super) session: Option<SessionId>,
    pub(super) request: RequestId,
}

#[derive(Debug)]
pub(super) struct Totals {
    day: u64,
    all: Account,
    tenants: HashMap<TenantId, Account>,
    sessions: Recent<(TenantId, SessionId), Account>,
    requests: Recent<RequestId, PicoUsd>,
}

impl Totals {
    pub(super) fn new(day: u64) -> Self {
        Self {
            day,
            all: Account::default(),
            tenants: HashMap::new(),
            sessions: Recent::new(SESSIONS),
            requests: Recent::new(REQUESTS),
        }
    }

    /// Begins a new day. What is set aside stays: it will be spent today.
    fn roll(&mut self, day: u64) {
        if day <= self.day {
            return;
        }
        self.day = day;
        self.all.spent = PicoUsd::default();
        self.tenants.retain(|_, account| {
            account.spent = PicoUsd::default();
            account.held > PicoUsd::default()
        });
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
        for (budget, account, limit, until) in [
            ("session", session, limits.session, Until::Never),
            ("tenant_day", tenant, limits.tenant_day, Until::Tomorrow),
            ("day", self.all, limits.day, Until::Tomorrow),
        ] {
            let Some(limit) = limit else { continue };
            let left = account.left(limit);
            if amount > left {
                let settled = account.held > PicoUsd::default() && amount <= limit - account.spent;
                let until = if settled { Until::Settled } else { until };
                return Err(Short {
                    budget,
                    left,
                    until,
                });
            }
        }
        self.each(payer, |account| account.held += amount);
        Ok(())
    }

    /// Ends a reservation of `amount` with what the call cost; returns what its request
    /// cost before and after.
    pub(super) fn settle(
        &mut self,
        payer: &Payer,
        amount: PicoUsd,
        cost: PicoUsd,
        day: u64,
    ) -> (PicoUsd, PicoUsd) {
        self.roll(day);
        self.each(payer, |account| {
            account.held = account.held - amount;
            account.spent += cost;
        });
        let sum = self.requests.entry(payer.request.clone());
        let before = *sum;
        *sum += cost;
        (before, *sum)
    }

    fn each(&mut self, payer: &Payer, change: impl Fn(&mut Account)) {
        change(&mut self.all);
        change(self.tenants.entry(payer.tenant.clone()).or_default());
        if let Some(session) = &payer.session {
            let key = (payer.tenant.clone(), session.clone());
            change(self.sessions.entry(key));
        }
    }

    fn session(&self, payer: &Payer) -> Account {
        let key = payer
            .session
            .clone()
            .map(|session| (payer.tenant.clone(), session));
        let account = key.and_then(|key| self.sessions.get(&key).copied());
        account.unwrap_or_default()
    }

    pub(super) fn all(&mut self, day: u64) -> Account {
        self.roll(day);
        self.all
    }

    pub(super) fn tenant(&mut self, tenant: &TenantId, day: u64) -> Account {
        self.roll(day);
        self.tenants.get(tenant).copied().unwrap_or_default()
    }

    pub(super) fn tenants(&mut self, day: u64) -> Vec<(TenantId, PicoUsd)> {
        self.roll(day);
        let mut tenants: Vec<_> = self
            .tenants
            .iter()
            .map(|(tenant, account)| (tenant.clone(), account.spent))
            .collect();
        tenants.sort_by(|a, b| a.0.cmp(&b.0));
        tenants
    }

    /// Adds what was spent on a day before this process began.
    pub(super) fn restore(&mut self, tenant: TenantId, spent: PicoUsd) {
        self.all.spent += spent;
        self.tenants.entry(tenant).or_default().spent += spent;
    }

    pub(super) fn of_session(&self, tenant: &TenantId, session: &SessionId) -> PicoUsd {
        let key = (tenant.clone(), session.clone());
        self.sessions
            .get(&key)
            .map_or_else(PicoUsd::default, |account| account.spent)
    }

    pub(super) fn of_request(&self, request: &RequestId) -> Option<PicoUsd> {
        self.requests.get(request).copied()
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
mod tests {
    use super::*;
    use lyceum_core::Scope;

    fn payer() -> Payer {
        let session = SessionId::random();
        Payer {
            tenant: Scope::local().tenant,
            session: Some(session),
            request: RequestId::random(),
        }
    }

    const LIMITS: Limits = Limits {
        day: None,
        tenant_day: Some(PicoUsd(100)),
        session: Some(PicoUsd(60)),
    };

    #[test]
    fn what_is_set_aside_counts_until_it_is_settled() {
        let mut totals = Totals::new(1);
        let (a, b) = (payer(), payer());
        totals.reserve(&a, PicoUsd(50), &LIMITS, 1).unwrap();
        let short = totals.reserve(&a, PicoUsd(20), &LIMITS, 1).unwrap_err();
        assert_eq!((short.budget, short.left), ("session", PicoUsd(10)));
        assert_eq!(short.until, Until::Settled);
        totals.reserve(&b, PicoUsd(50), &LIMITS, 1).unwrap();
        assert!(totals.reserve(&payer(), PicoUsd(1), &LIMITS, 1).is_err());
        assert_eq!(
            totals.settle(&a, PicoUsd(50), PicoUsd(10), 1).1,
            PicoUsd(10)
        );
        totals.reserve(&a, PicoUsd(40), &LIMITS, 1).unwrap();
    }

    #[test]
    fn a_new_day_brings_the_days_budgets_back_but_not_the_sessions() {
        let mut totals = Totals::new(1);
        let a = payer();
        totals.reserve(&a, PicoUsd(60), &LIMITS, 1).unwrap();
        totals.settle(&a, PicoUsd(60), PicoUsd(60), 1);
        let short = totals.reserve(&a, PicoUsd(1), &LIMITS, 2).unwrap_err();
        assert_eq!((short.budget, short.until), ("session", Until::Never));
        assert_eq!(totals.all(2).spent, PicoUsd(0));
        assert_eq!(
            totals.of_session(&a.tenant, a.session.as_ref().unwrap()),
            PicoUsd(60)
        );

        let b = payer();
        totals.reserve(&b, PicoUsd(50), &LIMITS, 2).unwrap();
        totals.settle(&b, PicoUsd(50), PicoUsd(50), 2);
        let c = payer();
        let short = totals.reserve(&c, PicoUsd(51), &LIMITS, 2).unwrap_err();
        assert_eq!((short.budget, short.until), ("tenant_day", Until::Tomorrow));
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut recent: Recent<u32, u32> = Recent::new(2);
        for key in [1, 2, 1, 3] {
            *recent.entry(key) += 1;
        }
        assert_eq!(recent.get(&1), None);
        assert_eq!(recent.get(&2), Some(&1));
    }
}
