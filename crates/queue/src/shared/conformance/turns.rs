//! The rules of who goes first.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    ANNA, BELA, Subject, Violation, WINDOW, claim, ended, granted, note, opened, refused, rule,
    terms,
};
use crate::{Claim, LedgerTerms, Verdict};

pub(super) async fn a_higher_band_goes_first(subject: &dyn Subject) -> Result<(), Violation> {
    let ledger = opened(subject, terms()).await?;
    let of = |replica, seq, band| Claim {
        band,
        limits: [None; 4],
        concurrency: Some(1),
        ..claim(replica, seq, 1)
    };
    granted("a slot is free", ledger.reserve(&of(ANNA, 2, 0)).await?)?;
    refused("no more", ledger.reserve(&of(BELA, 2, 0)).await?)?;
    ledger
        .tell(&note(ANNA, vec![ended(2, [1, 1, 0, 0], [0; 4])]))
        .await?;
    let verdict = ledger.reserve(&of(ANNA, 3, 1)).await?;
    refused("a higher band that waits goes first", verdict)?;
    let verdict = ledger.reserve(&of(BELA, 3, 0)).await?;
    granted("it is its turn", verdict)
}

pub(super) async fn a_replica_with_more_conversations_gets_more(
    subject: &dyn Subject,
) -> Result<(), Violation> {
    let ledger = opened(subject, terms()).await?;
    let (mut got, mut seq) = ([0_u64; 2], 2);
    let begin = Instant::now();
    while begin.elapsed() < WINDOW * 4 {
        for (at, replica, flows) in [(0, ANNA, 3), (1, BELA, 1)] {
            seq += 1;
            let asked = Claim {
                flows,
                ..claim(replica, seq, 2)
            };
            if ledger.reserve(&asked).await? == Verdict::Granted {
                got[at] += 2;
                ledger
                    .tell(&note(replica, vec![ended(seq, [1, 2, 0, 0], [0; 4])]))
                    .await?;
            }
        }
        sleep(Duration::from_millis(1)).await;
    }
    let [anna, bela] = got;
    rule(
        "each conversation gets as much",
        anna >= bela * 2 && bela * 6 >= anna,
        || format!("{got:?}"),
    )
}

pub(super) async fn nobody_starves(subject: &dyn Subject) -> Result<(), Violation> {
    let ledger = opened(
        subject,
        LedgerTerms {
            burst: 0.1,
            ..terms()
        },
    )
    .await?;
    // Anna asks all the time for little, Bela for much and only when told to.
    let (mut got, mut seq, mut bela_at) = ([0_u64; 2], 2, Instant::now());
    let begin = Instant::now();
    while begin.elapsed() < WINDOW * 4 {
        seq += 2;
        if ledger.reserve(&claim(ANNA, seq, 1)).await? == Verdict::Granted {
            got[0] += 1;
            ledger
                .tell(&note(ANNA, vec![ended(seq, [1, 1, 0, 0], [0; 4])]))
                .await?;
        }
        if Instant::now() >= bela_at {
            match ledger.reserve(&claim(BELA, seq, 20)).await? {
                Verdict::Granted => {
                    got[1] += 20;
                    ledger
                        .tell(&note(BELA, vec![ended(seq, [1, 20, 0, 0], [0; 4])]))
                        .await?;
                }
                Verdict::Later { after, .. } => bela_at = Instant::now() + after,
                Verdict::Unknown => {}
            }
        }
        sleep(Duration::from_millis(1)).await;
    }
    let least = got.iter().min().copied().unwrap_or_default();
    let total = got[0] + got[1];
    rule("nobody starves", least * 10 >= total * 3, || {
        format!("{got:?}")
    })?;
    // How much of it is used in real time depends on the machine; what there is does not.
    let windows = begin.elapsed().as_nanos().div_ceil(WINDOW.as_nanos()) as u64;
    let most = windows * 100;
    rule("turns give no more than there is", total <= most, || {
        format!("{got:?} of {most}")
    })
}
