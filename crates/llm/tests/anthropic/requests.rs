//! What is sent, and refusals of what was.

use super::*;

#[tokio::test]
async fn everything_a_request_can_hold_is_sent() {
    let mut server = Server::saying(events("")).await;
    let model = server.anthropic(Timeouts::default());
    let extra = |value: Value| -> Map<String, Value> { value.as_object().unwrap().clone() };
    let cached = Part::Text {
        text: "Be kind.".into(),
        extra: extra(json!({"cache_control": {"type": "ephemeral"}})),
    };
    let image = |url: &str| Part::Image {
        url: url.into(),
        extra: extra(json!({"detail": "low"})),
    };
    let pictures = vec![
        image("data:image/png;base64,AA=="),
        image("https://a.test/b.png"),
        Part::Other(json!({"type": "document", "source": {"type": "text", "data": "x"}})),
    ];
    let call = |id: &str, arguments: &str| ToolCall::new(id, "f", arguments);
    let mut asked = Message::assistant("Let me see.");
    asked.tool_calls = vec![call("a", "{\"x\":1}"), call("b", ""), call("c", "[1]")];
    let mut request = ChatRequest::new([
        Message::system(Content::Parts(vec![cached])),
        Message::user(Content::Parts(pictures)),
        asked,
        Message::tool("a", "2"),
        Message::tool("b", ""),
        Message::assistant(""),
        Message::user("hi"),
    ]);
    request.tools = vec![ToolSpec::new("f", "Adds.", json!({"type": "object"}))];
    request.tool_choice = ToolChoice::Required;
    request.response_format = ResponseFormat::JsonSchema {
        name: "gap".into(),
        schema: json!({"type": "object"}),
        strict: true,
    };
    request.temperature = Some(2.0);
    request.stop = vec!["END".into()];
    request.extra = extra(json!({
        "thinking": {"type": "disabled"}, "stream": false, "output_config": "no",
    }));
    let expected = json!({
        "model": "test-model",
        "max_tokens": 4096,
        "stream": true,
        "system": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": [
                {"type": "image", "source":
                    {"type": "base64", "media_type": "image/png", "data": "AA=="}},
                {"type": "image", "source": {"type": "url", "url": "https://a.test/b.png"}},
                {"type": "document", "source": {"type": "text", "data": "x"}},
            ]},
            {"role": "assistant", "content": [
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
                {"type": "tool_use", "id": "b", "name": "f", "input": {}},
                {"type": "tool_use", "id": "c", "name": "f", "input": {"arguments": "[1]"}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "a",
                    "content": [{"type": "text", "text": "2"}]},
                {"type": "tool_result", "tool_use_id": "b", "content": []},
            ]},
            {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        ],
        "tools": [{"name": "f", "description": "Adds.", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any"},
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
        "temperature": 1.0,
        "stop_sequences": ["END"],
        "thinking": {"type": "disabled"},
    });
    assert_eq!(sent(&model, &mut server, request).await, expected);
}

#[tokio::test]
async fn what_stands_beside_a_schema_stays_there() {
    let mut server = Server::saying(events("")).await;
    let model = server.anthropic(Timeouts::default());
    let mut request = ChatRequest::new([Message::user("hi")]);
    // With tools of its own a request's schema is sent as such.
    request.tools = vec![ToolSpec::new("f", "Adds.", json!({"type": "object"}))];
    request.response_format = ResponseFormat::JsonSchema {
        name: "gap".into(),
        schema: json!({"type": "object"}),
        strict: true,
    };
    let config = json!({"effort": "low", "format": "no"});
    request.extra.insert("output_config".to_owned(), config);
    let body = sent(&model, &mut server, request).await;
    let format = json!({"type": "json_schema", "schema": {"type": "object"}});
    assert_eq!(
        body["output_config"],
        json!({"format": format, "effort": "low"})
    );
}

