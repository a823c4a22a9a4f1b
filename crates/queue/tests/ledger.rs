//! The reference ledger keeps the rules of the port.
#![cfg(feature = "conformance")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use lyceum_queue::{
    LedgerTerms, LocalLedger, QuotaLedger,
    conformance::{self, Subject},
};

#[derive(Default)]
struct Local {
    opened: Mutex<Vec<Arc<LocalLedger>>>,
}

#[async_trait]
impl Subject for Local {
    async fn open(&self, terms: LedgerTerms) -> Arc<dyn QuotaLedger> {
        let ledger = Arc::new(LocalLedger::new(terms));
        self.opened.lock().unwrap().push(Arc::clone(&ledger));
        ledger
    }

    async fn forget(&self, _: &dyn QuotaLedger) {
        self.opened.lock().unwrap().last().unwrap().forget();
    }
}

#[tokio::test(start_paused = true)]
async fn the_reference_conforms() {
    if let Err(violation) = conformance::check(&Local::default()).await {
        panic!("{violation}");
    }
}
