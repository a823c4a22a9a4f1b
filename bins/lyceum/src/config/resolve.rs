//! Turns a written [`Config`] into one that is checked and complete.
//!
//! Invariant: a [`Resolved`] can be composed without further questions; what is wrong
//! is said here, before anything is opened.

use std::path::PathBuf;

use lyceum_gateway::Address;

use lyceum_core::TenantId;
use secrecy::ExposeSecret as _;

use crate::{mcp::SEPARATOR, secret_file};

use super::{
    Config, ConfigError, Embedding, Model, Queue, Store, StoreKind, VectorsKind, load::nearest,
};

/// The validated configuration.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    /// The written form, with defaults.
    pub config: Config,
    /// Where to listen.
    pub listen: Address,
    /// Where data is kept.
    pub data_dir: PathBuf,
}

/// Checks ranges and fills in what depends on the platform.
///
/// # Errors
///
/// [`ConfigError::Invalid`] naming the key and what is allowed.
pub(crate) fn resolve(config: Config) -> Result<Resolved, ConfigError> {
    let listen = listen(&config.server.listen)?;
    let server = &config.server;
    range(
        "server.max_body_bytes",
        server.max_body_bytes as u64,
        1 << 10,
        64 << 20,
    )?;
    range(
        "server.request_timeout_seconds",
        server.request_timeout_seconds,
        1,
        3600,
    )?;
    range(
        "server.max_connections",
        server.max_connections as u64,
        1,
        1_000_000,
    )?;
    range("server.drain_seconds", server.drain_seconds, 0, 600)?;
    range(
        "server.stop_timeout_seconds",
        server.stop_timeout_seconds,
        1,
        3600,
    )?;
    range(
        "server.max_requests",
        server.max_requests as u64,
        1,
        1_000_000,
    )?;
    let streams = server.max_streams as u64;
    range("server.max_streams", streams, 1, 1_000_000)?;
    let kept = server.response_cache_seconds;
    range("server.response_cache_seconds", kept, 0, 3600)?;
    let mib = server.response_cache_mib;
    range("server.response_cache_mib", mib, 1, 65_536)?;
    if server.tls_cert.is_some() != server.tls_key.is_some() {
        return Err(ConfigError::Invalid {
            key: "server.tls_cert",
            detail: "a certificate needs its key, server.tls_key, and a key its certificate"
                .to_owned(),
        });
    }
    let limits = &config.limits;
    for (key, limit) in [
        ("limits.address_per_minute", limits.address_per_minute),
        ("limits.key_per_minute", limits.key_per_minute),
        ("limits.tenant_per_minute", limits.tenant_per_minute),
        ("limits.key_requests", limits.key_requests),
        ("limits.key_streams", limits.key_streams),
    ] {
        if let Some(limit) = limit {
            range(key, limit.into(), 1, 1_000_000_000)?;
        }
    }
    store(&config.store)?;
    encryption(&config)?;
    vectors(&config)?;
    model(&config.model)?;
    queue(&config.queue)?;
    if config.cache.shared && config.redis.url.is_none() {
        return Err(ConfigError::Invalid {
            key: "cache.shared",
            detail: "needs redis.url, or LYCEUM_REDIS__URL".to_owned(),
        });
    }
    if config.queue.shared.is_some() && config.redis.url.is_none() {
        return Err(ConfigError::Invalid {
            key: "queue.shared",
            detail: "needs redis.url, or LYCEUM_REDIS__URL".to_owned(),
        });
    }
    layer(&config)?;
    for fallback in &config.fallback.models {
        model(fallback)?;
    }
    range(
        "memory.recent_messages",
        config.memory.recent_messages as u64,
        2,
        100,
    )?;
    range("memory.recalled", config.memory.recalled as u64, 0, 50)?;
    range("panel.rounds", config.panel.rounds.into(), 1, 3)?;
    spoken(&config)?;
    allowed_tools(&config)?;
    config.alerts.check()?;
    if !(0.0..=1.0).contains(&config.traces.sample_ratio) {
        return Err(ConfigError::Invalid {
            key: "traces.sample_ratio",
            detail: "is between 0 and 1".to_owned(),
        });
    }
    let data_dir = match &config.data.dir {
        Some(dir) => dir.clone(),
        None => platform_dir()?,
    };
    Ok(Resolved {
        config,
        listen,
        data_dir,
    })
}

