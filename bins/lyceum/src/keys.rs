//! `lyceum keys`: adds, lists, revokes and rotates the API keys of a running server.
//!
//! Invariant: a key is shown once, when it is made; what is kept of it is its digest.

use std::fmt::Write;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

use crate::{
    access::{self, moment},
    banner,
    cli::{AddOptions, KeysCommand, ListOptions, RevokeOptions, RotateOptions, StoreOptions},
    config::{self, Key, Replaced, Resolved, Scope},
    key,
    key_file::KeyFile,
};

/// Does what the command says.
///
/// # Errors
///
/// What stands in the way; the keys are as they were then.
pub(crate) fn run(command: &KeysCommand) -> Result<()> {
    let now = OffsetDateTime::now_utc();
    match command {
        KeysCommand::Add(options) => add(options, now),
        KeysCommand::List(options) => list(options, now),
        KeysCommand::Revoke(options) => revoke(options, now),
        KeysCommand::Rotate(options) => rotate(options, now),
    }
}

fn resolved(store: &StoreOptions) -> Result<Resolved> {
    let written = config::load(store.config.as_deref(), store.overrides())?;
    Ok(config::resolve(written)?)
}

fn add(options: &AddOptions, now: OffsetDateTime) -> Result<()> {
    let resolved = resolved(&options.store)?;
    let expires = options.expires.as_deref().map(|text| later(text, now));
    let (secret, sha256) = key::random()?;
    let fresh = Key {
        name: options.name.clone(),
        tenant: options.tenant.clone(),
        user: options.user.clone(),
        sha256,
        requests_per_minute: options.requests_per_minute,
        concurrent_requests: options.concurrent_requests,
        streams: options.streams,
        daily_usd: options.daily_usd,
        expires: expires.transpose()?.map(written),
        scopes: options.scope.clone(),
        models: options.model.clone(),
        created: Some(written(now)),
        revoked: None,
        replaced: None,
    };
    // What a server would not take is not kept.
    access::api_key(&fresh)?;
    if in_configuration(&resolved, &fresh.name) {
        bail!(
            "there is a key named {:?} in the configuration file",
            fresh.name
        );
    }
    let file = KeyFile::of(&resolved);
    file.change(|keys| {
        let name = fresh.name.as_str();
        if keys
            .iter()
            .any(|key| key.name == name && key.revoked.is_none())
        {
            bail!("there is a key named {name:?}: revoke it first, or `lyceum keys rotate {name}`");
        }
        keys.retain(|key| key.name != name);
        keys.push(fresh.clone());
        Ok(())
    })?;
    told(&fresh, &secret, &file, options.json, now)
}

fn rotate(options: &RotateOptions, now: OffsetDateTime) -> Result<()> {
    let resolved = resolved(&options.store)?;
    let until = options.overlap.as_deref().map(|text| later(text, now));
    let until = until.transpose()?;
    let (secret, sha256) = key::random()?;
    let file = KeyFile::of(&resolved);
    let rotated = file.change(|keys| {
        let key = alive(keys, &options.name, &resolved)?;
        let former = std::mem::replace(&mut key.sha256, sha256);
        key.replaced = until.map(|until| Replaced {
            sha256: former,
            until: written(until),
        });
        Ok(key.clone())
    })?;
    told(&rotated, &secret, &file, options.json, now)
}

fn revoke(options: &RevokeOptions, now: OffsetDateTime) -> Result<()> {
    let resolved = resolved(&options.store)?;
    let file = KeyFile::of(&resolved);
    file.change(|keys| {
        for name in &options.names {
            let key = alive(keys, name, &resolved)?;
            key.revoked = Some(written(now));
            key.replaced = None;
        }
        Ok(())
    })?;
    if options.json {
        let answer = json!({"revoked": options.names, "file": file.path()});
        return banner::say(&serde_json::to_string_pretty(&answer)?);
    }
    banner::say(&format!(
        "Revoked: {}. A running server refuses it within {} seconds.",
        options.names.join(", "),
        access::SEEN_WITHIN_SECONDS,
    ))
}

