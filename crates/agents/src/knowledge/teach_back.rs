//! The student explains the topic with what it was taught, and shows where it cannot.
//!
//! Invariant: every sentence rests on a claim; a hole is never filled. A model may put the
//! claims into words; what it adds is left out and named.

use std::{fmt::Write, sync::Arc};

use lyceum_core::{
    CallContext, ChatAnswer, ChatError, ChatModel, ChatRequest, Hole, Knowledge, KnownGap, Message,
    TeachBack, Tokens, Tone,
};
use serde_json::json;

use super::{grounded::ground, is_chinese};
use crate::{Mind, mind::OFFLINE, prompts, tone};

/// Output tokens, with room for models that reason first.
const OUTPUT: Tokens = Tokens(3_000);

/// Teaches back.
pub(crate) async fn teach_back(
    mind: &Mind,
    call: CallContext,
    knowledge: &Knowledge,
    tone: Tone,
) -> Result<TeachBack, ChatError> {
    let model = match mind {
        Mind::Model(model) if !model.traits().small && !knowledge.claims.is_empty() => model,
        _ => return Ok(by_rules(knowledge, tone)),
    };
    let said = told(model, call, knowledge, tone).await?;
    let grounded = ground(&said.0, knowledge, "");
    if grounded.claims.is_empty() {
        return Ok(TeachBack {
            removed: grounded.removed,
            degraded: vec!["teach_back".to_owned()],
            ..by_rules(knowledge, tone)
        });
    }
    let text = grounded.text + &missing(knowledge);
    Ok(TeachBack {
        text,
        claims: grounded.claims,
        removed: grounded.removed,
        provider: said.1,
        ..by_rules(knowledge, tone)
    })
}

async fn told(
    model: &Arc<dyn ChatModel>,
    call: CallContext,
    knowledge: &Knowledge,
    tone: Tone,
) -> Result<(String, String), ChatError> {
    let prompt = prompts::rendered(
        "teach_back",
        json!({"topic": knowledge.topic, "voice": tone::voice(tone), "claims": knowledge.claims}),
    )?;
    ask_model(model, call.with_purpose("teach_back", 0), prompt).await
}

/// A model's text and who gave it.
pub(super) async fn ask_model(
    model: &Arc<dyn ChatModel>,
    call: CallContext,
    prompt: String,
) -> Result<(String, String), ChatError> {
    let request = ChatRequest {
        max_output: Some(OUTPUT),
        ..ChatRequest::new([Message::user(prompt)])
    };
    let answer = ChatAnswer::collect(model.stream(call, Arc::new(request))).await?;
    let provider = answer.provider.as_deref().unwrap_or(model.name());
    Ok((answer.text.clone(), provider.to_owned()))
}

fn by_rules(knowledge: &Knowledge, tone: Tone) -> TeachBack {
    let chinese = is_chinese(knowledge);
    let mut text = tone::opening(tone, chinese, &knowledge.topic);
    for claim in &knowledge.claims {
        let _ = write!(text, "\n- {} [{}]", claim.text, claim.id);
        let inside = knowledge.open_gaps();
        let inside = inside.iter().filter(|gap| is_in(gap, &claim.text));
        for gap in inside {
            let _ = write!(text, " [?{}]", gap.id);
        }
    }
    if knowledge.claims.is_empty() {
        text = match chinese {
            true => format!("关于“{}”，你还什么都没教我。", knowledge.topic),
            false => format!(
                "You have taught me nothing about “{}” yet.",
                knowledge.topic
            ),
        };
    }
    text.push_str(&missing(knowledge));
    TeachBack {
        text,
        claims: knowledge.claims.iter().map(|claim| claim.id).collect(),
        holes: knowledge.open_gaps().into_iter().map(hole).collect(),
        removed: Vec::new(),
        provider: OFFLINE.to_owned(),
        degraded: Vec::new(),
    }
}

fn is_in(gap: &KnownGap, text: &str) -> bool {
    !gap.gap.quote.is_empty() && (text.contains(&gap.gap.quote) || gap.gap.quote.contains(text))
}

fn hole(gap: &KnownGap) -> Hole {
    Hole {
        gap: gap.id,
        kind: gap.gap.kind,
        quote: gap.gap.quote.clone(),
        reason: gap.gap.reason.clone(),
    }
}

/// What the student cannot explain, as a list.
fn missing(knowledge: &Knowledge) -> String {
    let open = knowledge.open_gaps();
    if open.is_empty() {
        return String::new();
    }
    let mut text = match is_chinese(knowledge) {
        true => "\n\n我还讲不清楚的地方：".to_owned(),
        false => "\n\nWhat I cannot explain yet:".to_owned(),
    };
    for gap in open {
        let _ = write!(
            text,
            "\n- [?{}] “{}”: {}",
            gap.id, gap.gap.quote, gap.gap.reason
        );
    }
    text
}
