//! One budget for all repeated calls to one provider, whoever repeats them.
//!
//! Calls that [`Retrying`](crate::Retrying) makes again need a balance. Calls that the
//! provider refused for its rate and that [`Queued`](crate::Queued) takes back were promised
//! their turn, so they may run into a small debt, which new calls work off; beyond it they
//! wait. Invariant: of any number of calls no more are made again than the share, the debt
//! and one every ten seconds.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lyceum_core::CallContext;
use lyceum_queue::RetryBudget;
use tokio::time::Instant;

use crate::retrying::patience;

/// How many refused calls may be taken back without a balance: those that were under way
/// together before the first refusal was known.
const DEBT: u32 = 50;

/// A share of calls that may be made again. Clones are the same budget.
#[derive(Debug, Clone, Default)]
pub struct SharedRetryBudget(Arc<Mutex<RetryBudget>>);

impl SharedRetryBudget {
    /// Lets repeated calls be this share of all calls, 0 to 1.
    #[must_use]
    pub fn new(ratio: f64) -> Self {
        Self(Arc::new(Mutex::new(RetryBudget::new(ratio))))
    }

    pub(crate) fn deposit(&self) {
        self.with(RetryBudget::deposit);
    }

    pub(crate) fn withdraw(&self) -> bool {
        self.with(RetryBudget::withdraw)
    }

    /// Waits until a refused call may be taken back; `false` when its caller would not.
    pub(crate) async fn borrow(&self, call: &CallContext) -> bool {
        while let Some(wait) = self.with(|budget, now| budget.borrow(now, DEBT)) {
            // Others may come first, so what is left is asked anew each time.
            if wait >= patience(call) {
                return false;
            }
            tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
        }
        true
    }

    /// Poison is ignored: every change of the budget is complete.
    fn with<T>(&self, change: impl FnOnce(&mut RetryBudget, std::time::Instant) -> T) -> T {
        let mut budget = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut budget, Instant::now().into_std())
    }
}
