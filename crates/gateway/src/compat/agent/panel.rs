//! The panel as a model: the last message is what is discussed, what the agents say is its
//! reasoning, and the answer is the report.
//!
//! Deliberately absent: the words of one agent piece by piece. Agents speak at the same
//! time, and a model has one voice.

use std::sync::Arc;

use async_stream::try_stream;
use futures_util::StreamExt;
use lyceum_core::{
    CallContext, ChatError, ChatEvent, ChatModel, ChatRequest, ChatStream, Discussion, Extra,
    ExtraPlace, FinishReason, Panel, PanelEvent, PanelReport,
};
use serde_json::{Map, json};

use super::{asked, failure};
use crate::catalog::PANEL;

/// Has a panel discuss what a client says to a model.
#[derive(Debug)]
pub(crate) struct PanelModel(Arc<dyn Panel>);

impl PanelModel {
    pub(crate) fn new(panel: Arc<dyn Panel>) -> Self {
        Self(panel)
    }
}

impl ChatModel for PanelModel {
    fn name(&self) -> &str {
        PANEL
    }

    fn stream(&self, call: CallContext, request: Arc<ChatRequest>) -> ChatStream {
        let panel = Arc::clone(&self.0);
        Box::pin(try_stream! {
            let asked = asked(&call, &request)?;
            let mut events = panel.discuss(call, Discussion {
                topic: asked.topic,
                text: asked.text,
                session: asked.session,
                rounds: None,
            });
            while let Some(event) = events.next().await {
                match event.map_err(failure)? {
                    PanelEvent::Queued { position, .. } => yield ChatEvent::Queued(position),
                    PanelEvent::Spoke(turn) => {
                        let words = turn.text.trim();
                        let said = format!("{}, round {}: {words}\n\n", turn.agent, turn.round);
                        yield ChatEvent::Reasoning(said);
                    }
                    PanelEvent::Finished(report) => {
                        yield ChatEvent::Text(report.report.clone());
                        yield ChatEvent::Usage(report.usage);
                        yield ChatEvent::Extra(details(&report));
                        yield ChatEvent::Finished(FinishReason::Stop);
                        return;
                    }
                    _ => {}
                }
            }
            Err(ChatError::Truncated)?;
        })
    }
}

/// What a model has no place for.
fn details(report: &PanelReport) -> Extra {
    let details = json!({
        "session_id": report.session.as_str(),
        "dissent": report.dissent,
        "consensus": report.consensus,
        "rounds": report.rounds,
        "degraded": report.degraded,
    });
    Extra {
        place: ExtraPlace::Answer,
        fields: Map::from_iter([("discussion".to_owned(), details)]),
    }
}
