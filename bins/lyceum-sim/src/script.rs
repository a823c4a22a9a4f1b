//! Scripted answers, so that a test of an agent can play the model.
//!
//! Invariant: the first rule whose every condition holds answers. Deliberately absent:
//! regular expressions and state across requests other than a rule's count of uses.

use std::sync::atomic::{AtomicU32, Ordering};

use serde::Deserialize;
use serde_json::Value;

use crate::ask::Ask;

/// An answer and the conditions under which it is given. Without conditions it fits
/// every request.
///
/// ```
/// use lyceum_sim::Rule;
///
/// let script = [
///     Rule::text("The result is 4.").when_tool("4"),
///     Rule::tool_call("calculate", serde_json::json!({"expression": "2+2"}))
///         .when_user("2+2")
///         .times(1),
///     Rule::text("I do not understand {{marker}}."),
/// ];
/// # assert_eq!(script.len(), 3);
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "RawRule")]
pub struct Rule {
    /// A part of the system prompt.
    pub system: Option<String>,
    /// A part of the last message that the user wrote.
    pub user: Option<String>,
    /// A part of a tool result with which the conversation ends.
    pub tool: Option<String>,
    /// How often the rule answers; `None` is without limit. An answer that the quota or a
    /// fault keeps from arriving whole does not count.
    pub times: Option<u32>,
    /// The answer.
    pub reply: Reply,
}

/// What a rule answers. `{{marker}}` stands for the last mark in the user's words.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// This text, at its own length.
    Text(String),
    /// Calls of these tools, by name and arguments, whether they are on offer or not.
    ///
    /// Such a rule skips a conversation that ends in a tool result unless it names
    /// [`Rule::tool`], so that a loop of calls ends by itself.
    ToolCalls(Vec<(String, Value)>),
}

/// A rule as a script file writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    system: Option<String>,
    user: Option<String>,
    tool: Option<String>,
    times: Option<u32>,
    text: Option<String>,
    calls: Option<Vec<(String, Value)>>,
}

impl TryFrom<RawRule> for Rule {
    type Error = &'static str;

    fn try_from(raw: RawRule) -> Result<Self, Self::Error> {
        let reply = match (raw.text, raw.calls) {
            (Some(text), None) => Reply::Text(text),
            (None, Some(calls)) => Reply::ToolCalls(calls),
            _ => return Err("a rule needs either `text` or `calls`"),
        };
        Ok(Self {
            system: raw.system,
            user: raw.user,
            tool: raw.tool,
            times: raw.times,
            reply,
        })
    }
}

impl Rule {
    /// A rule that answers with a text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(Reply::Text(text.into()))
    }

    /// A rule that answers with one tool call.
    #[must_use]
    pub fn tool_call(name: impl Into<String>, arguments: Value) -> Self {
        Self::new(Reply::ToolCalls(vec![(name.into(), arguments)]))
    }

    /// Reads a script: a JSON array of rules, e.g. `[{"user": "2+2", "text": "4"}]`, where
    /// tool calls are `"calls": [["name", {"argument": 1}]]`.
    ///
    /// # Errors
    ///
    /// When the text is not such an array.
    pub fn parse_script(text: &str) -> Result<Vec<Self>, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// A rule without conditions.
    #[must_use]
    pub fn new(reply: Reply) -> Self {
        Self {
            system: None,
            user: None,
            tool: None,
            times: None,
            reply,
        }
    }

    /// Only when the system prompt contains this.
    #[must_use]
    pub fn when_system(mut self, part: impl Into<String>) -> Self {
        self.system = Some(part.into());
        self
    }

    /// Only when the last message that the user wrote contains this.
    #[must_use]
    pub fn when_user(mut self, part: impl Into<String>) -> Self {
        self.user = Some(part.into());
        self
    }

    /// Only when the conversation ends in a tool result that contains this.
    #[must_use]
    pub fn when_tool(mut self, part: impl Into<String>) -> Self {
        self.tool = Some(part.into());
        self
    }

    /// At most this often.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    fn fits(&self, ask: &Ask) -> bool {
        let holds = |part: &Option<String>, text: &str| {
            part.as_deref().is_none_or(|part| text.contains(part))
        };
        let tool_holds = match (&self.tool, &ask.tool_result) {
            (Some(part), Some(result)) => result.contains(part.as_str()),
            (Some(_), None) => false,
            (None, Some(_)) => matches!(self.reply, Reply::Text(_)),
            (None, None) => true,
        };
        tool_holds && holds(&self.system, &ask.system) && holds(&self.user, &ask.user)
    }
}

