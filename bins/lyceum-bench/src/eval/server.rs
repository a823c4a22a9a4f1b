//! Lets the student of a running server answer a set, through `POST /chat`.
//!
//! Invariant: answers stand in the order of the cases, and each case is a conversation of
//! its own. Deliberately absent: retries; the server has its own.

use anyhow::{Context, Result, bail};
use lyceum_agents::offline::evaluation::Case;
use lyceum_core::Gap;
use serde::Deserialize;
use serde_json::json;

use crate::report::say;

/// What a student said about one case.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    pub(super) questions: Vec<String>,
    pub(super) gaps: Vec<Gap>,
    provider: String,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    degraded: Vec<String>,
}

/// Asks one case after the other; gives the student's name and its answers, none for a case
/// that failed.
pub(super) fn ask(url: &str, cases: &[Case]) -> Result<(String, Vec<Option<Answer>>)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let url = format!("{}/chat", url.trim_end_matches('/'));
    let answers = runtime.block_on(async {
        let client = reqwest::Client::new();
        let mut answers: Vec<Option<Answer>> = Vec::with_capacity(cases.len());
        for case in cases {
            let answer = one(&client, &url, case).await;
            if let Err(error) = &answer {
                say(&format!("{}: {error:#}", case.name));
            }
            answers.push(answer.ok());
        }
        answers
    });
    let given: Vec<&Answer> = answers.iter().flatten().collect();
    let Some(first) = given.first() else {
        bail!("{url} answered none of {} cases", cases.len());
    };
    let degraded = given.iter().filter(|a| !a.degraded.is_empty()).count();
    let failed = cases.len() - given.len();
    say(&format!(
        "{degraded} of {} answers were degraded, {failed} cases failed",
        cases.len()
    ));
    let name = match &first.model {
        Some(model) => format!("{}:{model}", first.provider),
        None => first.provider.clone(),
    };
    Ok((name, answers))
}

async fn one(client: &reqwest::Client, url: &str, case: &Case) -> Result<Answer> {
    let body = json!({
        "topic": case.topic,
        "explanation": case.text,
        "short_term_memory": case.earlier,
    });
    let response = client
        .post(url)
        .header("content-type", "application/json")
        .body(body.to_string())
        .send()
        .await
        .with_context(|| format!("{url} does not answer"))?;
    let status = response.status();
    let text = response.text().await?;
    if !status.is_success() {
        bail!("{url} answered {status}: {text}");
    }
    serde_json::from_str(&text).context("this is no lesson")
}
