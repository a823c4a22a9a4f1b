//! The rules of the job port.

use std::time::Duration;

use serde_json::json;

use super::{
    Subject, Violation, fresh_kind, fresh_scope, refused, same, strangers, turn, with_job,
};
use crate::{
    Claim, ClaimRequest, ClaimedJob, FailedJob, JobId, JobResults, Lease, MemoryKind, NewJob,
    NewMemory, Summary,
};

const LEASE: Duration = Duration::from_secs(60);
const ATTEMPTS: u32 = 3;

pub(super) async fn verify(subject: &dyn Subject) -> Result<(), Violation> {
    jobs_come_in_order(subject).await?;
    a_lost_lease_writes_nothing(subject).await?;
    a_heartbeat_keeps_the_lease(subject).await?;
    completion_stores_results(subject).await?;
    summaries_only_grow(subject).await?;
    failure_waits_then_dies(subject).await?;
    poison_dies_and_others_proceed(subject).await?;
    strangers_see_nothing(subject).await
}

async fn claim(subject: &dyn Subject, kind: &str) -> Result<Claim, Violation> {
    let request = ClaimRequest {
        kinds: &["no such kind", kind],
        lease: LEASE,
        max_attempts: ATTEMPTS,
    };
    Ok(subject.jobs().claim(&request).await?)
}

async fn take(subject: &dyn Subject, kind: &str) -> Result<ClaimedJob, Violation> {
    match claim(subject, kind).await? {
        Claim::Job(job) => Ok(*job),
        idle @ Claim::Idle { .. } => Err(Violation {
            rule: "a due job is given",
            detail: format!("{idle:?}"),
        }),
    }
}

async fn idle(subject: &dyn Subject, kind: &str) -> Result<Option<Duration>, Violation> {
    match claim(subject, kind).await? {
        Claim::Idle { due_in } => Ok(due_in),
        Claim::Job(job) => Err(Violation {
            rule: "only due jobs are given",
            detail: format!("{job:?}"),
        }),
    }
}

fn memory(text: &str) -> JobResults {
    JobResults {
        memories: vec![NewMemory::new(MemoryKind::Fact, "result", text)],
        ..JobResults::default()
    }
}

async fn jobs_come_in_order(subject: &dyn Subject) -> Result<(), Violation> {
    let (scope, kind) = (fresh_scope(), fresh_kind());
    same("no job, no time", idle(subject, &kind).await?, None)?;
    for name in ["1", "2"] {
        let turn = with_job(turn(name, &["a"])?, &kind);
        subject.sessions().append(&scope, &turn).await?;
    }
    let none = ClaimRequest {
        kinds: &[],
        lease: LEASE,
        max_attempts: ATTEMPTS,
    };
    let got = subject.jobs().claim(&none).await?;
    same("no kinds, no job", got, Claim::Idle { due_in: None })?;
    let first = take(subject, &kind).await?;
    let want = with_job(turn("1", &[])?, &kind).jobs.remove(0);
    same(
        "a job comes back as it was",
        (&first.kind, &first.payload),
        (&want.kind, &want.payload),
    )?;
    same("a job brings its scope", &first.lease.scope, &scope)?;
    same(
        "a claim counts",
        (first.attempts, first.lease.epoch),
        (1, 1),
    )?;
    let second = take(subject, &kind).await?;
    same(
        "jobs come in the order made",
        &second.payload["turn"],
        &json!("2"),
    )?;
    same(
        "the next lease's end is known",
        idle(subject, &kind).await?,
        Some(LEASE),
    )
}