/// The key of a name that was not revoked.
fn alive<'a>(keys: &'a mut [Key], name: &str, resolved: &Resolved) -> Result<&'a mut Key> {
    if in_configuration(resolved, name) {
        bail!(
            "the key {name:?} is in the configuration file: change it there, and start the server again"
        );
    }
    let known: Vec<String> = keys
        .iter()
        .filter(|key| key.revoked.is_none())
        .map(|key| key.name.clone())
        .collect();
    let found = keys
        .iter_mut()
        .find(|key| key.name == name && key.revoked.is_none());
    let Some(key) = found else {
        let near = config::nearest(name, known.iter().map(String::as_str));
        let hint = near.map(|near| format!("; did you mean {near:?}?"));
        bail!("there is no key named {name:?}{}", hint.unwrap_or_default());
    };
    Ok(key)
}

fn in_configuration(resolved: &Resolved, name: &str) -> bool {
    resolved.config.auth.keys.iter().any(|key| key.name == name)
}

/// Shows a new key, once.
fn told(key: &Key, secret: &str, file: &KeyFile, as_json: bool, now: OffsetDateTime) -> Result<()> {
    if as_json {
        let mut answer = described(key, "file", now);
        answer["key"] = json!(secret);
        answer["file"] = json!(file.path());
        return banner::say(&serde_json::to_string_pretty(&answer)?);
    }
    banner::say(&format!(
        "The key, shown only now:\n\n  {secret}\n\n{} of tenant {}, kept in {}. A running server takes it within {} seconds.",
        key.name,
        key.tenant,
        file.path().display(),
        access::SEEN_WITHIN_SECONDS,
    ))
}

fn list(options: &ListOptions, now: OffsetDateTime) -> Result<()> {
    let resolved = resolved(&options.store)?;
    let kept = KeyFile::of(&resolved).read()?;
    let configured = resolved.config.auth.keys.iter().map(|key| (key, "config"));
    let mut keys: Vec<(&Key, &str)> = kept.iter().map(|key| (key, "file")).collect();
    keys.extend(configured);
    let wanted = options.tenant.as_deref();
    keys.retain(|(key, _)| wanted.is_none_or(|tenant| key.tenant == tenant));
    keys.sort_by(|(one, _), (other, _)| {
        (&one.tenant, &one.name).cmp(&(&other.tenant, &other.name))
    });
    if options.json {
        let all: Vec<Value> = keys
            .iter()
            .map(|(key, from)| described(key, from, now))
            .collect();
        return banner::say(&serde_json::to_string_pretty(&json!({ "keys": all }))?);
    }
    if keys.is_empty() {
        return banner::say("There are no keys. `lyceum keys add NAME` makes one.");
    }
    banner::say(table(&keys, now).trim_end())
}

fn table(keys: &[(&Key, &str)], now: OffsetDateTime) -> String {
    let heads = [
        "NAME", "TENANT", "USER", "STATE", "EXPIRES", "OPENS", "MODELS", "LIMITS", "ID", "FROM",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(keys.iter().map(|(key, from)| {
        [
            key.name.clone(),
            key.tenant.clone(),
            user(key).to_owned(),
            state(key, now).to_owned(),
            key.expires.clone().unwrap_or_else(|| "never".to_owned()),
            or_all(scopes(key).join(",")),
            or_all(key.models.join(",")),
            limits(key),
            id(key).to_owned(),
            (*from).to_owned(),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..heads.len())
        .map(|at| width(at).unwrap_or_default())
        .collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, &width)| format!("{cell:<width$}"))
            .collect();
        // Writing to a string never fails.
        let _ = writeln!(text, "{}", line.join("  ").trim_end());
    }
    text
}

fn or_all(list: String) -> String {
    if list.is_empty() {
        "all".to_owned()
    } else {
        list
    }
}

fn described(key: &Key, from: &str, now: OffsetDateTime) -> Value {
    json!({
        "name": key.name,
        "tenant": key.tenant,
        "user": user(key),
        "state": state(key, now),
        "id": id(key),
        "from": from,
        "created": key.created,
        "expires": key.expires,
        "revoked": key.revoked,
        "former_until": key.replaced.as_ref().map(|former| &former.until),
        "scopes": scopes(key),
        "models": key.models,
        "requests_per_minute": key.requests_per_minute,
        "concurrent_requests": key.concurrent_requests,
        "streams": key.streams,
        "daily_usd": key.daily_usd,
    })
}

/// Enough of the digest to tell keys apart; nothing about the key follows from it.
fn id(key: &Key) -> &str {
    key.sha256.get(..8).unwrap_or_default()
}

fn user(key: &Key) -> &str {
    key.user.as_deref().unwrap_or(&key.name)
}

fn scopes(key: &Key) -> Vec<&'static str> {
    let all = [
        (Scope::Student, "student"),
        (Scope::Models, "models"),
        (Scope::Graphs, "graphs"),
        (Scope::Metrics, "metrics"),
        (Scope::Operator, "operator"),
    ];
    let held = all
        .into_iter()
        .filter(|(scope, _)| key.scopes.contains(scope));
    held.map(|(_, name)| name).collect()
}

