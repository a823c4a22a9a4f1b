//! The whole model layer: cache, fallback, balancing, retries, queue, prices and breaker.
//!
//! ```console
//! cargo run -p lyceum-examples --example model_layer
//! ```
//!
//! Three simulated providers run inside this program: one of the two endpoints of the main
//! model is down, then both are, and another model answers. A question that is asked again
//! costs nothing, and at last the budget says no.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use lyceum_core::{
    CacheUse, CallContext, ChatAnswer, ChatError, ChatModel, ChatRequest, Message, MicroUsd, Scope,
    Tokens,
};
use lyceum_llm::{
    AnswerCacheConfig, Balanced, Breaking, Budgets, Cached, Endpoint, Fallback, InMemoryAnswers,
    Ledger, Metered, OpenAi, OpenAiConfig, Preset, PriceTable, Priced, Queued, Retrying, Strategy,
};
use lyceum_queue::{BreakerConfig, Queue, QueueConfig, RetryPolicy};
use lyceum_sim::{Fault, FaultRule, Rule, Running, SimConfig, Simulator};

async fn provider(words: &str, faults: Vec<FaultRule>) -> anyhow::Result<Running> {
    Ok(Simulator::start(SimConfig {
        script: vec![Rule::text(words)],
        faults,
        ..SimConfig::default()
    })
    .await?)
}

/// One key and address of a model, in the decorators that belong to it.
fn endpoint(at: &Running, model: &str, ledger: &Ledger) -> anyhow::Result<Endpoint> {
    let preset = Preset::by_name("openai").context("no such preset")?;
    let queue = Queue::named(model, QueueConfig::default());
    let openai = OpenAi::new(OpenAiConfig {
        base_url: format!("{}/v1", at.url()),
        api_key: Some("any key will do".to_owned().into()),
        queue: Some(queue.clone()),
        ..OpenAiConfig::from_preset(preset, model)
    })?;
    let breaker = BreakerConfig {
        failures: 2,
        ..BreakerConfig::default()
    };
    let breaking = Breaking::new(openai, at.url(), breaker);
    let circuit = breaking.circuit();
    let prices = Arc::new(PriceTable::built_in());
    let priced = Priced::new(breaking, model, prices, ledger.clone());
    let patience = RetryPolicy {
        attempts: 2,
        min: Duration::from_millis(50),
        max: Duration::from_millis(100),
    };
    let model = Retrying::new(Queued::new(priced, queue), patience);
    Ok(Endpoint {
        circuit: Some(circuit),
        ..Endpoint::new(Arc::new(model))
    })
}

async fn ask(model: &impl ChatModel, question: &str) -> Result<ChatAnswer, ChatError> {
    let request = ChatRequest {
        max_output: Some(Tokens(100)),
        cache: CacheUse::Allow,
        ..ChatRequest::new([Message::user(question)])
    };
    let stream = model.stream(CallContext::new(Scope::local()), Arc::new(request));
    let answer = ChatAnswer::collect(stream).await?;
    let from = answer.origin.map_or("asked now", |origin| origin.label());
    let name = answer.model.as_deref().unwrap_or_default();
    println!("{question:<12} {name}, {from}: {}", answer.text);
    Ok(answer)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let good = provider(
        "the main model's words",
        vec![FaultRule::at(Fault::ServerError, 3..=99)],
    );
    let (good, down, other) = tokio::try_join!(
        good,
        provider("", vec![FaultRule::always(Fault::ServerError)]),
        provider("the other model's words", vec![]),
    )?;

    // Everybody of a tenant together may spend $0.0004 a day.
    let ledger = Ledger::new(Budgets {
        tenant_day: Some(MicroUsd(400)),
        ..Budgets::default()
    });
    let main = Balanced::new(
        Strategy::Weighted,
        endpoint(&down, "gpt-4.1-mini", &ledger)?,
        [endpoint(&good, "gpt-4.1-mini", &ledger)?],
    );
    let second = endpoint(&other, "gpt-4.1-nano", &ledger)?.model;
    let chain = Fallback::new(Arc::new(main), [second]);
    let store = Arc::new(InMemoryAnswers::new(1 << 20));
    let model = Metered::new(Cached::new(chain, store, AnswerCacheConfig::default()));

    let first = ask(&model, "why?").await?;
    let again = ask(&model, "why?").await?;
    assert_eq!(first.text, again.text);
    assert_eq!(again.origin.map(|origin| origin.label()), Some("cached"));

    let mut asked = 0;
    let refused = loop {
        asked += 1;
        match ask(&model, &format!("question {asked}")).await {
            Ok(_) => assert!(asked < 1_000, "the budget stops nothing"),
            Err(error) => break error,
        }
    };
    println!("{refused}");
    assert_eq!(refused.label(), "over_budget");
    println!("spent {} of $0.0004", ledger.today().spent);
    assert!(ledger.today().spent.to_micro() <= MicroUsd(400));
    assert!(other.stats().answered > 0 && down.stats().answered == 0);
    Ok(())
}
