//! Builds the embedding models: each remembers vectors, is paid for, and gathers texts of
//! many callers before it asks its provider, through a queue of its own.
//!
//! One needs no provider: `hashing-v1-512` compares texts by their words and parts of
//! words. It knows no meaning, and its name does not pretend so.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use lyceum_core::Embedder;
use lyceum_gateway::Catalog;
use lyceum_llm::{
    BatchingEmbedder, BreakingEmbedder, CachedEmbedder, Dialect, EmbedEncoding, HashingEmbedder,
    MeteredEmbedder, OpenAiEmbedConfig, OpenAiEmbedder, Preset, PricedEmbedder, QueuedEmbedder,
    RetryingEmbedder, SharedRetryBudget,
};
use secrecy::SecretString;

use crate::{
    config::{Config, EmbeddingModel},
    models::{self, Accounts},
    provider::{Environment, address_of},
};

/// How many numbers the vectors of the embedder without a model have.
const HASHING_DIMENSIONS: usize = 512;

/// One embedding model, ready to be asked.
#[derive(Debug, Clone)]
pub(crate) struct Built {
    /// The model in its decorators.
    pub embedder: Arc<dyn Embedder>,
    /// Who runs it.
    pub owner: String,
    /// Whether the beginnings of its vectors are vectors too.
    pub shortens: bool,
}

/// Builds the embedding models of the configuration and the one without a model, which
/// comes last.
///
/// # Errors
///
/// A provider that is not known or speaks another dialect, a key that is missing, an
/// address that cannot be used, and a budget without a price.
pub(crate) fn build(
    config: &Config,
    accounts: &Accounts,
    environment: &impl Environment,
) -> Result<Vec<Built>> {
    let models = &config.embedding.models;
    let mut all = Vec::with_capacity(models.len() + 1);
    for model in models {
        let name = &model.name;
        let built = hosted(model, config, accounts, environment);
        all.push(built.with_context(|| format!("the embedding model {name:?}"))?);
    }
    all.push(Built {
        embedder: Arc::new(HashingEmbedder::new(HASHING_DIMENSIONS)),
        owner: "lyceum".to_owned(),
        shortens: false,
    });
    Ok(all)
}

/// Puts them on the list of what clients may ask.
pub(crate) fn lend(mut catalog: Catalog, embedders: &[Built]) -> Catalog {
    for built in embedders {
        catalog =
            catalog.with_embedder_of(&built.owner, Arc::clone(&built.embedder), built.shortens);
    }
    catalog
}

fn hosted(
    model: &EmbeddingModel,
    config: &Config,
    accounts: &Accounts,
    environment: &impl Environment,
) -> Result<Built> {
    let Some(preset) = Preset::by_name(&model.provider) else {
        bail!("there is no provider {:?}", model.provider);
    };
    if preset.dialect != Dialect::OpenAi {
        bail!("the provider {} has no embeddings", preset.name);
    }
    let variable = model.api_key_env.as_deref().or(preset.key_env);
    let key = match (&model.api_key, variable) {
        (Some(key), _) => Some(key.clone()),
        (None, Some(variable)) => environment.get(variable).map(SecretString::from),
        (None, None) => None,
    };
    if key.is_none() && (!preset.keyless || model.api_key_env.is_some()) {
        let variable = variable.unwrap_or("embedding.models.api_key");
        bail!("the provider {} needs a key: set {variable}", preset.name);
    }
    if !preset.keyless {
        accounts.check(&model.name)?;
    }
    let name = format!("{}/{}", preset.name, model.name);
    let queue = models::queue(&name, &model.queue, preset.dialect, None);
    let mut built = OpenAiEmbedConfig::from_preset(preset, &model.name, model.dimensions);
    built.queue = Some(queue.clone());
    let address = model.base_url.clone();
    match address.or_else(|| address_of(preset, environment)) {
        Some(url) => built.base_url = url,
        // OpenAI itself knows the short form; not every server of the dialect does.
        None if preset.name == "openai" => built.encoding = EmbedEncoding::Base64,
        None => {}
    }
    built.api_key = key;
    built.send_dimensions = model.send_dimensions;
    built.max_texts = config.embedding.batch_items;
    built.document_prefix.clone_from(&model.document_prefix);
    built.query_prefix.clone_from(&model.query_prefix);
    let breaking =
        BreakingEmbedder::new(OpenAiEmbedder::new(built)?, name, config.breaker.config())
            .with_rate_limits(config.breaker.rate_limits());
    let budget = SharedRetryBudget::new(config.retry.budget);
    let queued = QueuedEmbedder::new(breaking, queue)
        .with_budget(budget.clone())
        .with_weights(Arc::clone(&accounts.weights));
    let retrying = RetryingEmbedder::new(queued, config.retry.policy()).with_shared_budget(budget);
    let batching = config.embedding.batching();
    let batched = BatchingEmbedder::new(MeteredEmbedder::new(retrying), batching);
    let priced = PricedEmbedder::new(batched, &accounts.prices, accounts.ledger.clone());
    Ok(Built {
        embedder: Arc::new(CachedEmbedder::new(priced, config.embedding.cache())),
        owner: preset.name.to_owned(),
        shortens: model.shortens,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn config(text: &str) -> Config {
        toml::from_str(text).unwrap()
    }

    fn names(config: &Config, key: Option<&'static str>) -> Result<Vec<String>> {
        let environment: BTreeMap<&str, &str> =
            key.map(|key| ("OPENAI_API_KEY", key)).into_iter().collect();
        let accounts = Accounts::of(config, lyceum_llm::UserBudgets::default())?;
        let built = build(config, &accounts, &environment)?;
        let name = |built: &Built| built.embedder.model().to_owned();
        Ok(built.iter().map(name).collect())
    }

    #[tokio::test]
    async fn what_is_configured_comes_before_what_is_built_in() {
        assert_eq!(names(&config(""), None).unwrap(), ["hashing-v1-512"]);
        let text = "[[embedding.models]]\nprovider = \"openai\"\nname = \"e\"\ndimensions = 8\n";
        let with_key = names(&config(text), Some("sk")).unwrap();
        assert_eq!(with_key, ["e", "hashing-v1-512"]);
        let error = format!("{:#}", names(&config(text), None).unwrap_err());
        assert!(error.contains("OPENAI_API_KEY"), "{error}");
        let other = text.replace("openai", "anthropic");
        let error = format!("{:#}", names(&config(&other), Some("sk")).unwrap_err());
        assert!(error.contains("has no embeddings"), "{error}");
    }

    #[tokio::test]
    async fn a_budget_wants_the_price_of_who_embeds() {
        let model = "[[embedding.models]]\nprovider = \"openai\"\ndimensions = 8\n";
        let named = |name: &str| {
            let text = format!("[cost]\ndaily_usd = 1.0\n{model}name = {name:?}\n");
            names(&config(&text), Some("sk"))
        };
        assert!(named("text-embedding-3-small").is_ok());
        let error = format!("{:#}", named("unheard-of").unwrap_err());
        assert!(error.contains("no price for unheard-of"), "{error}");
    }
}
