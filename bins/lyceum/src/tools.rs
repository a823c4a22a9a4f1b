//! Builds the tools as configured: what is set up, under each one's policy.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use lyceum_core::{Approval, Audience, ChatModel, Tool};
use lyceum_memory::Memory;
use lyceum_tools::{
    CachePolicy, Calculator, Clock, Data, Documents, FetchPage, KeyStrategy, Limited, Recall,
    SearchEngine, SystemResolver, ToolPolicy, Translate, WarmPolicy, WebRules, WebSearch,
    Wikipedia,
};

use crate::{
    config::{ToolEngine, ToolSettings, Tools},
    mcp::SEPARATOR,
};

/// The tools that the student may call.
///
/// # Errors
///
/// Whatever cannot be set up, under the key that says it.
pub(crate) async fn build(
    config: &Tools,
    memory: &Memory,
    model: Option<Arc<dyn ChatModel>>,
) -> Result<Vec<Arc<Limited>>> {
    let mut built = Vec::new();
    let mut add = |tool: Arc<dyn Tool>, settings: &ToolSettings, policy: ToolPolicy| {
        let name = tool.spec().name.clone();
        let policy = applied(policy, settings).with_context(|| format!("tools.{name}"))?;
        built.push(Arc::new(Limited::new(tool, policy)));
        anyhow::Ok(())
    };
    let on = |settings: &ToolSettings| settings.enabled.unwrap_or(true);
    let asked_for = |settings: &ToolSettings| settings.enabled.unwrap_or(false);
    if on(&config.calculate) {
        let tool = Arc::new(Calculator::default());
        add(tool, &config.calculate, plain())?;
    }
    if on(&config.date_time) {
        add(Arc::new(Clock::default()), &config.date_time, plain())?;
    }
    if on(&config.recall) {
        let tool = Arc::new(Recall::new(memory.clone()));
        add(tool, &config.recall, plain())?;
    }
    if let Some(folder) = config.documents.as_deref().filter(|_| on(&config.look_up)) {
        let tool = Documents::open(folder).await.context("tools.documents")?;
        add(Arc::new(tool), &config.look_up, plain())?;
    }
    if let Some(folder) = config.data.as_deref().filter(|_| on(&config.query_data)) {
        add(Arc::new(data(folder).await?), &config.query_data, plain())?;
    }
    if let Some(tool) = search(config)?.filter(|_| on(&config.web_search)) {
        add(Arc::new(tool), &config.web_search, warm(300))?;
    }
    if asked_for(&config.fetch_page) {
        add(Arc::new(pages(config)?), &config.fetch_page, reading())?;
    }
    if asked_for(&config.wikipedia) {
        let address = config.wikipedia_url.as_deref();
        let tool = Wikipedia::new(address.unwrap_or(Wikipedia::ADDRESS));
        let tool = tool.context("tools.wikipedia_url")?;
        add(Arc::new(tool), &config.wikipedia, warm(300))?;
    }
    if asked_for(&config.translate) {
        let translation = &config.translation;
        let tool = match (&translation.url, model) {
            (Some(url), _) => Translate::server(url, translation.api_key.clone())
                .context("tools.translation.url")?,
            (None, Some(model)) => Translate::model(model),
            (None, None) => bail!(
                "tools.translate: set tools.translation.url, or use a model: without both \
                 nobody translates"
            ),
        };
        let policy = ToolPolicy {
            timeout: Duration::from_secs(30),
            max_per_minute: Some(300),
            cache: Some(CachePolicy::default()),
            ..ToolPolicy::default()
        };
        add(Arc::new(tool), &config.translate, policy)?;
    }
    allowed(built, config.student.as_deref())
}

