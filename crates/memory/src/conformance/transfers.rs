//! The rules of export and import.

use std::time::Duration;

use lyceum_core::{Scope, SessionId};

use super::{
    Subject, Violation, fresh_kind, fresh_scope, refused, same, strangers, turn, with_job,
};
use crate::{
    Claim, ClaimRequest, InMemory, JobResults, MemoryKind, NewMemory, Summary,
    transfer::{TransferError, Transferred, export, import},
};

pub(super) async fn verify(subject: &dyn Subject) -> Result<(), Violation> {
    a_round_trip_changes_nothing(subject).await?;
    a_session_is_required(subject).await
}

impl From<TransferError> for Violation {
    fn from(error: TransferError) -> Self {
        Self {
            rule: "a legal transfer succeeds",
            detail: format!("{error:?}"),
        }
    }
}

async fn text(subject: &dyn Subject, scope: &Scope) -> Result<String, Violation> {
    let mut bytes = Vec::new();
    export(subject.sessions(), subject.memories(), scope, &mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

async fn fill(subject: &dyn Subject, scope: &Scope) -> Result<(), Violation> {
    let kind = fresh_kind();
    let first = with_job(turn("1", &["why?", "因为\u{0}\n\"光\""])?, &kind);
    subject.sessions().append(scope, &first).await?;
    subject.advance(Duration::from_secs(1)).await;
    // Longer than a page of the export.
    for n in 0..70 {
        let turn = turn(&format!("long {n}").replace(' ', "-"), &["a", "b", "c"])?;
        subject.sessions().append(scope, &turn).await?;
    }
    let request = ClaimRequest {
        kinds: &[&kind],
        lease: Duration::from_secs(60),
        max_attempts: 1,
    };
    if let Claim::Job(job) = subject.jobs().claim(&request).await? {
        let results = JobResults {
            memories: vec![NewMemory::new(MemoryKind::Fact, "光", "植物需要光")],
            summary: Some(Summary {
                upto_seq: 2,
                text: "why, because".into(),
            }),
            ..JobResults::default()
        };
        subject.jobs().complete(&job.lease, &results).await?;
    }
    let other = scope.clone().with_session(SessionId::random());
    subject
        .sessions()
        .append(&other, &turn("1", &["x"])?)
        .await?;
    subject.sessions().complete(&other).await?;
    Ok(())
}

async fn a_round_trip_changes_nothing(subject: &dyn Subject) -> Result<(), Violation> {
    let scope = fresh_scope();
    fill(subject, &scope).await?;
    let before = text(subject, &scope).await?;
    let all = Transferred {
        sessions: 2,
        messages: 213,
        memories: 1,
    };
    let none = Transferred::default();

    let reference = InMemory::default();
    let moved = import(&reference, &reference, &scope, &mut before.as_bytes()).await?;
    same("everything is moved", moved, all)?;
    let mut copy = Vec::new();
    export(&reference, &reference, &scope, &mut copy).await?;
    same(
        "an import gives what was exported",
        copy == before.as_bytes(),
        true,
    )?;

    for stranger in strangers(subject, &scope).await? {
        let (archive, memories) = (subject.archive(), subject.memories());
        let mut lines = before.as_bytes();
        let moved = import(archive, memories, &stranger, &mut lines).await?;
        same("another owner's import is their own", moved, all)?;
        let moved = import(archive, memories, &stranger, &mut before.as_bytes()).await?;
        same("what is there stays", moved, none)?;
        same(
            "a round trip changes nothing",
            text(subject, &stranger).await? == before,
            true,
        )?;
        let found = memories.search(&stranger, "光", 9).await?;
        same("imported memories are found", found.len(), 1)?;
        let again = subject
            .sessions()
            .append(&stranger, &turn("1", &["other"])?)
            .await?;
        let place = (again.first_seq, again.last_seq, again.replayed);
        same("an imported turn is known", place, (1, 2, true))?;
        let next = subject
            .sessions()
            .append(&stranger, &turn("next", &["z"])?)
            .await?;
        same("an imported session goes on", next.first_seq, 213)?;
    }
    same(
        "the origin is untouched",
        text(subject, &scope).await? == before,
        true,
    )
}

async fn a_session_is_required(subject: &dyn Subject) -> Result<(), Violation> {
    let scope = fresh_scope();
    subject
        .sessions()
        .append(&scope, &turn("1", &["a"])?)
        .await?;
    let Some(session) = subject.sessions().session(&scope).await? else {
        return same("the session exists", false, true);
    };
    let mut without = scope;
    without.session = None;
    let got = subject.archive().restore(&without, &session, &[]).await;
    refused(
        "a scope without a session is refused",
        got,
        "session_required",
    )
}
