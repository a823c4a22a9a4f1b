//! What every embedder must do, as a test that its crate runs.
//!
//! Invariant: nothing here says what a vector means, only how vectors relate.

#![expect(
    clippy::expect_used,
    reason = "this is a test suite: a failed expectation is its result"
)]

use std::sync::Arc;

use super::{EmbedKind, Embedder};
use crate::{CallContext, Scope};

/// How far apart two vectors of one text may be, for models whose arithmetic depends on
/// the size of a batch.
const TOLERANCE: f32 = 1e-3;

/// Runs every case.
///
/// # Panics
///
/// When the embedder breaks the contract of [`Embedder`]; the message says how.
pub async fn check(embedder: &dyn Embedder) {
    assert!(
        embedder.dimensions() > 0,
        "a vector has at least one number"
    );
    assert!(!embedder.model().is_empty(), "a model has an id");
    let call = CallContext::new(Scope::local());

    let none = embedder.embed(&call, EmbedKind::Document, &[]).await;
    let none = none.expect("no texts are embedded");
    assert!(none.vectors.is_empty(), "no texts give no vectors");

    let texts: Vec<Arc<str>> = (0..25)
        .map(|n| format!("text number {n}: 光合作用 🌱").into())
        .collect();
    for kind in [EmbedKind::Document, EmbedKind::Query] {
        let all = embedder.embed(&call, kind, &texts).await;
        let all = all.expect("texts are embedded");
        all.check(texts.len(), embedder.dimensions())
            .expect("the vectors have the promised shape");
        assert_eq!(all.usage.output.0, 0, "embeddings have no output tokens");
        for at in [0, 7, 24] {
            let one = embedder.embed(&call, kind, &texts[at..=at]).await;
            let one = one.expect("one text is embedded");
            let far = one.vectors[0]
                .iter()
                .zip(&*all.vectors[at])
                .any(|(a, b)| (a - b).abs() > TOLERANCE);
            assert!(!far, "a text's vector depends on its neighbours or place");
        }
        assert_ne!(
            all.vectors[0], all.vectors[1],
            "different texts have different vectors"
        );
    }

    let twice = [Arc::clone(&texts[3]), Arc::clone(&texts[3])];
    let twice = embedder.embed(&call, EmbedKind::Document, &twice).await;
    let twice = twice.expect("a text is embedded twice");
    assert_eq!(
        twice.vectors.len(),
        2,
        "a repeated text has a vector each time"
    );
}
