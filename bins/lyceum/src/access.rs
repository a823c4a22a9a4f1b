//! Who may call: the keys of the configuration and of the file, the issuer, what users may
//! spend; and following all that while the server runs.
//!
//! Invariant: a file that cannot be read changes nothing but the log; one that is gone takes its
//! keys with it. What is refused at the start is refused before anything is opened.

use std::{
    collections::{HashMap, hash_map::Entry},
    num::NonZeroU32,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use lyceum_core::{MicroUsd, TenantId, UserId};
use lyceum_gateway::{
    ApiKey, AuthConfig, ClaimScopes, ClaimTenant, Gateway, IssuerConfig, IssuerKeys, KeyRules,
    KeyScope, TokenAlgorithm,
};
use lyceum_llm::{Ledger, PicoUsd, UserBudgets};
use time::{
    Date, OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Auth, Jwt, Key, Resolved, Scope},
    key_file::{KeyFile, Stamp},
};

/// How often the file of keys is looked at, and what is promised.
const LOOK_EVERY: Duration = Duration::from_secs(1);
pub(crate) const SEEN_WITHIN_SECONDS: u64 = 2;

/// The most dollars of a budget.
const MOST_DOLLARS: f64 = 1_000_000.0;

/// Who may call.
#[derive(Debug)]
pub(crate) struct Access {
    auth: Auth,
    file: KeyFile,
    stamp: Stamp,
    kept: Vec<Key>,
    /// The state of the file that was not taken last.
    failed: Option<Stamp>,
}

impl Access {
    /// Reads the file of keys.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or somebody in it or in the configuration cannot be understood.
    pub(crate) fn open(resolved: &Resolved) -> Result<Self> {
        let file = KeyFile::of(resolved);
        let named = || format!("read {}", file.path().display());
        let stamp = file.stamp().with_context(named)?;
        let access = Self {
            auth: resolved.config.auth.clone(),
            stamp,
            kept: file.read()?,
            failed: None,
            file,
        };
        access.config()?;
        Ok(access)
    }

    /// As the gateway takes it. A file of keys means that one is needed, even of none.
    ///
    /// # Errors
    ///
    /// What cannot be understood.
    pub(crate) fn config(&self) -> Result<AuthConfig> {
        let issuer = self.auth.jwt.as_ref().map(issuer);
        Ok(AuthConfig {
            keys: self.keys()?,
            issuer: issuer.transpose().context("auth.jwt")?,
            is_required: self.stamp.is_some(),
        })
    }

    /// What users may spend.
    pub(crate) fn budgets(&self) -> UserBudgets {
        let mut named: HashMap<(TenantId, UserId), Option<PicoUsd>> = HashMap::new();
        for key in self.all() {
            // Keys that cannot be understood were refused before.
            let Ok(ApiKey { tenant, user, .. }) = api_key(key) else {
                continue;
            };
            let limit = key.daily_usd.map(dollars);
            match named.entry((tenant, user)) {
                Entry::Vacant(entry) => {
                    entry.insert(limit);
                }
                Entry::Occupied(mut entry) => {
                    let smallest = [*entry.get(), limit].into_iter().flatten().min();
                    entry.insert(smallest);
                }
            }
        }
        let others = self.auth.jwt.as_ref().and_then(|jwt| jwt.daily_usd);
        UserBudgets {
            named,
            others: others.map(dollars),
        }
    }

