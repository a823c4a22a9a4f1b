//! The rules of the two axes of time: compared with a model that keeps every statement and
//! replays them for each question.

use std::{collections::BTreeSet, time::Duration};

use super::{Subject, Violation, fresh_scope, id, same};
use crate::{AsOf, MemoryCursor, MemoryId, MemoryKind, MemoryStore, NewMemory, Timestamp};

const HOUR: Duration = Duration::from_secs(3_600);
const STATEMENTS: u32 = 24;

pub(super) async fn verify(subject: &dyn Subject) -> Result<(), Violation> {
    a_successor_takes_over(subject).await?;
    what_ended_or_did_not_begin_is_not_found(subject).await?;
    superseding_stays_with_its_owner(subject).await?;
    answers_are_the_models(subject).await
}

fn fact(name: &str, text: &str) -> Result<NewMemory, Violation> {
    Ok(NewMemory {
        id: id(MemoryId::new(name))?,
        ..NewMemory::new(MemoryKind::Fact, "home", text)
    })
}

async fn names(
    store: &dyn MemoryStore,
    scope: &lyceum_core::Scope,
    query: &str,
) -> Result<Vec<String>, Violation> {
    let found = store.search(scope, query, 9).await?;
    Ok(found.iter().map(|hit| hit.id.to_string()).collect())
}

async fn a_successor_takes_over(subject: &dyn Subject) -> Result<(), Violation> {
    let (store, scope) = (subject.memories(), fresh_scope());
    store
        .put(&scope, &fact("old", "Ada lives in London")?)
        .await?;
    subject.advance(HOUR).await;
    let old = store.get(&scope, &id(MemoryId::new("old"))?).await?;
    let before = old.map_or(Timestamp(0), |old| old.recorded_at.after(HOUR / 2));
    let new = NewMemory {
        supersedes: vec![id(MemoryId::new("old"))?, id(MemoryId::new("nobody"))?],
        ..fact("new", "Ada lives in Torquay")?
    };
    let rule = "a memory takes the place of those that it supersedes";
    same(rule, store.put(&scope, &new).await?, true)?;
    same(rule, names(store, &scope, "Ada lives").await?, ["new"])?;
    let listed = store.list(&scope, None, 9).await?;
    same("what is superseded stays stored", listed.len(), 2)?;
    let old = listed.iter().find(|one| one.id.as_str() == "old");
    let by = old.and_then(|old| old.superseded.as_ref());
    same(rule, by.map(|by| by.by.to_string()), Some("new".to_owned()))?;
    let then = AsOf::at(before);
    let found = store.search_as_of(&scope, then, "Ada lives", 9).await?;
    let found: Vec<&str> = found.iter().map(|hit| hit.id.as_str()).collect();
    same("the past is found as it was known", found, ["old"])?;

    let again = NewMemory {
        supersedes: vec![id(MemoryId::new("old"))?],
        ..fact("third", "Ada lives in Ockham")?
    };
    store.put(&scope, &again).await?;
    let old = store.get(&scope, &id(MemoryId::new("old"))?).await?;
    let by = old
        .and_then(|old| old.superseded)
        .map(|by| by.by.to_string());
    same("a memory is superseded once", by, Some("new".to_owned()))
}

async fn what_ended_or_did_not_begin_is_not_found(subject: &dyn Subject) -> Result<(), Violation> {
    let (store, scope) = (subject.memories(), fresh_scope());
    store
        .put(&scope, &fact("always", "a lantern glows")?)
        .await?;
    let always = store.get(&scope, &id(MemoryId::new("always"))?).await?;
    let now = always.map_or(Timestamp(0), |one| one.recorded_at);
    for (name, from, to) in [
        ("over", now.before(2 * HOUR), Some(now.before(HOUR))),
        ("soon", now.after(HOUR), None),
        ("long", now.before(HOUR), Some(now.after(1000 * HOUR))),
    ] {
        let one = NewMemory {
            valid_from: Some(from),
            valid_to: to,
            ..fact(name, "a lantern glows")?
        };
        store.put(&scope, &one).await?;
    }
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    let rule = "a search finds what holds now";
    let found = sorted(names(store, &scope, "lantern").await?);
    same(rule, found, ["always", "long"])?;
    let past = AsOf {
        valid: now.before(HOUR + HOUR / 2),
        known: now.after(10 * HOUR),
    };
    let found = store.list_as_of(&scope, past, None, 9).await?;
    let found: Vec<&str> = found.iter().map(|one| one.id.as_str()).collect();
    same("what held in the past is listed", found, ["over"])?;
    subject.advance(2 * HOUR).await;
    let found = sorted(names(store, &scope, "lantern").await?);
    same("what begins is found", found, ["always", "long", "soon"])
}

