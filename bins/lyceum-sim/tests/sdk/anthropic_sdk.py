"""Drives the simulator with Anthropic's official SDK.

Called as `anthropic_sdk.py '{"plain": "http://…", …}'` by tests/sdk.rs. Any failed
assertion or unexpected exception ends with a traceback and status 1.
"""

import datetime
import json
import sys

import anthropic

URLS = json.loads(sys.argv[1])
MODEL = "claude-sim"
TOOLS = [
    {
        "name": "calculate",
        "description": "Evaluates an expression.",
        "input_schema": {
            "type": "object",
            "properties": {"expression": {"type": "string"}},
            "required": ["expression"],
        },
    }
]


def client(name, key="sk-ant-test"):
    return anthropic.Anthropic(api_key=key, base_url=URLS[name], max_retries=0, timeout=20)


def ask(name="plain", text="Explain marker-u1t1 please", key="sk-ant-test", **more):
    messages = more.pop("messages", [{"role": "user", "content": text}])
    model = more.pop("model", MODEL)
    limit = more.pop("max_tokens", 1000)
    return client(name, key).messages.create(
        model=model, max_tokens=limit, messages=messages, **more
    )


def raises(kind, call):
    try:
        call()
    except kind as error:
        assert type(error) is kind, f"{type(error)} is not {kind}"
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def kind_of(error):
    return error.body["error"]["type"]


def chat():
    answer = ask(system="You are brief.")
    assert answer.type == "message" and answer.role == "assistant" and answer.model == MODEL
    assert answer.id.startswith("msg_") and answer._request_id.startswith("req_")
    assert answer.stop_reason == "end_turn" and answer.stop_sequence is None
    assert [block.type for block in answer.content] == ["text"]
    assert "marker-u1t1" in answer.content[0].text
    assert answer.usage.input_tokens > ask().usage.input_tokens > 0
    assert answer.usage.output_tokens > 0 and answer.usage.cache_read_input_tokens == 0


def limits_of_the_request():
    answer = ask(max_tokens=3)
    assert answer.stop_reason == "max_tokens" and answer.usage.output_tokens == 3
    answer = ask(stop_sequences=["mean"])
    assert answer.stop_reason == "stop_sequence" and answer.stop_sequence == "mean"
    assert answer.content[0].text == "What do you "


def raw_events():
    events = list(ask(stream=True))
    kinds = [event.type for event in events]
    deltas = kinds.count("content_block_delta")
    # The SDK swallows the ping between the block's start and its first delta.
    assert kinds == (
        ["message_start", "content_block_start"]
        + ["content_block_delta"] * deltas
        + ["content_block_stop", "message_delta", "message_stop"]
    )
    start, end = events[0].message, events[-2]
    assert start.content == [] and start.stop_reason is None and start.usage.input_tokens > 0
    assert end.delta.stop_reason == "end_turn"
    whole = ask()
    text = "".join(e.delta.text for e in events if e.type == "content_block_delta")
    assert text == whole.content[0].text
    assert end.usage.output_tokens == whole.usage.output_tokens


def stream_helper():
    with client("plain").messages.stream(
        model=MODEL,
        max_tokens=100,
        messages=[{"role": "user", "content": [{"type": "text", "text": "about marker-u2t2"}]}],
    ) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert "marker-u2t2" in text and final.content[0].text == text
    assert final.stop_reason == "end_turn" and final.usage.output_tokens > 1


