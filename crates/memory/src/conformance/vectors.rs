//! The rules of the vector port.

use lyceum_core::{Scope, Vector};

use super::{Violation, fresh_scope, id, refused, same};
use crate::{
    InMemory, MemoryId, MemoryKind, MemoryStore, Near, NewMemory, NewVector, VectorSpace,
    VectorStore,
};

/// Checks the vector port of a store that also keeps the memories. It works in spaces of its
/// own and may run beside others, but not beside a test that counts memories.
///
/// # Errors
///
/// The first rule found broken.
pub async fn verify_vectors(
    memories: &dyn MemoryStore,
    vectors: &dyn VectorStore,
) -> Result<(), Violation> {
    let space = space();
    what_is_stored_waits(memories, vectors, &space).await?;
    the_nearest_are_the_references(memories, vectors).await?;
    what_is_superseded_is_not_near(memories, vectors).await?;
    shapes_are_checked(memories, vectors).await?;
    strangers_see_nothing(memories, vectors).await
}

fn space() -> VectorSpace {
    VectorSpace {
        model: MemoryId::random().to_string(),
        dimensions: 4,
    }
}

fn memory(name: &str) -> Result<NewMemory, Violation> {
    Ok(NewMemory {
        id: id(MemoryId::new(name))?,
        ..NewMemory::new(MemoryKind::Fact, "topic", format!("text of {name}"))
    })
}

fn vector(scope: &Scope, name: &str, numbers: [f32; 4]) -> Result<NewVector, Violation> {
    Ok(NewVector {
        scope: scope.clone(),
        id: id(MemoryId::new(name))?,
        vector: Some(Vector::from(numbers)),
    })
}

fn names(found: &[Near]) -> Vec<&str> {
    found.iter().map(|near| near.id.as_str()).collect()
}

/// The memories of the scope that wait, whatever else the store holds.
async fn waiting(
    store: &dyn VectorStore,
    space: &VectorSpace,
    scope: &Scope,
) -> Result<Vec<String>, Violation> {
    let all = store.unembedded(space, usize::MAX >> 1).await?;
    let own = all
        .into_iter()
        .filter(|one| one.scope.tenant == scope.tenant);
    Ok(own.map(|one| one.id.to_string()).collect())
}

async fn what_is_stored_waits(
    memories: &dyn MemoryStore,
    store: &dyn VectorStore,
    space: &VectorSpace,
) -> Result<(), Violation> {
    let scope = fresh_scope();
    for name in ["a", "b", "c"] {
        memories.put(&scope, &memory(name)?).await?;
    }
    let rule = "what is stored waits for a vector, in order";
    same(rule, waiting(store, space, &scope).await?, ["a", "b", "c"])?;
    let none = NewVector {
        vector: None,
        ..vector(&scope, "b", [0.0; 4])?
    };
    let gone = vector(&scope, "never", [1.0; 4])?;
    let some = [vector(&scope, "a", [1.0, 0.0, 0.0, 0.0])?, none, gone];
    let settled = store.set_vectors(space, &some).await?;
    same("what is gone is not settled", settled, 2)?;
    same(
        "a replay settles them again",
        store.set_vectors(space, &some).await?,
        2,
    )?;
    let rule = "what was settled waits no longer, vector or not";
    same(rule, waiting(store, space, &scope).await?, ["c"])?;
    let c = id(MemoryId::new("c"))?;
    memories.delete(&scope, &c).await?;
    same(
        "what is deleted does not wait",
        waiting(store, space, &scope).await?,
        [""; 0],
    )?;
    memories.put(&scope, &memory("c")?).await?;
    same(
        "what comes after it waits",
        waiting(store, space, &scope).await?,
        ["c"],
    )?;
    let other = self::space();
    let rule = "every space has its own vectors";
    same(rule, waiting(store, &other, &scope).await?.len(), 3)?;
    let count = store.count_vectors(space).await?;
    same(
        "settled and vectors are counted",
        (count.settled, count.vectors, count.missed),
        (2, 1, 0),
    )?;
    same(
        "all vectors are forgotten",
        store.forget_vectors(space).await?,
        1,
    )?;
    same(
        "and wait again",
        waiting(store, space, &scope).await?.len(),
        3,
    )
}