/// The rules with their counts of uses.
#[derive(Debug)]
pub(crate) struct Script(Vec<(Rule, AtomicU32)>);

impl Script {
    pub(crate) fn new(rules: Vec<Rule>) -> Self {
        let counted = rules.into_iter().map(|rule| (rule, AtomicU32::new(0)));
        Self(counted.collect())
    }

    /// The scripted answer to a request and its rule, whose use is counted.
    pub(crate) fn reply(&self, ask: &Ask) -> Option<(&Reply, RuleIndex)> {
        self.0.iter().enumerate().find_map(|(at, (rule, uses))| {
            let most = rule.times.unwrap_or(u32::MAX);
            let free = |n: u32| (n < most).then(|| n.saturating_add(1));
            let may_answer = rule.fits(ask)
                && (rule.times.is_none()
                    || uses
                        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, free)
                        .is_ok());
            may_answer.then_some((&rule.reply, RuleIndex(at)))
        })
    }

    /// Takes back the use of a rule whose answer was not sent.
    pub(crate) fn give_back(&self, rule: Option<RuleIndex>) {
        if let Some((rule, uses)) = rule.and_then(|RuleIndex(at)| self.0.get(at))
            && rule.times.is_some()
        {
            uses.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Which rule of a script answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RuleIndex(usize);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ask(system: &str, user: &str, tool_result: Option<&str>) -> Ask {
        Ask {
            system: system.into(),
            user: user.into(),
            tool_result: tool_result.map(Into::into),
            ..Ask::default()
        }
    }

    fn text(reply: Option<(&Reply, RuleIndex)>) -> &str {
        match reply {
            Some((Reply::Text(text), _)) => text,
            Some((Reply::ToolCalls(calls), _)) => &calls[0].0,
            None => "nothing",
        }
    }

    #[test]
    fn scripts_are_read_from_json() {
        let text = r#"[{"user": "2+2", "calls": [["calculate", {"x": 1}]]},
                       {"system": "s", "times": 2, "text": "t"}]"#;
        let expected = [
            Rule::tool_call("calculate", json!({"x": 1})).when_user("2+2"),
            Rule::text("t").when_system("s").times(2),
        ];
        assert_eq!(Rule::parse_script(text).unwrap(), expected);
        for wrong in [
            r#"[{"user": "no reply"}]"#,
            r#"[{"usr": "a", "text": "t"}]"#,
        ] {
            assert!(Rule::parse_script(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_first_rule_that_fits_answers_and_counts() {
        let script = Script::new(vec![
            Rule::tool_call("calculate", json!({})).when_user("2+2"),
            Rule::text("once")
                .when_system("strict")
                .when_user("a")
                .times(1),
            Rule::text("result").when_tool("4"),
            Rule::text("any").when_user("a"),
        ]);
        assert_eq!(
            text(script.reply(&ask("", "what is 2+2", None))),
            "calculate"
        );
        assert_eq!(
            text(script.reply(&ask("", "what is 2+2", Some("4")))),
            "result"
        );
        assert_eq!(text(script.reply(&ask("be strict", "a", None))), "once");
        assert_eq!(text(script.reply(&ask("be strict", "a", None))), "any");
        assert_eq!(text(script.reply(&ask("", "b", None))), "nothing");
        script.give_back(Some(RuleIndex(1)));
        assert_eq!(text(script.reply(&ask("be strict", "a", None))), "once");
    }
}