async fn superseding_stays_with_its_owner(subject: &dyn Subject) -> Result<(), Violation> {
    let (store, scope) = (subject.memories(), fresh_scope());
    let mut stranger = scope.clone();
    stranger.user = lyceum_core::UserId::random();
    store.put(&scope, &fact("m", "a quiet harbour")?).await?;
    let attack = NewMemory {
        supersedes: vec![id(MemoryId::new("m"))?],
        ..fact("n", "a loud harbour")?
    };
    store.put(&stranger, &attack).await?;
    let rule = "nobody supersedes another's memory";
    same(rule, names(store, &scope, "harbour").await?, ["m"])
}

/// What was said, in the order of saying.
struct Statement {
    id: MemoryId,
    at: Timestamp,
    from: Timestamp,
    to: Option<Timestamp>,
    replaces: Option<usize>,
}

/// What holds at a point: replays what was known then, and nothing else.
fn holding(said: &[Statement], as_of: AsOf) -> BTreeSet<String> {
    let known: Vec<usize> = (0..said.len())
        .filter(|&n| said[n].at <= as_of.known)
        .collect();
    let mut ends: Vec<Option<Timestamp>> = vec![None; said.len()];
    for &n in &known {
        if let Some(old) = said[n].replaces
            && ends[old].is_none()
        {
            ends[old] = Some(said[n].from);
        }
    }
    let is_over = |end: Option<Timestamp>| end.is_some_and(|end| end <= as_of.valid);
    let holds =
        |&&n: &&usize| said[n].from <= as_of.valid && !is_over(said[n].to) && !is_over(ends[n]);
    let holding = known.iter().filter(holds);
    holding.map(|&n| said[n].id.to_string()).collect()
}

async fn answers_are_the_models(subject: &dyn Subject) -> Result<(), Violation> {
    let (store, scope) = (subject.memories(), fresh_scope());
    // The generator of "Numerical Recipes", its high bits.
    let mut state = 0x5EED_u32;
    let mut random = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % below
    };
    let mut said: Vec<Statement> = Vec::new();
    let mut begin = None;
    for n in 0..STATEMENTS {
        subject.advance(HOUR).await;
        let replaces = (n > 0 && random(2) == 0).then(|| random(n) as usize);
        let from = begin.map(|begin: Timestamp| begin.after(HOUR * random(STATEMENTS)));
        let to = from.filter(|_| random(4) == 0);
        let to = to.map(|from| from.after(HOUR * (1 + random(8))));
        let new = NewMemory {
            valid_from: from,
            valid_to: to,
            supersedes: replaces.iter().map(|&old| said[old].id.clone()).collect(),
            ..fact(&format!("m{n}"), "the lighthouse is lit")?
        };
        store.put(&scope, &new).await?;
        let Some(stored) = store.get(&scope, &new.id).await? else {
            return same("what was stored is there", false, true);
        };
        begin = begin.or(Some(stored.recorded_at));
        said.push(Statement {
            id: new.id,
            at: stored.recorded_at,
            from: stored.valid_from,
            to,
            replaces,
        });
    }
    let begin = begin.unwrap_or_default();
    for _ in 0..40 {
        let as_of = AsOf {
            valid: begin.after(HOUR * random(STATEMENTS) + HOUR / 2),
            known: begin.after(HOUR * random(STATEMENTS) + HOUR / 2),
        };
        let want = holding(&said, as_of);
        let mut listed = BTreeSet::new();
        let mut cursor: Option<MemoryCursor> = None;
        loop {
            let page = store.list_as_of(&scope, as_of, cursor.as_ref(), 5).await?;
            let Some(last) = page.last() else { break };
            cursor = Some(MemoryCursor::from(last));
            listed.extend(page.iter().map(|one| one.id.to_string()));
        }
        same("a list as of a point is the model's", &listed, &want)?;
        let found = store.search_as_of(&scope, as_of, "lighthouse", 99).await?;
        let found: BTreeSet<String> = found.iter().map(|hit| hit.id.to_string()).collect();
        same("a search as of a point is the model's", &found, &want)?;
    }
    Ok(())
}