#[tokio::test]
async fn fields_of_the_other_dialect_are_translated_or_left_out() {
    let mut server = Server::saying(events("")).await;
    let model = server.anthropic(Timeouts::default());
    let mut named = Message::user("hi");
    named.extra.insert("name".into(), json!("ann"));
    let mut request = ChatRequest::new([named]);
    request.tools = vec![ToolSpec::new("f", "Adds.", json!({"type": "object"}))];
    request.tools[0]
        .extra
        .insert("cache_control".into(), json!({"type": "ephemeral"}));
    request.other_tools = vec![json!({"type": "web_search_20250305", "name": "web_search"})];
    request.seed = Some(1);
    let Value::Object(extra) = json!({
        "n": 1, "logprobs": true, "top_logprobs": 2, "stream_options": {"include_usage": true},
        "frequency_penalty": 1, "parallel_tool_calls": false, "user": "u-1",
        "metadata": {"topic": "plants"}, "service_tier": "flex", "top_k": 5,
    }) else {
        unreachable!()
    };
    request.extra = extra;
    let expected = json!({
        "model": "test-model", "max_tokens": 4096, "stream": true,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        "tools": [
            {"name": "f", "description": "Adds.", "input_schema": {"type": "object"},
                "cache_control": {"type": "ephemeral"}},
            {"type": "web_search_20250305", "name": "web_search"},
        ],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": true},
        "metadata": {"user_id": "u-1"},
        "top_k": 5,
    });
    assert_eq!(sent(&model, &mut server, request).await, expected);
}

#[tokio::test]
async fn reasoning_effort_becomes_a_budget_for_thinking() {
    let mut server = Server::saying(events("")).await;
    let model = server.anthropic(Timeouts::default());
    let asking = |effort: &str, max_output: u64| {
        let mut request = ChatRequest::new([Message::user("Why?")]);
        request.max_output = Some(Tokens(max_output));
        request
            .extra
            .insert("reasoning_effort".into(), json!(effort));
        request
    };
    let enabled = |budget: u64| json!({"type": "enabled", "budget_tokens": budget});
    let table = [
        (asking("low", 10_000), enabled(2_000)),
        (asking("medium", 10_000), enabled(5_000)),
        (asking("high", 10_000), enabled(8_000)),
        (asking("low", 2_000), enabled(1_024)),
        // The budget has to be less than the limit.
        (asking("high", 1_024), Value::Null),
        (asking("none", 10_000), Value::Null),
        (asking("minimal", 10_000), Value::Null),
    ];
    for (request, thinking) in table {
        let shown = format!("{request:?}");
        let body = sent(&model, &mut server, request).await;
        assert_eq!(body["thinking"], thinking, "{shown}");
        assert_eq!(body.get("reasoning_effort"), None);
    }

    // What the API refuses beside thinking is left out.
    let mut sampled = asking("low", 10_000);
    (sampled.temperature, sampled.top_p) = (Some(0.2), Some(0.5));
    let body = sent(&model, &mut server, sampled).await;
    assert_eq!((body.get("temperature"), body.get("top_p")), (None, None));

    // The caller's own words win.
    let mut own = asking("high", 10_000);
    own.extra
        .insert("thinking".into(), json!({"type": "disabled"}));
    let body = sent(&model, &mut server, own).await;
    assert_eq!(body["thinking"], json!({"type": "disabled"}));

    // A tool that must be called, and a call that was made without thinking.
    let mut forced = asking("high", 10_000);
    forced.tools = vec![ToolSpec::new("f", "Adds.", json!({"type": "object"}))];
    forced.tool_choice = ToolChoice::Required;
    let called = |seal: Option<ReasoningSeal>| {
        let mut request = asking("high", 10_000);
        let thought = Reasoning {
            text: "Hm.".into(),
            seal,
        };
        request.messages.push(Message {
            tool_calls: vec![ToolCall::new("a", "f", "{}")],
            reasoning: vec![thought],
            ..Message::assistant("")
        });
        request.messages.push(Message::tool("a", "1"));
        request
    };
    for request in [forced, called(None)] {
        let body = sent(&model, &mut server, request).await;
        assert_eq!(body.get("thinking"), None, "{body}");
    }
    let sealed = called(Some(ReasoningSeal::Signature("EqQB".into())));
    let body = sent(&model, &mut server, sealed).await;
    assert_eq!(body["thinking"], enabled(8_000));
}

