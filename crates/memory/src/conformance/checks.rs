//! The rules of the operator's port.

use lyceum_core::{Scope, SessionId, UserId, Vector};

use super::{Subject, Violation, fresh_scope, id, same, turn, with_job};
use crate::{
    Claim, ClaimRequest, MemoryId, MemoryKind, NewMemory, NewVector, StoreCheck, VectorSpace,
    VectorStore, Whose,
};

/// Checks the operator's port over a store whose other ports pass [`verify`](super::verify).
///
/// # Errors
///
/// The first rule found broken.
pub async fn verify_checks(
    subject: &dyn Subject,
    check: &dyn StoreCheck,
    vectors: Option<&dyn VectorStore>,
) -> Result<(), Violation> {
    what_was_stored_is_sound(subject, check).await?;
    owners_are_paged(subject, check).await?;
    erasing_takes_all_and_no_more(subject, check, vectors).await
}

async fn fill(subject: &dyn Subject, scope: &Scope, kind: &str) -> Result<(), Violation> {
    for name in ["one", "two"] {
        let mut turn = with_job(turn(name, &["said", "answered"])?, kind);
        turn.memories.push(NewMemory {
            id: id(MemoryId::new(format!("memory-{name}")))?,
            context: "harbour".into(),
            ..NewMemory::new(
                MemoryKind::Episode,
                "tides",
                format!("swordfish number {name}"),
            )
        });
        subject.sessions().append(scope, &turn).await?;
    }
    Ok(())
}

async fn what_was_stored_is_sound(
    subject: &dyn Subject,
    check: &dyn StoreCheck,
) -> Result<(), Violation> {
    let (scope, kind) = (fresh_scope(), super::fresh_kind());
    let before = check.verify().await?;
    fill(subject, &scope, &kind).await?;
    let first = id(MemoryId::new("memory-one"))?;
    subject.memories().delete(&scope, &first).await?;
    let after = check.verify().await?;
    let rule = "what was stored is sound";
    same(
        rule,
        (after.faults, after.described),
        (before.faults, before.described),
    )?;
    same(
        "a check counts",
        (after.owners, after.sessions, after.messages, after.memories),
        (
            before.owners + 1,
            before.sessions + 1,
            before.messages + 4,
            before.memories + 1,
        ),
    )?;
    let words = subject
        .memories()
        .search(&scope, "harbour number", 9)
        .await?;
    check.rebuild().await?;
    let again = subject
        .memories()
        .search(&scope, "harbour number", 9)
        .await?;
    same("what is made anew is the same", again, words)?;
    same("and sound", check.verify().await?.faults, before.faults)
}

async fn owners_are_paged(subject: &dyn Subject, check: &dyn StoreCheck) -> Result<(), Violation> {
    let (scope, kind) = (fresh_scope(), super::fresh_kind());
    for user in ["b", "a", "c"] {
        let mut scope = scope.clone();
        scope.user = id(UserId::new(user))?;
        fill(subject, &scope, &kind).await?;
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = check.owners(after.as_ref(), 2).await?;
        same("a page keeps to its limit", page.len() <= 2, true)?;
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        seen.extend(
            page.into_iter()
                .filter(|owner| owner.tenant == scope.tenant),
        );
    }
    let users: Vec<&str> = seen.iter().map(|owner| owner.user.as_str()).collect();
    same("owners come once and in order", users, vec!["a", "b", "c"])?;
    same("owners have no session", seen[0].session.clone(), None)
}

