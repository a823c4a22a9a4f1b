//! Builds the model layer: every provider in its decorators, and one model out of all.
//!
//! From the outside in: metered, cached, fallback over the models, hedged, balanced over a
//! model's endpoints, and for each endpoint retrying, queued, priced, breaking, and
//! planned for the prompt cache, around the provider. Each endpoint has its own queue, because each key has its own quota.

mod layout;
mod shared;
mod upstream;

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use anyhow::{Result, bail};
use lyceum_agents::Mind;
use lyceum_core::{ChatModel, Embedder, TenantId};
use lyceum_gateway::Catalog;
use lyceum_llm::{
    Balanced, Breaking, Cached, Circuit, Endpoint, Fallback, FixedAnswer, Hedged, Ledger, Metered,
    PriceTable, Priced, Queued, Retrying, SharedRetryBudget, Trouble, UserBudgets,
};
use lyceum_llm_local::{LocalConfig, LocalModel};
use lyceum_queue::Queue;

use crate::{
    config::Config,
    cost,
    embedders::{self, Built},
    provider::{Choice, Chosen, Hosted},
};

pub(crate) use layout::layout;
pub(crate) use upstream::queue;

/// The model layer, ready to answer.
#[derive(Debug)]
pub(crate) struct Models {
    /// Who thinks.
    pub mind: Mind,
    /// The first model's name.
    pub name: Option<String>,
    /// The models that clients may ask directly.
    pub catalog: Catalog,
    /// What can be seen of it while it runs.
    pub watch: Watch,
    /// What calls cost.
    pub ledger: Ledger,
}

/// Who pays for calls, and who has which share of the queues.
#[derive(Debug)]
pub(crate) struct Accounts {
    pub prices: Arc<PriceTable>,
    pub ledger: Ledger,
    pub weights: Arc<HashMap<TenantId, u32>>,
}

impl Accounts {
    /// Those of the configuration, and what users may spend. Needs a runtime with time.
    ///
    /// # Errors
    ///
    /// A file of prices that cannot be read, a tenant's name that is none.
    pub(crate) fn of(config: &Config, users: UserBudgets) -> Result<Self> {
        let ledger = Ledger::new(config.cost.budgets());
        ledger.limit_users(users);
        Ok(Self {
            prices: Arc::new(cost::table(config.cost.prices.as_deref())?),
            ledger,
            weights: Arc::new(weights(config)?),
        })
    }

    /// Refuses a model without a price where there are budgets.
    ///
    /// # Errors
    ///
    /// That.
    pub(crate) fn check(&self, model: &str) -> Result<()> {
        if self.ledger.has_budgets() && self.prices.price(model).is_none() {
            bail!(
                "there is a budget, under [cost] or of a key, but no price for {model}: name a file with its price as cost.prices"
            );
        }
        Ok(())
    }
}

/// What health checks see of the model layer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watch {
    /// The endpoints' queues.
    pub queues: Vec<Queue>,
    /// Their circuit breakers.
    pub circuits: Vec<Circuit>,
}

/// Builds the models chosen.
///
/// # Errors
///
/// A model file that cannot be opened, an address or a key that cannot be used.
pub(crate) async fn build(
    chosen: &Chosen,
    config: &Config,
    accounts: Accounts,
    embedders: &[Built],
) -> Result<Models> {
    let comparing = comparing(config, embedders)?;
    let mut built = Building {
        config,
        watch: Watch::default(),
        accounts,
    };
    let (first, name) = match &chosen.main {
        Choice::Offline => {
            return Ok(Models {
                mind: Mind::Offline,
                name: None,
                catalog: embedders::lend(Catalog::default(), embedders),
                watch: built.watch,
                ledger: built.accounts.ledger,
            });
        }
        Choice::Local(file) => local(file.clone(), &built.accounts.ledger).await?,
        Choice::Hosted(model) => (built.hosted(model)?, model.model.clone()),
    };
    let (mut others, mut names) = (Vec::new(), Vec::new());
    for choice in &chosen.fallbacks {
        match choice {
            Choice::Offline => {}
            Choice::Local(file) => {
                let (model, name) = local(file.clone(), &built.accounts.ledger).await?;
                names.push(name);
                others.push(model);
            }
            Choice::Hosted(model) => {
                names.push(model.model.clone());
                others.push(built.hosted(model)?);
            }
        }
    }
    let alone = others.clone();
    let mut chain = Fallback::new(first, others);
    if let Some(text) = &config.fallback.degraded_answer {
        chain = chain.with_last_resort(FixedAnswer::new(text.as_str()));
    }
    let Building {
        watch, accounts, ..
    } = built;
    let model: Arc<dyn ChatModel> = match config.cache.config() {
        Some(cache) => {
            let store = shared::answers(config)?;
            let trouble = Trouble::new(watch.circuits.clone(), watch.queues.clone());
            let cached = Cached::new(chain, store, cache).with_trouble(trouble);
            Arc::new(match comparing {
                Some(embedder) => cached.with_semantic(embedder, config.cache.likeness()),
                None => cached,
            })
        }
        None => Arc::new(chain),
    };
    let model: Arc<dyn ChatModel> = Arc::new(Metered::new(model));
    // The first model's name stands for the whole chain, the others for themselves.
    let mut catalog = Catalog::default().with_model(&name, model.name(), Arc::clone(&model));
    for (name, model) in names.iter().zip(alone) {
        let metered: Arc<dyn ChatModel> = Arc::new(Metered::new(model));
        catalog = catalog.with_model(name, metered.name(), Arc::clone(&metered));
    }
    catalog = embedders::lend(catalog, embedders);
    Ok(Models {
        mind: Mind::Model(model),
        name: Some(name),
        catalog,
        watch,
        ledger: accounts.ledger,
    })
}

