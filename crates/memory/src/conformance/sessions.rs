//! The rules of the session port.

use std::time::Duration;

use lyceum_core::SessionId;

use super::{
    Subject, Violation, fresh_kind, fresh_scope, id, refused, same, strangers, turn, with_job,
};
use crate::{Claim, ClaimRequest, JobResults, MemoryKind, NewMemory, SessionCursor, StoredMessage};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

pub(super) async fn verify(subject: &dyn Subject) -> Result<(), Violation> {
    turns_stand_in_order(subject).await?;
    appending_is_idempotent(subject).await?;
    what_a_turn_taught_is_found_at_once(subject).await?;
    a_session_tells_about_itself(subject).await?;
    lists_are_paged(subject).await?;
    a_session_is_required(subject).await?;
    deletion_is_complete(subject).await?;
    expiry_takes_idle_completed_sessions(subject).await?;
    strangers_see_nothing(subject).await
}

fn texts(messages: &[StoredMessage]) -> Vec<(u64, &str)> {
    messages
        .iter()
        .map(|m| (m.seq, m.content.as_str()))
        .collect()
}

async fn what_a_turn_taught_is_found_at_once(subject: &dyn Subject) -> Result<(), Violation> {
    let scope = fresh_scope();
    let mut taught = turn("taught", &["Yeast eats sugar."])?;
    let memory = NewMemory::new(MemoryKind::Episode, "Bread", "Yeast eats sugar.");
    taught.memories = vec![memory.clone()];
    for _ in 0..2 {
        subject.sessions().append(&scope, &taught).await?;
        let found = subject.memories().search(&scope, "yeast", 10).await?;
        let found: Vec<_> = found.iter().map(|found| &found.id).collect();
        same("a turn's memory is found, once", found, vec![&memory.id])?;
    }
    for stranger in strangers(subject, &scope).await? {
        let found = subject.memories().search(&stranger, "yeast", 10).await?;
        same("a stranger does not find it", found.len(), 0)?;
    }
    Ok(())
}

async fn turns_stand_in_order(subject: &dyn Subject) -> Result<(), Violation> {
    let (store, scope) = (subject.sessions(), fresh_scope());
    let saved = store
        .append(&scope, &turn("1", &["a", "", "长\u{0}"])?)
        .await?;
    same(
        "seqs start at one",
        (saved.first_seq, saved.last_seq),
        (1, 3),
    )?;
    let saved = store.append(&scope, &turn("2", &["d"])?).await?;
    same(
        "seqs have no gaps",
        (saved.first_seq, saved.last_seq),
        (4, 4),
    )?;

    let all = store.messages(&scope, None, 10).await?;
    let want = vec![(1, "a"), (2, ""), (3, "长\u{0}"), (4, "d")];
    same(
        "messages come back as they were, oldest first",
        texts(&all),
        want,
    )?;
    same("a message names its turn", all[3].turn_id.as_str(), "2")?;
    let last = store.messages(&scope, None, 2).await?;
    same(
        "the newest messages come",
        texts(&last),
        vec![(3, "长\u{0}"), (4, "d")],
    )?;
    let page = store.messages(&scope, Some(3), 1).await?;
    same("a page ends before its cursor", texts(&page), vec![(2, "")])?;
    for (before, limit) in [(Some(1), 10), (Some(0), 10), (None, 0)] {
        let none = store.messages(&scope, before, limit).await?;
        same("a page may be empty", texts(&none), vec![])?;
    }
    let beyond = store.messages(&scope, Some(u64::MAX), usize::MAX).await?;
    same("huge cursors and limits are fine", beyond.len(), 4)
}

