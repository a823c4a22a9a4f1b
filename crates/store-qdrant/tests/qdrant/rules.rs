//! The rules of the port, and what Qdrant gets to see.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;

use lyceum_core::{Scope, TenantId, UserId, Vector};
use lyceum_memory::{
    InMemory, MemoryId, MemoryKind, MemoryStore, NewMemory, NewVector, VectorSpace, VectorStore,
    Whose, conformance,
};
use lyceum_store_qdrant::{QdrantMemories, QdrantOptions, QdrantVectors};

use crate::stand_in::StandIn;

/// Rows in memory, their vectors at an address.
pub(crate) struct Both {
    pub(crate) rows: Arc<InMemory>,
    pub(crate) vectors: Arc<QdrantVectors>,
    pub(crate) memories: QdrantMemories,
}

pub(crate) fn both(address: &str, options: QdrantOptions) -> Both {
    let rows = Arc::new(InMemory::default());
    let vectors = QdrantVectors::new(&address.into(), options, rows.clone(), rows.clone());
    let vectors = Arc::new(vectors.unwrap());
    let memories = QdrantMemories::new(rows.clone(), Arc::clone(&vectors));
    Both {
        rows,
        vectors,
        memories,
    }
}

pub(crate) fn space() -> VectorSpace {
    VectorSpace {
        model: "Some Model/v1".to_owned(),
        dimensions: 3,
    }
}

pub(crate) fn scope(tenant: &str) -> Scope {
    Scope {
        tenant: TenantId::new(tenant).unwrap(),
        ..Scope::local()
    }
}

impl Both {
    /// Stores a memory with its vector.
    pub(crate) async fn store(&self, scope: &Scope, name: &str, vector: [f32; 3]) {
        let memory = NewMemory {
            id: MemoryId::new(name).unwrap(),
            ..NewMemory::new(MemoryKind::Fact, "topic", format!("the words of {name}"))
        };
        self.memories.put(scope, &memory).await.unwrap();
        self.settle(scope, name, vector).await;
    }

    pub(crate) async fn settle(&self, scope: &Scope, name: &str, vector: [f32; 3]) {
        let new = NewVector {
            scope: scope.clone(),
            id: MemoryId::new(name).unwrap(),
            vector: Some(Vector::from(vector)),
        };
        let settled = self.vectors.set_vectors(&space(), &[new]).await;
        assert_eq!(settled.unwrap(), 1);
    }

    pub(crate) async fn nearest(&self, scope: &Scope, limit: usize) -> Vec<String> {
        let (query, space) = ([1.0, 0.0, 0.0], space());
        let near = self.vectors.nearest(scope, &space, &query, limit, &[]);
        let near = near.await.unwrap().into_iter();
        near.map(|near| near.id.to_string()).collect()
    }
}

async fn conforms(address: &str) {
    let both = both(address, QdrantOptions::default());
    for _ in 0..2 {
        let verified = conformance::verify_vectors(&both.memories, &*both.vectors).await;
        if let Err(violation) = verified {
            panic!("{violation}");
        }
    }
}

#[tokio::test]
async fn the_store_conforms_over_the_stand_in() {
    let (_, address) = StandIn::start().await;
    conforms(&address).await;
}

#[tokio::test]
async fn the_store_conforms_over_the_server_that_is_named() {
    // Nobody is expected to have one; without it the stand-in is all that is tested.
    if let Ok(address) = std::env::var("QDRANT_URL") {
        conforms(&address).await;
    }
}

#[tokio::test]
async fn every_search_names_the_owner_and_no_word_is_in_the_server() {
    let (server, address) = StandIn::start().await;
    let both = both(&address, QdrantOptions::default());
    let own = scope("acme");
    both.store(&own, "a", [1.0, 0.0, 0.0]).await;
    both.store(&scope("other"), "a", [1.0, 0.0, 0.0]).await;
    assert_eq!(
        server.points(),
        2,
        "the same id of two tenants is two points"
    );
    assert_eq!(both.nearest(&own, 9).await, ["a"]);
    let also = [MemoryId::new("a").unwrap()];
    let query = [1.0, 0.0, 0.0];
    let near = both.vectors.nearest(&own, &space(), &query, 0, &also).await;
    assert_eq!(near.unwrap().len(), 1);
    let filters = server.filters();
    assert_eq!(filters.len(), 2);
    for filter in filters {
        let text = format!("{filter:?}");
        for part in ["\"tenant\"", "\"acme\"", "\"user\"", "\"agent\""] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }
    assert!(
        !server.payloads().contains("words"),
        "{}",
        server.payloads()
    );
    let [(name, indexes)] = &server.collections()[..] else {
        panic!("one collection");
    };
    assert!(
        name.starts_with("lyceum_some_model_v1_") && name.ends_with("_3"),
        "{name}"
    );
    assert_eq!(indexes[..], ["tenant", "user", "agent"]);
}

