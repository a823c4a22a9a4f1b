//! What the vendors' clients rely on beside the words of an answer: parts of lists, headers,
//! the form of refusals, and what becomes of what they ask for.

use std::sync::{Arc, Mutex};

use futures_util::stream;
use lyceum_core::{
    CallContext, ChatEvent, ChatModel, ChatRequest, ChatStream, FinishReason, MemoryRecords,
    ResponseFormat, Tokens, ToolChoice,
};
use lyceum_gateway::{Catalog, GatewayConfig, ServerConfig};
use lyceum_observe::Health;
use serde_json::{Value, json};

use crate::support::{Reply, Running, Scripted, lending, listen, request};

/// A model that keeps what it was asked.
#[derive(Debug, Default)]
struct Heard(Mutex<Option<Arc<ChatRequest>>>);

impl ChatModel for Heard {
    fn name(&self) -> &str {
        "heard"
    }

    fn stream(&self, _: CallContext, request: Arc<ChatRequest>) -> ChatStream {
        *self.0.lock().unwrap() = Some(request);
        let said = [
            ChatEvent::Text("Yes.".into()),
            ChatEvent::Finished(FinishReason::Stop),
        ];
        Box::pin(stream::iter(said.map(Ok)))
    }
}

struct Served {
    server: Running,
    model: Arc<Heard>,
}

impl Served {
    async fn start() -> Self {
        let model = Arc::new(Heard::default());
        let catalog = Catalog::default().with_model("m", "test", model.clone());
        let config = GatewayConfig::default();
        let gateway = lending(catalog, Scripted::thorough(), &config, Health::default())
            .with_responses(Arc::new(MemoryRecords::new()));
        let server = listen(gateway, ServerConfig::default()).await;
        Self { server, model }
    }

    /// What the model was asked with this body.
    async fn heard(&self, path: &str, body: Value) -> Arc<ChatRequest> {
        let reply = self.server.post(path, body.to_string()).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        self.model.0.lock().unwrap().take().unwrap()
    }

    /// Which field of a body is refused.
    async fn refused(&self, path: &str, body: Value) -> Value {
        let reply = self.server.post(path, body.to_string()).await;
        assert_eq!(reply.status, 400, "{reply:?}");
        reply.json()["error"]["param"].clone()
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.server.send(request("GET", path, headers, b"")).await
    }
}

fn chat(more: Value) -> Value {
    asked("m", more)
}

fn asked(model: &str, more: Value) -> Value {
    let mut body = json!({"model": model, "max_tokens": 9,
        "messages": [{"role": "user", "content": "Plants turn light into sugar."}]});
    let Value::Object(more) = more else {
        panic!("{more}")
    };
    body.as_object_mut().unwrap().extend(more);
    body
}

