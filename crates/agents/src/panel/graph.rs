//! The panel's workflow: in each round the roles are one superstep and listen to each other
//! while they speak; `judge` then ends the discussion or begins the next round.
//!
//! Invariants: a role begins as soon as it has what it needs, and never later than when those
//! before it are done, whether they succeeded or not. The report is written once: while the
//! round is under way that is known to be the last, else by `conclude` after all rulings. A
//! round whose planner fails changes nothing.

use std::sync::{Arc, OnceLock};

use lyceum_core::{CallContext, PanelEvent, PanelTurn, Usage};
use lyceum_graph::{CompileError, Context, END, Graph, GraphBuilder, NodeError, START, State};
use serde_json::json;

use super::{
    Overlap, Seats, claims, rules,
    seat::{Role, Spoken, listen, speak},
    speech::Speech,
};

const OPEN: &str = "open";
const JUDGE: &str = "judge";
const CONCLUDE: &str = "conclude";

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
    /// Claims of the last plan that the critic never saw.
    pub(super) unreviewed: u64,
    /// Whether the planner failed in this round.
    pub(super) abandoned: bool,
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
    /// Set before the planner is done, when it failed.
    abandoned: OnceLock<()>,
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
        .node(CONCLUDE, conclude)
        .edge(START, OPEN)
        .join(roles, JUDGE)
        .route(JUDGE, [OPEN, CONCLUDE, END], |state: &PanelState| {
            match (state.done, state.report.is_empty()) {
                (false, _) => OPEN,
                (true, true) => CONCLUDE,
                (true, false) => END,
            }
        })
        .edge(CONCLUDE, END);
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
    match spoken.await {
        Ok(spoken) => Ok(written(role, &spoken).plan(spoken.text).abandoned(false)),
        // What the rounds before came to is worth more than an error.
        Err(error) if panel.round > 1 => {
            tracing::warn!(error = %error, label = error.label(), "a panel ends a round early");
            board.abandoned.get_or_init(|| ());
            let failed = [role.name().to_owned()];
            Ok(PanelStateUpdate::new().abandoned(true).degraded(failed))
        }
        Err(error) => Err(NodeError::permanent(error)),
    }
}

/// Begins when a few claims are complete, and hears of the others when the plan is.
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
    if all && board.abandoned.get().is_some() {
        return Ok(PanelStateUpdate::new());
    }
    let first = claims::claims(&plan, all);
    board.reviewed.get_or_init(|| first.len());
    let values = json!({ "topic": panel.topic, "claims": first, "from": 0, "all": all });
    let rules = || rules::criticise(&panel.topic, &panel.text);
    let role = Role::Critic;
    let seen = first.len();
    let early = speak(
        role,
        panel.round,
        &ctx,
        &speaking,
        values,
        &panel.text,
        rules,
    );
    let late = async {
        match all {
            true => Ok((Spoken::default(), 0)),
            false => review_rest(&panel, &ctx, board, seen).await,
        }
    };
    let (early, late) = tokio::join!(early, late);
    let early = early.map_err(NodeError::permanent)?;
    let update = written(role, &early);
    let (late, unreviewed) = late.map_err(NodeError::permanent)?;
    let mut critique = early.text;
    if !claims::objections(&late.text, true).is_empty() {
        let gap = if critique.ends_with('\n') { "" } else { "\n" };
        let more = format!("{gap}{}", late.text);
        speaking.say(&more);
        ctx.emit(PanelEvent::Text(turn(role, panel.round, &more)))
            .await;
        critique.push_str(&more);
    }
    Ok(update
        .critique(critique)
        .unreviewed(unreviewed)
        .usage(early.usage + late.usage))
}

