//! The JSON of what a student knows.

use lyceum_core::{
    ExamAnswer, GapStatus, Hole, Knowledge, KnownGap, ReviewItem, TeachBack, Tone, Verdict,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::invalid;
use crate::error::ApiError;

/// The longest exam question, in bytes.
const QUESTION_BYTES: usize = 4_000;

/// In which role the student speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ChatTone {
    CuriousChild,
    ScepticalPeer,
    Examiner,
}

impl From<ChatTone> for Tone {
    fn from(tone: ChatTone) -> Self {
        match tone {
            ChatTone::CuriousChild => Self::CuriousChild,
            ChatTone::ScepticalPeer => Self::ScepticalPeer,
            ChatTone::Examiner => Self::Examiner,
        }
    }
}

/// How the student teaches back.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct TeachBackInput {
    /// In which role it speaks. Left out, as the server is configured.
    pub(crate) tone: Option<ChatTone>,
}

/// An exam question.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ExamInput {
    /// The question, at most 4,000 bytes.
    #[schema(max_length = 4000, pattern = r"\S")]
    question: String,
    /// In which role the student speaks. Left out, as the server is configured.
    tone: Option<ChatTone>,
}

impl ExamInput {
    /// Checks the rules that types cannot say.
    pub(crate) fn check(self) -> Result<(String, Option<Tone>), ApiError> {
        let bytes = self.question.len();
        if self.question.trim().is_empty() {
            return Err(invalid("question", "it is blank: ask something".into()));
        }
        if bytes > QUESTION_BYTES {
            let detail = format!("it has {bytes} bytes: at most {QUESTION_BYTES} are allowed");
            return Err(invalid("question", detail));
        }
        Ok((self.question, self.tone.map(Tone::from)))
    }
}

/// What a node of the map is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum NodeKind {
    Concept,
    Claim,
    Gap,
    Misconception,
}

/// Something that the student knows or lacks.
#[derive(Debug, Serialize, ToSchema)]
struct MapNode {
    /// Its number in this conversation.
    id: u32,
    /// What it is.
    kind: NodeKind,
    /// The teacher's words.
    label: String,
    /// Of a claim: the part that gives a reason, an example or a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    support: Option<String>,
    /// Of a claim and a gap: the explanation it comes from, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    turn: Option<u32>,
    /// Of a gap: its kind, e.g. `undefined_term`.
    #[serde(skip_serializing_if = "Option::is_none")]
    gap: Option<&'static str>,
    /// Of a gap: `low`, `medium` or `high`.
    #[serde(skip_serializing_if = "Option::is_none")]
    severity: Option<&'static str>,
    /// Of a gap: `open`, `asked`, `answered` or `dismissed`; of a misconception: `open` or
    /// `answered`.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    /// Of a gap and a misconception: what is missing or wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Of a gap: the question that asked about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    question: Option<String>,
}

impl MapNode {
    fn new(id: u32, kind: NodeKind, label: String) -> Self {
        Self {
            id,
            kind,
            label,
            support: None,
            turn: None,
            gap: None,
            severity: None,
            status: None,
            reason: None,
            question: None,
        }
    }
}

/// How two nodes are related.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum EdgeKind {
    /// A claim or a gap is about a concept.
    About,
    /// A claim is said to follow from a claim.
    FollowsFrom,
    /// A claim fills a gap.
    Answers,
    /// A gap asks about a misconception.
    Questions,
}

/// A relation.
#[derive(Debug, Serialize, ToSchema)]
struct MapEdge {
    /// The node it begins at.
    from: u32,
    /// The node it points at.
    to: u32,
    /// What it means.
    kind: EdgeKind,
}

/// How well a concept was explained.
#[derive(Debug, Serialize, ToSchema)]
struct ConceptMastery {
    /// The concept's node.
    concept: u32,
    /// Its name.
    name: String,
    /// 0–1: gaps answered of all gaps asked, by severity, and claims made.
    mastery: f64,
    /// Claims about it.
    claims: usize,
    /// Gaps that are not filled.
    open: usize,
    /// Gaps that were filled.
    answered: usize,
}

