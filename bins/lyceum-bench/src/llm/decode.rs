//! Streams of both dialects through the decoder, on one core.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lyceum_core::ChatEvent;
use lyceum_llm::{Dialect, decode::AnswerDecoder};
use serde_json::json;

use crate::{
    Options,
    machine::cpu_time,
    report::{Figures, say},
};

/// Events a second that one core has to decode.
const TARGET: f64 = 1e6;

/// Events of one stream.
const EVENTS: usize = 10_000;

struct Case {
    name: &'static str,
    dialect: Dialect,
    chunks: Vec<Vec<u8>>,
}

/// A chunk as OpenAI writes it. With `noise` it has the random field that makes each of
/// another length, so that every one has to be parsed.
fn openai(number: usize, noise: bool) -> String {
    let mut chunk = json!({"id": "chatcmpl-Bq2Xn7yqkzT0", "object": "chat.completion.chunk",
        "created": 1_764_000_000, "model": "gpt-5-mini", "service_tier": "default",
        "system_fingerprint": "fp_44709d6fcb", "choices": [{"index": 0,
        "delta": {"content": " word"}, "logprobs": null, "finish_reason": null}]});
    if noise {
        chunk["obfuscation"] = "x".repeat(1 + number % 16).into();
    }
    format!("data: {chunk}\n\n")
}

fn anthropic() -> String {
    let chunk = json!({"type": "content_block_delta", "index": 0,
        "delta": {"type": "text_delta", "text": " word"}});
    format!("event: content_block_delta\ndata: {chunk}\n\n")
}

fn cases() -> Vec<Case> {
    let events = |event: &dyn Fn(usize) -> String| (0..EVENTS).map(event).collect::<Vec<_>>();
    let apart = |events: Vec<String>| events.into_iter().map(String::into_bytes).collect();
    let together = |events: Vec<String>| {
        events
            .chunks(16)
            .map(|some| some.concat().into_bytes())
            .collect()
    };
    let case = |name, dialect, chunks| Case {
        name,
        dialect,
        chunks,
    };
    vec![
        case(
            "openai/one",
            Dialect::OpenAi,
            apart(events(&|n| openai(n, false))),
        ),
        case(
            "openai/sixteen",
            Dialect::OpenAi,
            together(events(&|n| openai(n, false))),
        ),
        case(
            "openai/parsed",
            Dialect::OpenAi,
            apart(events(&|n| openai(n, true))),
        ),
        case(
            "anthropic/one",
            Dialect::Anthropic,
            apart(events(&|_| anthropic())),
        ),
    ]
}

/// Decodes a stream; says how many texts it held.
fn texts(case: &Case) -> Result<usize> {
    let mut decoder = AnswerDecoder::new(case.dialect, "provider", "model");
    let (mut events, mut texts) = (Vec::new(), 0);
    for chunk in &case.chunks {
        decoder.feed(chunk, &mut events)?;
        let said = events.drain(..);
        texts += said
            .filter(|event| matches!(event, ChatEvent::Text(_)))
            .count();
    }
    Ok(texts)
}

pub(super) fn run(figures: Figures, options: &Options) -> Result<()> {
    let time = Duration::from_millis(if options.quick { 200 } else { 3_000 });
    for case in cases() {
        let name = format!("decode/{}", case.name);
        if !options.wants(&name) {
            continue;
        }
        say(&name);
        ensure!(texts(&case)? == EVENTS, "{name} lost texts");
        let (start, cpu) = (Instant::now(), cpu_time()?);
        let mut decoded = 0;
        while start.elapsed() < time {
            decoded += texts(&case)?;
        }
        let cpu = cpu_time()?.saturating_sub(cpu).as_secs_f64();
        let rate = decoded as f64 / cpu;
        figures.print(&name, "events", rate, "1/s of CPU", Some(TARGET))?;
        figures.print(&name, "cpu", 1e9 / rate, "ns", None)?;
    }
    Ok(())
}