#[tokio::test]
async fn a_point_is_the_same_for_everybody_and_a_deletion_reaches_it() {
    let (server, address) = StandIn::start().await;
    let both = both(&address, QdrantOptions::default());
    let own = scope("acme");
    for _ in 0..3 {
        both.store(&own, "a", [1.0, 0.0, 0.0]).await;
    }
    assert_eq!(server.points(), 1);
    let id = MemoryId::new("a").unwrap();
    assert!(both.memories.delete(&own, &id).await.unwrap());
    assert_eq!(server.points(), 0);
}

#[tokio::test]
async fn points_without_a_row_are_not_given_and_go() {
    let (server, address) = StandIn::start().await;
    let both = both(&address, QdrantOptions::default());
    let own = scope("acme");
    for name in ["a", "b", "c"] {
        both.store(&own, name, [1.0, 0.0, 0.0]).await;
    }
    // Behind the back of the vectors, as while the server was away.
    for name in ["a", "b"] {
        let id = MemoryId::new(name).unwrap();
        both.rows.delete(&own, &id).await.unwrap();
    }
    assert_eq!(both.nearest(&own, 1).await, ["c"], "orphans take no places");
    let id = MemoryId::new("c").unwrap();
    both.rows.delete(&own, &id).await.unwrap();
    let other = NewMemory {
        id,
        ..NewMemory::new(MemoryKind::Fact, "topic", "something else")
    };
    both.memories.put(&own, &other).await.unwrap();
    assert_eq!(
        both.nearest(&own, 9).await,
        [""; 0],
        "its vector is another's"
    );
    assert_eq!(server.points(), 0);
}

#[tokio::test]
async fn a_check_removes_orphans_and_has_what_is_missing_made_again() {
    let (server, address) = StandIn::start().await;
    let both = both(&address, QdrantOptions::default());
    let own = scope("acme");
    for name in ["a", "b", "c", "d", "e"] {
        both.store(&own, name, [1.0, 0.0, 0.0]).await;
    }
    for name in ["a", "e"] {
        let id = MemoryId::new(name).unwrap();
        both.rows.delete(&own, &id).await.unwrap();
    }
    let found = both.vectors.reconcile(&space()).await.unwrap();
    assert_eq!(
        (found.points, found.orphans, found.rebuilding),
        (5, 2, false)
    );
    assert_eq!(server.points(), 3);
    server.lose_a_point();
    let count = both.vectors.count_vectors(&space()).await.unwrap();
    assert_eq!((count.vectors, count.missed), (2, 1));
    assert!(both.vectors.reconcile(&space()).await.unwrap().rebuilding);
    let waiting = both.vectors.unembedded(&space(), 9).await.unwrap();
    assert_eq!(waiting.len(), 3, "all are made again");
}

#[tokio::test]
async fn a_tenant_is_erased_and_no_other() {
    let (server, address) = StandIn::start().await;
    let both = both(&address, QdrantOptions::default());
    let (acme, other) = (scope("acme"), scope("other"));
    both.store(&acme, "a", [1.0, 0.0, 0.0]).await;
    both.store(&acme, "b", [0.0, 1.0, 0.0]).await;
    both.store(&other, "a", [1.0, 0.0, 0.0]).await;
    let mut whose = Whose {
        tenant: acme.tenant.clone(),
        user: Some(UserId::new("nobody").unwrap()),
    };
    assert_eq!(both.vectors.erase(&whose).await.unwrap(), 0);
    whose.user = None;
    assert_eq!(both.vectors.erase(&whose).await.unwrap(), 2);
    assert_eq!(server.points(), 1);
    assert_eq!(both.nearest(&other, 9).await, ["a"]);
    assert_eq!(both.vectors.erase(&whose).await.unwrap(), 0);
}