fn limits(key: &Key) -> String {
    let counts = [
        (key.requests_per_minute, "/min"),
        (key.concurrent_requests, " at once"),
        (key.streams, " streams"),
    ];
    let counts = counts
        .into_iter()
        .filter_map(|(limit, unit)| Some(format!("{}{unit}", limit?)));
    let money = key.daily_usd.map(|dollars| format!("${dollars}/day"));
    let all: Vec<String> = counts.chain(money).collect();
    match all.is_empty() {
        true => "default".to_owned(),
        false => all.join(", "),
    }
}

fn state(key: &Key, now: OffsetDateTime) -> &'static str {
    let is_over = |text: &String| moment(text).is_none_or(|at| now >= at);
    if key.revoked.is_some() {
        "revoked"
    } else if key.expires.as_ref().is_some_and(is_over) {
        "expired"
    } else if key
        .replaced
        .as_ref()
        .is_some_and(|former| !is_over(&former.until))
    {
        "rotating"
    } else {
        "active"
    }
}

/// A moment, or a time from now such as `90d`, `12h` or `30m`.
fn later(text: &str, now: OffsetDateTime) -> Result<OffsetDateTime> {
    let counted = text
        .strip_suffix(['d', 'h', 'm'])
        .and_then(|number| number.parse::<u32>().ok());
    let at = match (counted, text.chars().last()) {
        (Some(number), Some(unit)) => {
            let seconds = match unit {
                'd' => 86_400,
                'h' => 3_600,
                _ => 60,
            };
            now.checked_add(time::Duration::seconds(i64::from(number) * seconds))
        }
        _ => moment(text),
    };
    match at {
        Some(at) if at > now => Ok(at),
        Some(_) => bail!("{text:?} is over already"),
        None => bail!(
            "{text:?} is neither a time from now such as 90d, 12h or 30m, nor a day such as 2027-01-31, nor a time such as 2027-01-31T12:00:00Z"
        ),
    }
}

fn written(at: OffsetDateTime) -> String {
    let whole = at.replace_nanosecond(0).unwrap_or(at);
    whole
        .to_offset(UtcOffset::UTC)
        .format(&Rfc3339)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: OffsetDateTime = time::macros::datetime!(2026-11-30 12:00:00.5 UTC);

    #[test]
    fn an_end_is_a_time_from_now_or_a_moment_to_come() {
        let at = |text| later(text, NOW).map(written).ok();
        assert_eq!(at("90d").as_deref(), Some("2027-02-28T12:00:00Z"));
        assert_eq!(at("12h").as_deref(), Some("2026-12-01T00:00:00Z"));
        assert_eq!(at("2027-01-31").as_deref(), Some("2027-01-31T00:00:00Z"));
        for wrong in [
            "",
            "d",
            "0d",
            "-1d",
            "1w",
            "2026-11-30",
            "2020-01-01",
            "4294967295d",
        ] {
            assert_eq!(at(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_key_is_told_by_its_state_and_never_by_itself() {
        let mut key: Key = toml::from_str(&format!(
            "name = \"a\"\ntenant = \"t\"\nsha256 = \"{}\"\nscopes = [\"operator\", \"models\"]\ndaily_usd = 2.5",
            "ab".repeat(32)
        ))
        .unwrap();
        assert_eq!(state(&key, NOW), "active");
        let text = table(&[(&key, "file")], NOW);
        assert!(
            text.contains("models,operator") && text.contains("$2.5/day"),
            "{text}"
        );
        assert!(
            text.contains("abababab") && !text.contains(&"ab".repeat(5)),
            "{text}"
        );
        key.expires = Some("2026-11-30".to_owned());
        assert_eq!(state(&key, NOW), "expired");
        key.revoked = Some(written(NOW));
        assert_eq!(state(&key, NOW), "revoked");
    }
}
