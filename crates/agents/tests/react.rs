//! The loop's promises: its limits, the order of results, and what the last call carries.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::stream;
use lyceum_agents::{
    MaxCost, ReAct, ReActEvent, ReActLimits, ReActOutcome, ReActState, Said, TokenRates, Watch,
    react_graph,
};
use lyceum_core::{
    CallContext, ChatEvent, ChatModel, ChatRequest, ChatStream, FinishReason, Message, MicroUsd,
    ModelTraits, Role, Scope, Tokens, Tool, ToolCallDelta, ToolChoice, ToolError, ToolOutput,
    ToolSpec, Usage,
};
use lyceum_graph::RunConfig;
use serde_json::{Value, json};

/// Calls all of its tools in every step in which it may, else answers.
#[derive(Debug, Clone)]
struct Eager {
    native: bool,
    tools: Vec<&'static str>,
    requests: Arc<Mutex<Vec<ChatRequest>>>,
}

impl Eager {
    fn new(native: bool, tools: &[&'static str]) -> Self {
        Self {
            native,
            tools: tools.to_vec(),
            requests: Arc::default(),
        }
    }

    fn requests(&self) -> Vec<ChatRequest> {
        self.requests.lock().unwrap().clone()
    }

    fn calls(&self) -> Vec<ChatEvent> {
        if !self.native {
            let calls = self.tools.iter();
            let calls: Vec<Value> = calls.map(|name| json!({"tool": name})).collect();
            return vec![ChatEvent::Text(json!(calls).to_string())];
        }
        let calls = self.tools.iter().enumerate().map(|(at, name)| {
            ChatEvent::ToolCall(ToolCallDelta {
                index: u32::try_from(at).unwrap(),
                id: Some(format!("call-{at}")),
                name: Some((*name).to_owned()),
                arguments: "{}".to_owned(),
                extra: serde_json::Map::default(),
            })
        });
        calls.collect()
    }
}

impl ChatModel for Eager {
    fn name(&self) -> &str {
        "eager"
    }

    fn traits(&self) -> ModelTraits {
        ModelTraits {
            native_tools: self.native,
            context: Tokens(100_000),
            small: false,
        }
    }

    fn stream(&self, _: CallContext, request: Arc<ChatRequest>) -> ChatStream {
        self.requests.lock().unwrap().push(request.as_ref().clone());
        let told = request.messages.last().unwrap().content.text();
        let may_call = match self.native {
            true => request.tool_choice != ToolChoice::None,
            false => !told.contains("No more tools"),
        };
        let mut events = match may_call {
            true => self.calls(),
            false => vec![ChatEvent::Text("the answer".to_owned())],
        };
        events.push(ChatEvent::Usage(Usage {
            input: Tokens(900),
            output: Tokens(100),
            ..Usage::default()
        }));
        events.push(ChatEvent::Finished(FinishReason::Stop));
        Box::pin(stream::iter(events.into_iter().map(Ok)))
    }
}

/// Answers with its name after a while, or breaks.
#[derive(Debug)]
struct Slow {
    spec: ToolSpec,
    takes: Duration,
}

fn tools(takes: &[(&str, u64)]) -> Vec<Arc<dyn Tool>> {
    let tools = takes.iter().map(|(name, millis)| -> Arc<dyn Tool> {
        Arc::new(Slow {
            spec: ToolSpec::new(*name, "Waits.", json!({"type": "object"})),
            takes: Duration::from_millis(*millis),
        })
    });
    tools.collect()
}

#[async_trait]
impl Tool for Slow {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, _: &CallContext, _: Value) -> Result<ToolOutput, ToolError> {
        tokio::time::sleep(self.takes).await;
        if self.spec.name == "breaks" {
            panic!("a tool with a bug");
        }
        Ok(ToolOutput::text(self.spec.name.clone()))
    }
}

struct Deaf;

#[async_trait]
impl Watch for Deaf {
    async fn saw(&self, _: ReActEvent) {}
}

async fn run(model: &Eager, tools: Vec<Arc<dyn Tool>>, limits: ReActLimits) -> ReActOutcome {
    let react = ReAct::new(Arc::new(model.clone()), tools, limits);
    let messages = vec![Message::system("Be brief."), Message::user("Go.")];
    let call = CallContext::new(Scope::local());
    react.run(&call, messages, &Deaf).await.unwrap()
}

