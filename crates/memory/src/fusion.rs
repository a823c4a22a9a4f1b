//! One ranking from what was found by words, by meaning and by where it was said.
//!
//! Both arms are brought to `0..=1` and added ("min-max sum": Lee, "Analyses of multiple
//! evidence combination", SIGIR 1997), because a weak second arm then weighs what it found and
//! not merely its order; reciprocal ranks would let it push good hits of the first one out.
//! Importance and recency add small capped bonuses, which settle near ties.
//!
//! What was said directly before or after a good hit is often the answer to it, and shares no
//! word with the question: it is given a share of the hit's score. Where the question names who
//! spoke, that speaker's words come first among near ones.
//!
//! Pure and deterministic. Deliberately absent: reading stores.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use crate::{Beside, MemoryId, Near, Recollection, Timestamp};

/// The longest name of a speaker, in bytes.
const NAME_BYTES: usize = 40;

/// How the two arms and the bonuses weigh.
#[derive(Debug, Clone)]
pub struct Fusion {
    /// What the best hit by meaning is worth beside the best hit by words. Default 0.6.
    pub dense_weight: f64,
    /// The most that importance adds. Default 0.05, a twentieth of the best hit by words.
    pub importance_bonus: f64,
    /// The most that recency adds. Default 0.02.
    pub recency_bonus: f64,
    /// After this time half of the recency is left. Default 30 days.
    pub recency_half_life: Duration,
    /// Which share of a hit's score is added to what was said directly before and after it.
    /// Default 0.2; zero asks for no neighbours.
    pub beside_share: f64,
    /// What is added to the words of the one speaker whom the question names. Default 0.1.
    pub speaker_bonus: f64,
    /// How many candidates each arm gives, at least as many as are wanted. Default 100.
    pub candidates: usize,
}

impl Default for Fusion {
    fn default() -> Self {
        Self {
            dense_weight: 0.6,
            importance_bonus: 0.05,
            recency_bonus: 0.02,
            recency_half_life: Duration::from_secs(30 * 24 * 3600),
            beside_share: 0.2,
            speaker_bonus: 0.1,
            candidates: 100,
        }
    }
}

impl Fusion {
    /// Ranks what both arms found; see [`Recollection::by_rank`] for the order of equals.
    ///
    /// A memory without a vector has its words alone, so what was stored a moment ago is found
    /// before it has one.
    #[must_use]
    pub fn fuse(
        &self,
        words: Vec<Recollection>,
        meaning: &[Near],
        now: Timestamp,
    ) -> Vec<Recollection> {
        let best = words.iter().map(|hit| hit.score).fold(0.0, f64::max);
        let similarities = || meaning.iter().map(|near| f64::from(near.similarity));
        let (least, most) = (
            similarities().fold(f64::INFINITY, f64::min),
            similarities().fold(f64::NEG_INFINITY, f64::max),
        );
        let mut found = words;
        for hit in &mut found {
            hit.score = share(hit.score, 0.0, best) + self.bonus(hit, now);
        }
        let mut places: HashMap<MemoryId, usize> = HashMap::new();
        if !meaning.is_empty() {
            places.extend((0..).zip(&found).map(|(at, hit)| (hit.id.clone(), at)));
        }
        for near in meaning {
            let score = self.dense_weight * share(f64::from(near.similarity), least, most);
            match places.get(&near.id).and_then(|&place| found.get_mut(place)) {
                Some(hit) => hit.score += score,
                None => {
                    let mut hit = Recollection {
                        id: near.id.clone(),
                        topic: near.topic.clone(),
                        text: near.text.clone(),
                        score: 0.0,
                        importance: near.importance,
                        created_at: near.created_at,
                    };
                    hit.score = score + self.bonus(&hit, now);
                    found.push(hit);
                }
            }
        }
        found.sort_by(Recollection::by_rank);
        found
    }