/// What the student knows of a conversation, as a map.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KnowledgeOutput {
    /// The conversation.
    session_id: String,
    /// Its subject.
    topic: String,
    /// Explanations heard.
    turns: u32,
    /// Things dropped to stay small.
    dropped: u32,
    /// Concepts, claims, gaps and misconceptions.
    nodes: Vec<MapNode>,
    /// How they are related.
    edges: Vec<MapEdge>,
    /// How well each concept was explained.
    mastery: Vec<ConceptMastery>,
}

impl KnowledgeOutput {
    /// The map of a conversation.
    pub(crate) fn new(session_id: String, known: Knowledge) -> Self {
        let mut output = Self {
            session_id,
            mastery: mastery(&known),
            topic: known.topic,
            turns: known.turns,
            dropped: known.dropped,
            nodes: Vec::new(),
            edges: Vec::new(),
        };
        for concept in known.concepts {
            let node = MapNode::new(concept.id, NodeKind::Concept, concept.name);
            output.nodes.push(node);
        }
        for claim in known.claims {
            output.edges(claim.id, claim.concepts, EdgeKind::About);
            output.edges(claim.id, claim.follows, EdgeKind::FollowsFrom);
            output.nodes.push(MapNode {
                support: claim.support,
                turn: Some(claim.turn),
                ..MapNode::new(claim.id, NodeKind::Claim, claim.text)
            });
        }
        for gap in known.gaps {
            output.gap(gap);
        }
        for wrong in known.misconceptions {
            output.edges(wrong.gap, [wrong.id], EdgeKind::Questions);
            let status = if wrong.resolved { "answered" } else { "open" };
            output.nodes.push(MapNode {
                status: Some(status),
                reason: Some(wrong.reason),
                ..MapNode::new(wrong.id, NodeKind::Misconception, wrong.quote)
            });
        }
        output
    }

    fn gap(&mut self, gap: KnownGap) {
        self.edges(gap.id, gap.concepts, EdgeKind::About);
        for claim in gap.answers {
            self.edges(claim, [gap.id], EdgeKind::Answers);
        }
        self.nodes.push(MapNode {
            turn: Some(gap.turn),
            gap: Some(gap.gap.kind.as_str()),
            severity: Some(match gap.gap.severity {
                lyceum_core::Severity::Low => "low",
                lyceum_core::Severity::Medium => "medium",
                lyceum_core::Severity::High => "high",
            }),
            status: Some(gap.status.as_str()),
            reason: Some(gap.gap.reason),
            question: gap.question,
            ..MapNode::new(gap.id, NodeKind::Gap, gap.gap.quote)
        });
    }

    fn edges(&mut self, from: u32, to: impl IntoIterator<Item = u32>, kind: EdgeKind) {
        let edges = to.into_iter().map(|to| MapEdge { from, to, kind });
        self.edges.extend(edges);
    }
}

fn mastery(known: &Knowledge) -> Vec<ConceptMastery> {
    known
        .concepts
        .iter()
        .map(|concept| {
            let gaps = |wanted: fn(GapStatus) -> bool| {
                let about = known.gaps.iter();
                let about = about.filter(|gap| gap.concepts.contains(&concept.id));
                about.filter(|gap| wanted(gap.status)).count()
            };
            let claims = known.claims.iter();
            let claims = claims.filter(|claim| claim.concepts.contains(&concept.id));
            ConceptMastery {
                concept: concept.id,
                name: concept.name.clone(),
                mastery: rounded(known.mastery(concept.id)),
                claims: claims.count(),
                open: gaps(GapStatus::is_open),
                answered: gaps(|status| status == GapStatus::Answered),
            }
        })
        .collect()
}

/// To hundredths: more would pretend to know more.
fn rounded(part: f64) -> f64 {
    (part * 100.0).round() / 100.0
}