fn store(store: &Store) -> Result<(), ConfigError> {
    let most = store.max_connections;
    range("store.max_connections", most.into(), 1, 10_000)?;
    range(
        "store.min_connections",
        store.min_connections.into(),
        0,
        most.into(),
    )?;
    range("store.idle_seconds", store.idle_seconds, 1, 86_400)?;
    range("store.wait_seconds", store.wait_seconds, 1, 600)?;
    range("store.statement_seconds", store.statement_seconds, 1, 600)?;
    match (store.kind, &store.url) {
        (StoreKind::Postgres, None) => Err(ConfigError::Invalid {
            key: "store.url",
            detail: "the kind `postgres` needs an address: set LYCEUM_STORE__URL to \
                     postgresql://user:password@host:5432/name"
                .to_owned(),
        }),
        (StoreKind::Sqlite | StoreKind::Json, Some(_)) => Err(ConfigError::Invalid {
            key: "store.kind",
            detail: "an address is given, but the kind has none: set it to `postgres`".to_owned(),
        }),
        _ => Ok(()),
    }
}

fn encryption(config: &Config) -> Result<(), ConfigError> {
    let privacy = &config.privacy;
    let invalid = |key, detail: &str| {
        Err(ConfigError::Invalid {
            key,
            detail: detail.to_owned(),
        })
    };
    if privacy.encryption_key_file.is_some() && privacy.encryption_key.is_some() {
        let detail = "is given as a file and as itself: give one of them";
        return invalid("privacy.encryption_key", detail);
    }
    if !privacy.is_encrypting() {
        return match privacy.encryption_old_key_files.is_empty() {
            true => Ok(()),
            false => invalid(
                "privacy.encryption_old_key_files",
                "old keys are given, and none that is used now: set privacy.encryption_key_file",
            ),
        };
    }
    match config.store.kind {
        StoreKind::Sqlite | StoreKind::Postgres => Ok(()),
        StoreKind::Json => invalid(
            "privacy.encryption_key_file",
            "store.kind `json` does not encrypt what it stores: leave it out, or use another kind",
        ),
    }
}

fn vectors(config: &Config) -> Result<(), ConfigError> {
    let vectors = &config.vectors;
    let limit = vectors.timeout_milliseconds;
    range("vectors.timeout_milliseconds", limit, 10, 60_000)?;
    let invalid = |key, detail: &str| {
        Err(ConfigError::Invalid {
            key,
            detail: detail.to_owned(),
        })
    };
    if vectors.kind == VectorsKind::Store {
        return Ok(());
    }
    if vectors.url.is_none() {
        let detail = "the kind `qdrant` needs an address such as http://127.0.0.1:6334";
        return invalid("vectors.url", detail);
    }
    if config.memory.encoder == "off" {
        let detail = "the kind `qdrant` needs vectors: set memory.encoder to `bundled` or a folder";
        return invalid("vectors.kind", detail);
    }
    if config.store.kind == StoreKind::Postgres {
        let detail = "the kind `qdrant` works beside store.kind `sqlite` and `json` only";
        return invalid("vectors.kind", detail);
    }
    Ok(())
}

fn model(model: &Model) -> Result<(), ConfigError> {
    for (key, value, most) in [
        (
            "model.connect_timeout_seconds",
            model.connect_timeout_seconds,
            120,
        ),
        (
            "model.first_token_timeout_seconds",
            model.first_token_timeout_seconds,
            600,
        ),
        (
            "model.chunk_timeout_seconds",
            model.chunk_timeout_seconds,
            600,
        ),
        (
            "model.total_timeout_seconds",
            model.total_timeout_seconds,
            3600,
        ),
    ] {
        if let Some(value) = value {
            range(key, value, 1, most)?;
        }
    }
    for endpoint in &model.endpoints {
        range("model.endpoints.weight", endpoint.weight.into(), 1, 1000)?;
    }
    let endpoints = model.endpoints.iter().filter_map(|end| end.queue.as_ref());
    endpoints.chain(&model.queue).try_for_each(queue)
}

