//! The shared tier of `lyceum-cache` in Redis.
//!
//! A key is `PREFIX/NAMESPACE/TENANT/TEXT`: neither a namespace nor a tenant holds a slash, so
//! no two keys run together whatever the text is. Every key has a time to live. Patterns are
//! searched with SCAN and compared here again, and nothing from a caller is ever part of a
//! command's syntax. Deliberately absent: KEYS, scripts, and Redis clusters, whose nodes SCAN
//! would have to visit one by one.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use lyceum_cache::{
    Announcements, Announcer, CacheTier, Invalidation, Key, Selection, Stored, TierError, TierStats,
};
use redis::{RedisError, cmd, pipe};

use crate::{RedisServer, listener};

/// How many keys one step of a search looks at.
const STEP: usize = 1000;

/// Why a prefix cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("begin the cache's keys with {0:?}: it takes 1 to 64 characters of a-z, A-Z, 0-9, _ - : .")]
pub struct PrefixError(String);

/// A tier in Redis. Processes that name the same prefix on the same server share it.
#[derive(Debug)]
pub struct RedisTier {
    /// Look-ups take turns on them.
    servers: Vec<RedisServer>,
    turn: AtomicUsize,
    /// What takes long has a connection of its own.
    sweeper: RedisServer,
    prefix: String,
}

impl RedisTier {
    /// A tier whose keys begin with this prefix, over a pool of so many connections (at least
    /// one) and one more for patterns. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`PrefixError`] unless the prefix is 1 to 64 characters of `a-z A-Z 0-9 _ - : .`.
    pub fn new(
        server: &RedisServer,
        prefix: &str,
        connections: usize,
    ) -> Result<Self, PrefixError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_-:.".contains(c);
        if prefix.is_empty() || prefix.len() > 64 || !prefix.chars().all(allowed) {
            return Err(PrefixError(prefix.chars().take(64).collect()));
        }
        Ok(Self {
            servers: (0..connections.max(1)).map(|_| server.apart()).collect(),
            turn: AtomicUsize::new(0),
            sweeper: server.apart(),
            prefix: prefix.to_owned(),
        })
    }

    fn server(&self) -> &RedisServer {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        &self.servers[turn % self.servers.len()]
    }

    fn name(&self, key: &Key) -> String {
        let Self { prefix, .. } = self;
        let Key {
            namespace,
            tenant,
            text,
        } = key;
        format!("{prefix}/{namespace}/{tenant}/{text}")
    }

    fn channel(&self) -> String {
        format!("{}/invalidations", self.prefix)
    }

    /// The names to search for: all that may be selected, and perhaps more.
    fn search(&self, selection: &Selection) -> String {
        let mut pattern = escaped(&self.prefix);
        pattern.push('/');
        pattern.push_str(&escaped(selection.namespace.as_str()));
        pattern.push('/');
        match &selection.tenant {
            Some(tenant) => pattern.push_str(&escaped(tenant.as_str())),
            None => pattern.push('*'),
        }
        pattern.push('/');
        let mut chars = selection.glob.as_str().chars();
        while let Some(char) = chars.next() {
            match char {
                // Redis means a byte by `?`, the pattern a character.
                '*' | '?' => pattern.push('*'),
                '\\' => push_escaped(&mut pattern, chars.next().unwrap_or('\\')),
                char => push_escaped(&mut pattern, char),
            }
        }
        pattern
    }

    /// Whether a name found is one of the selected.
    fn holds(&self, selection: &Selection, name: &[u8]) -> bool {
        let Ok(name) = std::str::from_utf8(name) else {
            return false;
        };
        let rest = name
            .strip_prefix(self.prefix.as_str())
            .and_then(|rest| rest.strip_prefix('/'))
            .and_then(|rest| rest.strip_prefix(selection.namespace.as_str()))
            .and_then(|rest| rest.strip_prefix('/'));
        let Some((tenant, text)) = rest.and_then(|rest| rest.split_once('/')) else {
            return false;
        };
        let own = selection.tenant.as_ref();
        own.is_none_or(|own| own.as_str() == tenant) && selection.glob.matches(text)
    }
}

/// A text in which Redis's patterns see nothing special.
fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    text.chars()
        .for_each(|char| push_escaped(&mut pattern, char));
    pattern
}

fn push_escaped(pattern: &mut String, char: char) {
    if matches!(char, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
        pattern.push('\\');
    }
    pattern.push(char);
}

fn failure(error: RedisError) -> TierError {
    TierError::Unavailable {
        source: Box::new(error),
    }
}

fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis())
        .unwrap_or(u64::MAX)
        .clamp(1, 1 << 45)
}

#[async_trait]
impl CacheTier for RedisTier {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, TierError> {
        let name = self.name(key);
        // Atomic: without it the time could be that of a later value.
        let mut ask = pipe();
        ask.atomic().cmd("GET").arg(&name).cmd("PTTL").arg(&name);
        let run = async |connection: &mut _| ask.query_async(connection).await;
        let (value, left): (Option<Vec<u8>>, i64) =
            self.server().run(run).await.map_err(failure)?;
        // Without a time it is not of this cache.
        let left = u64::try_from(left).ok().filter(|left| *left > 0);
        Ok(value.zip(left).map(|(value, left)| Stored {
            value,
            left: Duration::from_millis(left),
        }))
    }

    async fn set(&self, key: &Key, value: &[u8], ttl: Duration) -> Result<(), TierError> {
        let mut set = cmd("SET");
        set.arg(self.name(key))
            .arg(value)
            .arg("PX")
            .arg(millis(ttl));
        let run = async |connection: &mut _| set.query_async::<()>(connection).await;
        self.server().run(run).await.map_err(failure)
    }

    async fn delete(&self, key: &Key) -> Result<bool, TierError> {
        let mut unlink = cmd("UNLINK");
        unlink.arg(self.name(key));
        let run = async |connection: &mut _| unlink.query_async::<u64>(connection).await;
        Ok(self.server().run(run).await.map_err(failure)? > 0)
    }

    async fn delete_pattern(&self, selection: &Selection) -> Result<u64, TierError> {
        let pattern = self.search(selection);
        let (mut cursor, mut total) = ("0".to_owned(), 0);
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(&pattern);
            scan.arg("COUNT").arg(STEP);
            let run = async |connection: &mut _| scan.query_async(connection).await;
            let (next, names): (String, Vec<Vec<u8>>) =
                self.sweeper.run(run).await.map_err(failure)?;
            let mut unlink = cmd("UNLINK");
            let chosen = names.iter().filter(|name| self.holds(selection, name));
            let mut any = false;
            for name in chosen {
                unlink.arg(name);
                any = true;
            }
            if any {
                let run = async |connection: &mut _| unlink.query_async::<u64>(connection).await;
                total += self.sweeper.run(run).await.map_err(failure)?;
            }
            cursor = next;
            if cursor == "0" {
                return Ok(total);
            }
        }
    }

    async fn stats(&self) -> Result<TierStats, TierError> {
        let info = cmd("INFO");
        let run = async |connection: &mut _| info.query_async::<String>(connection).await;
        let info = self.server().run(run).await.map_err(failure)?;
        let field = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|rest| rest.strip_prefix(':'));
            number.and_then(|number| number.trim().parse().ok())
        };
        Ok(TierStats {
            size_bytes: field("used_memory").unwrap_or(0),
            max_bytes: field("maxmemory").unwrap_or(0),
            evictions: field("evicted_keys").unwrap_or(0),
        })
    }
}

#[async_trait]
impl Announcer for RedisTier {
    async fn announce(&self, invalidation: &Invalidation) -> Result<(), TierError> {
        let message = serde_json::to_vec(invalidation).map_err(|error| TierError::Unavailable {
            source: Box::new(error),
        })?;
        let mut publish = cmd("PUBLISH");
        publish.arg(self.channel()).arg(message);
        let run = async |connection: &mut _| publish.query_async::<u64>(connection).await;
        self.server().run(run).await.map_err(failure)?;
        Ok(())
    }

    fn listen(&self) -> Announcements {
        listener::listen(self.sweeper.clone(), self.channel())
    }
}

#[cfg(test)]
mod tests {
    use lyceum_cache::{Glob, Namespace};
    use lyceum_core::TenantId;

    use super::*;

    #[test]
    fn what_users_wrote_is_no_pattern_of_redis() {
        let server = RedisServer::new(&"redis://127.0.0.1".into(), Duration::from_secs(1));
        let tier = RedisTier::new(&server.unwrap(), "app", 1).unwrap();
        let search = |glob| {
            tier.search(&Selection {
                namespace: Namespace::USER,
                tenant: Some(TenantId::new("a-b").unwrap()),
                glob,
            })
        };
        assert_eq!(
            search(Glob::literal("[x]*?^\\")),
            r"app/user/a\-b/\[x\]\*\?\^\\"
        );
        assert_eq!(search(Glob::new("u:*:?[")), r"app/user/a\-b/u:*:*\[");
    }
}
