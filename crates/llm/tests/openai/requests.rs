//! What is sent, and refusals of what was.

use super::*;

#[tokio::test]
async fn a_plain_request() {
    let mut server = Server::saying(events("data: [DONE]\n\n")).await;
    drain(ask(&server.openai(Timeouts::default()))).await;
    let request = server.requests.recv().await.unwrap();
    assert!(
        request
            .head
            .starts_with("post /v1/chat/completions http/1.1\r\n")
    );
    let expected = json!({
        "model": "test-model",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": true,
        "stream_options": {"include_obfuscation": false, "include_usage": true},
    });
    assert_eq!(request.body, expected);
}

#[tokio::test]
async fn everything_a_request_can_hold_is_sent() {
    let picture = Content::Parts(vec![
        Part::Text {
            text: "What is this?".into(),
            extra: extra(json!({"cache_control": {"type": "ephemeral"}})),
        },
        Part::Image {
            url: "data:image/png;base64,AA==".into(),
            extra: extra(json!({"detail": "low"})),
        },
        Part::Other(json!({"type": "input_audio", "input_audio": {"data": "AA=="}})),
    ]);
    let mut asked = Message::assistant("");
    asked.tool_calls = vec![ToolCall::new("a", "f", "{\"x\":1}")];
    asked.tool_calls[0].extra = extra(json!({"extra_content": {"google": {}}}));
    asked.reasoning = vec![Reasoning {
        text: "not sent".into(),
        seal: None,
    }];
    let mut named = Message::user("hi");
    named.extra = extra(json!({"name": "ann", "role": "ignored"}));
    let mut request = ChatRequest::new([
        Message::system("Be kind."),
        Message::user(picture),
        asked,
        Message::tool("a", "2"),
        named,
    ]);
    request.model = Some("asked-model".into());
    request.tools = vec![ToolSpec::new("f", "Adds.", json!({"type": "object"}))];
    request.tools[0].extra = extra(json!({"strict": true}));
    request.other_tools = vec![json!({"type": "web_search", "depth": 2})];
    request.tool_choice = ToolChoice::Named("f".into());
    request.response_format = ResponseFormat::JsonSchema {
        name: "gap".into(),
        schema: json!({"type": "object"}),
        strict: true,
    };
    request.max_output = Some(Tokens(99));
    request.temperature = Some(0.7);
    request.top_p = Some(0.9);
    request.stop = vec!["END".into()];
    request.seed = Some(-7);
    request.extra = extra(json!({
        "reasoning_effort": "low", "stream": false, "model": "no", "max_tokens": 1,
        "stream_options": {"include_obfuscation": false}, "n": 2, "logprobs": true,
        "top_logprobs": 3, "parallel_tool_calls": false, "user": "u", "metadata": {"a": "b"},
    }));
    let expected = json!({
        "model": "asked-model",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": [
                {"type": "text", "text": "What is this?", "cache_control": {"type": "ephemeral"}},
                {"type": "image_url",
                    "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "AA=="}},
            ]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "a", "type": "function",
                    "function": {"name": "f", "arguments": "{\"x\":1}"},
                    "extra_content": {"google": {}}}]},
            {"role": "tool", "content": "2", "tool_call_id": "a"},
            {"role": "user", "content": "hi", "name": "ann"},
        ],
        "stream": true,
        "stream_options": {"include_obfuscation": false, "include_usage": true},
        "n": 2,
        "logprobs": true,
        "top_logprobs": 3,
        "parallel_tool_calls": false,
        "user": "u",
        "metadata": {"a": "b"},
        "tools": [{"type": "function", "function":
            {"name": "f", "description": "Adds.", "parameters": {"type": "object"},
                "strict": true}}, {"type": "web_search", "depth": 2}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_schema", "json_schema":
            {"name": "gap", "schema": {"type": "object"}, "strict": true}},
        "max_completion_tokens": 99,
        "temperature": 0.7_f32,
        "top_p": 0.9_f32,
        "stop": ["END"],
        "seed": -7,
        "reasoning_effort": "low",
    });
    let mut body = sent(request, "openai").await;
    for field in ["temperature", "top_p"] {
        let number = body[field].as_f64().unwrap();
        body[field] = json!(number as f32);
    }
    assert_eq!(body, expected);
}