fn queue(queue: &Queue) -> Result<(), ConfigError> {
    for (key, value) in [
        ("queue.requests_per_minute", queue.requests_per_minute),
        ("queue.tokens_per_minute", queue.tokens_per_minute),
        (
            "queue.input_tokens_per_minute",
            queue.input_tokens_per_minute,
        ),
        (
            "queue.output_tokens_per_minute",
            queue.output_tokens_per_minute,
        ),
    ] {
        if let Some(value) = value {
            range(key, value, 1, 1_000_000_000_000)?;
        }
    }
    let fewest = u64::from(queue.shared_replicas);
    range("queue.shared_replicas", fewest, 1, 1000)?;
    let dead_after = queue.shared_dead_after_seconds;
    range("queue.shared_dead_after_seconds", dead_after, 2, 600)?;
    range(
        "queue.shared_grace_seconds",
        queue.shared_grace_seconds,
        1,
        60,
    )?;
    range("queue.jitter_ms", queue.jitter_ms, 0, 10_000)?;
    range("queue.ageing_seconds", queue.ageing_seconds, 1, 3_600)?;
    share("queue.burst", queue.burst, 1.0)?;
    for (tenant, weight) in &queue.tenant_weights {
        if TenantId::new(tenant.as_str()).is_err() {
            return Err(ConfigError::Invalid {
                key: "queue.tenant_weights",
                detail: format!("{tenant:?} is no tenant's name"),
            });
        }
        range("queue.tenant_weights", u64::from(*weight), 1, 1000)?;
    }
    range("queue.max_concurrent", queue.max_concurrent, 1, 100_000)?;
    range("queue.capacity", queue.capacity as u64, 1, 10_000_000)
}

/// The decorators of the model layer.
fn layer(config: &Config) -> Result<(), ConfigError> {
    let breaker = &config.breaker;
    range("breaker.failures", breaker.failures.into(), 1, 1000)?;
    range("breaker.open_seconds", breaker.open_seconds, 1, 3600)?;
    range("breaker.probes", breaker.probes.into(), 1, 100)?;
    let retry = &config.retry;
    range("retry.attempts", retry.attempts.into(), 1, 10)?;
    range("retry.min_seconds", retry.min_seconds, 0, 600)?;
    range("retry.max_seconds", retry.max_seconds, 0, 600)?;
    share("retry.budget", retry.budget, 1.0)?;
    let cache = &config.cache;
    range("cache.ttl_seconds", cache.ttl_seconds, 1, 86_400)?;
    range(
        "cache.trouble_ttl_seconds",
        cache.trouble_ttl_seconds,
        1,
        86_400,
    )?;
    range("cache.max_mib", cache.max_mib as u64, 1, 65_536)?;
    let least = cache.semantic_threshold;
    if !(least > 0.0 && least <= 1.0) {
        return Err(ConfigError::Invalid {
            key: "cache.semantic_threshold",
            detail: format!("{least} is not above 0 and up to 1"),
        });
    }
    embedding(&config.embedding)?;
    let cost = &config.cost;
    for (key, dollars) in [
        ("cost.daily_usd", cost.daily_usd),
        ("cost.tenant_daily_usd", cost.tenant_daily_usd),
        ("cost.session_usd", cost.session_usd),
        ("cost.alert_request_usd", Some(cost.alert_request_usd)),
    ] {
        share(key, dollars.unwrap_or_default(), 1_000_000.0)?;
    }
    let hedge = &config.hedge;
    share("hedge.max_share", hedge.max_share, 1.0)?;
    share(
        "hedge.delay_seconds",
        hedge.delay_seconds.unwrap_or_default(),
        600.0,
    )
}