/// Shares of tenants.
fn weights(config: &Config) -> Result<HashMap<TenantId, u32>> {
    let weights = config.queue.tenant_weights.iter();
    weights
        .map(|(tenant, weight)| Ok((TenantId::new(tenant.as_str())?, *weight)))
        .collect()
}

/// The embedder that finds questions alike, where answers are given again for those.
fn comparing(config: &Config, embedders: &[Built]) -> Result<Option<Arc<dyn Embedder>>> {
    let Some(name) = &config.cache.semantic else {
        return Ok(None);
    };
    let mut named = embedders
        .iter()
        .filter(|built| built.embedder.model() == name);
    match named.next() {
        Some(built) => Ok(Some(Arc::clone(&built.embedder))),
        None => {
            let known: Vec<&str> = embedders.iter().map(|e| e.embedder.model()).collect();
            let known = known.join(", ");
            bail!("`cache.semantic`: there is no embedding model {name:?}; there are: {known}")
        }
    }
}

/// A model file run in this process, which has a queue of its own inside. It costs nothing,
/// whatever its name; what it uses is counted.
async fn local(file: PathBuf, ledger: &Ledger) -> Result<(Arc<dyn ChatModel>, String)> {
    let open = move || LocalModel::open(file, LocalConfig::default());
    let model = tokio::task::spawn_blocking(open).await??;
    let name = model.model().to_owned();
    let counted = Priced::new(model, name.as_str(), Arc::default(), ledger.clone());
    Ok((Arc::new(counted), name))
}

/// What is shared by the models that are built.
struct Building<'a> {
    config: &'a Config,
    watch: Watch,
    accounts: Accounts,
}

impl Building<'_> {
    /// A hosted model with all its endpoints.
    fn hosted(&mut self, model: &Hosted) -> Result<Arc<dyn ChatModel>> {
        if !model.preset.keyless {
            self.accounts.check(&model.model)?;
        }
        let first = self.endpoint(model, 0)?;
        let mut others = Vec::new();
        for at in 1..model.ways.len() {
            others.push(self.endpoint(model, at)?);
        }
        let model: Arc<dyn ChatModel> = match others.is_empty() {
            true => first.model,
            false => {
                let strategy = self.config.balance.strategy.strategy();
                Arc::new(Balanced::new(strategy, first, others))
            }
        };
        Ok(match self.config.hedge.config() {
            Some(hedge) => Arc::new(Hedged::new(Arc::clone(&model), model, hedge)),
            None => model,
        })
    }

    /// One way to a hosted model: its provider in the decorators that belong to one key.
    fn endpoint(&mut self, model: &Hosted, at: usize) -> Result<Endpoint> {
        let config = self.config;
        let way = &model.ways[at];
        let name = model.label(at);
        let quota = shared::ledger(model, at, config)?;
        let queue = upstream::queue(&name, &way.queue, model.preset.dialect, quota);
        let provider = upstream::provider(model, way, &queue)?;
        let breaking = Breaking::new(provider, name, config.breaker.config())
            .with_rate_limits(config.breaker.rate_limits());
        let circuit = breaking.circuit();
        let priced = Priced::new(
            breaking,
            model.model.as_str(),
            Arc::clone(&self.accounts.prices),
            self.accounts.ledger.clone(),
        );
        let budget = SharedRetryBudget::new(config.retry.budget);
        let queued = Queued::new(priced, queue.clone())
            .with_budget(budget.clone())
            .with_weights(Arc::clone(&self.accounts.weights));
        let retrying = Retrying::new(queued, config.retry.policy()).with_shared_budget(budget);
        self.watch.queues.push(queue);
        self.watch.circuits.push(circuit.clone());
        Ok(Endpoint {
            model: Arc::new(retrying),
            weight: way.weight,
            price: way.price,
            circuit: Some(circuit),
        })
    }
}
