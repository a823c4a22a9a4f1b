//! What processes share through Redis: the ledger of a provider's quota, and answers.
//!
//! The ledger's name holds a digest of the address and the key, because that is what the provider
//! counts by; neither can be read from it.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use lyceum_cache::{Cache, Namespace};
use lyceum_llm::{AnswerStore, InMemoryAnswers, TieredAnswers};
use lyceum_queue::{QuotaLedger, SharedConfig};
use lyceum_store_redis::{RedisLedger, RedisServer, RedisTier};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};

use crate::{config::Config, provider::Hosted};

/// How long one operation of the shared cache may take. The cache waits for less.
const CACHE_TIMEOUT: Duration = Duration::from_millis(100);
/// Connections for look-ups in the shared cache.
const CACHE_CONNECTIONS: usize = 2;

/// Where answers are kept: in this process, and in Redis too where that is shared.
pub(super) fn answers(config: &Config) -> Result<Arc<dyn AnswerStore>> {
    let max_bytes = config.cache.max_mib << 20;
    let (true, Some(url)) = (config.cache.shared, &config.redis.url) else {
        return Ok(Arc::new(InMemoryAnswers::new(max_bytes)));
    };
    let server = RedisServer::new(url, CACHE_TIMEOUT).context("redis.url")?;
    let tier = RedisTier::new(&server, "lyceum:cache", CACHE_CONNECTIONS)?;
    let limits = TieredAnswers::config(max_bytes as u64);
    let cache = Cache::with_shared(Namespace::ANSWER, limits, Arc::new(tier))?;
    Ok(Arc::new(TieredAnswers::new(cache)))
}

/// A ledger and how to behave towards it.
pub(crate) struct Ledger {
    pub(super) ledger: Arc<dyn QuotaLedger>,
    pub(super) sharing: SharedConfig,
}

/// The ledger of a way to a model, where quotas are shared.
pub(super) fn ledger(model: &Hosted, at: usize, config: &Config) -> Result<Option<Ledger>> {
    let (Some(_), Some(url)) = (config.queue.shared, &config.redis.url) else {
        return Ok(None);
    };
    let sharing = SharedConfig {
        replicas: config.queue.shared_replicas,
        ..SharedConfig::default()
    };
    let server = RedisServer::new(url, sharing.timeout).context("redis.url")?;
    let name = name(model, at);
    let ledger = RedisLedger::new(server, &name, config.queue.terms());
    Ok(Some(Ledger {
        ledger: Arc::new(ledger),
        sharing,
    }))
}

fn name(model: &Hosted, at: usize) -> String {
    let mut hash = Sha256::new();
    hash.update(model.address(at));
    hash.update([0]);
    if let Some(key) = model.ways.get(at).and_then(|way| way.key.as_ref()) {
        hash.update(key.expose_secret());
    }
    let mut name = format!("{}/{}:", model.preset.name, model.model);
    for byte in &hash.finalize()[..8] {
        let _ = write!(name, "{byte:02x}");
    }
    name
}