    /// Gives what stands beside the hits its share of their scores: of the better neighbour's,
    /// before anything was shared, so that nothing is passed on twice.
    #[must_use]
    pub fn share_out(
        &self,
        mut found: Vec<Recollection>,
        beside: Vec<Beside>,
    ) -> Vec<Recollection> {
        // Those that were found come first; what is added behind them has no score of its own.
        let own: Vec<f64> = found.iter().map(|hit| hit.score).collect();
        let mut places: HashMap<MemoryId, usize> = (0..)
            .zip(&found)
            .map(|(place, hit)| (hit.id.clone(), place))
            .collect();
        for Beside { of, memory } in beside {
            let Some(hit) = places.get(&of).and_then(|&place| own.get(place)) else {
                continue;
            };
            let place = match places.get(&memory.id) {
                Some(&place) => place,
                None => {
                    places.insert(memory.id.clone(), found.len());
                    found.len()
                }
            };
            let base = own.get(place).copied().unwrap_or_default();
            let score = base + self.beside_share * hit;
            match found.get_mut(place) {
                Some(known) => known.score = known.score.max(score),
                None => found.push(Recollection { score, ..memory }),
            }
        }
        found.sort_by(Recollection::by_rank);
        found
    }

    /// Prefers the words of the speaker whom the query names; of nobody where it names several.
    #[must_use]
    pub fn listen(&self, query: &str, mut found: Vec<Recollection>) -> Vec<Recollection> {
        let speakers: HashSet<&str> = found.iter().filter_map(|hit| speaker(&hit.text)).collect();
        let mut named = speakers.into_iter().filter(|name| names(query, name));
        let (Some(name), None) = (named.next().map(str::to_owned), named.next()) else {
            return found;
        };
        for hit in &mut found {
            if speaker(&hit.text) == Some(&name) {
                hit.score += self.speaker_bonus;
            }
        }
        found.sort_by(Recollection::by_rank);
        found
    }

    fn bonus(&self, hit: &Recollection, now: Timestamp) -> f64 {
        let importance = self.importance_bonus * f64::from(hit.importance.clamp(0.0, 1.0));
        let half_life = self.recency_half_life.as_secs_f64();
        if half_life <= 0.0 {
            return importance;
        }
        let age = now.since(hit.created_at).as_secs_f64();
        importance + self.recency_bonus * 0.5_f64.powf(age / half_life)
    }
}

fn share(value: f64, least: f64, most: f64) -> f64 {
    match most > least {
        true => (value - least) / (most - least),
        // One hit alone is as good as any.
        false => 1.0,
    }
}

/// Who speaks in a text of the form `Name: words`, as several people's conversations are kept.
fn speaker(text: &str) -> Option<&str> {
    // What ends a name stands directly after it, in at most four bytes.
    let head = &text[..text.floor_char_boundary(NAME_BYTES + 4)];
    let end = head.find([':', '：', '\n'])?;
    let (name, rest) = text.split_at(end);
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '\'' | '.' | '’');
    let is_one = !rest.starts_with('\n')
        && name.len() <= NAME_BYTES
        && name.starts_with(char::is_alphabetic)
        && name.chars().all(is_name);
    is_one.then_some(name)
}

