//! The bundled encoder keeps the port's contract and knows what is alike.

use std::sync::Arc;

use lyceum_core::{CallContext, EmbedKind, Embedder as _, Scope, embed_conformance};
use lyceum_encoder::Encoder;

#[tokio::test]
async fn it_keeps_the_contract() {
    embed_conformance::check(&Encoder::bundled().unwrap()).await;
}

#[tokio::test]
async fn texts_of_one_meaning_are_nearer() {
    let encoder = Encoder::bundled().unwrap();
    let texts: [Arc<str>; 3] = [
        "A kitten is sleeping on the sofa".into(),
        "The cat naps on the couch".into(),
        "The central bank raised its interest rate".into(),
    ];
    let call = CallContext::new(Scope::local());
    let found = encoder.embed(&call, EmbedKind::Document, &texts).await;
    let vectors = found.unwrap().vectors;
    let cosine = |a: usize, b: usize| -> f32 {
        vectors[a]
            .iter()
            .zip(&*vectors[b])
            .map(|(x, y)| x * y)
            .sum()
    };
    assert!((cosine(0, 0) - 1.0).abs() < 1e-3);
    assert!(cosine(0, 1) > 0.5, "{}", cosine(0, 1));
    assert!(cosine(0, 2) < 0.2, "{}", cosine(0, 2));
}
