//! `lyceum memory encrypt` and `rotate-key`: new keys for what is stored.
//!
//! Invariant: an old key goes only after everything that it sealed was sealed anew, knowledge of
//! conversations included; cut off anywhere, the next run goes on. Deliberately absent: making
//! master keys, which are the operator's.

use std::sync::Arc;

use anyhow::{Result, bail};
use lyceum_agents::reseal_knowledge;
use lyceum_memory::{Progress, StoreKeys};

use crate::{banner, store::Store, upkeep};

/// How often progress is told, in rows.
const TOLD: u64 = 10_000;

/// Encrypts a store that was in the clear.
///
/// # Errors
///
/// When no key is configured, or the store fails.
pub(crate) async fn encrypt(store: &Store) -> Result<()> {
    let keys = keys(store)?;
    let state = keys.key_state().await?;
    if state.unsealed == 0 {
        // A run that was cut off at its very end has left clear pages.
        for check in store.checks() {
            check.forget_deleted().await?;
        }
        return banner::say("All is encrypted already.");
    }
    change(store, &keys).await?;
    banner::say(&format!(
        "Encrypted what is stored of {} tenants.",
        state.unsealed
    ))
}

/// Changes the keys of all tenants, or only what wraps them.
///
/// # Errors
///
/// When no key is configured, or the store fails.
pub(crate) async fn rotate(store: &Store, wrap_only: bool) -> Result<()> {
    let keys = keys(store)?;
    let wrapped = keys.wrap_keys().await?;
    banner::say(&format!(
        "Wrapped {wrapped} keys with the newest master key."
    ))?;
    if wrap_only {
        return Ok(());
    }
    change(store, &keys).await
}

fn keys(store: &Store) -> Result<Arc<dyn StoreKeys>> {
    if !store.is_encrypting() {
        bail!("no encryption is configured: set privacy.encryption_key_file");
    }
    match store.keys() {
        Some(keys) => Ok(keys),
        None => bail!(
            "this kind of store does not encrypt, `sqlite` and `postgres` do: leave \
             privacy.encryption_key_file out, or move the data with `lyceum memory export` and `import`"
        ),
    }
}

async fn change(store: &Store, keys: &Arc<dyn StoreKeys>) -> Result<()> {
    let tenants = keys.begin_keys().await?;
    // Threads of conversations that are gone are nobody's: no key would be theirs.
    upkeep::sweep(store).await?;
    banner::say(&format!("New keys for {tenants} tenants."))?;
    let (mut progress, mut told) = (Progress::default(), 0);
    while let Some(next) = keys.reseal(progress).await? {
        progress = next;
        if progress.sealed >= told + TOLD {
            told = progress.sealed;
            banner::say(&format!("{told} rows …"))?;
        }
    }
    let mut taught = 0_u64;
    for scope in upkeep::conversations(store).await? {
        taught += u64::from(reseal_knowledge(store.savers(), &scope).await?);
    }
    let destroyed = keys.end_keys().await?;
    banner::say(&format!(
        "Sealed {} rows and what was taught in {taught} conversations anew; destroyed {destroyed} \
         old keys.",
        progress.sealed
    ))
}