async fn appending_is_idempotent(subject: &dyn Subject) -> Result<(), Violation> {
    let (store, scope, kind) = (subject.sessions(), fresh_scope(), fresh_kind());
    let first = with_job(turn("same", &["a", "b"])?, &kind);
    let saved = store.append(&scope, &first).await?;
    store.append(&scope, &turn("next", &["c"])?).await?;
    let again = store.append(&scope, &first).await?;
    same("the first append is no replay", saved.replayed, false)?;
    same("a replay says so", again.replayed, true)?;
    same(
        "a replay gives the same place",
        (again.first_seq, again.last_seq),
        (saved.first_seq, saved.last_seq),
    )?;
    same(
        "a replay stores nothing",
        store.messages(&scope, None, 9).await?.len(),
        3,
    )?;

    let request = ClaimRequest {
        kinds: &[&kind],
        lease: HOUR,
        max_attempts: 3,
    };
    let claim = subject.jobs().claim(&request).await?;
    same("the job exists", matches!(claim, Claim::Job(_)), true)?;
    let claim = subject.jobs().claim(&request).await?;
    same(
        "a replay makes no job",
        matches!(claim, Claim::Job(_)),
        false,
    )?;

    for other in [
        turn("same", &["a", "b"])?,
        with_job(turn("same", &["ab", ""])?, &kind),
    ] {
        let got = store.append(&scope, &other).await;
        refused("a turn id stands for one content", got, "turn_conflict")?;
    }
    let elsewhere = scope.clone().with_session(SessionId::random());
    let saved = store.append(&elsewhere, &first).await?;
    same(
        "turn ids are per session",
        (saved.first_seq, saved.replayed),
        (1, false),
    )
}

async fn a_session_tells_about_itself(subject: &dyn Subject) -> Result<(), Violation> {
    let (store, scope) = (subject.sessions(), fresh_scope());
    same(
        "an unknown session is none",
        store.session(&scope).await?,
        None,
    )?;
    same(
        "an unknown session has no messages",
        store.messages(&scope, None, 1).await?,
        vec![],
    )?;
    same(
        "an unknown session cannot be completed",
        store.complete(&scope).await?,
        false,
    )?;
    store.append(&scope, &turn("1", &["a", "b"])?).await?;
    subject.advance(SECOND).await;
    same(
        "a session can be completed",
        store.complete(&scope).await?,
        true,
    )?;
    let session = store.session(&scope).await?;
    same(
        "completion shows",
        session.as_ref().map(|s| s.completed),
        Some(true),
    )?;
    store.append(&scope, &turn("2", &["c"])?).await?;
    let Some(session) = store.session(&scope).await? else {
        return same("the session exists", false, true);
    };
    same(
        "the id is the scope's",
        Some(&session.id),
        scope.session.as_ref(),
    )?;
    same(
        "the first topic stays",
        session.topic.as_str(),
        "topic of 1",
    )?;
    same("messages are counted", session.messages, 3)?;
    same("a turn opens a completed session", session.completed, false)?;
    let age = session.updated_at.since(session.created_at);
    same("times are kept", age >= SECOND, true)
}

async fn lists_are_paged(subject: &dyn Subject) -> Result<(), Violation> {
    let (store, scope) = (subject.sessions(), fresh_scope());
    let mut made = Vec::new();
    for n in 0..7 {
        let session = id(SessionId::new(format!("s{n}")))?;
        let scope = scope.clone().with_session(session.clone());
        store.append(&scope, &turn("1", &["a"])?).await?;
        made.push(session);
        // Pairs share a millisecond: the cursor must break the tie.
        if n % 2 == 1 {
            subject.advance(SECOND).await;
        }
    }
    made.reverse();
    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let page = store.sessions(&scope, cursor.as_ref(), 2).await?;
        same("a page keeps to its limit", page.len() <= 2, true)?;
        let Some(last) = page.last() else { break };
        cursor = Some(SessionCursor::from(last));
        seen.extend(page.into_iter().map(|session| session.id));
    }
    same("pages give each session once, newest first", seen, made)
}

async fn a_session_is_required(subject: &dyn Subject) -> Result<(), Violation> {
    let store = subject.sessions();
    let mut scope = fresh_scope();
    scope.session = None;
    let (rule, label) = ("a scope without a session is refused", "session_required");
    refused(rule, store.append(&scope, &turn("1", &["a"])?).await, label)?;
    refused(rule, store.messages(&scope, None, 1).await, label)?;
    refused(rule, store.session(&scope).await, label)?;
    refused(rule, store.complete(&scope).await, label)?;
    refused(rule, store.delete(&scope).await, label)?;
    same(
        "a list needs no session",
        store.sessions(&scope, None, 1).await?,
        vec![],
    )
}