/// Whether the name stands in the text as words of its own. Scripts without spaces have no
/// words to tell apart, so there it stands anywhere.
fn names(text: &str, name: &str) -> bool {
    let is_inside =
        |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() && !crate::lexical::is_unspaced(c));
    text.match_indices(name).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + name.len()..]);
        !is_inside(before.chars().next_back()) && !is_inside(after.chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(name: &str, text: &str, score: f64) -> Recollection {
        Recollection {
            id: MemoryId::new(name).unwrap(),
            topic: String::new(),
            text: text.to_owned(),
            score,
            importance: 0.5,
            created_at: Timestamp(0),
        }
    }

    fn words(name: &str, score: f64) -> Recollection {
        said(name, "", score)
    }

    fn near(name: &str, similarity: f32, importance: f32) -> Near {
        Near {
            id: MemoryId::new(name).unwrap(),
            topic: String::new(),
            text: String::new(),
            importance,
            created_at: Timestamp(0),
            similarity,
        }
    }

    fn ids(found: Vec<Recollection>) -> Vec<String> {
        found.into_iter().map(|hit| hit.id.to_string()).collect()
    }

    fn order(words: &[Recollection], meaning: &[Near]) -> Vec<String> {
        ids(Fusion::default().fuse(words.to_vec(), meaning, Timestamp(1_000_000_000)))
    }

    #[test]
    fn what_both_arms_find_comes_first() {
        let words = [words("a", 9.0), words("b", 6.0)];
        let meaning = [
            near("c", 0.8, 0.5),
            near("b", 0.7, 0.5),
            near("a", 0.1, 0.5),
        ];
        assert_eq!(order(&words, &meaning), ["b", "a", "c"]);
    }

    #[test]
    fn one_arm_alone_keeps_its_order() {
        let words = [words("a", 9.0), words("b", 6.0), words("c", 6.0)];
        assert_eq!(order(&words, &[]), ["a", "b", "c"]);
        assert_eq!(
            order(&[], &[near("x", 0.9, 0.5), near("y", 0.2, 0.5)]),
            ["x", "y"]
        );
        assert!(order(&[], &[]).is_empty());
    }

    #[test]
    fn importance_settles_near_ties_only() {
        let ties = [
            near("a", 0.90, 0.1),
            near("b", 0.89, 0.9),
            near("z", 0.0, 1.0),
        ];
        assert_eq!(order(&[], &ties), ["b", "a", "z"]);
    }

    #[test]
    fn importance_counts_for_what_words_alone_find() {
        let important = |hit: Recollection| Recollection {
            importance: 1.0,
            ..hit
        };
        let hits = [words("a", 6.1), important(words("b", 6.0))];
        assert_eq!(order(&hits, &[]), ["b", "a"]);
        let hits = [words("a", 9.0), important(words("b", 6.0))];
        assert_eq!(order(&hits, &[]), ["a", "b"]);
    }

    #[test]
    fn neighbours_get_a_share_once() {
        let beside = |of: &str, memory: &str| Beside {
            of: MemoryId::new(of).unwrap(),
            memory: words(memory, 0.0),
        };
        let found = vec![words("a", 1.0), words("b", 0.5), words("c", 0.45)];
        let beside = vec![
            beside("a", "new"),
            beside("a", "c"),
            beside("c", "a"),
            beside("c", "d"),
            beside("gone", "e"),
        ];
        let found = Fusion::default().share_out(found, beside);
        let scores: Vec<(String, i64)> = found
            .into_iter()
            .map(|hit| (hit.id.to_string(), (hit.score * 1e3).round() as i64))
            .collect();
        let want = [("a", 1090), ("c", 650), ("b", 500), ("new", 200), ("d", 90)];
        assert_eq!(scores, want.map(|(id, score)| (id.to_owned(), score)));
    }

    #[test]
    fn the_one_speaker_who_is_named_comes_first() {
        let found = || {
            vec![
                said("a", "Bo: I painted it", 1.0),
                said("b", "Ann Lee: I painted it", 0.95),
                said("c", "http://a.example: is no name", 0.94),
            ]
        };
        let asked = |query: &str| ids(Fusion::default().listen(query, found()));
        assert_eq!(asked("What did Ann Lee paint?"), ["b", "a", "c"]);
        assert_eq!(asked("What did Ann Lee and Bo paint?"), ["a", "b", "c"]);
        assert_eq!(asked("What did Ann Leeson's boat paint?"), ["a", "b", "c"]);
    }

    #[test]
    fn speakers_are_known_in_scripts_without_spaces() {
        assert_eq!(speaker("小明：我画了一幅画"), Some("小明"));
        assert!(names("昨天小明画了什么", "小明"));
        assert_eq!(speaker("three: lines\nof text"), Some("three"));
        assert_eq!(speaker("no one\nhere: is"), None);
        assert_eq!(speaker("12:30 it began"), None);
    }
}
