//! The summary of a conversation that needs no model.
//!
//! Invariant: it holds the learner's own sentences only, never an invention.

use lyceum_core::{Role, Turn};

use super::{
    phrases,
    shape::{central, short_body},
    text::{Document, Language, head, language_of},
};

/// What stands around the points of a summary.
struct Frame {
    topic: &'static str,
    points: &'static str,
}

const ENGLISH: Frame = Frame {
    topic: "Topic: ",
    points: "The learner explained:",
};
const CHINESE: Frame = Frame {
    topic: "主题：",
    points: "学习者讲解的要点：",
};

/// Claims kept of a conversation.
const CLAIMS: usize = 5;
/// Bytes of conversation that are read, from the end.
const READ_BYTES: usize = 128 * 1024;

/// Summarises a conversation: the topic, the number of turns and the central claims of
/// what the learner said, in the learner's language.
#[must_use]
pub fn summary(topic: &str, turns: &[Turn]) -> String {
    written(topic, turns, turns.len(), &[])
}

/// The same for a conversation whose beginning was summarised earlier: `covered` is the number
/// of all its turns, `turns` are those since. What the earlier summary kept is kept, the oldest
/// going first where all together is longer than `fits` allows.
#[must_use]
pub fn rolling_summary(
    topic: &str,
    earlier: &str,
    turns: &[Turn],
    covered: usize,
    fits: impl Fn(&str) -> bool,
) -> String {
    // Every line is a point, whoever wrote it, but for the frame that the rules set.
    let is_frame = |line: &str| {
        [ENGLISH, CHINESE].iter().any(|frame| {
            line == frame.points || (line.starts_with(frame.topic) && earlier.starts_with(line))
        })
    };
    let points = earlier
        .lines()
        .map(str::trim)
        .filter(|line| !is_frame(line));
    let points = points.map(|line| line.trim_start_matches("- "));
    let points: Vec<&str> = points.filter(|line| !line.is_empty()).collect();
    (0..points.len())
        .map(|dropped| written(topic, turns, covered, &points[dropped..]))
        .find(|text| fits(text))
        .unwrap_or_else(|| written(topic, turns, covered, &[]))
}

fn written(topic: &str, turns: &[Turn], count: usize, earlier: &[&str]) -> String {
    let mut said: Vec<&str> = Vec::new();
    let mut bytes = 0;
    for turn in turns.iter().rev().filter(|turn| turn.role == Role::User) {
        bytes += turn.content.len();
        if bytes > READ_BYTES && !said.is_empty() {
            break;
        }
        said.push(&turn.content);
    }
    said.reverse();
    let all = said.join("\n");
    let language = if all.chars().any(char::is_alphabetic) {
        language_of(&all)
    } else {
        language_of(topic)
    };
    let topic = head(topic.trim(), 300);
    let topic = if topic.is_empty() {
        phrases::unnamed_topic(language)
    } else {
        topic
    };
    let document = Document::new(&all);
    let mut indices = Vec::new();
    let mut seen: std::collections::HashSet<String> =
        earlier.iter().map(|point| point.to_lowercase()).collect();
    for index in central(&document, topic) {
        let claim = document.quote(&short_body(&document.sentences[index]));
        if indices.len() < CLAIMS && seen.insert(claim.to_lowercase()) {
            indices.push(index);
        }
    }
    indices.sort_unstable();
    let mut out = match language {
        Language::English => {
            let noun = if count == 1 { "turn" } else { "turns" };
            format!("{}{topic}. {count} {noun}.", ENGLISH.topic)
        }
        Language::Chinese => format!("{}{topic}。共 {count} 轮。", CHINESE.topic),
    };
    if !indices.is_empty() || !earlier.is_empty() {
        out.push('\n');
        out.push_str(match language {
            Language::English => ENGLISH.points,
            Language::Chinese => CHINESE.points,
        });
        for point in earlier {
            out.push_str("\n- ");
            out.push_str(point);
        }
        for index in indices {
            out.push_str("\n- ");
            out.push_str(document.quote(&short_body(&document.sentences[index])));
        }
    }
    out
}
