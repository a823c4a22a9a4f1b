//! A chat model over HTTP, queued, retried and measured, against a simulated provider.
//!
//! ```console
//! cargo run -p lyceum-examples --example model
//! ```
//!
//! The provider runs inside this program and fails the first request; the caller sees one
//! answer, streamed. For a real one, take a preset's address and give it a key.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{
    io::{Write, stdout},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use futures::StreamExt;
use lyceum_core::{CallContext, ChatEvent, ChatModel, ChatRequest, Message, Scope};
use lyceum_llm::{Metered, OpenAi, OpenAiConfig, Preset, Queued, Retrying};
use lyceum_queue::{Queue, QueueConfig, Quotas, RetryPolicy};
use lyceum_sim::{Fault, FaultRule, Rule, SimConfig, Simulator, Spread};

const ANSWER: &str =
    "Blue light is scattered more than red light, so it reaches you from everywhere.";

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let provider = Simulator::start(SimConfig {
        per_token: Spread::Fixed(Duration::from_millis(20)),
        faults: vec![FaultRule::at(Fault::ServerError, 1..=1)],
        script: vec![Rule::text(ANSWER).when_user("sky")],
        ..SimConfig::default()
    })
    .await?;

    // One queue stands for one upstream; it learns the real quota from answers' headers.
    let quotas = Quotas {
        requests: Some(500),
        concurrency: Some(4),
        ..Quotas::default()
    };
    let queue = Queue::new(QueueConfig {
        quotas,
        ..QueueConfig::default()
    });
    let preset = Preset::by_name("openai").context("no such preset")?;
    let openai = OpenAi::new(OpenAiConfig {
        base_url: format!("{}/v1", provider.url()),
        api_key: Some("any key will do".to_owned().into()),
        queue: Some(queue.clone()),
        ..OpenAiConfig::from_preset(preset, "some-model")
    })?;

    // Each decorator is a `ChatModel` over another one. Inside out: a retry waits for its
    // turn again, and the measurement covers everything.
    let patience = RetryPolicy {
        min: Duration::from_millis(100),
        ..RetryPolicy::default()
    };
    let model = Metered::new(Retrying::new(Queued::new(openai, queue.clone()), patience));

    // Nothing is sent before the stream is polled; dropping it would cancel the call.
    let request = Arc::new(ChatRequest::new([Message::user("Why is the sky blue?")]));
    let mut events = model.stream(CallContext::new(Scope::local()), request);
    let (mut text, mut pieces) = (String::new(), 0);
    while let Some(event) = events.next().await {
        match event? {
            ChatEvent::Queued(place) => println!("number {} in line", place.position),
            ChatEvent::Started { provider, model } => println!("{provider}/{model} answers:"),
            ChatEvent::Text(piece) => {
                print!("{piece}");
                stdout().flush()?;
                text.push_str(&piece);
                pieces += 1;
            }
            ChatEvent::Usage(usage) => println!("\nused {}", usage.total()),
            ChatEvent::Finished(reason) => println!("finished: {reason:?}"),
            _ => {}
        }
    }
    assert_eq!(text, ANSWER);
    assert!(pieces > 1, "the answer came in {pieces} piece");

    let stats = provider.shutdown().await;
    println!(
        "the provider saw {} requests and failed {}",
        stats.requests,
        stats.faults_of(Fault::ServerError)
    );
    assert_eq!((stats.requests, stats.answered), (2, 1));
    Ok(())
}
