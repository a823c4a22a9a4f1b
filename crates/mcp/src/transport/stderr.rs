//! What a server's process writes on its standard error, in our log: bounded lines, and not
//! too many of them.

use std::time::Duration;

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    time::Instant,
};

use crate::{ServerName, paced::Paced, plain::line};

/// The most bytes of a line that are kept.
const MAX_LINE: usize = 1_000;
/// Lines that are logged in one second.
const MAX_LINES: u32 = 20;
const SECOND: Duration = Duration::from_secs(1);

/// Logs lines until the other end is closed.
pub(super) async fn log(server: ServerName, stderr: impl AsyncRead + Unpin) {
    let mut reader = BufReader::new(Paced::new(stderr));
    let mut kept = Vec::new();
    let (mut since, mut lines) = (Instant::now(), 0);
    while let Ok(bytes) = reader.fill_buf().await {
        if bytes.is_empty() {
            break;
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let piece = &bytes[..end.unwrap_or(bytes.len())];
        let room = MAX_LINE.saturating_sub(kept.len());
        kept.extend_from_slice(&piece[..piece.len().min(room)]);
        let read = piece.len() + usize::from(end.is_some());
        reader.consume(read);
        if end.is_none() {
            continue;
        }
        let now = Instant::now();
        if now.duration_since(since) >= SECOND {
            if lines > MAX_LINES {
                tracing::info!(%server, lines = lines - MAX_LINES, "more lines of the server are left out");
            }
            (since, lines) = (now, 0);
        }
        lines += 1;
        if lines <= MAX_LINES {
            let words = line(&String::from_utf8_lossy(&kept), MAX_LINE);
            tracing::info!(%server, words, "the server's standard error");
        }
        kept.clear();
    }
}