async fn what_is_superseded_is_not_near(
    memories: &dyn MemoryStore,
    store: &dyn VectorStore,
) -> Result<(), Violation> {
    let (scope, space) = (fresh_scope(), space());
    let all: Vec<String> = (0..40).map(|n| format!("m{n}")).collect();
    let mut vectors = Vec::new();
    for (n, name) in (0_i16..).zip(&all) {
        memories.put(&scope, &memory(name)?).await?;
        vectors.push(vector(&scope, name, [1.0, f32::from(n), 0.0, 0.0])?);
    }
    store.set_vectors(&space, &vectors).await?;
    let first = &all[..38];
    let ids = first.iter().map(|name| id(MemoryId::new(name)));
    let successor = NewMemory {
        supersedes: ids.collect::<Result<_, _>>()?,
        ..memory("new")?
    };
    memories.put(&scope, &successor).await?;
    let also = [id(MemoryId::new("m1"))?];
    let near = store.nearest(&scope, &space, &[1.0, 0.0, 0.0, 0.0], 2, &also);
    let rule = "what is superseded is not near, and hides nothing that is";
    same(rule, names(&near.await?), ["m38", "m39"])
}

async fn the_nearest_are_the_references(
    memories: &dyn MemoryStore,
    store: &dyn VectorStore,
) -> Result<(), Violation> {
    let (reference, scope, space) = (InMemory::default(), fresh_scope(), space());
    let rows = [
        ("a", [1.0, 0.0, 0.0, 0.0]),
        ("b", [9.0, 1.0, 0.0, 0.0]),
        ("c", [0.0, 2.0, 0.0, 0.0]),
        ("d", [-1.0, 0.0, 0.0, 0.0]),
        ("e", [0.0, 0.0, 0.0, 0.0]),
        ("f", [3.0, 0.0, 0.0, 0.0]),
        ("g", [0.5, 0.5, 0.5, 0.5]),
    ];
    for (name, numbers) in rows {
        let (memory, vector) = (memory(name)?, vector(&scope, name, numbers)?);
        memories.put(&scope, &memory).await?;
        reference.put(&scope, &memory).await?;
        store
            .set_vectors(&space, std::slice::from_ref(&vector))
            .await?;
        reference.set_vectors(&space, &[vector]).await?;
    }
    let also = [id(MemoryId::new("d"))?, id(MemoryId::new("e"))?];
    for round in 0..3 {
        for query in [[1.0, 0.0, 0.0, 0.0], [0.0, 4.0, 1.0, 0.0], [0.0; 4]] {
            for (limit, also) in [(3, &[][..]), (2, &also), (9, &also), (0, &also)] {
                let got = store.nearest(&scope, &space, &query, limit, also).await?;
                let want = reference
                    .nearest(&scope, &space, &query, limit, also)
                    .await?;
                same("the nearest are the reference's", names(&got), names(&want))?;
                let far = |(a, b): (&Near, &Near)| (a.similarity - b.similarity).abs() > 1e-5;
                let close = !got.iter().zip(&want).any(far);
                same("similarities are the reference's", close, true)?;
            }
        }
        match round {
            // What was read before must not hide what comes later.
            0 => {
                let changed = vector(&scope, "c", [7.0, 1.0, 0.0, 0.0])?;
                store
                    .set_vectors(&space, std::slice::from_ref(&changed))
                    .await?;
                reference.set_vectors(&space, &[changed]).await?;
            }
            _ => {
                let a = id(MemoryId::new("a"))?;
                memories.delete(&scope, &a).await?;
                reference.delete(&scope, &a).await?;
            }
        }
    }
    Ok(())
}

async fn shapes_are_checked(
    memories: &dyn MemoryStore,
    store: &dyn VectorStore,
) -> Result<(), Violation> {
    let (scope, space) = (fresh_scope(), space());
    memories.put(&scope, &memory("a")?).await?;
    let wrong = NewVector {
        vector: Some(Vector::from([1.0, 2.0])),
        ..vector(&scope, "a", [0.0; 4])?
    };
    let rule = "a vector of another shape is refused";
    refused(
        rule,
        store.set_vectors(&space, &[wrong]).await,
        "dimensions",
    )?;
    let got = store.nearest(&scope, &space, &[1.0], 3, &[]).await;
    refused("a query of another shape is refused", got, "dimensions")
}

async fn strangers_see_nothing(
    memories: &dyn MemoryStore,
    store: &dyn VectorStore,
) -> Result<(), Violation> {
    let (scope, stranger, space) = (fresh_scope(), fresh_scope(), space());
    memories.put(&scope, &memory("secret")?).await?;
    store
        .set_vectors(&space, &[vector(&scope, "secret", [1.0; 4])?])
        .await?;
    let secret = [id(MemoryId::new("secret"))?];
    let got = store
        .nearest(&stranger, &space, &[1.0; 4], 9, &secret)
        .await?;
    same("another owner sees no vector", got, vec![])?;
    let theirs = vector(&stranger, "secret", [-1.0; 4])?;
    same(
        "another owner sets no vector",
        store.set_vectors(&space, &[theirs]).await?,
        0,
    )?;
    let own = store.nearest(&scope, &space, &[1.0; 4], 9, &[]).await?;
    same("the owner's stays", own[0].similarity > 0.99, true)
}