fn embedding(embedding: &Embedding) -> Result<(), ConfigError> {
    let items = embedding.batch_items as u64;
    range("embedding.batch_items", items, 1, 2_048)?;
    let wait = embedding.batch_wait_milliseconds;
    range("embedding.batch_wait_milliseconds", wait, 0, 10_000)?;
    let mib = embedding.cache_mib as u64;
    range("embedding.cache_mib", mib, 0, 65_536)?;
    let ttl = embedding.cache_ttl_seconds;
    range("embedding.cache_ttl_seconds", ttl, 1, 31_536_000)?;
    let mut queues = embedding.models.iter().map(|model| &model.queue);
    queues.try_for_each(queue)?;
    for model in &embedding.models {
        let dimensions = model.dimensions as u64;
        range("embedding.models.dimensions", dimensions, 1, 65_536)?;
    }
    Ok(())
}

fn share(key: &'static str, value: f64, most: f64) -> Result<(), ConfigError> {
    if (0.0..=most).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::Invalid {
        key,
        detail: format!("{value} is outside 0 to {most}"),
    })
}

/// What the student may spend, and the key of what is said of it.
fn spoken(config: &Config) -> Result<(), ConfigError> {
    if let Some(dollars) = config.student.turn_usd
        && !(dollars > 0.0 && dollars <= 1_000.0)
    {
        return Err(ConfigError::Invalid {
            key: "student.turn_usd",
            detail: format!("{dollars} is not above 0 and up to 1000"),
        });
    }
    let key = config.privacy.audit_key.as_ref();
    let key = key.map(|key| secret_file::key_of(key.expose_secret()));
    key.transpose().map_err(|error| ConfigError::Invalid {
        key: "privacy.audit_key",
        detail: error.to_string(),
    })?;
    Ok(())
}

/// Tools of other programs come later, but those programs are known.
fn allowed_tools(config: &Config) -> Result<(), ConfigError> {
    let named = config.tools.student.iter().flatten();
    let servers: Vec<&str> = config.mcp.servers.iter().map(|s| s.name.as_str()).collect();
    for name in named {
        let Some((server, tool)) = name.split_once(SEPARATOR) else {
            continue;
        };
        if servers.contains(&server) {
            continue;
        }
        let near = nearest(server, servers.iter().copied());
        let hint = match near {
            Some(near) => format!("did you mean `{near}{SEPARATOR}{tool}`?"),
            None if servers.is_empty() => "there are no [[mcp.servers]]".to_owned(),
            None => format!("there are: {}", servers.join(", ")),
        };
        return Err(ConfigError::Invalid {
            key: "tools.student",
            detail: format!(
                "{name:?} is a tool of an MCP server {server:?}, which is not there; {hint}"
            ),
        });
    }
    Ok(())
}

/// Accepts `host:port` with an address or `localhost`, where a bare port means loopback, and
/// `unix:` with a path.
fn listen(text: &str) -> Result<Address, ConfigError> {
    let text = text.trim();
    if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
        return Ok(Address::Unix(path.into()));
    }
    let address = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None if text.starts_with(':') => format!("0.0.0.0{text}"),
        None if text.parse::<u16>().is_ok() => format!("127.0.0.1:{text}"),
        None => text.to_owned(),
    };
    let parsed = address.parse().map(Address::Net);
    parsed.map_err(|_| ConfigError::Invalid {
        key: "server.listen",
        detail: format!("{text:?} is not an address and port such as 127.0.0.1:8080 or [::1]:8080, nor a socket such as unix:/run/lyceum.sock"),
    })
}

pub(super) fn range(
    key: &'static str,
    value: u64,
    least: u64,
    most: u64,
) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::Invalid {
        key,
        detail: format!("{value} is outside {least} to {most}"),
    })
}

/// `$XDG_DATA_HOME/lyceum` or `~/.local/share/lyceum`, and its like elsewhere.
fn platform_dir() -> Result<PathBuf, ConfigError> {
    use etcetera::AppStrategy;
    let names = etcetera::AppStrategyArgs {
        app_name: "lyceum".to_owned(),
        ..Default::default()
    };
    let dirs = etcetera::choose_app_strategy(names).map_err(|_| ConfigError::Invalid {
        key: "data.dir",
        detail: "this account has no home directory: give --data-dir".to_owned(),
    })?;
    Ok(dirs.data_dir())
}
