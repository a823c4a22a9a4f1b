//! Reads files in the form of LoCoMo (Maharana et al., "Evaluating Very Long-Term Conversational
//! Memory of LLM Agents", 2024).
//!
//! Invariant: evidence names turns that are there. Malformed names (`D8:6; D9:17`) are read as
//! what they mean; what names no turn is left out and counted.

use std::{collections::HashSet, fs, path::Path};

use anyhow::{Context, Result};
use lyceum_memory::Timestamp;
use serde_json::Value;

/// A turn's place: the number of its session, and its number there.
pub(super) type Place = (u32, u32);

/// Several sessions of two people, and questions about them.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) sessions: Vec<Talk>,
    pub(super) questions: Vec<Question>,
    /// Evidence that names no turn.
    pub(super) unknown: usize,
}

/// One session.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) number: u32,
    pub(super) at: Option<Timestamp>,
    pub(super) turns: Vec<(Place, String)>,
}

/// A question, and the turns that answer it.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) text: String,
    pub(super) category: u64,
    pub(super) evidence: HashSet<Place>,
}

/// Reads all conversations of a file.
pub(super) fn read(file: &Path) -> Result<Vec<Conversation>> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let all: Vec<Value> = serde_json::from_str(&text)?;
    all.iter().map(conversation).collect()
}

fn conversation(value: &Value) -> Result<Conversation> {
    let talks = value["conversation"]
        .as_object()
        .context("a conversation without sessions")?;
    let mut sessions: Vec<Talk> = talks
        .iter()
        .filter_map(|(name, turns)| {
            let number = name.strip_prefix("session_")?.parse().ok()?;
            let date = talks.get(&format!("session_{number}_date_time"));
            Some(Talk {
                number,
                at: date.and_then(Value::as_str).and_then(moment),
                turns: turns.as_array()?.iter().filter_map(turn).collect(),
            })
        })
        .collect();
    sessions.sort_by_key(|talk| talk.number);
    let known: HashSet<Place> = sessions
        .iter()
        .flat_map(|talk| talk.turns.iter().map(|(place, _)| *place))
        .collect();
    let (mut questions, mut unknown) = (Vec::new(), 0);
    for asked in value["qa"].as_array().context("no questions")? {
        let named = asked["evidence"].as_array().into_iter().flatten();
        let named: HashSet<Place> = named.filter_map(Value::as_str).flat_map(places).collect();
        let evidence: HashSet<Place> = named.intersection(&known).copied().collect();
        unknown += named.len() - evidence.len();
        let text = asked["question"].as_str().unwrap_or_default().to_owned();
        if !evidence.is_empty() && !text.is_empty() {
            questions.push(Question {
                text,
                category: asked["category"].as_u64().unwrap_or(0),
                evidence,
            });
        }
    }
    Ok(Conversation {
        sessions,
        questions,
        unknown,
    })
}

/// What a turn says, as a group conversation writes it: who, what, and what is on a photo.
fn turn(value: &Value) -> Option<(Place, String)> {
    let place = places(value["dia_id"].as_str()?).next()?;
    let (who, what) = (value["speaker"].as_str()?, value["text"].as_str()?);
    let said = match value["blip_caption"].as_str() {
        Some(caption) => format!("{who}: {what} [{caption}]"),
        None => format!("{who}: {what}"),
    };
    Some((place, said))
}

/// All `D1:2` in a text, also where they are written `D:1:2` or `D01:02`.
fn places(text: &str) -> impl Iterator<Item = Place> + '_ {
    text.split('D').filter_map(|part| {
        let part = part.trim_start_matches(':');
        let (session, turn) = part.split_once(':')?;
        let end = turn.find(|c: char| !c.is_ascii_digit());
        let turn = &turn[..end.unwrap_or(turn.len())];
        Some((session.trim().parse().ok()?, turn.parse().ok()?))
    })
}

/// Reads `1:56 pm on 8 May, 2023`; the hour matters to nothing here.
fn moment(text: &str) -> Option<Timestamp> {
    const DAY: i64 = 86_400_000;
    let (_, date) = text.split_once(" on ")?;
    let mut parts = date.split([' ', ',']).filter(|part| !part.is_empty());
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    let wanted = format!("{} {month} {year}", day.parse::<u8>().ok()?);
    let year: i64 = year.parse().ok()?;
    // The calendar knows only one direction: from a day's number to its name.
    let start = (year - 1970) * 365 + (year - 1969) / 4;
    let found = (start - 2..start + 370).find(|day| {
        let at = Timestamp(day * DAY);
        at.day().to_string() == wanted
    });
    found.map(|day| Timestamp(day * DAY + DAY / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_evidence_is_repaired() {
        let read = |text| places(text).collect::<Vec<_>>();
        assert_eq!(read("D1:3"), [(1, 3)]);
        assert_eq!(read("D8:6; D9:17"), [(8, 6), (9, 17)]);
        assert_eq!(read("D30:05 D:11:26"), [(30, 5), (11, 26)]);
        assert_eq!(read("D"), []);
    }

    #[test]
    fn dates_are_read() {
        let read = |text| moment(text).map(|at| at.day().to_string());
        assert_eq!(read("1:56 pm on 8 May, 2023").unwrap(), "8 May 2023");
        assert_eq!(
            read("9:00 am on 31 December, 2024").unwrap(),
            "31 December 2024"
        );
        assert_eq!(read("soon"), None);
    }
}
