//! The rules of what stands beside a memory.

use super::{Subject, Violation, fresh_scope, id, same, strangers, turn};
use crate::{Beside, MemoryId, MemoryKind, NewMemory, NewTurn, StoreError, Timestamp};

pub(super) async fn verify(subject: &dyn Subject) -> Result<(), Violation> {
    neighbours_are_of_the_same_session(subject).await?;
    a_deleted_neighbour_makes_way(subject).await
}

/// A turn whose memories have these names; all are of one moment, as in an imported turn.
fn said(name: &str, memories: &[(&str, MemoryKind)]) -> Result<NewTurn, Violation> {
    let memories = memories.iter().map(|&(name, kind)| {
        Ok(NewMemory {
            id: id(MemoryId::new(name))?,
            importance: 0.75,
            created_at: Some(Timestamp(1_600_000_000_000)),
            ..NewMemory::new(kind, "topic", format!("text of {name}"))
        })
    });
    Ok(NewTurn {
        memories: memories.collect::<Result<_, Violation>>()?,
        ..turn(name, &["a", "b"])?
    })
}

fn ids(names: &[&str]) -> Result<Vec<MemoryId>, Violation> {
    names.iter().map(|name| id(MemoryId::new(name))).collect()
}

fn pairs(found: &[Beside]) -> Vec<(&str, &str)> {
    found
        .iter()
        .map(|one| (one.of.as_str(), one.memory.id.as_str()))
        .collect()
}

async fn neighbours_are_of_the_same_session(subject: &dyn Subject) -> Result<(), Violation> {
    let (store, scope) = (subject.memories(), fresh_scope());
    let other = fresh_scope().session;
    let other = other.map(|session| scope.clone().with_session(session));
    let Some(other) = other else {
        return same("the suite's own scopes have a session", false, true);
    };
    let sessions = subject.sessions();
    let episode = MemoryKind::Episode;
    // Names fall while the order rises, so that no order of names looks right.
    let first = said("1", &[("z", episode), ("y", episode)])?;
    sessions.append(&scope, &first).await?;
    let between = said("1", &[("w", episode)])?;
    sessions.append(&other, &between).await?;
    let second = said("2", &[("f", MemoryKind::Fact), ("x", episode)])?;
    sessions.append(&scope, &second).await?;
    let mut nowhere = scope.clone();
    nowhere.session = None;
    let unbound = NewMemory {
        id: id(MemoryId::new("u"))?,
        ..NewMemory::new(episode, "", "of no session")
    };
    store.put(&nowhere, &unbound).await?;
    let asked = ids(&["y", "z", "w", "f", "u", "none", "x"])?;
    let found = store.beside(&nowhere, &asked).await?;
    same(
        "episodes stand beside those of their session, in the order of storing",
        pairs(&found),
        vec![("y", "z"), ("y", "x"), ("z", "y"), ("x", "y")],
    )?;
    let memory = &found[0].memory;
    same(
        "a neighbour is whole",
        (
            memory.topic.as_str(),
            memory.text.as_str(),
            memory.importance,
            memory.created_at,
            memory.score,
        ),
        (
            "topic",
            "text of z",
            0.75,
            Timestamp(1_600_000_000_000),
            0.0,
        ),
    )?;
    same(
        "nothing stands beside nothing",
        store.beside(&scope, &[]).await?,
        vec![],
    )?;
    for stranger in strangers(subject, &scope).await? {
        let seen: Result<_, StoreError> = store.beside(&stranger, &asked).await;
        same("another owner sees no neighbours", seen?, vec![])?;
    }
    Ok(())
}

async fn a_deleted_neighbour_makes_way(subject: &dyn Subject) -> Result<(), Violation> {
    let (store, scope) = (subject.memories(), fresh_scope());
    let episode = MemoryKind::Episode;
    let all = said("1", &[("a", episode), ("b", episode), ("c", episode)])?;
    subject.sessions().append(&scope, &all).await?;
    store.delete(&scope, &id(MemoryId::new("b"))?).await?;
    let found = store.beside(&scope, &ids(&["a", "b", "c"])?).await?;
    same(
        "a deleted memory is nobody's neighbour",
        pairs(&found),
        vec![("a", "c"), ("c", "a")],
    )
}