/// What the critic says of the claims after the first `seen`, and how many it never saw.
/// Its words are heard when both reviews are done: two at once would be one muddle.
async fn review_rest(
    panel: &PanelState,
    ctx: &Ctx,
    board: &Board,
    seen: usize,
) -> Result<(Spoken, u64), lyceum_core::ChatError> {
    let plan = board.planner.whole().await;
    let claims = claims::claims(&plan, true);
    let rest = claims.get(seen..).unwrap_or_default();
    if rest.is_empty() {
        return Ok((Spoken::default(), 0));
    }
    let values = json!({ "topic": panel.topic, "claims": rest, "from": seen, "all": true });
    match listen(Role::Critic, ctx.shared(), values, &panel.text).await {
        Some(Ok(spoken)) => Ok((spoken, 0)),
        Some(Err(error)) => {
            tracing::warn!(error = %error, label = error.label(), "a panel's critic did not review all claims");
            Ok((Spoken::default(), rest.len() as u64))
        }
        // The rules have read all of the person's words already.
        None => Ok((Spoken::default(), 0)),
    }
}

/// Begins when the plan and the first objection are complete.
async fn moderate(panel: Panel, ctx: Ctx) -> Written {
    let shared = ctx.shared();
    let board = shared.board(panel.round)?;
    let speaking = board.host.begin();
    let plan = board.planner.whole().await;
    if board.abandoned.get().is_some() {
        return Ok(PanelStateUpdate::new());
    }
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

/// In the round that is known to be the last, begins when the plan and the first ruling are
/// complete; what is objected to later and stays open is added word for word.
async fn report(panel: Panel, ctx: Ctx) -> Written {
    let shared = ctx.shared();
    let board = shared.board(panel.round)?;
    let is_offline = matches!(shared.seats.reporter.mind, crate::Mind::Offline);
    if panel.round < panel.most_rounds || is_offline {
        return Ok(PanelStateUpdate::new());
    }
    let spoken_so_far = Speech::default();
    let speaking = spoken_so_far.begin();
    let plan = board.planner.whole().await;
    if board.abandoned.get().is_some() {
        return Ok(PanelStateUpdate::new());
    }
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
    if panel.abandoned {
        // The rounds before count, and are concluded.
        let update = PanelStateUpdate::new().done(true);
        return Ok(update.round(panel.round.saturating_sub(1)));
    }
    let objections = claims::objections(&panel.critique, true);
    let open = claims::open(&objections, &panel.moderation);
    let offline = matches!(ctx.shared().seats.planner.mind, crate::Mind::Offline);
    let stuck = panel.round > 1 && open == panel.open;
    let agreed = open.is_empty() && panel.unreviewed == 0;
    // The rules say the same again.
    let done = agreed || stuck || offline || panel.round >= panel.most_rounds;
    let mut said = vec![
        turn(Role::Planner, panel.round, &panel.plan),
        turn(Role::Critic, panel.round, &panel.critique),
        turn(Role::Host, panel.round, &panel.moderation),
    ];
    let mut update = PanelStateUpdate::new();
    if !panel.report.is_empty() {
        let report = with_dissent(&panel, &ctx, &panel.report, &open).await;
        said.push(turn(Role::Reporter, panel.round, &report));
        update = update.report(report);
    }
    Ok(update.open(open).done(done).turns(said))
}

/// Writes the report of a discussion that ended before its last round.
async fn conclude(panel: Panel, ctx: Ctx) -> Written {
    let speech = Speech::default();
    let speaking = speech.begin();
    let claims = claims::claims(&panel.plan, true);
    let objections = claims::objections(&panel.critique, true);
    let values = json!({
        "topic": panel.topic, "claims": claims, "objections": objections,
        "rulings": claims::lines(&panel.moderation, true),
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
    let report = with_dissent(&panel, &ctx, &spoken.text, &panel.open).await;
    Ok(written(role, &spoken)
        .provider(spoken.provider)
        .model(spoken.model)
        .turns([turn(role, panel.round, &report)])
        .report(report))
}

/// The report with what is still open, word for word.
async fn with_dissent(panel: &PanelState, ctx: &Ctx, report: &str, open: &[String]) -> String {
    let report = report.trim();
    if open.is_empty() {
        return report.to_owned();
    }
    let dissent = format!("\n\n{}", rules::dissent(&panel.text, open));
    let said = turn(Role::Reporter, panel.round, &dissent);
    ctx.emit(PanelEvent::Text(said)).await;
    format!("{report}{dissent}")
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
