//! A quota ledger in Redis: one script per decision, on the server's clock.
//!
//! All keys of a ledger carry one hash tag, so a cluster keeps them on one node. What is
//! kept is bounded: 256 buckets a kind of quota and a window, one line for each process
//! and each running call; all of it expires when nobody asks any more.

use std::time::Duration;

use async_trait::async_trait;
use lyceum_queue::{
    Beyond, Claim, Ended, Join, LedgerError, LedgerTerms, Note, QuotaLedger, ReplicaId,
    RunningCall, Spent, Standing, Verdict,
};
use redis::{FromRedisValue, RedisError, Script};
use serde_json::{Value, json};

use crate::RedisServer;

const SCRIPT: &str = include_str!("ledger.lua");
/// The script's codes.
const GRANTED: i64 = 0;
const LATER: i64 = 1;
const PAUSED: i64 = 2;
const UNKNOWN: i64 = 3;

/// A [`QuotaLedger`] in Redis. Processes that name the same ledger on the same server
/// share its quota.
#[derive(Debug)]
pub struct RedisLedger {
    server: RedisServer,
    terms: LedgerTerms,
    keys: [String; 4],
    script: Script,
}

impl RedisLedger {
    /// The ledger of this name. The name should tell apart what the upstream counts
    /// apart: the provider, the model, the key (its digest, not the key).
    #[must_use]
    pub fn new(server: RedisServer, name: &str, terms: LedgerTerms) -> Self {
        // Only the first pair of braces makes a hash tag.
        let tag: String = name.chars().filter(|c| !matches!(c, '{' | '}')).collect();
        let key = |part: &str| format!("lyceum:quota:{{{tag}}}:{part}");
        Self {
            server,
            terms,
            keys: ["state", "replicas", "calls", "buckets"].map(key),
            script: Script::new(SCRIPT),
        }
    }

    async fn decide<T: FromRedisValue>(
        &self,
        operation: &str,
        argument: &Value,
    ) -> Result<T, LedgerError> {
        let mut call = self.script.prepare_invoke();
        for key in &self.keys {
            call.key(key);
        }
        let terms = &self.terms;
        call.arg(operation)
            .arg(micros(terms.window))
            .arg(micros(terms.jitter))
            .arg(terms.burst)
            .arg(micros(terms.dead_after))
            .arg(micros(terms.grace))
            .arg(argument.to_string());
        let run = async |connection: &mut _| call.invoke_async(connection).await;
        self.server.run(run).await.map_err(failure)
    }
}

#[async_trait]
impl QuotaLedger for RedisLedger {
    fn terms(&self) -> LedgerTerms {
        self.terms
    }

    async fn reserve(&self, claim: &Claim) -> Result<Verdict, LedgerError> {
        let limit = |limit: Option<u64>| limit.map_or(-1, |limit| limit.min(1 << 50) as i64);
        let argument = json!({
            "replica": claim.replica.to_string(),
            "seq": claim.seq,
            "counted": claim.counted,
            "held": claim.held,
            "limits": claim.limits.map(limit),
            "concurrency": claim.concurrency.unwrap_or(0),
            "beyond": beyond(claim.beyond),
            "band": claim.band,
            "flows": claim.flows.max(1),
        });
        let (code, after): (i64, i64) = self.decide("reserve", &argument).await?;
        let after = Duration::from_micros(u64::try_from(after).unwrap_or(0));
        match code {
            GRANTED => Ok(Verdict::Granted),
            LATER | PAUSED => Ok(Verdict::Later {
                after,
                paused: code == PAUSED,
            }),
            UNKNOWN => Ok(Verdict::Unknown),
            _ => Err(LedgerError::Malformed("verdict")),
        }
    }

    async fn tell(&self, note: &Note) -> Result<(), LedgerError> {
        let argument = json!({
            "replica": note.replica.to_string(),
            "ended": note.ended.iter().map(ended).collect::<Vec<_>>(),
            "pause": note.pause.map_or(0, micros),
            "beyond": beyond(note.beyond),
        });
        let _: Vec<i64> = self.decide("tell", &argument).await?;
        Ok(())
    }

    async fn beat(&self, replica: ReplicaId) -> Result<Option<Standing>, LedgerError> {
        let argument = json!({ "replica": replica.to_string() });
        let flat: Vec<i64> = self.decide("beat", &argument).await?;
        if flat.is_empty() {
            return Ok(None);
        }
        standing(&flat).map(Some)
    }

    async fn join(&self, join: &Join) -> Result<Standing, LedgerError> {
        let argument = json!({
            "replica": join.replica.to_string(),
            "seq": join.seq,
            // As text: the script must not round it.
            "epoch": join.epoch.unwrap_or(0).to_string(),
            "fresh": join.fresh.iter().map(spent).collect::<Vec<_>>(),
            "whole": join.whole.iter().map(spent).collect::<Vec<_>>(),
            "calls": join.calls.iter().map(running).collect::<Vec<_>>(),
        });
        let flat: Vec<i64> = self.decide("join", &argument).await?;
        standing(&flat)
    }
}

fn failure(error: RedisError) -> LedgerError {
    LedgerError::Unreachable(Box::new(error))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).map_or(1 << 50, |micros| micros.min(1 << 50))
}

fn beyond(beyond: Beyond) -> Value {
    json!([beyond.likely, beyond.variance.min(1 << 50)])
}

fn ended(ended: &Ended) -> Value {
    json!({ "seq": ended.seq, "counted": ended.counted, "late": ended.late })
}

fn spent(spent: &Spent) -> Value {
    json!({ "age": micros(spent.age), "amounts": spent.amounts })
}

fn running(call: &RunningCall) -> Value {
    json!({
        "seq": call.seq,
        "counted": call.counted,
        "held": call.held,
        "age": micros(call.age),
    })
}

/// Reads the script's flat list: three numbers, then five for each bin.
fn standing(flat: &[i64]) -> Result<Standing, LedgerError> {
    let malformed = LedgerError::Malformed("standing");
    let Some(([epoch, replicas, waiting], bins)) = flat.split_first_chunk() else {
        return Err(malformed);
    };
    let number = |value: i64| u64::try_from(value).unwrap_or(0);
    let spent = bins.chunks_exact(5).map(|bin| Spent {
        age: Duration::from_micros(number(bin[0])),
        amounts: [bin[1], bin[2], bin[3], bin[4]].map(number),
    });
    Ok(Standing {
        epoch: number(*epoch),
        replicas: u32::try_from(*replicas).map_err(|_| malformed)?,
        waiting: u32::try_from(*waiting).unwrap_or(0),
        spent: spent.collect(),
    })
}
