//! In which role the student speaks: for prompts, and for the rules' own words.
//!
//! Invariant: a lead-in is no part of a question, so [`bare`] of a question is what it was
//! before it got one, and asking twice in two tones counts as repeating.

use lyceum_core::Tone;

/// Lead-ins of the rules' questions; the child asks without.
const PEER: [&str; 3] = [
    "I am not convinced yet. ",
    "That does not follow for me. ",
    "Before I believe it: ",
];
const PEER_ZH: [&str; 3] = ["我还没有被说服。", "我觉得这还不成立。", "在我相信之前："];
const EXAMINER: [&str; 3] = [
    "State precisely: ",
    "To be answered exactly: ",
    "For full marks: ",
];
const EXAMINER_ZH: [&str; 3] = ["请准确回答：", "请严格说明：", "想得满分，请回答："];

/// Who asks, for a prompt.
pub(crate) fn voice(tone: Tone) -> &'static str {
    match tone {
        Tone::CuriousChild => "a curious student",
        Tone::ScepticalPeer => {
            "a sceptical fellow student, who believes nothing without a reason and says politely what does not convince"
        }
        Tone::Examiner => {
            "a strict examiner, who asks briefly, without warmth, for exact statements"
        }
    }
}

/// The question in a tone; `at` is its place among those asked together.
pub(crate) fn toned(question: String, tone: Tone, at: usize, chinese: bool) -> String {
    let lead = match (tone, chinese) {
        (Tone::CuriousChild, _) => return question,
        (Tone::ScepticalPeer, false) => PEER,
        (Tone::ScepticalPeer, true) => PEER_ZH,
        (Tone::Examiner, false) => EXAMINER,
        (Tone::Examiner, true) => EXAMINER_ZH,
    };
    format!("{}{question}", lead[at % lead.len()])
}

/// The question without its lead-in.
pub(crate) fn bare(question: &str) -> &str {
    [PEER, PEER_ZH, EXAMINER, EXAMINER_ZH]
        .iter()
        .flatten()
        .find_map(|lead| question.strip_prefix(lead))
        .unwrap_or(question)
}

/// How the student begins to teach back.
pub(crate) fn opening(tone: Tone, chinese: bool, topic: &str) -> String {
    match (tone, chinese) {
        (Tone::CuriousChild, false) => format!("This is what you taught me about “{topic}”:"),
        (Tone::CuriousChild, true) => format!("关于“{topic}”，你教了我这些："),
        (Tone::ScepticalPeer, false) => {
            format!("This is what you say about “{topic}”; I only repeat it:")
        }
        (Tone::ScepticalPeer, true) => format!("关于“{topic}”，你是这么说的，我只是复述："),
        (Tone::Examiner, false) => format!("Statements on record about “{topic}”:"),
        (Tone::Examiner, true) => format!("关于“{topic}”，记录在案的陈述："),
    }
}

/// How the student begins to answer from what it knows.
pub(crate) fn recalling(tone: Tone, chinese: bool) -> &'static str {
    match (tone, chinese) {
        (Tone::CuriousChild, false) => "You taught me:",
        (Tone::CuriousChild, true) => "你教过我：",
        (Tone::ScepticalPeer, false) => "You claimed:",
        (Tone::ScepticalPeer, true) => "你说过：",
        (Tone::Examiner, false) => "On record:",
        (Tone::Examiner, true) => "记录：",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lead_in_can_be_taken_off_again() {
        for tone in Tone::ALL {
            for chinese in [false, true] {
                for at in 0..5 {
                    let asked = toned("Why?".to_owned(), tone, at, chinese);
                    assert_eq!(asked == "Why?", tone == Tone::CuriousChild);
                    assert_eq!(bare(&asked), "Why?");
                }
            }
        }
    }
}
