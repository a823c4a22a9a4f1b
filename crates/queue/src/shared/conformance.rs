//! The suite that every ledger passes, in process or not.
//!
//! Each rule has a ledger of its own. Time passes on tokio's clock: paused for a ledger
//! that follows it, real for one with a clock of its own, so the windows are short. A
//! broken rule is a [`Violation`] and not a panic: the caller's test prints it.

mod turns;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use crate::{
    Beyond, Claim, Ended, Join, Kinds, LedgerError, LedgerTerms, Note, QuotaLedger, ReplicaId,
    RunningCall, Spent, Standing, Verdict,
};

/// Makes ledgers under test.
#[async_trait]
pub trait Subject: Send + Sync {
    /// A new, empty ledger.
    async fn open(&self, terms: LedgerTerms) -> Arc<dyn QuotaLedger>;
    /// Makes a ledger of [`open`](Self::open) lose everything.
    async fn forget(&self, ledger: &dyn QuotaLedger);
}

/// A rule of the port that the ledger broke.
#[derive(Debug, thiserror::Error)]
#[error("{rule}: {detail}")]
pub struct Violation {
    /// The rule.
    pub rule: &'static str,
    /// What happened instead.
    pub detail: String,
}

impl From<LedgerError> for Violation {
    fn from(error: LedgerError) -> Self {
        Self {
            rule: "a legal operation succeeds",
            detail: format!("{error:?}"),
        }
    }
}

const WINDOW: Duration = Duration::from_millis(1_000);
const GRACE: Duration = Duration::from_millis(50);
const DEAD: Duration = Duration::from_millis(300);
const ANNA: ReplicaId = ReplicaId(1);
const BELA: ReplicaId = ReplicaId(2);

/// Checks every rule.
///
/// # Errors
///
/// The first rule found broken.
pub async fn check(subject: &dyn Subject) -> Result<(), Violation> {
    strangers_join_first(subject).await?;
    a_window_is_never_exceeded(subject).await?;
    a_call_is_counted_once(subject).await?;
    what_was_not_used_comes_back(subject).await?;
    what_is_held_counts_after_the_end(subject).await?;
    slots_of_the_dead_return(subject).await?;
    a_pause_holds_for_all(subject).await?;
    a_claim_that_comes_late_is_not_granted(subject).await?;
    news_of_a_lost_replica_are_counted(subject).await?;
    an_emptied_ledger_is_told_everything(subject).await?;
    a_standing_tells_what_counts(subject).await?;
    what_calls_in_flight_may_add_is_kept_free(subject).await?;
    turns::a_higher_band_goes_first(subject).await?;
    turns::a_replica_with_more_conversations_gets_more(subject).await?;
    turns::nobody_starves(subject).await
}

fn terms() -> LedgerTerms {
    LedgerTerms {
        window: WINDOW,
        jitter: Duration::ZERO,
        burst: 1.0,
        dead_after: Duration::from_secs(30),
        grace: GRACE,
    }
}

async fn opened(
    subject: &dyn Subject,
    terms: LedgerTerms,
) -> Result<Arc<dyn QuotaLedger>, Violation> {
    let ledger = subject.open(terms).await;
    for replica in [ANNA, BELA] {
        ledger.join(&join(replica)).await?;
    }
    sleep(GRACE * 2).await;
    Ok(ledger)
}

fn join(replica: ReplicaId) -> Join {
    Join {
        replica,
        seq: 1,
        epoch: None,
        fresh: Vec::new(),
        whole: Vec::new(),
        calls: Vec::new(),
    }
}

/// A claim of `tokens` out of 100 a window.
fn claim(replica: ReplicaId, seq: u64, tokens: u64) -> Claim {
    Claim {
        replica,
        seq,
        counted: [1, tokens, 0, 0],
        held: [0; 4],
        limits: [None, Some(100), None, None],
        concurrency: None,
        beyond: Beyond::default(),
        band: 1,
        flows: 1,
    }
}

fn ended(seq: u64, counted: Kinds<u64>, late: Kinds<u64>) -> Ended {
    Ended { seq, counted, late }
}

fn note(replica: ReplicaId, ended: Vec<Ended>) -> Note {
    Note {
        replica,
        ended,
        pause: None,
        beyond: Beyond::default(),
    }
}

fn rule(rule: &'static str, holds: bool, detail: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds {
        return Ok(());
    }
    Err(Violation {
        rule,
        detail: detail(),
    })
}

fn granted(name: &'static str, verdict: Verdict) -> Result<(), Violation> {
    rule(name, verdict == Verdict::Granted, || format!("{verdict:?}"))
}

