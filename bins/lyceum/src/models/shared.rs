//! The ledger through which processes share a provider's quota.
//!
//! Its name holds a digest of the address and the key, because that is what the provider
//! counts by; neither can be read from it.

use std::{fmt::Write as _, sync::Arc};

use anyhow::{Context, Result};
use lyceum_queue::{LedgerTerms, QuotaLedger, SharedConfig};
use lyceum_store_redis::{RedisLedger, RedisServer};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};

use crate::{config::Config, provider::Hosted};

/// A ledger and how to behave towards it.
pub(super) struct Ledger {
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
    let ledger = RedisLedger::new(server, &name, LedgerTerms::default());
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