#[tokio::test]
async fn a_schema_can_be_a_tool_that_must_be_called() {
    let tool = json!({"type": "tool_use", "id": "t", "name": "answer_in_json", "input": {}});
    let piece = |text: &str| {
        delta(
            0,
            &json!({"type": "input_json_delta", "partial_json": text}),
        )
    };
    let [message_delta, message_stop] = end("tool_use");
    let body = [
        start(),
        block(0, &tool),
        piece("{\"gap\":"),
        piece("\"light\"}"),
        stop(0),
        message_delta,
        message_stop,
    ];
    let mut server = Server::saying(events(&stream_of(&body))).await;
    let preset = lyceum_llm::Preset::by_name("anthropic").unwrap();
    let model = Anthropic::new(lyceum_llm::AnthropicConfig {
        base_url: server.url.clone(),
        json_by_tool: true,
        ..lyceum_llm::AnthropicConfig::from_preset(preset, "m")
    })
    .unwrap();
    let schema = json!({"type": "object", "required": ["gap"]});
    let mut request = ChatRequest::new([Message::user("hi")]);
    request.response_format = ResponseFormat::JsonSchema {
        name: "gap".into(),
        schema: schema.clone(),
        strict: true,
    };
    let answer = ChatAnswer::collect(model.stream(call(), Arc::new(request)))
        .await
        .unwrap();
    assert_eq!(answer.text, "{\"gap\":\"light\"}");
    assert_eq!(
        (answer.tool_calls.len(), answer.finish),
        (0, FinishReason::Stop)
    );
    let body = server.requests.recv().await.unwrap().body;
    assert_eq!(body["tools"][0]["input_schema"], schema);
    assert_eq!(
        body["tool_choice"],
        json!({"type": "tool", "name": "answer_in_json"})
    );
    assert_eq!(body.get("output_config"), None);
}

#[tokio::test]
async fn a_prompt_that_is_too_long_is_its_own_error() {
    let refusal = json!({"type": "error", "error": {"type": "invalid_request_error",
        "message": "prompt is too long: 210000 tokens > 200000 maximum"}});
    let server = Server::saying(plain("400 Bad Request", "", &refusal.to_string())).await;
    let error = collect(&server.anthropic(Timeouts::default()))
        .await
        .unwrap_err();
    assert_eq!(
        (error.label(), error.is_retryable()),
        ("context_too_long", false)
    );
}

#[tokio::test]
async fn any_json_object_is_asked_for_in_words() {
    let mut server = Server::saying(events("")).await;
    let model = server.anthropic(Timeouts::default());
    let mut request = ChatRequest::new([Message::user("hi")]);
    request.response_format = ResponseFormat::JsonObject;
    let body = sent(&model, &mut server, request).await;
    let system = body["system"][0]["text"].as_str().unwrap();
    assert!(system.contains("JSON object"), "{system}");
}

#[tokio::test]
async fn the_headers_are_the_documented_ones_and_limits_reach_the_queue() {
    let limits = "anthropic-ratelimit-requests-limit: 50\r\n\
                  anthropic-ratelimit-input-tokens-limit: 30000\r\n\
                  anthropic-ratelimit-input-tokens-remaining: 30000\r\n\
                  retry-after: 3\r\n";
    let refusal = json!({"type": "error", "error":
        {"type": "rate_limit_error", "message": "slow down"}});
    let mut server = Server::saying(plain("429 Too Many", limits, &refusal.to_string())).await;
    let queue = Queue::new(QueueConfig::default());
    let preset = lyceum_llm::Preset::by_name("anthropic").unwrap();
    let model = Anthropic::new(lyceum_llm::AnthropicConfig {
        base_url: server.url.clone(),
        api_key: Some("k-1".into()),
        queue: Some(queue.clone()),
        ..lyceum_llm::AnthropicConfig::from_preset(preset, "m")
    })
    .unwrap();
    let error = collect(&model).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));

    let head = server.requests.recv().await.unwrap().head;
    assert!(head.starts_with("post /v1/messages http/1.1\r\n"), "{head}");
    for line in ["x-api-key: k-1", "anthropic-version: 2023-06-01"] {
        assert!(head.lines().any(|sent| sent == line), "{head}");
    }
    let snapshot = queue.snapshot();
    assert_eq!(snapshot.requests.map(|quota| quota.limit), Some(50));
    assert_eq!(snapshot.input_tokens.map(|quota| quota.limit), Some(30_000));
}