fn refused(name: &'static str, verdict: Verdict) -> Result<(), Violation> {
    let holds = matches!(verdict, Verdict::Later { after, .. } if after > Duration::ZERO);
    rule(name, holds, || format!("{verdict:?}"))
}

async fn strangers_join_first(subject: &dyn Subject) -> Result<(), Violation> {
    let ledger = subject.open(terms()).await;
    let verdict = ledger.reserve(&claim(ANNA, 2, 1)).await?;
    rule(
        "a stranger joins first",
        verdict == Verdict::Unknown,
        || format!("{verdict:?}"),
    )?;
    let beat = ledger.beat(ANNA).await?;
    rule("a stranger's beat is not known", beat.is_none(), || {
        format!("{beat:?}")
    })?;
    let standing = ledger.join(&join(ANNA)).await?;
    rule(
        "a ledger counts those who live",
        standing.replicas == 1,
        || format!("{standing:?}"),
    )?;
    let verdict = ledger.reserve(&claim(ANNA, 2, 1)).await?;
    refused("a new ledger waits for the others", verdict)?;
    sleep(GRACE * 2).await;
    let verdict = ledger.reserve(&claim(ANNA, 3, 1)).await?;
    granted("after the grace it grants", verdict)
}

async fn a_window_is_never_exceeded(subject: &dyn Subject) -> Result<(), Violation> {
    let ledger = opened(subject, terms()).await?;
    let (mut inside, mut most): (VecDeque<(Instant, u64)>, u64) = (VecDeque::new(), 0);
    let (begin, mut total, mut seq) = (Instant::now(), 0, 2);
    while begin.elapsed() < WINDOW * 4 {
        for replica in [ANNA, BELA] {
            seq += 1;
            let asked = Instant::now();
            if ledger.reserve(&claim(replica, seq, 5)).await? == Verdict::Granted {
                // The ledger counted at some time since the question.
                while inside.front().is_some_and(|(at, _)| at.elapsed() >= WINDOW) {
                    inside.pop_front();
                }
                inside.push_back((asked, 5));
                most = most.max(inside.iter().map(|(_, amount)| amount).sum());
                total += 5;
                ledger
                    .tell(&note(replica, vec![ended(seq, [1, 5, 0, 0], [0; 4])]))
                    .await?;
            }
        }
        sleep(Duration::from_millis(2)).await;
    }
    rule("no window is exceeded", most <= 100, || {
        format!("{most} of 100")
    })?;
    // Four windows and the last call of each.
    rule("the quota is used", total >= 360, || {
        format!("{total} of 400")
    })
}

async fn a_call_is_counted_once(subject: &dyn Subject) -> Result<(), Violation> {
    let ledger = opened(subject, terms()).await?;
    for _ in 0..3 {
        let verdict = ledger.reserve(&claim(ANNA, 2, 60)).await?;
        granted("a repeated claim is granted again", verdict)?;
    }
    let verdict = ledger.reserve(&claim(BELA, 2, 41)).await?;
    refused("another one is not", verdict)?;
    let verdict = ledger.reserve(&claim(BELA, 3, 40)).await?;
    granted("a repeated claim counts once", verdict)
}

async fn what_was_not_used_comes_back(subject: &dyn Subject) -> Result<(), Violation> {
    let ledger = opened(subject, terms()).await?;
    granted("it fits", ledger.reserve(&claim(ANNA, 2, 90)).await?)?;
    refused("it is full", ledger.reserve(&claim(BELA, 2, 70)).await?)?;
    let end = note(ANNA, vec![ended(2, [1, 30, 0, 0], [0; 4])]);
    ledger.tell(&end).await?;
    ledger.tell(&end).await?;
    let verdict = ledger.reserve(&claim(BELA, 3, 71)).await?;
    refused("an end has one effect", verdict)?;
    let verdict = ledger.reserve(&claim(BELA, 4, 70)).await?;
    granted("what was not used comes back", verdict)?;
    ledger.tell(&note(BELA, vec![Ended::unsent(4)])).await?;
    // By then nobody expects Bela to ask again.
    sleep(WINDOW / 5).await;
    let verdict = ledger.reserve(&claim(ANNA, 5, 70)).await?;
    granted("what was never sent comes back", verdict)
}

