//! The suite that every shared tier runs against its real engine.
//!
//! Each check works in tenants of its own, so the suite can run on a tier in use and twice. A
//! broken rule is a [`Violation`] and not a panic: the caller's test prints it. It waits for
//! times of a tenth of a second by the runtime's clock.

use std::{fmt, time::Duration};

use futures_util::StreamExt;
use lyceum_core::TenantId;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    Announcements, Announcer, CacheTier, Glob, Heard, Invalidation, Key, Namespace, Origin,
    Selection, TierError,
};

/// A rule of the ports that the tier broke.
#[derive(Debug, thiserror::Error)]
#[error("{rule}: {detail}")]
pub struct Violation {
    /// The rule.
    pub rule: &'static str,
    /// What happened instead.
    pub detail: String,
}

impl From<TierError> for Violation {
    fn from(error: TierError) -> Self {
        Self {
            rule: "a legal call succeeds",
            detail: format!("{error:?}"),
        }
    }
}

const LONG: Duration = Duration::from_secs(60);
/// How long anything may take to be seen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Checks both ports.
///
/// # Errors
///
/// The first rule found broken.
pub async fn verify<S: CacheTier + Announcer>(tier: &S) -> Result<(), Violation> {
    values_are_kept_for_their_time(tier).await?;
    keys_are_apart(tier).await?;
    patterns_select_what_they_match(tier).await?;
    a_pattern_reaches_many(tier).await?;
    tier.stats().await?;
    listeners_hear(tier).await
}

fn key(tenant: &TenantId, text: &str) -> Key {
    Key {
        namespace: Namespace::SESSION,
        tenant: tenant.clone(),
        text: text.to_owned(),
    }
}

fn same<T: PartialEq<U> + fmt::Debug, U: fmt::Debug>(
    rule: &'static str,
    got: &T,
    want: &U,
) -> Result<(), Violation> {
    match got == want {
        true => Ok(()),
        false => Err(Violation {
            rule,
            detail: format!("got {got:?}, want {want:?}"),
        }),
    }
}

async fn value(tier: &impl CacheTier, key: &Key) -> Result<Option<Vec<u8>>, Violation> {
    Ok(tier.get(key).await?.map(|stored| stored.value))
}

async fn values_are_kept_for_their_time(tier: &impl CacheTier) -> Result<(), Violation> {
    let tenant = TenantId::random();
    let key = key(&tenant, "a");
    same(
        "what was not set is not there",
        &value(tier, &key).await?,
        &None::<Vec<u8>>,
    )?;
    tier.set(&key, b"first", LONG).await?;
    let bytes: Vec<u8> = (0..=255).collect();
    tier.set(&key, &bytes, LONG).await?;
    let stored = tier.get(&key).await?;
    let rule = "the last value set is given, byte for byte";
    same(rule, &stored.as_ref().map(|s| &s.value), &Some(&bytes))?;
    let left = stored.map(|stored| stored.left).unwrap_or_default();
    let rule = "the time left is told";
    same(rule, &(left <= LONG && left > LONG / 2), &true)?;
    let rule = "deleting says whether there was something";
    same(rule, &tier.delete(&key).await?, &true)?;
    same(rule, &tier.delete(&key).await?, &false)?;
    same(
        "what was deleted is not there",
        &value(tier, &key).await?,
        &None::<Vec<u8>>,
    )?;
    tier.set(&key, b"short", Duration::from_millis(100)).await?;
    let begin = Instant::now();
    while tier.get(&key).await?.is_some() {
        same(
            "a value ends with its time",
            &(begin.elapsed() < PATIENCE),
            &true,
        )?;
        sleep(Duration::from_millis(10)).await;
    }
    tier.set(&key, b"short", Duration::from_millis(100)).await?;
    tier.set(&key, b"long", LONG).await?;
    sleep(Duration::from_millis(150)).await;
    let rule = "a later value has its own time";
    same(rule, &value(tier, &key).await?, &Some(b"long".to_vec()))
}