def tools():
    answer = ask(text="2+2", tools=TOOLS, tool_choice={"type": "any"})
    assert answer.stop_reason == "tool_use"
    use = answer.content[0]
    assert use.type == "tool_use" and use.id.startswith("toolu_") and use.name == "calculate"
    assert use.input == {"expression": "2+2"}

    result = {"type": "tool_result", "tool_use_id": use.id, "content": "4"}
    history = [
        {"role": "user", "content": "2+2"},
        {"role": "assistant", "content": [use.model_dump(exclude_none=True)]},
        {"role": "user", "content": [result]},
    ]
    assert ask(messages=history, tools=TOOLS).stop_reason == "end_turn"
    history[2]["content"][0]["tool_use_id"] = "toolu_other"
    error = raises(anthropic.BadRequestError, lambda: ask(messages=history, tools=TOOLS))
    assert kind_of(error) == "invalid_request_error"

    named = {"type": "tool", "name": "calculate"}
    with client("plain").messages.stream(
        model=MODEL,
        max_tokens=100,
        tools=TOOLS,
        tool_choice=named,
        messages=[{"role": "user", "content": "2+2"}],
    ) as stream:
        final = stream.get_final_message()
    assert final.content[0].input == {"expression": "2+2"} and final.stop_reason == "tool_use"


def structured():
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    answer = ask(output_config={"format": {"type": "json_schema", "schema": schema}})
    assert json.loads(answer.content[0].text) == {"n": 1}


def counting():
    messages = [{"role": "user", "content": "Explain marker-u1t1 please"}]
    count = client("plain").messages.count_tokens(model=MODEL, messages=messages)
    assert count.input_tokens == ask().usage.input_tokens


def models():
    assert [model.id for model in client("strict").models.list()] == ["known"]


def refusals():
    error = raises(anthropic.RateLimitError, lambda: [ask("limited") for _ in range(2)])
    assert kind_of(error) == "rate_limit_error"
    headers = error.response.headers
    assert 1 <= int(headers["retry-after"]) <= 60
    assert headers["anthropic-ratelimit-requests-limit"] == "1"
    assert headers["anthropic-ratelimit-requests-remaining"] == "0"
    reset = datetime.datetime.fromisoformat(headers["anthropic-ratelimit-requests-reset"])
    assert reset > datetime.datetime.now(datetime.timezone.utc)
    assert headers["anthropic-ratelimit-input-tokens-limit"] == "100000"
    assert int(headers["anthropic-ratelimit-output-tokens-remaining"]) < 100000
    assert kind_of(raises(anthropic.RateLimitError, lambda: ask("fault_429"))) == "rate_limit_error"
    assert kind_of(raises(anthropic.InternalServerError, lambda: ask("fault_500"))) == "api_error"
    error = raises(OVERLOADED, lambda: ask("fault_529"))
    assert error.status_code == 529 and kind_of(error) == "overloaded_error"
    error = raises(anthropic.AuthenticationError, lambda: ask("strict", key="wrong"))
    assert kind_of(error) == "authentication_error"
    error = raises(anthropic.NotFoundError, lambda: ask("strict", model="unknown"))
    assert kind_of(error) == "not_found_error"
    assert ask("strict", model="known").model == "known"
    raises(anthropic.BadRequestError, lambda: ask(messages=[]))
    raises(anthropic.BadRequestError, lambda: ask(text=""))


def broken_streams():
    broken = (anthropic.APIConnectionError, anthropic._base_client.httpx2.TransportError)
    for call in (lambda: list(ask("fault_reset", stream=True)), lambda: ask("fault_reset")):
        try:
            call()
        except broken:
            continue
        raise AssertionError("a reset was not noticed")
    try:
        list(ask("fault_error_event", stream=True))
    except anthropic.APIStatusError as error:
        assert kind_of(error) == "overloaded_error"
    else:
        raise AssertionError("the error event was not noticed")
    cut = [event.type for event in ask("fault_truncate", stream=True)]
    assert cut[0] == "message_start" and "message_stop" not in cut
    try:
        list(ask("fault_malformed", stream=True))
    except ValueError:
        pass
    else:
        raise AssertionError("broken JSON was accepted")


OVERLOADED = anthropic._exceptions.OverloadedError

for check in (
    chat,
    limits_of_the_request,
    raw_events,
    stream_helper,
    tools,
    structured,
    counting,
    models,
    refusals,
    broken_streams,
):
    check()
    print(f"ok {check.__name__}")
print(f"anthropic {anthropic.__version__}")
