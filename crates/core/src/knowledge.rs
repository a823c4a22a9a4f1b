//! What a student was taught in one conversation, and the port that is asked about it.
//!
//! Everything is in the teacher's own words. Invariant: an id is given once in a
//! conversation, to whatever kind of thing; what was dropped to stay small leaves its id unused.
//! Deliberately absent: how knowledge is found in an explanation, which is the student's.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{CallContext, Gap, GapKind, SessionId, Severity, TeachError};

/// In which role the student asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tone {
    /// Wants to know everything and has heard nothing yet.
    #[default]
    CuriousChild,
    /// Knows as much as the teacher and believes nothing without a reason.
    ScepticalPeer,
    /// Asks for exact statements, briefly and without warmth.
    Examiner,
}

impl Tone {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::CuriousChild, Self::ScepticalPeer, Self::Examiner];

    /// The tone's name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CuriousChild => "curious_child",
            Self::ScepticalPeer => "sceptical_peer",
            Self::Examiner => "examiner",
        }
    }
}

/// Everything that was taught in one conversation, and what is still missing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Knowledge {
    /// The subject.
    pub topic: String,
    /// Explanations heard.
    pub turns: u32,
    /// Messages of the stored conversation that it covers.
    pub messages: u64,
    /// The last id given; 0 for none.
    pub last_id: u32,
    /// Things that were dropped to stay small, the least useful first.
    pub dropped: u32,
    /// What the claims are about, in the order they came up.
    pub concepts: Vec<Concept>,
    /// What was said to be so, oldest first.
    pub claims: Vec<Claim>,
    /// What was missing, oldest first.
    pub gaps: Vec<KnownGap>,
    /// Statements that cannot both be true.
    pub misconceptions: Vec<Misconception>,
    /// The questions asked, oldest first, those about no gap included.
    #[serde(default)]
    pub asked: Vec<String>,
}

/// Something that claims are about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Concept {
    /// Its id.
    pub id: u32,
    /// Its name in the teacher's words.
    pub name: String,
    /// The form under which it is found again: base forms in lower case.
    pub key: String,
    /// When it is to be explained again.
    pub review: Review,
}

/// The state of spaced repetition of one concept.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Review {
    /// Good explanations in a row.
    pub repetitions: u32,
    /// How fast the intervals grow, from 1.3.
    pub ease: f64,
    /// Days from the last explanation to the next.
    pub interval_days: u32,
    /// Milliseconds since 1970 of the last explanation that counted.
    pub reviewed_at_ms: u64,
    /// Milliseconds since 1970 when it is to be explained again.
    pub due_at_ms: u64,
}

/// Something that was said to be so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Its id.
    pub id: u32,
    /// The teacher's sentence.
    pub text: String,
    /// The part of it that gives a reason, an example or a limit, where there is one.
    pub support: Option<String>,
    /// The claim that it says it follows from.
    pub follows: Option<u32>,
    /// The explanation it comes from, from 1.
    pub turn: u32,
    /// What it is about.
    pub concepts: Vec<u32>,
}

/// What became of a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapStatus {
    /// Found, not asked yet.
    Open,
    /// Asked, not answered.
    Asked,
    /// A later explanation filled it.
    Answered,
    /// The teacher does not want to be asked.
    Dismissed,
}

impl GapStatus {
    /// The status's name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Asked => "asked",
            Self::Answered => "answered",
            Self::Dismissed => "dismissed",
        }
    }

    /// Whether something is still missing.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Open | Self::Asked)
    }
}

/// A gap over the course of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownGap {
    /// Its id.
    pub id: u32,
    /// What is missing.
    #[serde(flatten)]
    pub gap: Gap,
    /// What became of it.
    pub status: GapStatus,
    /// The question that asked about it.
    pub question: Option<String>,
    /// The explanation it was found in, from 1.
    pub turn: u32,
    /// The claims that filled it.
    pub answers: Vec<u32>,
    /// What it is about.
    pub concepts: Vec<u32>,
}

/// Two statements that cannot both be true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Misconception {
    /// Its id.
    pub id: u32,
    /// The teacher's words that contradict what was said.
    pub quote: String,
    /// What is wrong with them.
    pub reason: String,
    /// The gap that asks about it.
    pub gap: u32,
    /// Whether it was set right.
    pub resolved: bool,
}

/// How much a severity weighs in a concept's mastery.
fn weight(gap: &Gap) -> f64 {
    match gap.severity {
        Severity::Low => 0.5,
        Severity::Medium => 1.0,
        Severity::High => 2.0,
    }
}

impl Knowledge {
    /// How well a concept was explained, 0–1: gaps answered of all gaps asked, by severity,
    /// drawn towards 0 while little was said. A claim counts like half a small gap answered,
    /// one with a reason like a whole, four claims at most; dismissed gaps do not count.
    #[must_use]
    pub fn mastery(&self, concept: u32) -> f64 {
        let gaps = self
            .gaps
            .iter()
            .filter(|gap| gap.concepts.contains(&concept));
        let (mut filled, mut missing) = (0.0, 0.0);
        for gap in gaps {
            match gap.status {
                GapStatus::Answered => filled += weight(&gap.gap),
                GapStatus::Open | GapStatus::Asked => missing += weight(&gap.gap),
                GapStatus::Dismissed => {}
            }
        }
        let claims = self
            .claims
            .iter()
            .filter(|claim| claim.concepts.contains(&concept));
        let said: f64 = claims
            .take(4)
            .map(|claim| if claim.support.is_some() { 0.5 } else { 0.25 })
            .sum();
        let known = filled + said;
        if known + missing == 0.0 {
            return 0.0;
        }
        known / (known + missing + 1.0)
    }