async fn erasing_takes_all_and_no_more(
    subject: &dyn Subject,
    check: &dyn StoreCheck,
    vectors: Option<&dyn VectorStore>,
) -> Result<(), Violation> {
    let (scope, kind) = (fresh_scope(), super::fresh_kind());
    let mut other = scope.clone();
    other.user = UserId::random();
    let mut elsewhere = fresh_scope();
    elsewhere.user = scope.user.clone();
    for whose in [&scope, &other, &elsewhere] {
        fill(subject, whose, &kind).await?;
    }
    let space = VectorSpace {
        model: SessionId::random().to_string(),
        dimensions: 2,
    };
    let near = async |whose: &Scope| -> Result<usize, Violation> {
        match vectors {
            Some(vectors) => Ok(vectors
                .nearest(whose, &space, &[1.0, 0.0], 9, &[])
                .await?
                .len()),
            None => Ok(2),
        }
    };
    if let Some(vectors) = vectors {
        let mut new = Vec::new();
        for whose in [&scope, &other, &elsewhere] {
            for name in ["memory-one", "memory-two"] {
                new.push(NewVector {
                    scope: whose.clone(),
                    id: id(MemoryId::new(name))?,
                    vector: Some(Vector::from([1.0, 0.5])),
                });
            }
        }
        vectors.set_vectors(&space, &new).await?;
        same("vectors are there", near(&scope).await?, 2)?;
    }
    let sound = check.verify().await?.faults;
    let whose = Whose {
        tenant: scope.tenant.clone(),
        user: Some(scope.user.clone()),
    };
    let erased = check.erase(&whose).await?;
    same(
        "what is erased is counted",
        (erased.sessions, erased.memories),
        (1, 2),
    )?;
    let gone = async |scope: &Scope| -> Result<bool, Violation> {
        let (sessions, memories) = (subject.sessions(), subject.memories());
        let one = id(MemoryId::new("memory-one"))?;
        Ok(sessions.session(scope).await?.is_none()
            && sessions.messages(scope, None, 9).await?.is_empty()
            && sessions.sessions(scope, None, 9).await?.is_empty()
            && memories.get(scope, &one).await?.is_none()
            && memories.list(scope, None, 9).await?.is_empty()
            && memories.search(scope, "swordfish", 9).await?.is_empty()
            && memories.search(scope, "harbour", 9).await?.is_empty())
    };
    same("a user's data is gone", gone(&scope).await?, true)?;
    same(
        "and what is left is sound",
        check.verify().await?.faults,
        sound,
    )?;
    for kept in [&other, &elsewhere] {
        same("others keep theirs", gone(kept).await?, false)?;
        let found = subject.memories().search(kept, "swordfish", 9).await?;
        same("others keep their words", found.len(), 2)?;
        same("others keep their vectors", near(kept).await?, 2)?;
    }
    if vectors.is_some() {
        same("a user's vectors are gone", near(&scope).await?, 0)?;
    }
    let again = check.erase(&whose).await?;
    same(
        "erasing twice erases nothing",
        (again.sessions, again.memories),
        (0, 0),
    )?;
    // The user may begin anew.
    fill(subject, &scope, &kind).await?;
    let found = subject.memories().search(&scope, "swordfish", 9).await?;
    same("an erased user may begin anew", found.len(), 2)?;
    let tenant = Whose {
        tenant: scope.tenant.clone(),
        user: None,
    };
    let erased = check.erase(&tenant).await?;
    same(
        "a tenant is all its users",
        (erased.sessions, erased.memories),
        (2, 4),
    )?;
    same(
        "a tenant's data is gone",
        (gone(&scope).await?, gone(&other).await?),
        (true, true),
    )?;
    same("others keep theirs", gone(&elsewhere).await?, false)?;
    // Only the stranger's jobs are left to be claimed.
    let kinds = [kind.as_str()];
    for _ in 0..2 {
        let request = ClaimRequest {
            kinds: &kinds,
            lease: std::time::Duration::from_secs(60),
            max_attempts: 3,
        };
        match subject.jobs().claim(&request).await? {
            Claim::Job(job) => {
                same(
                    "jobs of the erased are gone",
                    &job.lease.scope.tenant,
                    &elsewhere.tenant,
                )?;
            }
            Claim::Idle { .. } => return same("others keep their jobs", false, true),
        }
    }
    same("and all is sound", check.verify().await?.faults, sound)
}