async fn a_lost_lease_writes_nothing(subject: &dyn Subject) -> Result<(), Violation> {
    let (jobs, scope, kind) = (subject.jobs(), fresh_scope(), fresh_kind());
    let turn = with_job(turn("1", &["a"])?, &kind);
    subject.sessions().append(&scope, &turn).await?;
    let first = take(subject, &kind).await?.lease;
    subject.advance(LEASE).await;
    let rule = "an ended lease is lost, claimed again or not";
    refused(
        rule,
        jobs.complete(&first, &memory("early")).await,
        "lease_lost",
    )?;
    let second = take(subject, &kind).await?;
    same(
        "a claim raises the epoch",
        (second.attempts, second.lease.epoch),
        (2, 2),
    )?;
    let forged = Lease {
        until: second.lease.until,
        ..first.clone()
    };
    for lost in [first, forged] {
        let rule = "a replaced lease is lost";
        refused(rule, jobs.heartbeat(&lost, LEASE).await, "lease_lost")?;
        refused(rule, jobs.fail(&lost, None, "late").await, "lease_lost")?;
        refused(
            rule,
            jobs.complete(&lost, &memory("late")).await,
            "lease_lost",
        )?;
    }
    let stored = subject.memories().list(&scope, None, 9).await?;
    same("a lost lease writes nothing", stored, vec![])?;
    jobs.complete(&second.lease, &memory("in time")).await?;
    let stored = subject.memories().list(&scope, None, 9).await?;
    same("the valid lease writes once", stored.len(), 1)?;
    let again = jobs.complete(&second.lease, &memory("twice")).await;
    refused("a job completes once", again, "lease_lost")?;
    same("a completed job is gone", idle(subject, &kind).await?, None)
}

async fn a_heartbeat_keeps_the_lease(subject: &dyn Subject) -> Result<(), Violation> {
    let (jobs, scope, kind) = (subject.jobs(), fresh_scope(), fresh_kind());
    let turn = with_job(turn("1", &["a"])?, &kind);
    subject.sessions().append(&scope, &turn).await?;
    let mut lease = take(subject, &kind).await?.lease;
    for _ in 0..4 {
        subject.advance(LEASE * 2 / 3).await;
        let extended = jobs.heartbeat(&lease, LEASE).await?;
        same(
            "a heartbeat moves the end",
            extended.until > lease.until,
            true,
        )?;
        lease = extended;
    }
    same(
        "a kept job is nobody else's",
        idle(subject, &kind).await?,
        Some(LEASE),
    )?;
    jobs.complete(&lease, &JobResults::default()).await?;
    Ok(())
}

async fn completion_stores_results(subject: &dyn Subject) -> Result<(), Violation> {
    let (scope, kind, next) = (fresh_scope(), fresh_kind(), fresh_kind());
    let turn = with_job(turn("1", &["a", "b"])?, &kind);
    subject.sessions().append(&scope, &turn).await?;
    let job = take(subject, &kind).await?;
    let summary = Summary {
        upto_seq: 2,
        text: "a, then b".into(),
    };
    let results = JobResults {
        summary: Some(summary.clone()),
        jobs: vec![NewJob {
            kind: next.clone(),
            payload: json!(null),
        }],
        ..memory("Sugar comes from light")
    };
    subject.jobs().complete(&job.lease, &results).await?;
    let found = subject.memories().search(&scope, "sugar", 1).await?;
    same("a result is found at once", found.len(), 1)?;
    let session = subject.sessions().session(&scope).await?;
    same(
        "a summary is kept",
        session.and_then(|s| s.summary),
        Some(summary),
    )?;
    let follower = take(subject, &next).await?;
    same(
        "a following job has the same scope",
        follower.lease.scope,
        scope,
    )
}

async fn summaries_only_grow(subject: &dyn Subject) -> Result<(), Violation> {
    let (scope, kind) = (fresh_scope(), fresh_kind());
    for (name, upto_seq) in [("1", 1), ("2", 3), ("3", 2), ("4", 3)] {
        let turn = with_job(turn(name, &["a"])?, &kind);
        subject.sessions().append(&scope, &turn).await?;
        let job = take(subject, &kind).await?;
        let summary = Some(Summary {
            upto_seq,
            text: name.into(),
        });
        let results = JobResults {
            summary,
            ..JobResults::default()
        };
        subject.jobs().complete(&job.lease, &results).await?;
    }
    let session = subject.sessions().session(&scope).await?;
    let text = session.and_then(|s| s.summary).map(|summary| summary.text);
    same(
        "an older summary never replaces a newer one",
        text.as_deref(),
        Some("2"),
    )
}

