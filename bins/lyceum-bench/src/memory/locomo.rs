//! Evidence recall over conversations in LoCoMo's form.
//!
//! Each conversation is an owner of its own, each session a session, each turn one
//! [`Memory::save_said`]; each question one [`Memory::find`].

use std::{
    collections::HashMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use lyceum_core::{Role, Scope, SessionId, UserId};
use lyceum_encoder::Encoder;
use lyceum_memory::{
    Budget, Languages, Meaning, Memory, MemoryConfig, MemoryId, NewMessage, NewTurn, TurnId,
    estimate_tokens, said_id,
};
use lyceum_store_sqlite::{SqliteOptions, SqliteStore};

use super::conversations::{self, Conversation, Place};
use crate::{
    Options,
    machine::cpu_time,
    report::{Figures, say},
};

/// How many hits a question may have.
const CUTS: [usize; 3] = [5, 10, 20];
/// Questions whose answer is not in the conversation, though its evidence is.
const ADVERSARIAL: u64 = 5;

/// A conversation in the store.
struct Stored {
    scope: Scope,
    places: HashMap<MemoryId, Place>,
    conversation: Conversation,
}

pub(super) fn run(figures: Figures, options: &Options, file: &Path) -> Result<()> {
    let all = conversations::read(file)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let dir = tempfile::tempdir_in(&options.data)?;
        let options = SqliteOptions::default();
        let store = Arc::new(SqliteStore::open(dir.path().join("memory.db"), options)?);
        // What is found is measured, not when: a busy machine must not cost an arm.
        let config = MemoryConfig {
            part_timeout: Duration::from_secs(300),
            ..MemoryConfig::default()
        };
        let memory = Memory::new(store.clone(), store.clone(), store.clone(), config);
        let stored = save(figures, &memory, all).await?;
        recall(
            figures,
            "lexical",
            &memory,
            &stored,
            [None, Some(72.0), None],
        )
        .await?;
        budgets(figures, "lexical", &memory, &stored, None).await?;
        let memory = with_meaning(figures, memory, &store).await?;
        recall(figures, "fused", &memory, &stored, [None, Some(76.0), None]).await?;
        budgets(figures, "fused", &memory, &stored, Some(90.0)).await?;
        store.close().await;
        Ok(())
    })
}

/// The memory with the second arm, all vectors made.
async fn with_meaning(
    figures: Figures,
    memory: Memory,
    store: &Arc<SqliteStore>,
) -> Result<Memory> {
    say("embedding the turns");
    let encoder = Arc::new(Encoder::bundled()?);
    let meaning = Meaning::new(store.clone(), encoder, Languages::Spaced);
    let memory = memory.with_meaning(meaning);
    let (started, cpu) = (Instant::now(), cpu_time()?);
    let mut embedded = 0;
    loop {
        match memory.embed_waiting(64).await? {
            0 => break,
            more => embedded += more,
        }
    }
    let count = embedded.max(1) as f64;
    let seconds = started.elapsed().as_secs_f64();
    figures.print("fused", "embedded", count / seconds, "turns/s", None)?;
    let cpu = cpu_time()?.saturating_sub(cpu).as_secs_f64();
    figures.print(
        "fused",
        "embedding, CPU",
        cpu * 1e3 / count,
        "ms/turn",
        None,
    )?;
    Ok(memory)
}

async fn save(figures: Figures, memory: &Memory, all: Vec<Conversation>) -> Result<Vec<Stored>> {
    say("saving the conversations");
    let (mut stored, mut turns) = (Vec::new(), 0);
    let started = Instant::now();
    for (number, conversation) in (1..).zip(all) {
        let scope = Scope {
            user: UserId::new(format!("conversation-{number}"))?,
            ..Scope::local()
        };
        let mut places = HashMap::new();
        for talk in &conversation.sessions {
            let session = SessionId::new(format!("session-{}", talk.number))?;
            let scope = scope.clone().with_session(session);
            for (place, said) in &talk.turns {
                let turn_id = TurnId::new(format!("turn-{}", place.1))?;
                places.insert(said_id(&scope, &turn_id, 0)?, *place);
                let turn = NewTurn {
                    turn_id,
                    topic: String::new(),
                    messages: vec![NewMessage {
                        role: Role::User,
                        content: said.clone(),
                    }],
                    memories: Vec::new(),
                    jobs: Vec::new(),
                };
                memory.save_said(&scope, turn, talk.at).await?;
                turns += 1;
            }
        }
        stored.push(Stored {
            scope,
            places,
            conversation,
        });
    }
    let seconds = started.elapsed().as_secs_f64();
    let questions = |one: &Stored| one.conversation.questions.len();
    let unknown: usize = stored.iter().map(|one| one.conversation.unknown).sum();
    let print = |metric, value| figures.print("locomo", metric, value, "", None);
    print("conversations", stored.len() as f64)?;
    print("turns", f64::from(turns))?;
    print(
        "questions",
        stored.iter().map(questions).sum::<usize>() as f64,
    )?;
    print("evidence that names no turn", unknown as f64)?;
    figures.print(
        "locomo",
        "saved one by one",
        f64::from(turns) / seconds,
        "turns/s",
        None,
    )?;
    Ok(stored)
}

