//! The suite of `lyceum-memory` on a real file, clear and sealed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use lyceum_memory::{
    JobStore, ManualClock, MemoryStore, SessionArchive, SessionStore, Timestamp,
    conformance::{Subject, verify, verify_checks, verify_vectors},
};
use lyceum_store_sqlite::{Encryption, SqliteOptions, SqliteStore, Unsealed};
use lyceum_vault::Masters;

struct OnDisk(SqliteStore, Arc<ManualClock>);

#[async_trait]
impl Subject for OnDisk {
    fn sessions(&self) -> &dyn SessionStore {
        &self.0
    }
    fn memories(&self) -> &dyn MemoryStore {
        &self.0
    }
    fn archive(&self) -> &dyn SessionArchive {
        &self.0
    }
    fn jobs(&self) -> &dyn JobStore {
        &self.0
    }
    async fn advance(&self, by: Duration) {
        self.1.advance(by);
    }
}

async fn conforms(encryption: Option<Encryption>) {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(Timestamp(1_700_000_000_000)));
    for _ in 0..2 {
        let options = SqliteOptions {
            clock: clock.clone(),
            encryption: encryption.clone(),
            ..SqliteOptions::default()
        };
        let store = SqliteStore::open(directory.path().join("l.db"), options).unwrap();
        let subject = OnDisk(store, clock.clone());
        verify(&subject).await.unwrap();
        verify_vectors(&subject.0, &subject.0).await.unwrap();
        verify_checks(&subject, &subject.0, Some(&subject.0))
            .await
            .unwrap();
        subject.0.close().await;
    }
}

#[tokio::test]
async fn a_file_conforms_when_new_and_when_reopened() {
    conforms(None).await;
}

#[tokio::test]
async fn so_does_a_sealed_one() {
    conforms(Some(Encryption {
        masters: Masters::new(&[7; 32]),
        unsealed: Unsealed::Refuse,
    }))
    .await;
}
