"""Drives a Lyceum server with Anthropic's official SDK.

Called as `anthropic_sdk.py URL OFFLINE_URL` by tests/compat.rs. Any failed assertion or
unexpected exception ends with a traceback and status 1.
"""

import sys

import anthropic
from pydantic import BaseModel

URL, OFFLINE = sys.argv[1], sys.argv[2]
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


def client(url=URL):
    return anthropic.Anthropic(api_key="any", base_url=url, max_retries=0, timeout=20)


MODEL = client().models.list().data[0].id


def ask(text="hello", **more):
    messages = more.pop("messages", [{"role": "user", "content": text}])
    model, limit = more.pop("model", MODEL), more.pop("max_tokens", 500)
    return client().messages.create(model=model, max_tokens=limit, messages=messages, **more)


def raises(kind, call):
    try:
        call()
    except kind as error:
        assert type(error) is kind, f"{type(error)} is not {kind}: {error}"
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def message():
    answer = ask(
        system="Be kind.",
        stop_sequences=["END"],
        metadata={"user_id": "u"},
        extra_body={"temperature": 0.5},
    )
    assert answer.type == "message" and answer.role == "assistant", answer
    assert answer.content[0].text == 'Hello "you", 你好.', answer
    assert answer.stop_reason == "end_turn" and answer.model == MODEL, answer
    assert answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0, answer
    assert answer._request_id and answer._request_id in answer.id, answer


def models():
    page = client().models.list(limit=1)
    assert page.has_more and [model.id for model in page.data] == [MODEL], page
    names = [model.id for model in page]
    assert names[0] == MODEL and "feynman" in names and len(set(names)) == len(names), names
    back = client().models.list(limit=1, before_id=names[2])
    assert [model.id for model in back.data] == [names[1]], back
    error = raises(anthropic.NotFoundError, lambda: client().models.retrieve("nothing"))
    assert error.body["error"]["type"] == "not_found_error", error.body


class City(BaseModel):
    city: str
    people: int


def structured():
    messages = [{"role": "user", "content": "Paris as a record"}]
    answer = client().messages.parse(model=MODEL, max_tokens=500, messages=messages, output_format=City)
    assert answer.parsed_output == City(city="Paris", people=2100000), answer


def runner():
    @anthropic.beta_tool
    def calculate(expression: str) -> str:
        """Evaluates an expression."""
        return {"2+2": "4", "3+3": "6"}[expression]

    # By itself it asks the server to keep the conversation.
    answer = client().beta.messages.tool_runner(
        model=MODEL,
        max_tokens=500,
        messages=[{"role": "user", "content": "calculate both"}],
        tools=[calculate],
    ).until_done()
    assert answer.content[0].text == "The results are 4 and 6.", answer


def unsupported():
    request = {"custom_id": "a", "params": {"model": MODEL, "max_tokens": 9, "messages": []}}
    for call in (
        lambda: client().messages.batches.create(requests=[request]),
        lambda: client().messages.batches.list(),
        lambda: client().beta.files.list(),
    ):
        error = raises(anthropic.NotFoundError, call)
        assert error.body["error"]["type"] == "not_found_error", error.body


def stream():
    with client().messages.stream(
        model=MODEL, max_tokens=500, messages=[{"role": "user", "content": "hello"}]
    ) as events:
        assert "".join(events.text_stream) == 'Hello "you", 你好.'
        final = events.get_final_message()
    assert final.stop_reason == "end_turn" and final.usage.output_tokens > 0, final
    kinds = [event.type for event in ask(stream=True)]
    deltas = kinds.count("content_block_delta")
    assert deltas > 1, kinds
    assert kinds == ["message_start", "content_block_start"] + ["content_block_delta"] * deltas + [
        "content_block_stop",
        "message_delta",
        "message_stop",
    ], kinds


def tools():
    question = [{"role": "user", "content": "calculate both"}]
    for streamed in (False, True):
        if streamed:
            with client().messages.stream(
                model=MODEL, max_tokens=500, messages=question, tools=TOOLS
            ) as events:
                answer = events.get_final_message()
        else:
            answer = ask(messages=question, tools=TOOLS, tool_choice={"type": "auto"})
        assert answer.stop_reason == "tool_use", answer
        calls = [block for block in answer.content if block.type == "tool_use"]
        assert [call.input for call in calls] == [{"expression": "2+2"}, {"expression": "3+3"}], answer
        content = [
            {"type": "tool_use", "id": call.id, "name": call.name, "input": call.input} for call in calls
        ]
        results = [
            {"type": "tool_result", "tool_use_id": call.id, "content": result}
            for call, result in zip(calls, ("4", "6"))
        ]
        back = question + [{"role": "assistant", "content": content}, {"role": "user", "content": results}]
        answer = ask(messages=back, tools=TOOLS)
        assert answer.content[0].text == "The results are 4 and 6.", answer


def count():
    counted = client().messages.count_tokens(
        model=MODEL, system="Be kind.", messages=[{"role": "user", "content": "hello " * 100}]
    )
    assert 100 <= counted.input_tokens <= 300, counted


def errors():
    error = raises(anthropic.NotFoundError, lambda: ask(model="no-such-model"))
    assert error.body["type"] == "error", error.body
    assert error.body["error"]["type"] == "not_found_error", error.body
    assert error.body["request_id"] == error.response.headers["request-id"], error.body
    error = raises(anthropic.BadRequestError, lambda: ask(extra_body={"temperature": 9}))
    assert error.body["error"]["type"] == "invalid_request_error", error.body
    raises(anthropic.BadRequestError, lambda: ask(max_tokens=0))
    raises(anthropic.BadRequestError, lambda: ask(messages=[{"role": "user", "content": [{"x": 1}]}]))


def student():
    answer = client(OFFLINE).messages.create(
        model="feynman",
        max_tokens=500,
        messages=[{"role": "user", "content": "Plants turn light into sugar because of magic."}],
    )
    assert "?" in answer.content[0].text and answer.lesson["questions"], answer


for test in (message, models, stream, tools, structured, runner, unsupported, count, errors, student):
    test()