async fn what_is_held_counts_after_the_end(subject: &dyn Subject) -> Result<(), Violation> {
    let ledger = opened(subject, terms()).await?;
    let held = Claim {
        counted: [1, 10, 0, 0],
        held: [0, 80, 0, 0],
        ..claim(ANNA, 2, 0)
    };
    granted("it fits", ledger.reserve(&held).await?)?;
    sleep(WINDOW + WINDOW / 5).await;
    let verdict = ledger.reserve(&claim(BELA, 2, 30)).await?;
    refused("what is held counts for as long as the call runs", verdict)?;
    let end = ended(2, [1, 10, 0, 0], [0, 50, 0, 0]);
    ledger.tell(&note(ANNA, vec![end])).await?;
    let verdict = ledger.reserve(&claim(BELA, 3, 51)).await?;
    refused("what was used counts from the end on", verdict)?;
    let verdict = ledger.reserve(&claim(BELA, 4, 50)).await?;
    granted("the rest is free", verdict)
}

async fn slots_of_the_dead_return(subject: &dyn Subject) -> Result<(), Violation> {
    let terms = LedgerTerms {
        dead_after: DEAD,
        ..terms()
    };
    let ledger = opened(subject, terms).await?;
    let slot = |replica, seq| Claim {
        limits: [None; 4],
        concurrency: Some(2),
        ..claim(replica, seq, 1)
    };
    granted("a slot is free", ledger.reserve(&slot(ANNA, 2)).await?)?;
    granted("and another", ledger.reserve(&slot(BELA, 2)).await?)?;
    refused("no more", ledger.reserve(&slot(BELA, 3)).await?)?;
    for _ in 0..8 {
        sleep(DEAD / 6).await;
        ledger.beat(BELA).await?;
    }
    let verdict = ledger.reserve(&slot(BELA, 4)).await?;
    granted("a dead replica's slot returns", verdict)?;
    let verdict = ledger.reserve(&slot(BELA, 5)).await?;
    refused("a living one's does not", verdict)?;
    let standing = ledger.beat(BELA).await?.unwrap_or_default();
    rule("the dead are not counted", standing.replicas == 1, || {
        format!("{standing:?}")
    })
}

async fn a_pause_holds_for_all(subject: &dyn Subject) -> Result<(), Violation> {
    let ledger = opened(subject, terms()).await?;
    let pause = Note {
        pause: Some(Duration::from_millis(200)),
        ..note(ANNA, Vec::new())
    };
    ledger.tell(&pause).await?;
    let verdict = ledger.reserve(&claim(BELA, 2, 1)).await?;
    let holds = matches!(verdict, Verdict::Later { after, paused: true } if after <= Duration::from_millis(200));
    rule("a pause holds for all", holds, || format!("{verdict:?}"))?;
    sleep(Duration::from_millis(250)).await;
    granted("and ends", ledger.reserve(&claim(BELA, 3, 1)).await?)
}

async fn a_claim_that_comes_late_is_not_granted(subject: &dyn Subject) -> Result<(), Violation> {
    let ledger = opened(subject, terms()).await?;
    ledger.tell(&note(ANNA, vec![Ended::unsent(7)])).await?;
    let verdict = ledger.reserve(&claim(ANNA, 7, 1)).await?;
    refused("a claim that was given up is not granted", verdict)?;
    let verdict = ledger.reserve(&claim(ANNA, 8, 1)).await?;
    granted("a later one is", verdict)
}

async fn news_of_a_lost_replica_are_counted(subject: &dyn Subject) -> Result<(), Violation> {
    let ledger = opened(subject, terms()).await?;
    granted("it fits", ledger.reserve(&claim(ANNA, 2, 20)).await?)?;
    granted("it fits", ledger.reserve(&claim(ANNA, 3, 20)).await?)?;
    let epoch = ledger.beat(ANNA).await?.unwrap_or_default().epoch;
    let back = Join {
        seq: 5,
        epoch: Some(epoch),
        fresh: vec![spent(0, 30)],
        whole: vec![spent(0, 70)],
        calls: vec![running(3, 20), running(4, 30)],
        ..join(ANNA)
    };
    for _ in 0..2 {
        ledger.join(&back).await?;
    }
    let verdict = ledger.reserve(&claim(BELA, 2, 51)).await?;
    refused("what was spent alone is counted", verdict)?;
    sleep(Duration::from_millis(20)).await;
    ledger
        .tell(&note(ANNA, vec![ended(4, [1, 10, 0, 0], [0; 4])]))
        .await?;
    let standing = ledger.beat(ANNA).await?.unwrap_or_default();
    let total = tokens(&standing);
    rule(
        "news are counted once, a lost claim is freed",
        total == 30,
        || format!("{total} of 30"),
    )?;
    rule("nothing else is", standing.epoch == epoch, || {
        format!("{standing:?}")
    })
}