/// A concept to be explained again.
#[derive(Debug, Serialize, ToSchema)]
struct ReviewEntry {
    /// The concept's node.
    concept: u32,
    /// Its name.
    name: String,
    /// How well it was explained, 0–1.
    mastery: f64,
    /// Whether the time has come.
    due: bool,
    /// Milliseconds since 1970 when it is to be explained again.
    due_at_ms: u64,
    /// Days from the last explanation to the next.
    interval_days: u32,
    /// Good explanations in a row.
    repetitions: u32,
    /// What to do.
    task: String,
}

/// What to explain again, and when.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReviewOutput {
    /// The conversation.
    session_id: String,
    /// What is due first, the least mastered of it first.
    review: Vec<ReviewEntry>,
}

impl ReviewOutput {
    pub(crate) fn new(session_id: String, items: Vec<ReviewItem>) -> Self {
        let entry = |item: ReviewItem| ReviewEntry {
            concept: item.concept,
            name: item.name,
            mastery: rounded(item.mastery),
            due: item.is_due,
            due_at_ms: item.review.due_at_ms,
            interval_days: item.review.interval_days,
            repetitions: item.review.repetitions,
            task: item.task,
        };
        Self {
            session_id,
            review: items.into_iter().map(entry).collect(),
        }
    }
}

/// Something that the student cannot explain.
#[derive(Debug, Serialize, ToSchema)]
struct HoleOutput {
    /// The gap's node; `[?7]` in the text.
    gap: u32,
    /// What kind of gap.
    kind: &'static str,
    /// The teacher's words it is in.
    quote: String,
    /// What is missing.
    reason: String,
}

impl From<Hole> for HoleOutput {
    fn from(hole: Hole) -> Self {
        Self {
            gap: hole.gap,
            kind: hole.kind.as_str(),
            quote: hole.quote,
            reason: hole.reason,
        }
    }
}

/// The topic as the student understood it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TeachBackOutput {
    /// The explanation; `[3]` names the claim it rests on, `[?7]` a gap.
    text: String,
    /// The claims it rests on.
    claims: Vec<u32>,
    /// What it cannot explain.
    holes: Vec<HoleOutput>,
    /// Sentences of the model that nothing taught supports, left out of the text.
    removed: Vec<String>,
    /// Who wrote it: a provider's name, or `offline`.
    provider: String,
    /// Parts that were missing; empty when all was well.
    degraded: Vec<String>,
}

impl From<TeachBack> for TeachBackOutput {
    fn from(told: TeachBack) -> Self {
        Self {
            text: told.text,
            claims: told.claims,
            holes: super::convert(told.holes),
            removed: told.removed,
            provider: told.provider,
            degraded: told.degraded,
        }
    }
}

/// How far a question could be answered.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ExamVerdict {
    Answered,
    Partly,
    NotTaught,
}

/// The student's answer in an exam.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExamOutput {
    /// How far the question could be answered.
    verdict: ExamVerdict,
    /// The answer, from what was taught only.
    text: String,
    /// The claims it rests on.
    claims: Vec<u32>,
    /// What the question asks for and nobody taught.
    not_taught: Vec<String>,
    /// Sentences of the model that nothing taught supports, left out of the text.
    removed: Vec<String>,
    /// Who answered: a provider's name, or `offline`.
    provider: String,
    /// Parts that were missing; empty when all was well.
    degraded: Vec<String>,
}

impl From<ExamAnswer> for ExamOutput {
    fn from(answer: ExamAnswer) -> Self {
        Self {
            verdict: match answer.verdict {
                Verdict::Answered => ExamVerdict::Answered,
                Verdict::Partly => ExamVerdict::Partly,
                Verdict::NotTaught => ExamVerdict::NotTaught,
            },
            text: answer.text,
            claims: answer.claims,
            not_taught: answer.not_taught,
            removed: answer.removed,
            provider: answer.provider,
            degraded: answer.degraded,
        }
    }
}
