//! Asks a GGUF model one question, prints the answer as it comes, then the speed.
//!
//! `cargo run --release -p lyceum-llm-local --example ask -- model.gguf "Why is the sky blue?"`

use std::{
    error::Error,
    io::{Write, stdout},
    sync::Arc,
    time::Instant,
};

use futures::{StreamExt, executor::block_on};
use lyceum_core::{CallContext, ChatEvent, ChatModel, ChatRequest, Message, Scope};
use lyceum_llm_local::{LocalConfig, LocalModel};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(question)) = (arguments.next(), arguments.next()) else {
        return Err("usage: ask MODEL.gguf QUESTION".into());
    };
    let opening = Instant::now();
    let model = LocalModel::open(path, LocalConfig::default())?;
    let opened = opening.elapsed();

    let request = Arc::new(ChatRequest::new([Message::user(question)]));
    let asked = Instant::now();
    let mut stream = model.stream(CallContext::new(Scope::local()), request);
    let mut first = None;
    let mut usage = None;
    block_on(async {
        while let Some(event) = stream.next().await {
            match event? {
                ChatEvent::Text(text) => {
                    first.get_or_insert_with(|| asked.elapsed());
                    write!(stdout(), "{text}")?;
                    stdout().flush()?;
                }
                ChatEvent::Usage(total) => usage = Some(total),
                _ => {}
            }
        }
        Ok::<(), Box<dyn Error>>(())
    })?;
    if let (Some(first), Some(usage)) = (first, usage) {
        let decoding = asked.elapsed().saturating_sub(first).as_secs_f64();
        writeln!(
            stdout(),
            "\n\n{}: opened in {opened:.2?}; read {:.0} and wrote {:.1} tokens/s on {} threads",
            model.model(),
            usage.input.0 as f64 / first.as_secs_f64(),
            usage.output.0.saturating_sub(1) as f64 / decoding,
            lyceum_llm_local::threads(),
        )?;
    }
    Ok(())
}