async fn failure_waits_then_dies(subject: &dyn Subject) -> Result<(), Violation> {
    let (jobs, scope, kind) = (subject.jobs(), fresh_scope(), fresh_kind());
    let turn = with_job(turn("1", &["a"])?, &kind);
    subject.sessions().append(&scope, &turn).await?;
    let job = take(subject, &kind).await?;
    let wait = Duration::from_secs(10);
    let outcome = jobs.fail(&job.lease, Some(wait), "busy").await?;
    same(
        "a retry is planned",
        matches!(outcome, FailedJob::RetryAt(_)),
        true,
    )?;
    let late = jobs.complete(&job.lease, &memory("late")).await;
    refused("a failed attempt has no lease", late, "lease_lost")?;
    same("a retry waits", idle(subject, &kind).await?, Some(wait))?;
    subject.advance(wait).await;
    let job = take(subject, &kind).await?;
    same("attempts add up", (job.attempts, job.lease.epoch), (2, 2))?;
    same(
        "death is told",
        jobs.fail(&job.lease, None, "bad é").await?,
        FailedJob::Dead,
    )?;
    same("a dead job is not given", idle(subject, &kind).await?, None)?;
    let dead = jobs.dead(&scope, 9).await?;
    let [one] = dead.as_slice() else {
        return same("a dead job is listed", dead.len(), 1);
    };
    same(
        "a dead job says why",
        (one.reason.as_str(), one.attempts),
        ("bad é", 2),
    )?;
    same("a limit holds", jobs.dead(&scope, 0).await?, vec![])?;
    same(
        "a dead job can be revived",
        jobs.revive(&scope, &one.id).await?,
        true,
    )?;
    same(
        "a living one cannot",
        jobs.revive(&scope, &one.id).await?,
        false,
    )?;
    let job = take(subject, &kind).await?;
    same(
        "a revived job starts afresh, its epoch does not",
        (job.attempts, job.lease.epoch),
        (1, 3),
    )
}

async fn poison_dies_and_others_proceed(subject: &dyn Subject) -> Result<(), Violation> {
    let (scope, kind) = (fresh_scope(), fresh_kind());
    for name in ["poison", "good"] {
        let turn = with_job(turn(name, &["a"])?, &kind);
        subject.sessions().append(&scope, &turn).await?;
    }
    for attempt in 1..=ATTEMPTS {
        let job = take(subject, &kind).await?;
        let want = (json!("poison"), attempt);
        same(
            "a vanished worker's job comes again",
            (job.payload["turn"].clone(), job.attempts),
            want,
        )?;
        if attempt == 1 {
            let good = take(subject, &kind).await?;
            subject
                .jobs()
                .complete(&good.lease, &memory("good"))
                .await?;
        }
        subject.advance(LEASE).await;
    }
    same("used up attempts end it", idle(subject, &kind).await?, None)?;
    let dead = subject.jobs().dead(&scope, 9).await?;
    let reasons: Vec<(&str, u32)> = dead
        .iter()
        .map(|d| (d.reason.as_str(), d.attempts))
        .collect();
    same(
        "it is a dead letter",
        reasons,
        vec![(crate::VANISHED, ATTEMPTS)],
    )
}

async fn strangers_see_nothing(subject: &dyn Subject) -> Result<(), Violation> {
    let (jobs, scope, kind) = (subject.jobs(), fresh_scope(), fresh_kind());
    let turn = with_job(turn("1", &["a"])?, &kind);
    subject.sessions().append(&scope, &turn).await?;
    let lease = take(subject, &kind).await?.lease;
    for stranger in strangers(subject, &scope).await? {
        let forged = Lease {
            scope: stranger,
            ..lease.clone()
        };
        let rule = "a lease is bound to its scope";
        refused(rule, jobs.heartbeat(&forged, LEASE).await, "lease_lost")?;
        refused(rule, jobs.fail(&forged, None, "forged").await, "lease_lost")?;
        refused(
            rule,
            jobs.complete(&forged, &memory("forged")).await,
            "lease_lost",
        )?;
    }
    let unknown = Lease {
        job: JobId::random(),
        ..lease.clone()
    };
    refused(
        "an unknown job has no lease",
        jobs.heartbeat(&unknown, LEASE).await,
        "lease_lost",
    )?;
    jobs.fail(&lease, None, "mine").await?;
    for stranger in strangers(subject, &scope).await? {
        let rule = "another owner sees nothing of a dead job";
        same(rule, jobs.dead(&stranger, 9).await?, vec![])?;
        same(rule, jobs.revive(&stranger, &lease.job).await?, false)?;
    }
    same("its owner does", jobs.dead(&scope, 9).await?.len(), 1)
}