async fn keys_are_apart(tier: &impl CacheTier) -> Result<(), Violation> {
    // Names that a careless encoding would run together.
    let first = TenantId::random();
    let longer = format!("{first}:a");
    let second = TenantId::new(longer).map_err(|error| Violation {
        rule: "the suite's own ids are valid",
        detail: error.to_string(),
    })?;
    let mut keys = vec![key(&first, "a:b"), key(&second, "b"), key(&first, "a")];
    for text in [
        "",
        " ",
        "a b",
        "é",
        "a/b",
        "a\r\nb\u{0}",
        "*",
        "[a]",
        "\\",
        "{a}",
    ] {
        keys.push(key(&first, text));
    }
    let mut elsewhere = key(&first, "a");
    elsewhere.namespace = Namespace::USER;
    keys.push(elsewhere);
    for (number, key) in keys.iter().enumerate() {
        tier.set(key, number.to_string().as_bytes(), LONG).await?;
    }
    for (number, key) in keys.iter().enumerate() {
        let want = Some(number.to_string().into_bytes());
        same("keys are apart", &value(tier, key).await?, &want)?;
    }
    for key in &keys {
        same("each is deleted", &tier.delete(key).await?, &true)?;
    }
    Ok(())
}

async fn patterns_select_what_they_match(tier: &impl CacheTier) -> Result<(), Violation> {
    let texts = [
        "user:1", "user:2", "user:é", "user:10", "user:*", "user:[1]", "user:\\", "a^b", "a-c", "",
    ];
    let patterns = [
        "user:?",
        "user:1*",
        "user:\\*",
        "user:[1]",
        "user:[12]",
        "*\\\\",
        "a^?",
        "a-c",
        "",
        "*",
    ];
    for pattern in patterns {
        let (own, other) = (TenantId::random(), TenantId::random());
        let glob = Glob::new(pattern);
        for tenant in [&own, &other] {
            for text in texts {
                tier.set(&key(tenant, text), b"x", LONG).await?;
            }
        }
        let selection = Selection {
            namespace: Namespace::SESSION,
            tenant: Some(own.clone()),
            glob: glob.clone(),
        };
        let want = texts.iter().filter(|text| glob.matches(text)).count() as u64;
        let got = tier.delete_pattern(&selection).await?;
        same(
            "as many are deleted as match",
            &(pattern, got),
            &(pattern, want),
        )?;
        for text in texts {
            let there = value(tier, &key(&own, text)).await?.is_some();
            let rule = "those that match are deleted";
            same(
                rule,
                &(pattern, text, there),
                &(pattern, text, !glob.matches(text)),
            )?;
            let there = value(tier, &key(&other, text)).await?.is_some();
            same("another tenant's stay", &there, &true)?;
        }
    }
    Ok(())
}

async fn a_pattern_reaches_many(tier: &impl CacheTier) -> Result<(), Violation> {
    let tenant = TenantId::random();
    for number in 0..3_000 {
        tier.set(&key(&tenant, &format!("many:{number}")), b"x", LONG)
            .await?;
    }
    let mut selection = Selection {
        namespace: Namespace::USER,
        tenant: Some(tenant.clone()),
        glob: Glob::new("many:*"),
    };
    let rule = "a namespace is apart";
    same(rule, &tier.delete_pattern(&selection).await?, &0)?;
    selection.namespace = Namespace::SESSION;
    let got = tier.delete_pattern(&selection).await?;
    same("all of many are deleted", &got, &3_000)
}

async fn next(heard: &mut Announcements) -> Result<Heard, Violation> {
    match timeout(PATIENCE, heard.next()).await {
        Ok(Some(heard)) => Ok(heard),
        other => Err(Violation {
            rule: "something is heard",
            detail: format!("{other:?}"),
        }),
    }
}

async fn listeners_hear<S: CacheTier + Announcer>(tier: &S) -> Result<(), Violation> {
    let (mut one, mut two) = (tier.listen(), tier.listen());
    for heard in [&mut one, &mut two] {
        let rule = "the first thing heard is that one listens";
        same(rule, &next(heard).await?, &Heard::Gap)?;
    }
    let tenant = TenantId::random();
    for number in 0..20 {
        let invalidation = Invalidation {
            origin: Origin(u64::MAX - number),
            selection: Selection {
                namespace: Namespace::DOCUMENT,
                tenant: (number % 2 == 0).then(|| tenant.clone()),
                glob: Glob::new(format!("\\*{number}é*")),
            },
        };
        tier.announce(&invalidation).await?;
        for heard in [&mut one, &mut two] {
            // Others may announce too.
            loop {
                match next(heard).await? {
                    Heard::Invalidation(heard) if heard == invalidation => break,
                    Heard::Invalidation(heard) if heard.origin != invalidation.origin => {}
                    other => same(
                        "what was announced is heard",
                        &other,
                        &Heard::Invalidation(invalidation.clone()),
                    )?,
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InMemoryTier;

    #[tokio::test(start_paused = true)]
    async fn the_reference_conforms() {
        let tier = InMemoryTier::default();
        for _ in 0..2 {
            if let Err(violation) = verify(&tier).await {
                panic!("{violation}");
            }
        }
    }
}
