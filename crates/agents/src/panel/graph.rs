//! The panel's workflow: in each round the four roles are one superstep and listen to each
//! other while they speak; `judge` then ends the discussion or begins the next round.
//!
//! Invariant: a role begins as soon as it has what it needs, and never later than when those
//! before it are done, whether they succeeded or not.

use std::sync::{Arc, OnceLock};

use lyceum_core::{CallContext, PanelEvent, PanelTurn, Usage};
use lyceum_graph::{CompileError, Context, END, Graph, GraphBuilder, NodeError, START, State};
use serde_json::json;

use super::{
    Overlap, Seats, claims, rules,
    seat::{Role, Spoken, speak},
    speech::Speech,
};

const OPEN: &str = "open";
const JUDGE: &str = "judge";

/// What a discussion knows.
#[derive(State, Debug, Clone, Default)]
pub(super) struct PanelState {
    pub(super) topic: String,
    pub(super) text: String,
    /// The round that is under way, from 1.
    pub(super) round: u32,
    pub(super) most_rounds: u32,
    pub(super) plan: String,
    pub(super) critique: String,
    pub(super) moderation: String,
    pub(super) report: String,
    /// Objections that are not resolved.
    pub(super) open: Vec<String>,
    pub(super) done: bool,
    #[state(append)]
    pub(super) turns: Vec<PanelTurn>,
    #[state(add)]
    pub(super) usage: Usage,
    pub(super) provider: String,
    pub(super) model: Option<String>,
    #[state(append)]
    pub(super) degraded: Vec<String>,
}

/// What the roles of one discussion share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) seats: Seats,
    pub(super) overlap: Overlap,
    pub(super) call: CallContext,
    /// By round, from the first.
    pub(super) boards: Vec<Board>,
}

/// What is being said in one round.
#[derive(Debug, Default)]
pub(super) struct Board {
    planner: Speech,
    critic: Speech,
    host: Speech,
    /// How many of the planner's claims the critic has before it; set before it speaks.
    reviewed: OnceLock<usize>,
}

impl Shared {
    fn board(&self, round: u32) -> Result<&Board, NodeError> {
        let at = usize::try_from(round.saturating_sub(1)).unwrap_or(usize::MAX);
        let board = self.boards.get(at);
        board.ok_or_else(|| NodeError::permanent(NoBoard { round }))
    }
}

/// A round began for which there is no board.
#[derive(Debug, thiserror::Error)]
#[error("find the board of round {round}")]
struct NoBoard {
    round: u32,
}

type Ctx = Context<Shared, PanelEvent>;
type Panel = Arc<PanelState>;
type Written = Result<PanelStateUpdate, NodeError>;

/// Compiles the workflow.
pub(super) fn compile() -> Result<Graph<PanelState, Shared, PanelEvent>, CompileError> {
    let roles = Role::ALL.map(Role::name);
    let [planner, critic, host, reporter] = roles;
    let mut graph = GraphBuilder::new()
        .node(OPEN, begin)
        .node(planner, plan)
        .node(critic, criticise)
        .node(host, moderate)
        .node(reporter, report)
        .node(JUDGE, judge)
        .edge(START, OPEN)
        .join(roles, JUDGE)
        .route(
            JUDGE,
            [OPEN, END],
            |state: &PanelState| {
                if state.done { END } else { OPEN }
            },
        );
    for role in roles {
        graph = graph.edge(OPEN, role);
    }
    graph.compile()
}

/// Begins a round.
async fn begin(panel: Panel, ctx: Ctx) -> Written {
    let round = panel.round + 1;
    ctx.emit(PanelEvent::Round(round)).await;
    Ok(PanelStateUpdate::new().round(round))
}

async fn plan(panel: Panel, ctx: Ctx) -> Written {
    let board = ctx.shared().board(panel.round)?;
    let speaking = board.planner.begin();
    let values = json!({
        "topic": panel.topic, "round": panel.round, "plan": panel.plan, "open": panel.open,
    });
    let rules = || rules::plan(&panel.text);
    let role = Role::Planner;
    let spoken = speak(
        role,
        panel.round,
        &ctx,
        &speaking,
        values,
        &panel.text,
        rules,
    );
    let spoken = spoken.await.map_err(NodeError::permanent)?;
    Ok(written(role, &spoken).plan(spoken.text))
}

/// Begins when a few claims are complete.
async fn criticise(panel: Panel, ctx: Ctx) -> Written {
    let shared = ctx.shared();
    let board = shared.board(panel.round)?;
    let speaking = board.critic.begin();
    let (plan, all) = match shared.overlap {
        Overlap::AfterClaims(few) => {
            let enough = |text: &str| claims::claims(text, false).len() >= few.max(1);
            board.planner.until(enough).await
        }
        Overlap::None => (board.planner.whole().await, true),
    };
    let claims = claims::claims(&plan, all);
    board.reviewed.get_or_init(|| claims.len());
    let values = json!({ "topic": panel.topic, "claims": claims });
    let rules = || rules::criticise(&panel.topic, &panel.text);
    let role = Role::Critic;
    let spoken = speak(
        role,
        panel.round,
        &ctx,
        &speaking,
        values,
        &panel.text,
        rules,
    );
    let spoken = spoken.await.map_err(NodeError::permanent)?;
    Ok(written(role, &spoken).critique(spoken.text))
}