#[tokio::test]
async fn the_last_step_keeps_the_tools_and_forbids_them() {
    let limits = ReActLimits {
        max_steps: 3,
        ..ReActLimits::default()
    };
    let model = Eager::new(true, &["a"]);
    let outcome = run(&model, tools(&[("a", 0)]), limits).await;
    assert_eq!(outcome.answer.text, "the answer");
    assert_eq!(outcome.tools.len(), 2);
    let requests = model.requests();
    let choices: Vec<&ToolChoice> = requests.iter().map(|it| &it.tool_choice).collect();
    assert_eq!(
        choices,
        [&ToolChoice::Auto, &ToolChoice::Auto, &ToolChoice::None]
    );
    // A conversation that holds tool calls is refused by providers without the tools.
    assert!(requests.iter().all(|request| request.tools.len() == 1));
}

#[tokio::test]
async fn a_durable_loop_keeps_the_tools_in_its_last_step_too() {
    let limits = ReActLimits {
        max_steps: 2,
        ..ReActLimits::default()
    };
    let model = Eager::new(true, &["a"]);
    let graph = react_graph(Arc::new(model.clone()), tools(&[("a", 0)]), limits).unwrap();
    let asked = ReActState {
        messages: vec![Said::User { text: "Go.".into() }],
        ..ReActState::default()
    };
    let config = RunConfig::new(CallContext::new(Scope::local()));
    let output = graph.run(asked, config).await.unwrap();
    assert_eq!(output.state.answer, "the answer");
    let last = model.requests().pop().unwrap();
    assert_eq!((last.tools.len(), last.tool_choice), (1, ToolChoice::None));
}

#[tokio::test]
async fn tokens_and_money_end_the_loop_one_call_after_they_are_spent() {
    let rates = TokenRates {
        input: MicroUsd(1_000_000),
        output: MicroUsd(10_000_000),
        ..TokenRates::default()
    };
    // A call has 1,000 tokens and costs 1,900 millionths of a dollar.
    let many = ReActLimits {
        max_steps: 50,
        ..ReActLimits::default()
    };
    let by_tokens = |max| ReActLimits {
        max_tokens: Tokens(max),
        ..many
    };
    let by_cost = |total| ReActLimits {
        max_cost: Some(MaxCost {
            total: MicroUsd(total),
            rates,
        }),
        ..many
    };
    for (limits, calls) in [
        (by_tokens(1_000), 2),
        (by_tokens(2_001), 4),
        (by_cost(1_900), 2),
        (by_cost(1_901), 3),
        (by_cost(0), 1),
    ] {
        let model = Eager::new(true, &["a"]);
        let outcome = run(&model, tools(&[("a", 0)]), limits).await;
        assert_eq!(model.requests().len(), calls, "{limits:?}");
        assert_eq!(outcome.usage.total(), Tokens(1_000 * calls as u64));
        assert_eq!(outcome.answer.text, "the answer");
    }
}

#[tokio::test(start_paused = true)]
async fn results_keep_the_order_of_the_calls_and_take_as_long_as_the_slowest() {
    for native in [true, false] {
        let model = Eager::new(native, &["late", "breaks", "soon", "never_heard_of"]);
        let took = tokio::time::Instant::now();
        let given = tools(&[("soon", 10), ("late", 900), ("breaks", 300)]);
        let limits = ReActLimits {
            max_steps: 2,
            ..ReActLimits::default()
        };
        let outcome = run(&model, given, limits).await;
        assert_eq!(took.elapsed(), Duration::from_millis(900), "in parallel");
        let seen: Vec<(&str, bool)> = outcome
            .tools
            .iter()
            .map(|trace| (trace.tool.as_str(), trace.ok))
            .collect();
        let expected = [
            ("late", true),
            ("breaks", false),
            ("soon", true),
            ("never_heard_of", false),
        ];
        assert_eq!(seen, expected);
        let last = model.requests().pop().unwrap();
        let role = if native { Role::Tool } else { Role::User };
        let results = last.messages.iter().filter(|it| it.role == role);
        let results: Vec<String> = results
            .map(|it| it.content.text())
            .filter(|text| text.starts_with("<tool_result"))
            .collect();
        assert_eq!(results.len(), 4);
        assert!(results[0].contains("tool=\"late\"") && results[0].contains("\nlate\n"));
        assert!(results[1].contains("the tool broke"));
    }
}

#[tokio::test]
async fn a_text_only_model_is_told_of_the_tools_by_the_loop() {
    let model = Eager::new(false, &["a", "b"]);
    let limits = ReActLimits {
        max_steps: 2,
        ..ReActLimits::default()
    };
    let outcome = run(&model, tools(&[("a", 0), ("b", 0)]), limits).await;
    assert_eq!(outcome.tools.len(), 2);
    for request in model.requests() {
        assert!(request.tools.is_empty());
        let system = request.messages[0].content.text();
        assert!(system.starts_with("Be brief.\n"), "{system}");
        assert!(system.contains("- b: Waits. Arguments: {\"type\":\"object\"}"));
        let systems = request.messages.iter().filter(|it| it.role == Role::System);
        assert_eq!(systems.count(), 1);
    }
}