async fn an_emptied_ledger_is_told_everything(subject: &dyn Subject) -> Result<(), Violation> {
    let ledger = opened(subject, terms()).await?;
    let epoch = ledger.beat(ANNA).await?.unwrap_or_default().epoch;
    granted("it fits", ledger.reserve(&claim(ANNA, 2, 60)).await?)?;
    subject.forget(&*ledger).await;
    let verdict = ledger.reserve(&claim(ANNA, 3, 60)).await?;
    rule("it knows nobody", verdict == Verdict::Unknown, || {
        format!("{verdict:?}")
    })?;
    let back = Join {
        seq: 4,
        epoch: Some(epoch),
        fresh: Vec::new(),
        whole: vec![spent(30, 60)],
        calls: vec![running(2, 60)],
        ..join(ANNA)
    };
    let standing = ledger.join(&back).await?;
    rule("it has a new epoch", standing.epoch != epoch, || {
        format!("{standing:?}")
    })?;
    let total = tokens(&standing);
    rule("it is told everything", total == 60, || {
        format!("{total} of 60")
    })?;
    ledger.join(&join(BELA)).await?;
    let verdict = ledger.reserve(&claim(BELA, 2, 1)).await?;
    refused("it waits for the others", verdict)?;
    sleep(WINDOW + GRACE).await;
    let verdict = ledger.reserve(&claim(BELA, 3, 100)).await?;
    granted("what was told has its own age", verdict)
}

async fn a_standing_tells_what_counts(subject: &dyn Subject) -> Result<(), Violation> {
    let ledger = opened(subject, terms()).await?;
    let mixed = Claim {
        counted: [1, 10, 7, 0],
        held: [0, 20, 0, 5],
        limits: [Some(10), Some(100), None, Some(50)],
        ..claim(ANNA, 2, 0)
    };
    granted("it fits", ledger.reserve(&mixed).await?)?;
    sleep(WINDOW / 4).await;
    let standing = ledger.beat(BELA).await?.unwrap_or_default();
    let mut sum = [0; 4];
    for spent in &standing.spent {
        for (sum, amount) in sum.iter_mut().zip(spent.amounts) {
            *sum += amount;
        }
    }
    rule(
        "a standing holds what is limited",
        sum == [1, 30, 0, 5],
        || format!("{standing:?}"),
    )?;
    let old = standing.spent.iter().map(|spent| spent.age).max();
    let holds = old.is_some_and(|age| age > WINDOW / 8 && age <= WINDOW / 2);
    rule("with its age", holds, || format!("{standing:?}"))
}

async fn what_calls_in_flight_may_add_is_kept_free(subject: &dyn Subject) -> Result<(), Violation> {
    let ledger = opened(subject, terms()).await?;
    let beyond = |likely, variance| Beyond { likely, variance };
    let first = Claim {
        beyond: beyond(10, 8),
        ..claim(ANNA, 2, 40)
    };
    granted("it fits", ledger.reserve(&first).await?)?;
    // 10 and 10 are likely, and 3.5 deviations of 4 are 14 more.
    let second = |seq, tokens| Claim {
        beyond: beyond(10, 8),
        ..claim(BELA, seq, tokens)
    };
    let verdict = ledger.reserve(&second(2, 27)).await?;
    refused("what may be added is kept free", verdict)?;
    let verdict = ledger.reserve(&second(3, 26)).await?;
    granted("deviations of several do not add up", verdict)?;
    let end = Note {
        beyond: beyond(0, 0),
        ..note(ANNA, vec![ended(2, [1, 40, 0, 0], [0; 4])])
    };
    ledger.tell(&end).await?;
    // What is left is 34, less 10 and 3.5 deviations of the root of 8.
    sleep(WINDOW / 5).await;
    let verdict = ledger.reserve(&second(4, 16)).await?;
    refused("the others' is kept free still", verdict)?;
    let verdict = ledger.reserve(&second(5, 15)).await?;
    granted("what ended adds nothing", verdict)
}

fn spent(age_millis: u64, tokens: u64) -> Spent {
    Spent {
        age: Duration::from_millis(age_millis),
        amounts: [0, tokens, 0, 0],
    }
}

fn running(seq: u64, tokens: u64) -> RunningCall {
    RunningCall {
        seq,
        counted: [0, tokens, 0, 0],
        held: [0; 4],
        age: Duration::ZERO,
    }
}

fn tokens(standing: &Standing) -> u64 {
    standing.spent.iter().map(|spent| spent.amounts[1]).sum()
}