    /// The claim with this id.
    #[must_use]
    pub fn claim(&self, id: u32) -> Option<&Claim> {
        self.claims.iter().find(|claim| claim.id == id)
    }

    /// The concept with this id.
    #[must_use]
    pub fn concept(&self, id: u32) -> Option<&Concept> {
        self.concepts.iter().find(|concept| concept.id == id)
    }

    /// The gaps that are not filled, hardest first.
    #[must_use]
    pub fn open_gaps(&self) -> Vec<&KnownGap> {
        let mut open: Vec<_> = self
            .gaps
            .iter()
            .filter(|gap| gap.status.is_open())
            .collect();
        open.sort_by_key(|gap| std::cmp::Reverse(gap.gap.severity));
        open
    }
}

/// A concept that is to be explained again.
#[derive(Debug, Clone, PartialEq)]
pub struct ReviewItem {
    /// The concept.
    pub concept: u32,
    /// Its name.
    pub name: String,
    /// How well it was explained, 0–1.
    pub mastery: f64,
    /// The state of its repetition.
    pub review: Review,
    /// Whether the time has come.
    pub is_due: bool,
    /// What to do, in the teacher's language.
    pub task: String,
}

/// Something that the student cannot explain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hole {
    /// The gap.
    pub gap: u32,
    /// What kind it is.
    pub kind: GapKind,
    /// The teacher's words it is in.
    pub quote: String,
    /// What is missing.
    pub reason: String,
}

/// The topic as the student understood it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeachBack {
    /// The explanation; `[3]` names the claim it rests on, `[?5]` a gap.
    pub text: String,
    /// The claims it rests on.
    pub claims: Vec<u32>,
    /// What it cannot explain.
    pub holes: Vec<Hole>,
    /// Sentences of a model that were left out because nothing taught supports them.
    pub removed: Vec<String>,
    /// Who wrote it: a provider's name, or `offline`.
    pub provider: String,
    /// Parts that were missing; empty when all was well.
    pub degraded: Vec<String>,
}

/// How far a question could be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All of it was taught.
    Answered,
    /// A part of it was taught.
    Partly,
    /// Nothing of it was taught.
    NotTaught,
}

impl Verdict {
    /// The verdict's name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Partly => "partly",
            Self::NotTaught => "not_taught",
        }
    }
}

/// The student's answer in an exam.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExamAnswer {
    /// How far the question could be answered.
    pub verdict: Verdict,
    /// The answer, from what was taught only.
    pub text: String,
    /// The claims it rests on.
    pub claims: Vec<u32>,
    /// What the question asks for and nobody taught.
    pub not_taught: Vec<String>,
    /// Sentences of a model that were left out because nothing taught supports them.
    pub removed: Vec<String>,
    /// Who answered: a provider's name, or `offline`.
    pub provider: String,
    /// Parts that were missing; empty when all was well.
    pub degraded: Vec<String>,
}

/// What is written out of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paper {
    /// The knowledge alone.
    Knowledge,
    /// Notes of the whole conversation: summary, claims, questions, what to explain again.
    Notes,
}

/// A student between lessons: what it knows of one conversation. `call.scope` says whose; its
/// session is set by the implementation. All give `None` for a conversation that the
/// scope's user does not have.
///
/// # Errors
///
/// All give [`TeachError::Storage`] when the conversation cannot be read or stored.
///
/// # Cancel safety
///
/// All but [`dismiss`](Self::dismiss) only read; that one happens or does not, and may be
/// repeated.
#[async_trait]
pub trait Pupil: Send + Sync + fmt::Debug {
    /// What was taught.
    async fn knowledge(
        &self,
        call: CallContext,
        session: SessionId,
    ) -> Result<Option<Knowledge>, TeachError>;

    /// What to explain again, most urgent first.
    async fn review(
        &self,
        call: CallContext,
        session: SessionId,
    ) -> Result<Option<Vec<ReviewItem>>, TeachError>;

    /// Written out as Markdown, in the teacher's language.
    async fn paper(
        &self,
        call: CallContext,
        session: SessionId,
        paper: Paper,
    ) -> Result<Option<String>, TeachError>;

    /// Explains the topic using only what was taught, with the holes visible.
    ///
    /// # Errors
    ///
    /// [`TeachError::Model`] when the model call failed, too.
    async fn teach_back(
        &self,
        call: CallContext,
        session: SessionId,
        tone: Option<Tone>,
    ) -> Result<Option<TeachBack>, TeachError>;

    /// Answers a question using only what was taught.
    ///
    /// # Errors
    ///
    /// [`TeachError::Model`] when the model call failed, too.
    async fn exam(
        &self,
        call: CallContext,
        session: SessionId,
        question: String,
        tone: Option<Tone>,
    ) -> Result<Option<ExamAnswer>, TeachError>;

    /// Has a gap never be asked again; `None` where there is no such gap.
    async fn dismiss(
        &self,
        call: CallContext,
        session: SessionId,
        gap: u32,
    ) -> Result<Option<Knowledge>, TeachError>;
}
