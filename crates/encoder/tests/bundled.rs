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

#[tokio::test]
async fn a_question_does_not_wait_for_documents() {
    let encoder = Encoder::bundled().unwrap();
    let call = CallContext::new(Scope::local());
    let question: [Arc<str>; 1] = ["where does the cat sleep?".into()];
    // The model is unpacked by the first call.
    let first = encoder.embed(&call, EmbedKind::Query, &question).await;
    let documents: Vec<Arc<str>> = vec!["The cat naps on the couch".into(); 400];
    let mut work = tokio::spawn({
        let (encoder, call) = (encoder.clone(), call.clone());
        async move { encoder.embed(&call, EmbedKind::Document, &documents).await }
    });
    for _ in 0..3 {
        tokio::select! {
            biased;
            done = &mut work => panic!("400 texts were faster than a question: {}", done.is_ok()),
            answer = encoder.embed(&call, EmbedKind::Query, &question) => {
                assert_eq!(answer.unwrap().vectors, first.as_ref().unwrap().vectors);
            }
        }
    }
    assert_eq!(work.await.unwrap().unwrap().vectors.len(), 400);
}