/// Those named, or all.
fn allowed(built: Vec<Arc<Limited>>, names: Option<&[String]>) -> Result<Vec<Arc<Limited>>> {
    let Some(names) = names else {
        return Ok(built);
    };
    let known: Vec<&str> = built.iter().map(|tool| tool.spec().name.as_str()).collect();
    // The tools of other programs come later, and are named after their server.
    let mut own = names.iter().filter(|name| !name.contains(SEPARATOR));
    if let Some(unknown) = own.find(|name| !known.contains(&name.as_str())) {
        let known = known.join(", ");
        bail!("tools.student: there is no tool {unknown:?}; there are: {known}");
    }
    let named = |tool: &Arc<Limited>| names.contains(&tool.spec().name);
    Ok(built.into_iter().filter(named).collect())
}

async fn data(folder: &Path) -> Result<Data> {
    Data::open(folder).await.context("tools.data")
}

fn search(config: &Tools) -> Result<Option<WebSearch>> {
    let search = &config.search;
    let engine = match (search.engine, &config.searxng_url) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => bail!("set tools.searxng_url or tools.search.engine, not both"),
        (None, Some(url)) => {
            let tool = WebSearch::searxng(url).context("tools.searxng_url")?;
            return Ok(Some(tool));
        }
        (Some(ToolEngine::SearXng), None) => SearchEngine::SearXng,
        (Some(ToolEngine::Tavily), None) => SearchEngine::Tavily,
        (Some(ToolEngine::Brave), None) => SearchEngine::Brave,
        (Some(ToolEngine::Bing), None) => SearchEngine::Bing,
    };
    let tool = WebSearch::new(engine, search.url.as_deref(), search.api_key.clone());
    Ok(Some(tool.context("tools.search")?))
}

fn pages(config: &Tools) -> Result<FetchPage> {
    let pages = &config.pages;
    if !(1 << 10..=16 << 20).contains(&pages.max_bytes) {
        bail!("tools.pages.max_bytes: must be between 1 KiB and 16 MiB");
    }
    let networks = pages.networks.iter().map(|net| {
        net.parse().with_context(|| {
            format!("tools.pages.networks: {net:?} is no network such as 10.1.0.0/16")
        })
    });
    let rules = WebRules {
        ports: pages.ports.clone(),
        networks: networks.collect::<Result<_>>()?,
        hosts: pages.hosts.clone(),
        max_bytes: pages.max_bytes,
        ..WebRules::default()
    };
    FetchPage::new(rules, Arc::new(SystemResolver)).context("tools.fetch_page")
}

fn plain() -> ToolPolicy {
    ToolPolicy::default()
}

/// For a service that is asked the same things by many.
fn warm(max_per_minute: u64) -> ToolPolicy {
    let cache = CachePolicy {
        warm: Some(WarmPolicy::default()),
        ..CachePolicy::default()
    };
    ToolPolicy {
        max_per_minute: Some(max_per_minute),
        cache: Some(cache),
        ..ToolPolicy::default()
    }
}

/// For pages: one that is down says nothing about the others.
fn reading() -> ToolPolicy {
    ToolPolicy {
        max_concurrent: 16,
        max_per_minute: Some(120),
        timeout: Duration::from_secs(15),
        cache: Some(CachePolicy::default()),
        breaker: None,
        ..ToolPolicy::default()
    }
}

