//! By what memories are found beside their words, and the background work it takes.

use std::{path::Path, sync::Arc, time::Duration};

use lyceum_core::Embedder;
use lyceum_encoder::{Encoder, OpenError};
use lyceum_memory::Memory;
use tokio_util::sync::CancellationToken;

/// Memories that are given their vectors at once: a fraction of a second of work.
const BATCH: usize = 32;
/// How often waiting memories are looked for.
const EVERY: Duration = Duration::from_secs(1);
/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_secs(30);

/// The encoder that `memory.encoder` names; none for `off`. One that cannot be opened is
/// logged and done without: words alone always find something.
pub(crate) fn encoder(name: &str) -> Option<Arc<dyn Embedder>> {
    let opened = match name {
        "off" => return None,
        "bundled" => Encoder::bundled(),
        folder => open(Path::new(folder)),
    };
    match opened {
        Ok(encoder) => Some(Arc::new(encoder)),
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            tracing::error!(
                error,
                name,
                "no encoder: memories are found by their words alone"
            );
            None
        }
    }
}

/// The folder's last part is the model's id, so that another model has another space.
fn open(folder: &Path) -> Result<Encoder, OpenError> {
    let name = folder.file_name().unwrap_or(folder.as_os_str());
    Encoder::open(folder, &name.to_string_lossy())
}

/// Gives waiting memories their vectors, until it is cancelled.
pub(crate) async fn embed(memory: Memory, stop: CancellationToken) {
    if memory.meaning().is_none() {
        return;
    }
    let work = async {
        loop {
            let wait = match memory.embed_waiting(BATCH).await {
                Ok(0) => EVERY,
                Ok(_) => continue,
                Err(error) => {
                    tracing::warn!(error = %error, label = error.label(), "memories wait for their vectors");
                    PAUSE
                }
            };
            tokio::time::sleep(wait).await;
        }
    };
    stop.run_until_cancelled(work).await;
}