    /// Who that is, in a few words.
    pub(crate) fn told(&self) -> String {
        let keys = match (self.all().count(), self.stamp) {
            (0, None) => None,
            (1, _) => Some("one key".to_owned()),
            (many, _) => Some(format!("{many} keys")),
        };
        let issuer = self.auth.jwt.as_ref();
        let issuer = issuer.map(|jwt| format!("tokens of {}", jwt.issuer));
        let all: Vec<String> = keys.into_iter().chain(issuer).collect();
        match all.is_empty() {
            true => "everybody on this machine".to_owned(),
            false => all.join(", "),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Key> {
        let all = self.auth.keys.iter().chain(&self.kept);
        all.filter(|key| key.revoked.is_none())
    }

    fn keys(&self) -> Result<Vec<ApiKey>> {
        self.all().map(api_key).collect()
    }

    /// Reads the file again where it changed, or `anyway`: whether there is something new.
    ///
    /// # Errors
    ///
    /// Why it is not taken, once for each state of the file; it is tried again all the same.
    fn renew(&mut self, anyway: bool) -> Result<bool> {
        // Before reading: what changes after it is seen the next time.
        let stamp = self.file.stamp().context("look at the file of keys")?;
        if stamp == self.stamp && !anyway {
            return Ok(false);
        }
        let known = self.file.read().and_then(|kept| {
            kept.iter().try_for_each(|key| api_key(key).map(drop))?;
            Ok(kept)
        });
        match known {
            Ok(kept) => {
                (self.kept, self.stamp, self.failed) = (kept, stamp, None);
                Ok(true)
            }
            Err(_) if self.failed == Some(stamp) && !anyway => Ok(false),
            Err(error) => {
                self.failed = Some(stamp);
                Err(error)
            }
        }
    }
}

/// Listens for SIGHUP, which has the keys read again at once.
///
/// # Errors
///
/// When the system does not let it.
pub(crate) fn hangups() -> Result<Signal> {
    signal(SignalKind::hangup()).context("listen for SIGHUP")
}

/// Follows the file of keys and the issuer's keys until it is cancelled.
pub(crate) async fn follow(
    mut access: Access,
    gateway: Gateway,
    ledger: Ledger,
    mut hangups: Signal,
    stop: CancellationToken,
) {
    let issuer = gateway.clone();
    let issuer = issuer.follow_issuer();
    let keys = async move {
        loop {
            let anyway = tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => false,
                _ = hangups.recv() => true,
            };
            let renewed = tokio::task::spawn_blocking(move || {
                let renewed = access.renew(anyway);
                (access, renewed)
            });
            let Ok((looked, renewed)) = renewed.await else {
                tracing::error!("the file of keys is not followed any more");
                return;
            };
            access = looked;
            match renewed.and_then(|is_new| Ok((is_new, access.keys()?))) {
                Ok((false, _)) => {}
                Ok((true, keys)) => {
                    gateway.set_keys(&keys);
                    ledger.limit_users(access.budgets());
                    tracing::info!(target: "audit", event = "keys", count = keys.len(), "audit");
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(error, "the file of keys is not taken; the keys before stay");
                }
            }
        }
    };
    stop.run_until_cancelled(async { tokio::join!(issuer, keys) })
        .await;
}

/// A key as the gateway takes it.
///
/// # Errors
///
/// What cannot be understood, with the key's name.
pub(crate) fn api_key(key: &Key) -> Result<ApiKey> {
    let wrong = || format!("the key named {:?}", key.name);
    let tenant = key.tenant.parse().with_context(wrong)?;
    let user = key
        .user
        .as_ref()
        .unwrap_or(&key.name)
        .parse()
        .with_context(wrong)?;
    let sha256 = digest(&key.sha256).with_context(|| {
        format!(
            "{}: sha256 must be 64 hexadecimal digits; `lyceum key NAME` prints them",
            wrong()
        )
    })?;
    let expires = key.expires.as_deref().map(|text| {
        moment(text).with_context(|| {
            format!("{}: expires must be a day such as 2027-01-31 or a time such as 2027-01-31T12:00:00Z", wrong())
        })
    });
    let replaced = key.replaced.as_ref().map(|former| {
        let parts = digest(&former.sha256).zip(moment(&former.until));
        parts.with_context(|| format!("{}: replaced needs a sha256 and a time", wrong()))
    });
    budget(key.daily_usd).with_context(wrong)?;
    Ok(ApiKey {
        name: key.name.clone(),
        tenant,
        user,
        sha256,
        replaced: replaced.transpose()?,
        rules: KeyRules {
            requests_per_minute: many("requests_per_minute", key.requests_per_minute)
                .with_context(wrong)?,
            concurrent_requests: many("concurrent_requests", key.concurrent_requests)
                .with_context(wrong)?,
            streams: many("streams", key.streams).with_context(wrong)?,
            expires: expires.transpose()?,
            scopes: key.scopes.iter().map(|scope| part(*scope)).collect(),
            models: key.models.clone(),
        },
    })
}

fn part(scope: Scope) -> KeyScope {
    match scope {
        Scope::Student => KeyScope::Student,
        Scope::Models => KeyScope::Models,
        Scope::Graphs => KeyScope::Graphs,
        Scope::Metrics => KeyScope::Metrics,
        Scope::Operator => KeyScope::Operator,
    }
}

/// A time as in RFC 3339, or the beginning of a day in UTC.
pub(crate) fn moment(text: &str) -> Option<OffsetDateTime> {
    let day = || Date::parse(text, format_description!("[year]-[month]-[day]")).ok();
    let time = OffsetDateTime::parse(text, &Rfc3339).ok();
    time.or_else(|| day().map(|day| day.midnight().assume_utc()))
}

fn many(name: &str, limit: Option<u32>) -> Result<Option<NonZeroU32>> {
    let many = limit
        .map(|limit| NonZeroU32::new(limit).with_context(|| format!("{name} must be 1 or more")));
    many.transpose()
}

fn budget(limit: Option<f64>) -> Result<()> {
    match limit {
        Some(dollars) if !(0.0..=MOST_DOLLARS).contains(&dollars) => {
            bail!("daily_usd must be between 0 and {MOST_DOLLARS}")
        }
        _ => Ok(()),
    }
}

/// To the millionth, which is more than anybody writes.
fn dollars(amount: f64) -> PicoUsd {
    PicoUsd::from(MicroUsd((amount * 1e6).round() as u64))
}

/// The issuer as the gateway takes it.
fn issuer(jwt: &Jwt) -> Result<IssuerConfig> {
    let range =
        |name: &str, value: u64, least: u64, most: u64| match (least..=most).contains(&value) {
            true => Ok(Duration::from_secs(value)),
            false => bail!("{name} must be between {least} and {most}"),
        };
    if jwt.issuer.is_empty() {
        bail!("issuer must be what the claim `iss` of the tokens says");
    }
    if jwt.audience.is_empty() || jwt.audience.iter().any(String::is_empty) {
        bail!(
            "audience must name what the claim `aud` says for this server: without it, tokens for others would do"
        );
    }
    let every = range("refresh_seconds", jwt.refresh_seconds, 10, 86_400)?;
    let keys = match (&jwt.jwks_url, &jwt.jwks_file) {
        (Some(url), None) => IssuerKeys::address(url, every).context("jwks_url")?,
        (None, Some(path)) => IssuerKeys::file(path),
        (None, None) => IssuerKeys::discovered(&jwt.issuer, every)
            .context("issuer: set jwks_url or jwks_file where it is not the address to ask")?,
        _ => bail!("set either jwks_url or jwks_file"),
    };
    let named = |name: &String| {
        TokenAlgorithm::named(name).with_context(|| {
            let known: Vec<&str> = TokenAlgorithm::names().collect();
            format!(
                "algorithms: {name:?} is none that can be allowed: {}",
                known.join(", ")
            )
        })
    };
    if jwt.algorithms.is_empty() {
        bail!("algorithms must name one at least");
    }
    let tenant = match (&jwt.tenant, &jwt.tenant_claim) {
        (Some(_), Some(_)) => bail!("set either tenant or tenant_claim"),
        (Some(tenant), None) => ClaimTenant::Always(tenant.parse().context("tenant")?),
        (None, claim) => ClaimTenant::Claim(claim.clone().unwrap_or_else(|| "tenant".to_owned())),
    };
    budget(jwt.daily_usd)?;
    Ok(IssuerConfig {
        issuer: jwt.issuer.clone(),
        audiences: jwt.audience.clone(),
        keys,
        algorithms: jwt.algorithms.iter().map(named).collect::<Result<_>>()?,
        leeway: range("leeway_seconds", jwt.leeway_seconds, 0, 300)?,
        required_claims: jwt.required_claims.clone(),
        tenant,
        user_claim: jwt.user_claim.clone(),
        scopes: match &jwt.scopes_claim {
            Some(claim) => ClaimScopes::Claim {
                claim: claim.clone(),
                prefix: jwt.scope_prefix.clone(),
            },
            None => ClaimScopes::Always(jwt.scopes.iter().map(|scope| part(*scope)).collect()),
        },
        rules: KeyRules {
            requests_per_minute: many("requests_per_minute", jwt.requests_per_minute)?,
            concurrent_requests: many("concurrent_requests", jwt.concurrent_requests)?,
            streams: many("streams", jwt.streams)?,
            models: jwt.models.clone(),
            ..KeyRules::default()
        },
    })
}

fn digest(hex: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_expires_at_a_day_or_a_time() {
        let day = moment("2027-01-31").unwrap();
        assert_eq!(Some(day), moment("2027-01-31T00:00:00Z"));
        assert_eq!(Some(day), moment("2027-01-31T01:00:00+01:00"));
        for wrong in ["", "tomorrow", "2027-02-30", "31.01.2027"] {
            assert_eq!(moment(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_issuer_is_refused_where_its_tokens_would_not_be_for_this_server() {
        let read = |lines: &str| {
            let jwt: Jwt = toml::from_str(&format!("issuer = \"https://i\"\n{lines}")).unwrap();
            issuer(&jwt)
        };
        let right = "audience = [\"l\"]\njwks_file = \"/k\"";
        let built = read(right).unwrap();
        assert_eq!(built.tenant, ClaimTenant::Claim("tenant".into()));
        assert_eq!(built.algorithms.len(), 3);
        let found = read("audience = [\"l\"]").unwrap();
        let found = format!("{:?}", found.keys);
        assert!(
            found.contains("https://i/.well-known/openid-configuration"),
            "{found}"
        );
        for (wrong, said) in [
            ("audience = []\njwks_file = \"/k\"", "audience"),
            (
                "audience = [\"l\"]\njwks_file = \"/k\"\njwks_url = \"https://i/k\"",
                "jwks_url or jwks_file",
            ),
            (&format!("{right}\nalgorithms = [\"none\"]"), "\"none\""),
            (&format!("{right}\nalgorithms = [\"HS256\"]"), "\"HS256\""),
            (&format!("{right}\nalgorithms = []"), "algorithms"),
            (&format!("{right}\nleeway_seconds = 301"), "leeway_seconds"),
            (
                &format!("{right}\ntenant = \"a\"\ntenant_claim = \"t\""),
                "either",
            ),
            (&format!("{right}\nstreams = 0"), "streams"),
            (
                "audience = [\"l\"]\njwks_url = \"http://i.example/k\"",
                "https",
            ),
        ] {
            let error = format!("{:#}", read(wrong).unwrap_err());
            assert!(error.contains(said), "{wrong}: {error}");
        }
    }
}
