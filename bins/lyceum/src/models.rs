//! Builds the model layer: every provider in its decorators, and one model out of all.
//!
//! From the outside in: metered, fallback over the models, hedged, balanced over a model's
//! endpoints, and for each endpoint retrying, queued, breaking around the provider. Each
//! endpoint has its own queue, because each key has its own quota.

mod layout;
mod upstream;

use std::{path::PathBuf, sync::Arc};

use anyhow::Result;
use lyceum_agents::Mind;
use lyceum_core::ChatModel;
use lyceum_llm::{
    Balanced, Breaking, Circuit, Endpoint, Fallback, FixedAnswer, Hedged, Metered, Queued, Retrying,
};
use lyceum_llm_local::{LocalConfig, LocalModel};
use lyceum_queue::Queue;

use crate::{
    config::Config,
    provider::{Choice, Chosen, Hosted},
};

pub(crate) use layout::layout;

/// The model layer, ready to answer.
#[derive(Debug)]
pub(crate) struct Models {
    /// Who thinks.
    pub mind: Mind,
    /// The first model's name.
    pub name: Option<String>,
    /// What can be seen of it while it runs.
    pub watch: Watch,
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
pub(crate) async fn build(chosen: &Chosen, config: &Config) -> Result<Models> {
    let mut watch = Watch::default();
    let (first, name) = match &chosen.main {
        Choice::Offline => {
            return Ok(Models {
                mind: Mind::Offline,
                name: None,
                watch,
            });
        }
        Choice::Local(file) => local(file.clone()).await?,
        Choice::Hosted(model) => (hosted(model, config, &mut watch)?, model.model.clone()),
    };
    let mut others = Vec::new();
    for choice in &chosen.fallbacks {
        match choice {
            Choice::Offline => {}
            Choice::Local(file) => others.push(local(file.clone()).await?.0),
            Choice::Hosted(model) => others.push(hosted(model, config, &mut watch)?),
        }
    }
    let mut chain = Fallback::new(first, others);
    if let Some(text) = &config.fallback.degraded_answer {
        chain = chain.with_last_resort(FixedAnswer::new(text.as_str()));
    }
    Ok(Models {
        mind: Mind::Model(Arc::new(Metered::new(chain))),
        name: Some(name),
        watch,
    })
}

/// A model file run in this process, which has a queue of its own inside.
async fn local(file: PathBuf) -> Result<(Arc<dyn ChatModel>, String)> {
    let open = move || LocalModel::open(file, LocalConfig::default());
    let model = tokio::task::spawn_blocking(open).await??;
    let name = model.model().to_owned();
    Ok((Arc::new(model), name))
}

/// A hosted model with all its endpoints.
fn hosted(model: &Hosted, config: &Config, watch: &mut Watch) -> Result<Arc<dyn ChatModel>> {
    let mut endpoints = Vec::new();
    for at in 0..model.ways.len() {
        endpoints.push(endpoint(model, at, config, watch)?);
    }
    let first = endpoints.remove(0);
    let one = endpoints.is_empty();
    let model: Arc<dyn ChatModel> = match one {
        true => first.model,
        false => {
            let strategy = config.balance.strategy.strategy();
            Arc::new(Balanced::new(strategy, first, endpoints))
        }
    };
    Ok(match config.hedge.config() {
        Some(hedge) => Arc::new(Hedged::new(Arc::clone(&model), model, hedge)),
        None => model,
    })
}

/// One way to a hosted model: its provider in the decorators that belong to one key.
fn endpoint(model: &Hosted, at: usize, config: &Config, watch: &mut Watch) -> Result<Endpoint> {
    let way = &model.ways[at];
    let name = model.label(at);
    let queue = upstream::queue(&name, &way.queue, model.preset.dialect);
    let provider = upstream::provider(model, way, &queue)?;
    let breaking = Breaking::new(provider, name, config.breaker.config())
        .with_rate_limits(config.breaker.rate_limits());
    let circuit = breaking.circuit();
    let queued = Queued::new(breaking, queue.clone());
    let retrying = Retrying::new(queued, config.retry.policy()).with_budget(config.retry.budget);
    watch.queues.push(queue);
    watch.circuits.push(circuit.clone());
    Ok(Endpoint {
        model: Arc::new(retrying),
        weight: way.weight,
        price: way.price,
        circuit: Some(circuit),
    })
}
