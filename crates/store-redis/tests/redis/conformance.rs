//! The ledger in a real Redis server keeps the rules of the port.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use lyceum_queue::{
    LedgerTerms, QuotaLedger,
    conformance::{self, Subject},
};
use lyceum_store_redis::RedisLedger;

use crate::support::Redis;

struct Real {
    redis: Redis,
    opened: AtomicU32,
}

#[async_trait]
impl Subject for Real {
    async fn open(&self, terms: LedgerTerms) -> Arc<dyn QuotaLedger> {
        let name = format!("test {}", self.opened.fetch_add(1, Ordering::Relaxed));
        Arc::new(RedisLedger::new(self.redis.server(), &name, terms))
    }

    async fn forget(&self, _: &dyn QuotaLedger) {
        assert!(self.redis.command("FLUSHALL").starts_with("+OK"));
    }
}

#[tokio::test]
async fn the_ledger_in_redis_conforms() {
    let subject = Real {
        redis: Redis::start(),
        opened: AtomicU32::new(0),
    };
    if let Err(violation) = conformance::check(&subject).await {
        panic!("{violation}");
    }
}