async fn deletion_is_complete(subject: &dyn Subject) -> Result<(), Violation> {
    let (store, scope, kind) = (subject.sessions(), fresh_scope(), fresh_kind());
    let request = ClaimRequest {
        kinds: &[&kind],
        lease: HOUR,
        max_attempts: 3,
    };
    let first = with_job(turn("1", &["a"])?, &kind);
    store.append(&scope, &first).await?;
    let Claim::Job(job) = subject.jobs().claim(&request).await? else {
        return same("the job exists", false, true);
    };
    same(
        "a session can be deleted",
        store.delete(&scope).await?,
        true,
    )?;
    same("twice deletes nothing", store.delete(&scope).await?, false)?;
    same(
        "a deleted session is gone",
        store.session(&scope).await?,
        None,
    )?;
    same(
        "its messages are gone",
        store.messages(&scope, None, 1).await?,
        vec![],
    )?;
    let late = subject
        .jobs()
        .complete(&job.lease, &JobResults::default())
        .await;
    refused("its jobs are gone", late, "lease_lost")?;
    let saved = store.append(&scope, &first).await?;
    same(
        "its turn ids are forgotten",
        (saved.first_seq, saved.replayed),
        (1, false),
    )
}

async fn expiry_takes_idle_completed_sessions(subject: &dyn Subject) -> Result<(), Violation> {
    let (store, scope, kind) = (subject.sessions(), fresh_scope(), fresh_kind());
    let of = |name| Ok::<_, Violation>(scope.clone().with_session(id(SessionId::new(name))?));
    // Whatever earlier users of the store left behind.
    subject.advance(HOUR).await;
    while !store.expire(SECOND, 100).await?.is_empty() {}

    for name in ["open", "busy", "old", "young"] {
        let one = turn("1", &["a"])?;
        let one = if name == "busy" {
            with_job(one, &kind)
        } else {
            one
        };
        if name == "young" {
            subject.advance(HOUR).await;
        }
        store.append(&of(name)?, &one).await?;
        if name != "open" {
            store.complete(&of(name)?).await?;
        }
    }
    same(
        "a limit of zero removes none",
        store.expire(HOUR / 2, 0).await?,
        [],
    )?;
    same(
        "one session is expired, and named",
        store.expire(HOUR / 2, 10).await?,
        [of("old")?],
    )?;
    same(
        "it is the idle completed one",
        store.session(&of("old")?).await?,
        None,
    )?;
    for name in ["open", "busy", "young"] {
        let there = store.session(&of(name)?).await?.is_some();
        same(
            "open, busy and young sessions stay",
            (name, there),
            (name, true),
        )?;
    }
    let request = ClaimRequest {
        kinds: &[&kind],
        lease: HOUR,
        max_attempts: 3,
    };
    let Claim::Job(job) = subject.jobs().claim(&request).await? else {
        return same("the job exists", false, true);
    };
    subject
        .jobs()
        .complete(&job.lease, &JobResults::default())
        .await?;
    same(
        "a session whose jobs are done expires",
        store.expire(HOUR / 2, 10).await?,
        [of("busy")?],
    )
}

async fn strangers_see_nothing(subject: &dyn Subject) -> Result<(), Violation> {
    let (store, scope) = (subject.sessions(), fresh_scope());
    store.append(&scope, &turn("1", &["mine"])?).await?;
    let before = store.session(&scope).await?;
    for stranger in strangers(subject, &scope).await? {
        let rule = "another owner sees nothing of a session";
        same(rule, store.session(&stranger).await?, None)?;
        same(rule, store.messages(&stranger, None, 9).await?, vec![])?;
        same(rule, store.sessions(&stranger, None, 9).await?, vec![])?;
        let rule = "another owner changes nothing of a session";
        same(rule, store.complete(&stranger).await?, false)?;
        same(rule, store.delete(&stranger).await?, false)?;
        let saved = store
            .append(&stranger, &turn("1", &["theirs", "x"])?)
            .await?;
        same(rule, (saved.first_seq, saved.replayed), (1, false))?;
        same(rule, store.session(&scope).await?, before.clone())?;
        same(
            rule,
            texts(&store.messages(&scope, None, 9).await?),
            vec![(1, "mine")],
        )?;
    }
    Ok(())
}
