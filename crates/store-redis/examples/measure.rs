//! Measures a ledger on a real server: `cargo run --release -p lyceum-store-redis --example
//! measure -- redis://127.0.0.1:6379` prints the time of a decision as JSON.

use std::time::{Duration, Instant};

use lyceum_queue::{
    Beyond, Claim, Ended, Join, LedgerTerms, Note, QuotaLedger, ReplicaId, Verdict,
};
use lyceum_store_redis::{RedisLedger, RedisServer};

const DECISIONS: usize = 5_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).ok_or("give an address")?;
    let server = RedisServer::new(&address.into(), Duration::from_secs(1))?;
    let name = format!("measure {}", std::process::id());
    let terms = LedgerTerms {
        grace: Duration::ZERO,
        ..LedgerTerms::default()
    };
    let ledger = RedisLedger::new(server, &name, terms);
    let replica = ReplicaId(u64::from(std::process::id()));
    let join = Join {
        replica,
        seq: 1,
        epoch: None,
        fresh: Vec::new(),
        whole: Vec::new(),
        calls: Vec::new(),
    };
    ledger.join(&join).await?;
    let (mut grants, mut denials, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for seq in 2..DECISIONS as u64 {
        // Every other claim asks for more than is left, so both answers are timed.
        let least = if seq % 2 == 0 { 1_000_000 } else { 1 };
        let claim = Claim {
            replica,
            seq,
            counted: [1, 0, 100 * least, 100],
            held: [0; 4],
            limits: [Some(1_000_000), None, Some(50_000_000), Some(50_000_000)],
            beyond: Beyond::default(),
            band: 1,
            flows: 1,
            concurrency: Some(100),
        };
        let begin = Instant::now();
        let verdict = ledger.reserve(&claim).await?;
        let took = begin.elapsed();
        match verdict {
            Verdict::Granted => {
                grants.push(took);
                let ended = vec![Ended {
                    seq,
                    counted: [1, 0, 90, 100],
                    late: [0; 4],
                }];
                let note = Note {
                    replica,
                    ended,
                    pause: None,
                    beyond: Beyond::default(),
                };
                let begin = Instant::now();
                ledger.tell(&note).await?;
                ends.push(begin.elapsed());
            }
            _ => denials.push(took),
        }
    }
    let all = [("grant", grants), ("denial", denials), ("end", ends)];
    let lines = all.map(|(name, mut times)| {
        times.sort_unstable();
        let at = |share: f64| {
            let last = times.len().saturating_sub(1);
            let at = (last as f64 * share) as usize;
            times.get(at).map_or(0, Duration::as_micros)
        };
        serde_json::json!({
            "operation": name,
            "count": times.len(),
            "p50_us": at(0.5) as u64,
            "p99_us": at(0.99) as u64,
        })
    });
    for line in lines {
        #[expect(clippy::print_stdout, reason = "the result")]
        {
            println!("{line}");
        }
    }
    Ok(())
}
