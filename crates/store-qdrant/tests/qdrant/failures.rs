//! A server that is away, late, lost, or says what it should not.

use lyceum_core::Vector;
use lyceum_memory::{
    MemoryId, MemoryKind, MemoryStore, NewMemory, NewVector, StoreError, VectorSpace, VectorStore,
};
use lyceum_store_qdrant::{AddressError, QdrantOptions, QdrantVectors};

use crate::{
    rules::{both, scope, space},
    stand_in::{Fault, SOON, StandIn},
};

fn hurried() -> QdrantOptions {
    QdrantOptions {
        timeout: SOON,
        connect_timeout: SOON,
        ..QdrantOptions::default()
    }
}

#[tokio::test]
async fn a_memory_waits_until_the_server_has_its_vector() {
    let (server, address) = StandIn::start().await;
    let both = both(&address, hurried());
    let own = scope("acme");
    both.store(&own, "first", [1.0, 0.0, 0.0]).await;
    let memory = NewMemory {
        id: MemoryId::new("a").unwrap(),
        ..NewMemory::new(MemoryKind::Fact, "topic", "words")
    };
    both.memories.put(&own, &memory).await.unwrap();
    let new = NewVector {
        scope: own.clone(),
        id: memory.id.clone(),
        vector: Some(Vector::from([1.0, 0.0, 0.0])),
    };
    let faults = [
        (Fault::Unavailable, "unavailable"),
        (Fault::Late, "unavailable"),
        (Fault::Refuses, "internal"),
    ];
    for (fault, label) in faults {
        server.set_fault(fault);
        let failed = both
            .vectors
            .set_vectors(&space(), std::slice::from_ref(&new))
            .await;
        let error = failed.unwrap_err();
        assert_eq!(error.label(), label, "{fault:?}: {error:?}");
        assert_eq!(error.is_retryable(), label == "unavailable");
        let waiting = both.vectors.unembedded(&space(), 9).await.unwrap();
        assert_eq!(waiting.len(), 1, "{fault:?}");
        let query = [1.0, 0.0, 0.0];
        let near = both.vectors.nearest(&own, &space(), &query, 9, &[]).await;
        assert_eq!(near.unwrap_err().label(), label);
    }
    server.set_fault(Fault::None);
    both.settle(&own, "a", [1.0, 0.0, 0.0]).await;
    assert_eq!(both.nearest(&own, 9).await, ["a", "first"]);
}

#[tokio::test]
async fn a_server_that_lost_everything_is_filled_again() {
    let (server, address) = StandIn::start().await;
    let both = both(&address, hurried());
    let own = scope("acme");
    both.store(&own, "a", [1.0, 0.0, 0.0]).await;
    server.lose();
    let query = [1.0, 0.0, 0.0];
    let near = both.vectors.nearest(&own, &space(), &query, 9, &[]).await;
    assert!(near.unwrap_err().is_retryable(), "the call that finds out");
    let waiting = both.vectors.unembedded(&space(), 9).await.unwrap();
    assert_eq!(waiting.len(), 1, "its memories wait again");
    both.settle(&own, "a", [1.0, 0.0, 0.0]).await;
    assert_eq!(both.nearest(&own, 9).await, ["a"]);
}

#[tokio::test]
async fn a_deletion_is_not_kept_from_happening() {
    let (server, address) = StandIn::start().await;
    let both = both(&address, hurried());
    let own = scope("acme");
    both.store(&own, "a", [1.0, 0.0, 0.0]).await;
    server.set_fault(Fault::Unavailable);
    let id = MemoryId::new("a").unwrap();
    assert!(both.memories.delete(&own, &id).await.unwrap());
    server.set_fault(Fault::None);
    assert_eq!(both.nearest(&own, 9).await, [""; 0]);
    assert_eq!(server.points(), 0, "the search that met it removed it");
}

#[tokio::test]
async fn a_server_that_ignores_filters_or_says_nothing_is_not_believed() {
    let (server, address) = StandIn::start().await;
    let both = both(&address, hurried());
    both.store(&scope("other"), "secret", [1.0, 0.0, 0.0]).await;
    let own = scope("acme");
    for fault in [Fault::Unfiltered, Fault::Bare] {
        if fault == Fault::Bare {
            both.store(&own, "own", [1.0, 0.0, 0.0]).await;
        }
        server.set_fault(fault);
        let query = [1.0, 0.0, 0.0];
        let near = both.vectors.nearest(&own, &space(), &query, 9, &[]).await;
        assert_eq!(near.unwrap_err().label(), "internal", "{fault:?}");
        server.set_fault(Fault::None);
    }
}

#[tokio::test]
async fn shapes_addresses_and_prefixes_are_checked() {
    let (_, address) = StandIn::start().await;
    let both = both(&address, hurried());
    let query = [1.0, 0.0];
    let near = both
        .vectors
        .nearest(&scope("acme"), &space(), &query, 9, &[])
        .await;
    assert!(matches!(
        near,
        Err(StoreError::Dimensions {
            found: 2,
            expected: 3
        })
    ));
    let wider = VectorSpace {
        dimensions: 4,
        ..space()
    };
    both.store(&scope("acme"), "a", [1.0, 0.0, 0.0]).await;
    let query = [1.0, 0.0, 0.0, 0.0];
    let near = both
        .vectors
        .nearest(&scope("acme"), &wider, &query, 9, &[])
        .await;
    assert_eq!(near.unwrap(), [], "another shape is another collection");
    let make = |address: &str, options| {
        let rows = both.rows.clone();
        QdrantVectors::new(&address.into(), options, rows.clone(), rows)
    };
    let wrong = make("not an address", hurried()).unwrap_err();
    assert_eq!(wrong, AddressError::Address);
    let options = QdrantOptions {
        prefix: "A*".to_owned(),
        ..hurried()
    };
    assert_eq!(make(&address, options).unwrap_err(), AddressError::Prefix);
}
