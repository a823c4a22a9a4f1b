//! A tool that needs a person: the loop waits in its thread, goes on with the answer, and
//! does nothing twice.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use futures_util::stream;
use lyceum_agents::{
    ApprovalRequest, ReActLimits, ReActState, ReActStateUpdate, Said, react_graph,
};
use lyceum_core::{
    Approval, CallContext, ChatEvent, ChatModel, ChatRequest, ChatStream, FinishReason,
    ModelTraits, Role, Scope, Tokens, Tool, ToolCallDelta, ToolError, ToolOutput, ToolSpec,
    ToolTraits,
};
use lyceum_graph::{Answers, Graph, MemorySaver, RunConfig, Status, ThreadId};
use serde_json::{Value, json};

/// Wishes for all tools at once, then says what the tools said.
#[derive(Debug)]
struct Spender {
    asked: AtomicUsize,
}

impl ChatModel for Spender {
    fn name(&self) -> &str {
        "spender"
    }

    fn traits(&self) -> ModelTraits {
        ModelTraits {
            native_tools: true,
            context: Tokens(10_000),
            small: false,
        }
    }

    fn stream(&self, _: CallContext, request: Arc<ChatRequest>) -> ChatStream {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let results = request.messages.iter().filter(|m| m.role == Role::Tool);
        let results: Vec<String> = results.map(|message| message.content.text()).collect();
        let mut events: Vec<ChatEvent> = match results.is_empty() {
            true => (0..request.tools.len())
                .map(|at| {
                    ChatEvent::ToolCall(ToolCallDelta {
                        index: u32::try_from(at).unwrap(),
                        id: Some(format!("call-{at}")),
                        name: Some(request.tools[at].name.clone()),
                        arguments: r#"{"amount": 7}"#.to_owned(),
                        extra: serde_json::Map::default(),
                    })
                })
                .collect(),
            false => vec![ChatEvent::Text(results.join(";"))],
        };
        events.push(ChatEvent::Finished(FinishReason::Stop));
        Box::pin(stream::iter(events.into_iter().map(Ok)))
    }
}

#[derive(Debug)]
struct Counted {
    spec: ToolSpec,
    approval: Approval,
    calls: AtomicUsize,
}

impl Counted {
    fn new(name: &str, approval: Approval) -> Arc<Self> {
        Arc::new(Self {
            spec: ToolSpec::new(name, "", json!({"type": "object"})),
            approval,
            calls: AtomicUsize::new(0),
        })
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Tool for Counted {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn traits(&self) -> ToolTraits {
        ToolTraits {
            approval: self.approval,
            ..ToolTraits::default()
        }
    }

    async fn call(&self, _: &CallContext, _: Value) -> Result<ToolOutput, ToolError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        Ok(ToolOutput::text(format!("{} done", self.spec.name)))
    }
}

struct World {
    model: Arc<Spender>,
    look_up: Arc<Counted>,
    pay: Arc<Counted>,
    order: Arc<Counted>,
    graph: Graph<ReActState, CallContext, ()>,
}

fn world() -> World {
    let model = Arc::new(Spender {
        asked: AtomicUsize::new(0),
    });
    let look_up = Counted::new("look_up", Approval::NotNeeded);
    let pay = Counted::new("pay", Approval::Needed);
    let order = Counted::new("order", Approval::Needed);
    let tools: Vec<Arc<dyn Tool>> = vec![look_up.clone(), pay.clone(), order.clone()];
    let graph = react_graph(model.clone(), tools, ReActLimits::default()).unwrap();
    World {
        model,
        look_up,
        pay,
        order,
        graph,
    }
}

fn config() -> RunConfig<CallContext> {
    RunConfig::new(CallContext::new(Scope::local()))
}

#[tokio::test]
async fn the_loop_waits_for_a_person_and_does_nothing_twice() {
    let world = world();
    let thread = ThreadId::new("order-7").unwrap();
    let thread = world.graph.thread(Arc::new(MemorySaver::default()), thread);
    let question = ReActStateUpdate::new().messages([Said::User {
        text: "Buy tea.".to_owned(),
    }]);
    let output = thread.run(question, config()).await.unwrap();
    assert_eq!(output.status, Status::Interrupted);
    assert_eq!((world.look_up.calls(), world.pay.calls()), (0, 0));
    assert_eq!(output.interrupts.len(), 2, "both questions at once");
    let asked = output
        .interrupts
        .iter()
        .find(|asked| asked.key == "approve 1");
    let asked: ApprovalRequest = serde_json::from_value(asked.unwrap().payload.clone()).unwrap();
    let expected = ApprovalRequest {
        tool: "pay".to_owned(),
        arguments: r#"{"amount": 7}"#.to_owned(),
    };
    assert_eq!(asked, expected);

    let answer = |key: &str, yes: bool| {
        let asked = output.interrupts.iter().find(|asked| asked.key == key);
        (asked.unwrap().id.clone(), json!(yes))
    };
    let answers = [answer("approve 1", true), answer("approve 2", false)];
    let answers = Answers::ById(answers.into_iter().collect());
    let done = thread.resume(answers, config()).await.unwrap();
    assert_eq!(done.status, Status::Done);
    let calls = [&world.look_up, &world.pay, &world.order].map(|tool| tool.calls());
    assert_eq!(calls, [1, 1, 0]);
    assert_eq!(
        world.model.asked.load(Ordering::SeqCst),
        2,
        "once before, once after"
    );
    let said: Vec<&str> = done.state.answer.split(';').collect();
    assert!(said[0].contains("look_up done"), "{said:?}");
    assert!(said[1].contains("pay done"), "{said:?}");
    assert!(
        said[2].contains("error: a person declined this call"),
        "{said:?}"
    );
    let ok: Vec<bool> = done.state.tools.iter().map(|trace| trace.ok).collect();
    assert_eq!(ok, [true, true, false]);
}

#[tokio::test]
async fn what_was_answered_so_far_is_kept_until_all_is() {
    let world = world();
    let thread = ThreadId::new("order-8").unwrap();
    let thread = world.graph.thread(Arc::new(MemorySaver::default()), thread);
    let question = ReActStateUpdate::new().messages([Said::User {
        text: "Buy tea.".to_owned(),
    }]);
    let mut output = thread.run(question, config()).await.unwrap();
    for left in [2, 1] {
        assert_eq!(
            (output.status, output.interrupts.len()),
            (Status::Interrupted, left)
        );
        assert_eq!(world.pay.calls() + world.order.calls(), 0);
        let answers = Answers::ById([(output.interrupts[0].id.clone(), json!(true))].into());
        output = thread.resume(answers, config()).await.unwrap();
    }
    assert_eq!(output.status, Status::Done);
    assert_eq!((world.pay.calls(), world.order.calls()), (1, 1));
}