/// The policy with what is set in its place.
pub(crate) fn applied(mut policy: ToolPolicy, settings: &ToolSettings) -> Result<ToolPolicy> {
    if let Some(most) = settings.max_concurrent {
        policy.max_concurrent = within("max_concurrent", most, 1, 100_000)?;
    }
    match settings.max_per_minute {
        Some(0) => policy.max_per_minute = None,
        Some(most) => {
            policy.max_per_minute = Some(within("max_per_minute", most, 1, 1_000_000)?);
        }
        None => {}
    }
    if let Some(seconds) = settings.timeout_seconds {
        policy.timeout = Duration::from_secs(within("timeout_seconds", seconds, 1, 600)?);
    }
    if let Some(most) = settings.max_chars {
        policy.max_chars = within("max_chars", most, 100, 15_000)?;
    }
    match settings.cache {
        Some(false) => policy.cache = None,
        Some(true) => {
            policy.cache.get_or_insert_default();
        }
        None => {}
    }
    if let Some(cache) = &mut policy.cache {
        applied_to_cache(cache, settings)?;
    }
    match (settings.breaker_failures, &mut policy.breaker) {
        (Some(0), breaker) => *breaker = None,
        (Some(failures), breaker) => {
            let failures = within("breaker_failures", failures, 1, 1_000)?;
            breaker.get_or_insert_default().failures = failures;
        }
        (None, _) => {}
    }
    if let (Some(seconds), Some(breaker)) = (settings.breaker_open_seconds, &mut policy.breaker) {
        let seconds = within("breaker_open_seconds", seconds, 1, 3_600)?;
        breaker.open_for = Duration::from_secs(seconds);
    }
    if let (Some(attempts), Some(retry)) = (settings.attempts, &mut policy.retry) {
        retry.attempts = within("attempts", attempts, 1, 5)?;
    }
    policy.default_result.clone_from(&settings.default_result);
    if settings.approval == Some(true) {
        policy.approval = Approval::Needed;
    }
    Ok(policy)
}

fn applied_to_cache(cache: &mut CachePolicy, settings: &ToolSettings) -> Result<()> {
    if let Some(seconds) = settings.cache_ttl_seconds {
        cache.ttl = Duration::from_secs(within("cache_ttl_seconds", seconds, 1, 86_400)?);
    }
    if let Some(seconds) = settings.cache_stale_seconds {
        cache.stale = Duration::from_secs(within("cache_stale_seconds", seconds, 0, 604_800)?);
    }
    if let Some(fields) = &settings.cache_key {
        cache.key = KeyStrategy::Chosen(fields.clone());
    }
    if settings.cache_across_tenants == Some(false) {
        cache.audience = Audience::Tenant;
    }
    if let Some(mib) = settings.cache_mib {
        cache.max_bytes = within("cache_mib", mib, 1, 1_024)? << 20;
    }
    match settings.warm_seconds {
        Some(0) => cache.warm = None,
        Some(seconds) => {
            let seconds = within("warm_seconds", seconds, 1, 86_400)?;
            cache.warm.get_or_insert_default().every = Duration::from_secs(seconds);
        }
        None => {}
    }
    if let (Some(results), Some(warm)) = (settings.warm_results, &mut cache.warm) {
        warm.hottest = within("warm_results", results, 1, 1_000)?;
    }
    Ok(())
}

fn within<N: PartialOrd + std::fmt::Display + Copy>(
    key: &str,
    value: N,
    least: N,
    most: N,
) -> Result<N> {
    if value < least || value > most {
        bail!("{key}: must be between {least} and {most}");
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_takes_the_place_of_the_default() {
        let settings: ToolSettings = toml::from_str(
            "max_per_minute = 0\ntimeout_seconds = 3\ncache_key = [\"query\"]\n\
             cache_across_tenants = false\nwarm_seconds = 0\nbreaker_failures = 9\n\
             default_result = \"later\"\napproval = true",
        )
        .unwrap();
        let policy = applied(warm(300), &settings).unwrap();
        assert_eq!(policy.max_per_minute, None);
        assert_eq!(policy.timeout, Duration::from_secs(3));
        let cache = policy.cache.unwrap();
        assert_eq!(cache.key, KeyStrategy::Chosen(vec!["query".to_owned()]));
        assert_eq!((cache.audience, cache.warm), (Audience::Tenant, None));
        assert_eq!(policy.breaker.unwrap().failures, 9);
        assert_eq!(policy.default_result.as_deref(), Some("later"));
        assert_eq!(policy.approval, Approval::Needed);
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let settings = ToolSettings {
            timeout_seconds: Some(0),
            ..ToolSettings::default()
        };
        let error = applied(plain(), &settings).unwrap_err();
        assert_eq!(
            error.to_string(),
            "timeout_seconds: must be between 1 and 600"
        );
    }
}
