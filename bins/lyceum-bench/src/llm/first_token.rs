//! The time from asking to the first text: through the whole stack, and by the HTTP client
//! alone, in turns, so that both meet the same machine.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use lyceum_core::{CallContext, ChatEvent, ChatModel, ChatRequest, Message, Scope};
use lyceum_llm::{Metered, OpenAi, OpenAiConfig, Preset, Queued, Retrying};
use lyceum_queue::{Queue, QueueConfig, Quotas, RetryPolicy};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    Options,
    report::{Figures, say},
};

/// What the stack may add at the 99th percentile, in microseconds.
const TARGET_US: f64 = 200.0;

const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
    content-length: 107\r\n\r\n\
    data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n\
    data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

async fn answer(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let (mut buffer, mut filled) = (vec![0; 16 << 10], 0);
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        // Every request here ends with the end of its JSON object.
        if buffer[..filled].ends_with(b"}") {
            filled = 0;
            stream.write_all(ANSWER.as_bytes()).await?;
        }
    }
}

async fn serve() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/v1", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    Ok(url)
}

async fn through_the_stack(model: &dyn ChatModel, request: &Arc<ChatRequest>) -> Result<Duration> {
    let start = Instant::now();
    let mut stream = model.stream(CallContext::new(Scope::local()), Arc::clone(request));
    let mut first = None;
    while let Some(event) = stream.next().await {
        if let ChatEvent::Text(_) = event? {
            first.get_or_insert_with(|| start.elapsed());
        }
    }
    first.context("an answer without text")
}

async fn alone(client: &reqwest::Client, url: &str, body: &str) -> Result<Duration> {
    let start = Instant::now();
    let request = client.post(format!("{url}/chat/completions"));
    let mut response = request.body(body.to_owned()).send().await?;
    let chunk = response
        .chunk()
        .await?
        .context("an answer without a body")?;
    let first = start.elapsed();
    ensure!(chunk.starts_with(b"data: "), "another answer");
    while response.chunk().await?.is_some() {}
    Ok(first)
}

/// The time in microseconds that this share of the calls stayed within.
#[expect(
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    reason = "the rank is between 0 and the number of calls"
)]
fn percentile(times: &[Duration], share: f64) -> f64 {
    let rank = (share * times.len() as f64).ceil() as usize;
    times[rank.clamp(1, times.len()) - 1].as_secs_f64() * 1e6
}

pub(super) fn run(figures: Figures, options: &Options) -> Result<()> {
    if !options.wants("first_token") {
        return Ok(());
    }
    say("first_token");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(measure(figures, if options.quick { 500 } else { 20_000 }))
}

async fn measure(figures: Figures, calls: usize) -> Result<()> {
    let url = serve().await?;
    let preset = Preset::by_name("vllm").context("no such preset")?;
    let provider = OpenAi::new(OpenAiConfig {
        base_url: url.clone(),
        ..OpenAiConfig::from_preset(preset, "model")
    })?;
    let quotas = Quotas {
        requests: Some(100_000_000),
        ..Quotas::default()
    };
    let queue = Queue::new(QueueConfig {
        quotas,
        ..QueueConfig::default()
    });
    let queued = Queued::new(provider, queue);
    let model = Metered::new(Retrying::new(queued, RetryPolicy::default()));
    let request = Arc::new(ChatRequest::new([Message::user("Why is the sky blue?")]));
    let client = reqwest::Client::builder().no_proxy().build()?;
    let body = r#"{"model":"model","messages":[{"role":"user","content":"Why?"}],"stream":true}"#;

    let (mut stack, mut direct) = (Vec::new(), Vec::new());
    for call in 0..calls + calls / 10 {
        let one = through_the_stack(&model, &request).await?;
        let other = alone(&client, &url, body).await?;
        // The first ones warm up connections and caches.
        if call >= calls / 10 {
            stack.push(one);
            direct.push(other);
        }
    }
    stack.sort_unstable();
    direct.sort_unstable();
    for (metric, share) in [("p50", 0.5), ("p99", 0.99)] {
        let (ours, bare) = (percentile(&stack, share), percentile(&direct, share));
        figures.print("first_token/stack", metric, ours, "us", None)?;
        figures.print("first_token/direct", metric, bare, "us", None)?;
        let target = (metric == "p99").then_some(TARGET_US);
        figures.print("first_token/added", metric, ours - bare, "us", target)?;
    }
    Ok(())
}