/// Begins when the plan and the first objection are complete.
async fn moderate(panel: Panel, ctx: Ctx) -> Written {
    let shared = ctx.shared();
    let board = shared.board(panel.round)?;
    let speaking = board.host.begin();
    let plan = board.planner.whole().await;
    let (critique, all) = match (shared.overlap, &shared.seats.host.mind) {
        // The rules rule at once, so they wait for what they rule on.
        (Overlap::AfterClaims(_), crate::Mind::Model(_)) => {
            let enough = |text: &str| !claims::objections(text, false).is_empty();
            board.critic.until(enough).await
        }
        _ => (board.critic.whole().await, true),
    };
    let objections = claims::objections(&critique, all);
    let claims = claims::claims(&plan, true);
    let reviewed = board.reviewed.get().copied().unwrap_or(claims.len());
    let values = json!({
        "topic": panel.topic, "claims": claims, "objections": objections,
        "unreviewed": claims.get(reviewed..).unwrap_or_default(),
    });
    let rules = || rules::moderate(&panel.text, &objections);
    let role = Role::Host;
    let spoken = speak(
        role,
        panel.round,
        &ctx,
        &speaking,
        values,
        &panel.text,
        rules,
    );
    let spoken = spoken.await.map_err(NodeError::permanent)?;
    Ok(written(role, &spoken).moderation(spoken.text))
}

/// Begins when the plan and the first ruling are complete; what is objected to later and
/// stays open is added to the report word for word.
async fn report(panel: Panel, ctx: Ctx) -> Written {
    let shared = ctx.shared();
    let board = shared.board(panel.round)?;
    let spoken_so_far = Speech::default();
    let speaking = spoken_so_far.begin();
    let plan = board.planner.whole().await;
    let ((moderation, ruled), (critique, criticised)) =
        match (shared.overlap, &shared.seats.reporter.mind) {
            (Overlap::AfterClaims(_), crate::Mind::Model(_)) => {
                let enough = |text: &str| !claims::lines(text, false).is_empty();
                (
                    board.host.until(enough).await,
                    board.critic.until(|_| true).await,
                )
            }
            _ => (
                (board.host.whole().await, true),
                (board.critic.whole().await, true),
            ),
        };
    let claims = claims::claims(&plan, true);
    let objections = claims::objections(&critique, criticised);
    let values = json!({
        "topic": panel.topic, "claims": claims, "objections": objections,
        "rulings": claims::lines(&moderation, ruled),
    });
    let rules = || rules::report(&panel.text, &claims, &objections);
    let role = Role::Reporter;
    let spoken = speak(
        role,
        panel.round,
        &ctx,
        &speaking,
        values,
        &panel.text,
        rules,
    );
    let spoken = spoken.await.map_err(NodeError::permanent)?;
    Ok(written(role, &spoken)
        .report(spoken.text)
        .provider(spoken.provider)
        .model(spoken.model))
}

/// Ends the discussion on consensus, after the last round, or when a round changed nothing.
async fn judge(panel: Panel, ctx: Ctx) -> Written {
    let objections = claims::objections(&panel.critique, true);
    let open = claims::open(&objections, &panel.moderation);
    let offline = matches!(ctx.shared().seats.planner.mind, crate::Mind::Offline);
    let stuck = panel.round > 1 && open == panel.open;
    // The rules say the same again.
    let done = open.is_empty() || stuck || offline || panel.round >= panel.most_rounds;
    let mut report = panel.report.trim().to_owned();
    if done && !open.is_empty() {
        let dissent = rules::dissent(&panel.text, &open);
        report = format!("{report}\n\n{dissent}");
        let turn = turn(Role::Reporter, panel.round, &format!("\n\n{dissent}"));
        ctx.emit(PanelEvent::Text(turn)).await;
    }
    let said = [
        (Role::Planner, &panel.plan),
        (Role::Critic, &panel.critique),
        (Role::Host, &panel.moderation),
        (Role::Reporter, &report),
    ];
    let turns = said.map(|(role, text)| turn(role, panel.round, text));
    Ok(PanelStateUpdate::new()
        .open(open)
        .done(done)
        .report(report.clone())
        .turns(turns))
}

fn turn(role: Role, round: u32, text: &str) -> PanelTurn {
    PanelTurn {
        agent: role.name().into(),
        round,
        text: text.to_owned(),
    }
}

fn written(role: Role, spoken: &Spoken) -> PanelStateUpdate {
    let update = PanelStateUpdate::new().usage(spoken.usage);
    if spoken.degraded {
        update.degraded([role.name().to_owned()])
    } else {
        update
    }
}
