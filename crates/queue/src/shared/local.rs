//! The reference ledger, inside one process, on tokio's clock.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use tokio::time::Instant;

use super::{
    Claim, Join, LedgerError, LedgerTerms, Note, QuotaLedger, ReplicaId, Standing, Verdict,
    book::Book,
};
use crate::driver::nanos;

/// A ledger for queues of one process, and the reference for all others.
#[derive(Debug)]
pub struct LocalLedger {
    terms: LedgerTerms,
    origin: Instant,
    book: Mutex<(u64, Book)>,
}

impl LocalLedger {
    /// An empty ledger.
    #[must_use]
    pub fn new(terms: LedgerTerms) -> Self {
        Self {
            terms,
            origin: Instant::now(),
            book: Mutex::new((1, Book::new(terms, 1, 0))),
        }
    }

    /// Loses everything, as a server that is emptied does.
    pub fn forget(&self) {
        let now = self.now();
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let epoch = book.0 + 1;
        *book = (epoch, Book::new(self.terms, epoch, now));
    }

    fn now(&self) -> u64 {
        nanos(self.origin.elapsed())
    }

    fn with<T>(&self, act: impl FnOnce(&mut Book, u64) -> T) -> T {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut book.1, self.now())
    }
}

#[async_trait]
impl QuotaLedger for LocalLedger {
    fn terms(&self) -> LedgerTerms {
        self.terms
    }

    async fn reserve(&self, claim: &Claim) -> Result<Verdict, LedgerError> {
        Ok(self.with(|book, now| book.reserve(claim, now)))
    }

    async fn tell(&self, note: &Note) -> Result<(), LedgerError> {
        self.with(|book, now| book.tell(note, now));
        Ok(())
    }

    async fn beat(&self, replica: ReplicaId) -> Result<Option<Standing>, LedgerError> {
        Ok(self.with(|book, now| book.beat(replica, now)))
    }

    async fn join(&self, join: &Join) -> Result<Standing, LedgerError> {
        Ok(self.with(|book, now| book.join(join, now)))
    }
}
