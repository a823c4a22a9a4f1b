//! What the program says to the person who started it.

use std::{
    io::{self, Write},
    process,
};

use anyhow::Result;

use crate::{compose::Server, config::Resolved, provider::Choice};

/// Prints a line or more to standard output. Nobody reading is no error.
pub(crate) fn say(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prints an error with its causes to standard error.
pub(crate) fn complain(error: &anyhow::Error) {
    let mut text = format!("error: {error}");
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // Many errors repeat their cause in their own text.
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Says what was chosen; the address stands last.
pub(crate) fn started(resolved: &Resolved, choice: &Choice, server: &Server) -> Result<()> {
    let queue = &resolved.config.queue;
    let quotas = [
        ("requests", queue.requests_per_minute),
        ("input tokens", queue.input_tokens_per_minute),
        ("output tokens", queue.output_tokens_per_minute),
    ];
    let set: Vec<String> = quotas
        .iter()
        .filter_map(|(what, limit)| limit.map(|limit| format!("{limit} {what} a minute")))
        .collect();
    let quota = if set.is_empty() {
        "no quota set".to_owned()
    } else {
        set.join(", ")
    };
    say(&format!(
        "Lyceum {version}\n  model    {choice}\n  store    {store}\n  queue    {concurrent} calls at once, {quota}\n  access   {who}\n  page     {url}",
        version = env!("CARGO_PKG_VERSION"),
        store = server.place,
        who = server.access.told(),
        concurrent = queue.max_concurrent,
        url = server.url(),
    ))
}

/// Ends the process at once: the second signal.
#[expect(clippy::exit, reason = "the person asked twice")]
pub(crate) fn abandon() {
    let _ = writeln!(io::stderr().lock(), "stopped without waiting");
    process::exit(130);
}