#[tokio::test]
async fn an_effort_in_the_other_dialect_is_one_in_this() {
    for (fields, wanted) in [
        (json!({"output_config": {"effort": "low"}}), json!("low")),
        (json!({"output_config": {"effort": "max"}}), json!("high")),
        (
            json!({"output_config": {"effort": "low"}, "reasoning_effort": "high"}),
            json!("high"),
        ),
        (json!({"output_config": {}}), Value::Null),
    ] {
        let mut request = ChatRequest::new([Message::user("hi")]);
        request.extra = extra(fields);
        let body = sent(request, "openai").await;
        assert_eq!(body.get("output_config"), None);
        assert_eq!(body["reasoning_effort"], wanted);
    }
}

#[tokio::test]
async fn padding_is_declined_where_it_exists_unless_the_caller_wants_it() {
    let options = async |extra_fields: Value, preset| {
        let mut request = ChatRequest::new([Message::user("hi")]);
        request.extra = extra(extra_fields);
        sent(request, preset).await["stream_options"].take()
    };
    let declined = json!({"include_obfuscation": false, "include_usage": true});
    assert_eq!(options(json!({}), "openai").await, declined);
    let wanted = json!({"stream_options": {"include_obfuscation": true}});
    assert_eq!(
        options(wanted, "openai").await,
        json!({"include_obfuscation": true, "include_usage": true})
    );
    for preset in ["vllm", "deepseek", "ark"] {
        let usage_only = json!({"include_usage": true});
        assert_eq!(options(json!({}), preset).await, usage_only, "{preset}");
    }
}

#[tokio::test]
async fn a_refusal_is_text_with_its_own_reason() {
    for finish in [Some("stop"), None] {
        let answer = answer(&[
            delta(
                &json!({"role": "assistant", "content": null, "refusal": ""}),
                None,
            ),
            delta(&json!({"refusal": "I will "}), None),
            delta(&json!({"refusal": "not."}), None),
            delta(&json!({}), finish),
        ])
        .await;
        assert_eq!(
            (answer.text.as_str(), answer.finish),
            ("I will not.", FinishReason::ContentFilter)
        );
    }
}

#[tokio::test]
async fn reasoning_goes_back_with_tool_calls_to_those_who_want_it() {
    let reasoned = |call: Option<ToolCall>| Message {
        reasoning: vec![Reasoning {
            text: "Hm.".into(),
            seal: None,
        }],
        tool_calls: call.into_iter().collect(),
        ..Message::assistant("So.")
    };
    let call = ToolCall::new("a", "f", "{}");
    let request = ChatRequest::new([
        reasoned(Some(call)),
        Message::tool("a", "1"),
        reasoned(None),
    ]);
    let body = sent(request.clone(), "deepseek").await;
    assert_eq!(body["messages"][0]["reasoning_content"], "Hm.");
    assert_eq!(
        body["messages"][2],
        json!({"role": "assistant", "content": "So."})
    );
    let body = sent(request, "openai").await;
    assert_eq!(body["messages"][0].get("reasoning_content"), None);
}

#[tokio::test]
async fn a_request_that_is_too_long_is_its_own_error() {
    let refusals = [
        json!({"error": {"message": "?", "code": "context_length_exceeded"}}),
        json!({"error": {"message": "This model's maximum context length is 65536 tokens."}}),
        json!({"error": {"message": "Invalid request: Your request exceeded model token limit: 8192"}}),
        json!({"error": {"code": "1261", "message": "Prompt exceeds max length"}}),
        json!({"error": {"message": "?", "type": "exceed_context_size_error"}}),
    ];
    for refusal in refusals {
        let server = Server::saying(plain("400 Bad Request", "", &refusal.to_string())).await;
        let error = collect(&server.openai(Timeouts::default()))
            .await
            .unwrap_err();
        assert_eq!(
            (error.label(), error.is_retryable()),
            ("context_too_long", false),
            "{refusal}"
        );
    }
}

#[tokio::test]
async fn providers_without_schemas_get_them_in_words() {
    for messages in [
        vec![Message::system("Be kind."), Message::user("hi")],
        vec![Message::user("hi")],
    ] {
        let mut request = ChatRequest::new(messages);
        request.max_output = Some(Tokens(5));
        request.response_format = ResponseFormat::JsonSchema {
            name: "gap".into(),
            schema: json!({"type": "object", "title": "Gap"}),
            strict: true,
        };
        let body = sent(request, "deepseek").await;
        assert_eq!(body["response_format"], json!({"type": "json_object"}));
        assert_eq!(body["max_tokens"], 5);
        let roles: Vec<_> = body["messages"].as_array().unwrap().iter().collect();
        assert_eq!(roles.len(), 2);
        let system = roles[0]["content"].as_str().unwrap();
        assert!(
            system.ends_with(r#"{"title":"Gap","type":"object"}"#),
            "{system}"
        );
    }
}
