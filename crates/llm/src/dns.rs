//! A cache of name look-ups, so that a busy provider is not looked up for every connection.
//!
//! Invariant: an answer is used for at most [`LIFETIME`], and dropped at once when no
//! connection to it succeeds. Deliberately absent: a resolver; the system's is used.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::time::Instant;

/// How long a look-up is believed: 300 s.
pub(crate) const LIFETIME: Duration = Duration::from_secs(300);

/// More names than one provider's client ever needs; redirects are not followed.
const MAX_NAMES: usize = 16;

/// A [`Resolve`] over the system's resolver. Clones share the cache.
#[derive(Debug, Clone, Default)]
pub(crate) struct CachedResolver {
    known: Arc<Mutex<HashMap<String, Known>>>,
}

#[derive(Debug, Clone)]
struct Known {
    addresses: Arc<[SocketAddr]>,
    since: Instant,
}

impl CachedResolver {
    /// Drops an answer that led nowhere.
    pub(crate) fn forget(&self, host: &str) {
        self.lock().remove(host);
    }

    fn fresh(&self, host: &str) -> Option<Arc<[SocketAddr]>> {
        let known = self.lock();
        let known = known.get(host)?;
        (known.since.elapsed() < LIFETIME).then(|| Arc::clone(&known.addresses))
    }

    fn remember(&self, host: &str, addresses: Arc<[SocketAddr]>) {
        let mut known = self.lock();
        if known.len() >= MAX_NAMES {
            known.clear();
        }
        let since = Instant::now();
        known.insert(host.to_owned(), Known { addresses, since });
    }

    /// Poison is ignored: the map is never left half-changed.
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resolve for CachedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let cache = self.clone();
        Box::pin(async move {
            let host = name.as_str();
            let addresses = match cache.fresh(host) {
                Some(addresses) => addresses,
                None => {
                    let found: Arc<[SocketAddr]> =
                        tokio::net::lookup_host((host, 0)).await?.collect();
                    cache.remember(host, Arc::clone(&found));
                    found
                }
            };
            let addresses = addresses.to_vec();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_kept_for_its_lifetime_or_until_it_fails() {
        let cache = CachedResolver::default();
        let address: Arc<[SocketAddr]> = Arc::new(["192.0.2.1:0".parse().unwrap()]);
        cache.remember("provider.test", Arc::clone(&address));
        let known: Vec<_> = cache
            .resolve("provider.test".parse().unwrap())
            .await
            .unwrap()
            .collect();
        assert_eq!(known, address.to_vec());

        tokio::time::advance(LIFETIME).await;
        assert_eq!(cache.fresh("provider.test"), None);

        cache.remember("provider.test", address);
        cache.forget("provider.test");
        assert_eq!(cache.fresh("provider.test"), None);
    }

    #[test]
    fn the_cache_is_bounded() {
        let cache = CachedResolver::default();
        for n in 0..100 {
            cache.remember(&format!("host{n}"), Arc::new([]));
        }
        assert!(cache.lock().len() <= MAX_NAMES);
    }
}