async fn recall(
    figures: Figures,
    case: &str,
    memory: &Memory,
    stored: &[Stored],
    targets: [Option<f64>; 3],
) -> Result<()> {
    say(&format!("asking: {case}"));
    let mut shares: [Mean; 3] = [Mean::default(); 3];
    let mut honest = Mean::default();
    let mut by_category: std::collections::BTreeMap<u64, Mean> = Default::default();
    for one in stored {
        for question in &one.conversation.questions {
            let most = CUTS[CUTS.len() - 1];
            let found = memory.find(&one.scope, &question.text, most).await?;
            anyhow::ensure!(found.degraded.is_empty(), "an arm is missing");
            let places: Vec<Option<&Place>> = found
                .memories
                .iter()
                .map(|hit| one.places.get(&hit.id))
                .collect();
            for (cut, share) in CUTS.into_iter().zip(&mut shares) {
                let found = places.iter().take(cut).flatten();
                let hits = found
                    .filter(|place| question.evidence.contains(place))
                    .count();
                let value = hits as f64 / question.evidence.len() as f64;
                share.add(value);
                if cut == 10 {
                    by_category.entry(question.category).or_default().add(value);
                    if question.category != ADVERSARIAL {
                        honest.add(value);
                    }
                }
            }
        }
    }
    for ((cut, share), target) in CUTS.into_iter().zip(shares).zip(targets) {
        figures.print(case, &format!("recall@{cut}"), share.percent(), "%", target)?;
    }
    figures.print(
        case,
        "recall@10 without adversarial",
        honest.percent(),
        "%",
        None,
    )?;
    for (category, share) in by_category {
        let metric = format!("recall@10 category {category}");
        figures.print(case, &metric, share.percent(), "%", None)?;
    }
    Ok(())
}

/// How much of the evidence stands in a context of so many tokens.
async fn budgets(
    figures: Figures,
    case: &str,
    memory: &Memory,
    stored: &[Stored],
    target_of_2000: Option<f64>,
) -> Result<()> {
    for tokens in [500, 1_000, 2_000, 4_000] {
        say(&format!("assembling {tokens} tokens: {case}"));
        let budget = Budget {
            tokens,
            // There is no conversation going on that would need a share.
            knowledge_share: 1.0,
            candidates: 200,
            ..Budget::default()
        };
        let (mut share, mut used) = (Mean::default(), Mean::default());
        for one in stored {
            for question in &one.conversation.questions {
                let context = memory.assemble(&one.scope, &question.text, &budget).await?;
                anyhow::ensure!(context.degraded.is_empty(), "an arm is missing");
                let cost = estimate_tokens(&context.render());
                anyhow::ensure!(cost <= tokens, "{cost} tokens do not fit in {tokens}");
                let places = context.knowledge.iter().map(|hit| one.places.get(&hit.id));
                let found = places
                    .flatten()
                    .filter(|place| question.evidence.contains(place));
                share.add(found.count() as f64 / question.evidence.len() as f64);
                used.add(cost as f64 / tokens as f64);
            }
        }
        let target = target_of_2000.filter(|_| tokens == 2_000);
        let metric = format!("evidence within {tokens} tokens");
        figures.print(case, &metric, share.percent(), "%", target)?;
        let metric = format!("used of {tokens} tokens");
        figures.print(case, &metric, used.percent(), "%", None)?;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    sum: f64,
    count: u32,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    fn percent(self) -> f64 {
        100.0 * self.sum / f64::from(self.count.max(1))
    }
}
