"""Drives the simulator with OpenAI's official SDK.

Called as `openai_sdk.py '{"plain": "http://…", …}'` by tests/sdk.rs. Any failed
assertion or unexpected exception ends with a traceback and status 1.
"""

import json
import re
import sys

import openai

URLS = json.loads(sys.argv[1])
MODEL = "gpt-sim"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "calculate",
            "description": "Evaluates an expression.",
            "parameters": {
                "type": "object",
                "properties": {"expression": {"type": "string"}},
                "required": ["expression"],
            },
        },
    }
]


def client(name, key="sk-test"):
    return openai.OpenAI(api_key=key, base_url=URLS[name] + "/v1", max_retries=0, timeout=20)


def ask(name="plain", text="Explain marker-u1t1 please", key="sk-test", **more):
    messages = more.pop("messages", [{"role": "user", "content": text}])
    model = more.pop("model", MODEL)
    return client(name, key).chat.completions.create(model=model, messages=messages, **more)


def raises(kind, call):
    try:
        call()
    except kind as error:
        assert type(error) is kind, f"{type(error)} is not {kind}"
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def chat():
    answer = ask()
    choice = answer.choices[0]
    assert answer.object == "chat.completion" and answer.id.startswith("chatcmpl-")
    assert answer.model == MODEL and choice.finish_reason == "stop"
    assert choice.message.role == "assistant" and choice.message.tool_calls is None
    assert "marker-u1t1" in choice.message.content
    usage = answer.usage
    assert usage.prompt_tokens > 0 and usage.completion_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens_details.cached_tokens == 0
    assert answer._request_id.startswith("req_")


def limits_of_the_request():
    answer = ask(max_completion_tokens=3)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3
    answer = ask(stop=["mean"])
    assert answer.choices[0].message.content == "What do you "
    assert answer.choices[0].finish_reason == "stop"


def streaming():
    whole = ask().choices[0].message.content
    chunks = list(ask(stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole
    assert [c.choices[0].finish_reason for c in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(c.usage is None for c in chunks)

    chunks = list(ask(stream=True, stream_options={"include_usage": True}))
    assert all(c.usage is None for c in chunks[:-1])
    assert chunks[-1].choices == []
    assert chunks[-1].usage == ask().usage
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert len({c.id for c in chunks}) == 1


def stream_helper():
    with client("plain").chat.completions.stream(
        model=MODEL, messages=[{"role": "user", "content": "about marker-u2t2"}]
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert kinds.count("content.done") == 1 and "content.delta" in kinds
    assert "marker-u2t2" in final.choices[0].message.content


def tools():
    answer = ask(text="2+2", tools=TOOLS, tool_choice="required")
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "tool_calls" and message.content is None
    call = message.tool_calls[0]
    assert call.type == "function" and call.function.name == "calculate"
    assert json.loads(call.function.arguments) == {"expression": "2+2"}

    history = [
        {"role": "user", "content": "2+2"},
        message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "4"},
    ]
    assert ask(messages=history, tools=TOOLS).choices[0].finish_reason == "stop"
    error = raises(openai.BadRequestError, lambda: ask(messages=history[:2], tools=TOOLS))
    assert error.param == "messages" and error.type == "invalid_request_error"

    named = {"type": "function", "function": {"name": "calculate"}}
    chunks = list(ask(text="2+2", tools=TOOLS, tool_choice=named, stream=True))
    pieces = [c.choices[0].delta.tool_calls[0] for c in chunks if c.choices[0].delta.tool_calls]
    assert pieces[0].id.startswith("call_") and pieces[0].function.name == "calculate"
    assert all(p.index == 0 and p.id is None for p in pieces[1:])
    arguments = "".join(p.function.arguments for p in pieces)
    assert json.loads(arguments) == {"expression": "2+2"}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert ask(tools=TOOLS, tool_choice="none").choices[0].message.tool_calls is None


def structured():
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    assert json.loads(ask(response_format=form).choices[0].message.content) == {"n": 1}
    answer = ask(response_format={"type": "json_object"}).choices[0].message.content
    assert "marker-u1t1" in json.loads(answer)["answer"]


def embeddings():
    texts = ["plants make sugar", "plants make sugar", "interest"]
    answer = client("plain").embeddings.create(model="embed", input=texts)
    vectors = [item.embedding for item in answer.data]
    assert [item.index for item in answer.data] == [0, 1, 2]
    assert len(vectors[0]) == 384 and vectors[0] == vectors[1] != vectors[2]
    assert abs(sum(x * x for x in vectors[0]) - 1) < 1e-4
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0
    plain = client("plain").embeddings.create(
        model="embed", input=texts[0], encoding_format="float", dimensions=8
    )
    assert len(plain.data[0].embedding) == 8


def models():
    assert [model.id for model in client("strict").models.list()] == ["known"]


def refusals():
    error = raises(openai.RateLimitError, lambda: [ask("limited") for _ in range(2)])
    assert error.code == "rate_limit_exceeded" and error.type == "requests"
    headers = error.response.headers
    assert 1 <= int(headers["retry-after"]) <= 60
    assert headers["x-ratelimit-limit-requests"] == "1"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert re.fullmatch(r"1m0s|[0-9]+(\.[0-9]+)?s", headers["x-ratelimit-reset-requests"])
    assert int(headers["x-ratelimit-limit-tokens"]) == 100000
    assert raises(openai.RateLimitError, lambda: ask("fault_429")).status_code == 429
    assert raises(openai.InternalServerError, lambda: ask("fault_500")).type == "server_error"
    assert raises(openai.InternalServerError, lambda: ask("fault_529")).status_code == 503
    error = raises(openai.AuthenticationError, lambda: ask("strict", key="sk-wrong"))
    assert error.code == "invalid_api_key"
    error = raises(openai.NotFoundError, lambda: ask("strict", model="unknown"))
    assert error.code == "model_not_found"
    assert ask("strict", model="known").model == "known"
    raises(openai.BadRequestError, lambda: ask(messages=[]))


def broken_streams():
    raises(openai.APIConnectionError, lambda: list(ask("fault_reset", stream=True)))
    raises(openai.APIConnectionError, lambda: ask("fault_reset"))
    raises(openai.APIError, lambda: list(ask("fault_error_event", stream=True)))
    cut = list(ask("fault_truncate", stream=True))
    assert cut and all(c.choices[0].finish_reason is None for c in cut)
    try:
        list(ask("fault_malformed", stream=True))
    except ValueError:
        pass
    else:
        raise AssertionError("broken JSON was accepted")


for check in (
    chat,
    limits_of_the_request,
    streaming,
    stream_helper,
    tools,
    structured,
    embeddings,
    models,
    refusals,
    broken_streams,
):
    check()
    print(f"ok {check.__name__}")
print(f"openai {openai.__version__}")