fn ids(list: &Value) -> Vec<&str> {
    let entries = list["data"].as_array().unwrap().iter();
    entries.map(|entry| entry["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn models_come_in_parts_to_who_asks_for_parts() {
    let served = Served::start().await;
    let all = served.get("/v1/models", &[]).await.json();
    let names = ids(&all);
    assert!(names.len() >= 2, "{all}");
    assert_eq!(all["has_more"], false);
    let (first, last) = (names[0], names[names.len() - 1]);
    let mut found = Vec::new();
    let mut path = "/v1/models?limit=1".to_owned();
    loop {
        let part = served.get(&path, &[]).await.json();
        assert_eq!(ids(&part).len(), 1, "{part}");
        found.push(ids(&part)[0].to_owned());
        if part["has_more"] == false {
            break;
        }
        let last = part["last_id"].as_str().unwrap();
        path = format!("/v1/models?limit=1&after_id={last}");
    }
    assert_eq!(found, names);
    let path = format!("/v1/models?limit=1&before_id={last}");
    let before = served.get(&path, &[]).await.json();
    assert_eq!(ids(&before), [names[names.len() - 2]]);
    assert_eq!(before["has_more"], names.len() > 2);
    let path = format!("/v1/models?before_id={first}");
    assert!(ids(&served.get(&path, &[]).await.json()).is_empty());
    for wrong in ["0", "1001", "x"] {
        let reply = served.get(&format!("/v1/models?limit={wrong}"), &[]).await;
        assert_eq!(reply.status, 400, "{reply:?}");
    }
}

#[tokio::test]
async fn a_refusal_has_the_form_of_who_asks() {
    let served = Served::start().await;
    let version = [("anthropic-version", "2023-06-01")];
    for path in ["/v1/models/nothing", "/v1/files"] {
        let theirs = served.get(path, &version).await;
        assert_eq!(theirs.status, 404);
        assert_eq!(theirs.json()["error"]["type"], "not_found_error");
        assert_eq!(theirs.header("request-id"), theirs.header("x-request-id"));
        let others = served.get(path, &[]).await;
        assert_eq!(others.json()["error"]["type"], "invalid_request_error");
        assert_eq!(others.header("request-id"), None);
    }
    let answer = served
        .server
        .post("/v1/messages", chat(json!({})).to_string());
    let answer = answer.await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("request-id"), answer.header("x-request-id"));
}

#[tokio::test]
async fn who_wants_a_thread_is_told_to_go_on_without() {
    let served = Served::start().await;
    let body = chat(json!({"thread": {"type": "continue", "previous_message_id": "msg_1"}}));
    let reply = served.server.post("/v1/messages", body.to_string()).await;
    assert_eq!(reply.status, 400, "{reply:?}");
    let error = &reply.json()["error"];
    assert_eq!(error["type"], "invalid_request_error");
    assert_eq!(error["details"]["error_code"], "thread_unsupported_request");
    let heard = served
        .heard("/v1/messages", chat(json!({"thread": null})))
        .await;
    assert!(!heard.extra.contains_key("thread"));
}

#[tokio::test]
async fn a_message_that_must_keep_to_a_schema_does_so_with_every_provider() {
    let served = Served::start().await;
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let format = json!({"type": "json_schema", "schema": schema});
    let wanted = ResponseFormat::JsonSchema {
        name: "answer".to_owned(),
        schema,
        strict: true,
    };
    let config = json!({"output_config": {"format": format, "effort": "low"}});
    let heard = served.heard("/v1/messages", chat(config)).await;
    assert_eq!(heard.response_format, wanted);
    assert_eq!(heard.extra["output_config"], json!({"effort": "low"}));
    let older = served
        .heard("/v1/messages", chat(json!({"output_format": format})))
        .await;
    assert_eq!(older.response_format, wanted);
    let none = json!({"output_config": {"format": null}});
    let heard = served.heard("/v1/messages", chat(none)).await;
    assert_eq!(heard.response_format, ResponseFormat::Text);
    assert!(!heard.extra.contains_key("output_config"));
    for wrong in [
        json!("x"),
        json!({"type": "json_schema"}),
        json!({"type": "grammar"}),
    ] {
        let body = chat(json!({"output_config": {"format": wrong}}));
        let reply = served.server.post("/v1/messages", body.to_string()).await;
        assert_eq!(reply.status, 400, "{reply:?}");
    }
}

#[tokio::test]
async fn only_tools_that_are_allowed_reach_the_model() {
    let served = Served::start().await;
    let names = |heard: &ChatRequest| -> Vec<String> {
        heard.tools.iter().map(|tool| tool.name.clone()).collect()
    };
    let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
    let allowed = |mode: &str| {
        let allowed = json!({"mode": mode, "tools": [tool("b")]});
        chat(json!({"tools": [tool("a"), tool("b")],
            "tool_choice": {"type": "allowed_tools", "allowed_tools": allowed}}))
    };
    let heard = served
        .heard("/v1/chat/completions", allowed("required"))
        .await;
    assert_eq!(
        (names(&heard), &heard.tool_choice),
        (vec!["b".to_owned()], &ToolChoice::Required)
    );
    let param = served
        .refused("/v1/chat/completions", allowed("never"))
        .await;
    assert_eq!(param, "tool_choice");
    let tool = |name: &str| json!({"type": "function", "name": name});
    let body = json!({"model": "m", "input": "hello", "tools": [tool("a"), tool("b")],
        "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [tool("a")]}});
    let heard = served.heard("/v1/responses", body).await;
    assert_eq!(
        (names(&heard), &heard.tool_choice),
        (vec!["a".to_owned()], &ToolChoice::Auto)
    );
}

#[tokio::test]
async fn what_an_agent_would_not_do_is_refused() {
    let served = Served::start().await;
    let format = json!({"type": "json_object"});
    for (param, more) in [
        ("n", json!({"n": 2})),
        ("logprobs", json!({"logprobs": true})),
        ("response_format", json!({"response_format": format})),
        ("tool_choice", json!({"tool_choice": "required"})),
        (
            "messages",
            json!({"messages": [{"role": "user", "content": "x".repeat((64 << 10) + 1)}]}),
        ),
    ] {
        let path = "/v1/chat/completions";
        assert_eq!(
            served.refused(path, asked("feynman", more.clone())).await,
            param
        );
        served.heard(path, chat(more)).await;
    }
    let harmless = json!({"tools": [], "tool_choice": "auto", "logprobs": false,
        "response_format": {"type": "text"}});
    let body = asked("feynman", harmless).to_string();
    let reply = served.server.post("/v1/chat/completions", body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

#[tokio::test]
async fn a_number_of_tokens_is_whole_and_lets_something_through() {
    let served = Served::start().await;
    for (path, name) in [
        ("/v1/chat/completions", "max_tokens"),
        ("/v1/chat/completions", "max_completion_tokens"),
        ("/v1/messages", "max_tokens"),
        ("/v1/responses", "max_output_tokens"),
    ] {
        let body = |limit: Value| chat(json!({"input": "hello", name: limit}));
        let heard = served.heard(path, body(json!(100.0))).await;
        assert_eq!(heard.max_output, Some(Tokens(100)), "{path} {name}");
        for wrong in [
            json!(0),
            json!(-1),
            json!(1.5),
            json!("7"),
            json!(1_u64 << 53),
        ] {
            let reply = served.server.post(path, body(wrong).to_string()).await;
            assert_eq!(reply.status, 400, "{reply:?}");
        }
    }
}

#[tokio::test]
async fn a_list_of_values_is_no_object() {
    let served = Served::start().await;
    let path = "/v1/responses";
    for (param, more) in [
        ("text", json!({"text": [null, null]})),
        ("reasoning", json!({"reasoning": ["low"]})),
    ] {
        let mut body = more;
        body["model"] = "m".into();
        body["input"] = "hello".into();
        assert_eq!(served.refused(path, body).await, param);
    }
    let path = "/v1/chat/completions";
    let format = json!({"type": "json_schema", "json_schema": ["a", {}, true]});
    let param = served
        .refused(path, chat(json!({"response_format": format})))
        .await;
    assert!(
        param.as_str().unwrap().starts_with("response_format"),
        "{param}"
    );
    let call = json!({"id": "c", "type": "function", "function": ["f", "{}"]});
    let said = json!([{"role": "assistant", "tool_calls": [call]}]);
    let param = served.refused(path, chat(json!({"messages": said}))).await;
    assert!(
        param.as_str().unwrap().starts_with("messages[0]"),
        "{param}"
    );
}

#[tokio::test]
async fn what_is_no_message_is_neither_answered_nor_counted() {
    let served = Served::start().await;
    for messages in [
        json!([]),
        json!([{"role": "tool", "content": "4"}]),
        json!([{"role": "user", "content": [{"type": "text"}]}]),
        json!([{"role": "user", "content": [{"type": "image", "source": {"type": "file"}}]}]),
    ] {
        for path in ["/v1/messages", "/v1/messages/count_tokens"] {
            let body = chat(json!({"messages": messages}));
            let reply = served.server.post(path, body.to_string()).await;
            assert_eq!(reply.status, 400, "{path} {reply:?}");
        }
    }
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hello"}]});
    let reply = served
        .server
        .post("/v1/messages/count_tokens", body.to_string())
        .await;
    assert_eq!(reply.json(), json!({"input_tokens": 5}));
}

#[tokio::test]
async fn what_was_said_for_a_response_comes_in_parts() {
    let served = Served::start().await;
    let said = |text: &str| json!({"role": "user", "content": text});
    let body = json!({"model": "m", "input": [said("a"), said("b"), said("c")]});
    let response = served
        .server
        .post("/v1/responses", body.to_string())
        .await
        .json();
    let path = format!("/v1/responses/{}", response["id"].as_str().unwrap());
    let part = async |query: &str| {
        let reply = served
            .get(&format!("{path}/input_items?{query}"), &[])
            .await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let list = reply.json();
        let items = list["data"].as_array().unwrap().iter();
        let texts = items.map(|item| item["content"][0]["text"].as_str().unwrap());
        let texts: String = texts.collect();
        (
            texts,
            list["has_more"].as_bool().unwrap(),
            list["last_id"].clone(),
        )
    };
    assert_eq!(part("").await.0, "cba");
    assert_eq!(part("order=asc").await.0, "abc");
    let (texts, has_more, last) = part("order=asc&limit=2").await;
    assert_eq!((texts.as_str(), has_more), ("ab", true));
    let rest = part(&format!("order=asc&after={}", last.as_str().unwrap())).await;
    assert_eq!((rest.0.as_str(), rest.1), ("c", false));
    for wrong in ["limit=0", "limit=101", "order=up", "after=nothing"] {
        let reply = served
            .get(&format!("{path}/input_items?{wrong}"), &[])
            .await;
        assert_eq!(reply.status, 400, "{wrong}: {reply:?}");
    }
    assert_eq!(
        served
            .get(&format!("{path}?stream=false"), &[])
            .await
            .status,
        200
    );
    let stream = served.get(&format!("{path}?stream=true"), &[]).await;
    assert_eq!(stream.json()["error"]["param"], "stream");
}
