//! Whether a ledger tells of runs as they should be.
//!
//! What is guaranteed, and judged here:
//!
//! - A run of which the first checkpoint was acknowledged is never begun anew.
//! - A task whose result was acknowledged, by a record or by the checkpoint that merged its
//!   step, is never started again.
//! - An effect has the same id and the same value in every attempt, and once its record was
//!   acknowledged it never takes place again. Between the effect and its record a kill
//!   cannot be told from one before the effect, so until then each kill may repeat it: the
//!   other side sees one id, and takes it once.
//! - The run ends in the state, with the effects, of a run that nobody killed.

use std::collections::{BTreeMap, BTreeSet};

use super::ledger::{Entry, StoredCheckpoint};

/// What all lives of one folder came to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Story {
    /// Threads with their final states.
    pub ends: BTreeMap<String, String>,
    /// Effects by thread and id, with their values.
    pub effects: BTreeMap<(String, String), u64>,
}

/// A story, and what it took.
#[derive(Debug, Default)]
pub struct Judged {
    /// What should be as without kills.
    pub story: Story,
    /// Acknowledged checkpoints of the outermost graph, by thread.
    pub stored: BTreeMap<String, BTreeSet<u64>>,
    /// Lives that began.
    pub lives: u64,
    /// Effects that took place more than once, before they were recorded.
    pub repeated: u64,
}

/// Reads the story out of a ledger.
///
/// # Errors
///
/// The first guarantee that was broken, in words.
pub fn judge(entries: &[Entry]) -> Result<Judged, String> {
    let mut judged = Judged::default();
    let mut threads: BTreeMap<&str, Thread<'_>> = BTreeMap::new();
    for (line, entry) in entries.iter().enumerate() {
        let at = |wrong: String| format!("entry {line}, life {}: {wrong}", judged.lives);
        match entry {
            Entry::Life => judged.lives += 1,
            Entry::Begun { thread } => {
                if threads.contains_key(thread.as_str()) {
                    return Err(at(format!("{thread} was acknowledged and lost")));
                }
            }
            Entry::Stored {
                thread,
                checkpoints,
                records,
            } => threads
                .entry(thread)
                .or_default()
                .store(checkpoints, records),
            Entry::Started {
                thread,
                namespace,
                step,
                task,
            } => {
                let known = threads.get(thread.as_str());
                if known.is_some_and(|known| known.has_result(namespace, *step, *task)) {
                    let what = format!("{thread}{namespace}, task {task} of step {step}");
                    return Err(at(format!("{what} was recorded and started again")));
                }
            }
            Entry::Effect { thread, id, value } => {
                let known = threads.get(thread.as_str());
                if known.is_some_and(|known| known.effects.contains(id)) {
                    let wrong = format!("effect {id} of {thread} was recorded and made again");
                    return Err(at(wrong));
                }
                let key = (thread.clone(), id.clone());
                match judged.story.effects.insert(key, *value) {
                    None => {}
                    Some(before) if before == *value => judged.repeated += 1,
                    Some(before) => {
                        let wrong = format!("effect {id} of {thread}: {before}, then {value}");
                        return Err(at(wrong));
                    }
                }
            }
            Entry::Ended { thread, state } => {
                let before = judged.story.ends.insert(thread.clone(), state.clone());
                if before.is_some_and(|before| before != *state) {
                    return Err(at(format!("{thread} ended twice, with two states")));
                }
            }
        }
    }
    judged.stored = threads
        .into_iter()
        .map(|(name, thread)| (name.to_owned(), thread.outermost))
        .collect();
    Ok(judged)
}

/// What is known to be stored of a thread.
#[derive(Debug, Default)]
struct Thread<'a> {
    outermost: BTreeSet<u64>,
    /// Steps merged, by namespace.
    merged: BTreeMap<&'a str, u64>,
    /// The namespace and the running step of each checkpoint.
    running: BTreeMap<u64, (&'a str, u64)>,
    /// Tasks with a result: namespace, step, task.
    results: BTreeSet<(&'a str, u64, u32)>,
    /// Recorded effects, by the id that the runtime gives them.
    effects: BTreeSet<String>,
}

impl<'a> Thread<'a> {
    fn store(&mut self, heads: &'a [StoredCheckpoint], records: &'a [(u64, u32, String)]) {
        for head in heads {
            if head.namespace.is_empty() {
                self.outermost.insert(head.id);
            }
            self.merged.insert(&head.namespace, head.step);
            self.running
                .insert(head.id, (&head.namespace, head.step + 1));
        }
        for (checkpoint, task, key) in records {
            let running = self.running.get(checkpoint);
            if let Some((namespace, step)) = running.filter(|_| key == "result") {
                self.results.insert((namespace, *step, *task));
            }
            if key.starts_with("effect:") {
                let namespace = running.map_or("", |(namespace, _)| namespace);
                self.effects
                    .insert(format!("{namespace}@{checkpoint}:{task}:{key}"));
            }
        }
    }

    fn has_result(&self, namespace: &str, step: u64, task: u32) -> bool {
        let merged = self.merged.get(namespace).is_some_and(|last| step <= *last);
        merged || self.results.contains(&(namespace, step, task))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread() -> String {
        "t".to_owned()
    }

    fn stored(step: u64, record: Option<&str>) -> Entry {
        let id = step + 1;
        Entry::Stored {
            thread: thread(),
            checkpoints: vec![StoredCheckpoint {
                id,
                namespace: String::new(),
                step,
            }],
            records: record
                .map(|key| (id, 0, key.to_owned()))
                .into_iter()
                .collect(),
        }
    }

    fn effect(value: u64) -> Entry {
        Entry::Effect {
            thread: thread(),
            id: "@1:0:effect:pay#1".to_owned(),
            value,
        }
    }

    fn started() -> Entry {
        Entry::Started {
            thread: thread(),
            namespace: String::new(),
            step: 1,
            task: 0,
        }
    }

    #[track_caller]
    fn wrong(entries: &[Entry], what: &str) {
        let error = judge(entries).unwrap_err();
        assert!(error.contains(what), "{error}");
    }

    #[test]
    fn every_guarantee_is_judged() {
        let begun = || Entry::Begun { thread: thread() };
        wrong(&[begun(), stored(0, None), begun()], "lost");
        wrong(
            &[stored(0, None), stored(1, None), started()],
            "started again",
        );
        wrong(&[stored(0, Some("result")), started()], "started again");
        let recorded = || stored(0, Some("effect:pay#1"));
        wrong(&[effect(1), recorded(), effect(1)], "made again");
        wrong(&[effect(1), effect(2)], "1, then 2");
        let ended = |state: &str| Entry::Ended {
            thread: thread(),
            state: state.to_owned(),
        };
        wrong(&[ended("a"), ended("b")], "two states");
    }

    #[test]
    fn an_effect_may_be_repeated_until_it_is_recorded() {
        let judged = judge(&[stored(0, None), started(), effect(1), started(), effect(1)]);
        assert_eq!(judged.unwrap().repeated, 1);
    }
}
