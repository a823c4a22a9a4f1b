"""Drives a Lyceum server with OpenAI's official SDK.

Called as `openai_sdk.py URL OFFLINE_URL` by tests/compat.rs. Any failed assertion or
unexpected exception ends with a traceback and status 1.
"""

import sys

import openai
from pydantic import BaseModel

URL, OFFLINE = sys.argv[1], sys.argv[2]
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


ALLOWED = {
    "type": "allowed_tools",
    "allowed_tools": {
        "mode": "auto",
        "tools": [{"type": "function", "function": {"name": "calculate"}}],
    },
}


def client(url=URL):
    return openai.OpenAI(api_key="any", base_url=url + "/v1", max_retries=0, timeout=20)


MODELS = [model.id for model in client().models.list()]
MODEL = MODELS[0]


def ask(text="hello", **more):
    messages = more.pop("messages", [{"role": "user", "content": text}])
    model = more.pop("model", MODEL)
    return client().chat.completions.create(model=model, messages=messages, **more)


def raises(kind, call):
    try:
        call()
    except kind as error:
        assert type(error) is kind, f"{type(error)} is not {kind}: {error}"
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def models():
    assert MODELS[1:] == ["panel", "feynman", "sim-embedding", "hashing-v1-512"], MODELS
    assert client().models.retrieve(MODEL).id == MODEL
    error = raises(openai.NotFoundError, lambda: client().models.retrieve("nothing"))
    assert error.code == "model_not_found", error


def chat():
    answer = ask(user="u-1", temperature=0.5, top_p=0.9, stop=["END"], seed=7, max_completion_tokens=99)
    choice = answer.choices[0]
    assert choice.message.content == 'Hello "you", 你好.', answer
    assert choice.message.role == "assistant" and choice.finish_reason == "stop", answer
    assert answer.object == "chat.completion" and answer.model == MODEL, answer
    assert answer.usage.prompt_tokens > 0 and answer.usage.completion_tokens > 0, answer
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    raw = client().chat.completions.with_raw_response.create(
        model=MODEL, messages=[{"role": "user", "content": "hello"}]
    )
    assert raw.headers["x-request-id"] in raw.parse().id


def stream():
    chunks = list(ask(stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == 'Hello "you", 你好.', chunks
    assert chunks[0].choices[0].delta.role == "assistant", chunks[0]
    assert chunks[-2].choices[0].finish_reason == "stop", chunks[-2]
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 0, chunks[-1]
    assert len({c.id for c in chunks}) == 1
    plain = list(ask(stream=True))
    assert all(c.usage is None and c.choices for c in plain), plain


def tools():
    question = [{"role": "user", "content": "calculate both"}]
    for streamed in (False, True):
        if streamed:
            with client().chat.completions.stream(model=MODEL, messages=question, tools=TOOLS) as events:
                for _ in events:
                    pass
                message = events.get_final_completion().choices[0].message
        else:
            answer = ask(messages=question, tools=TOOLS, tool_choice="auto", parallel_tool_calls=True)
            assert answer.choices[0].finish_reason == "tool_calls", answer
            message = answer.choices[0].message
        calls = message.tool_calls
        assert [call.function.name for call in calls] == ["calculate"] * 2, message
        assert "2+2" in calls[0].function.arguments and "3+3" in calls[1].function.arguments
        one = ask(messages=question, tools=TOOLS, tool_choice=ALLOWED)
        assert one.choices[0].finish_reason == "tool_calls", one
        dumped = message.model_dump(exclude_none=True)
        for call in dumped["tool_calls"]:
            call.pop("index", None)
            call["function"].pop("parsed_arguments", None)
        dumped.pop("parsed", None)
        results = [
            {"role": "tool", "tool_call_id": call.id, "content": result}
            for call, result in zip(calls, ("4", "6"))
        ]
        answer = ask(messages=question + [dumped] + results, tools=TOOLS)
        assert answer.choices[0].message.content == "The results are 4 and 6.", answer


class City(BaseModel):
    city: str
    people: int


def structured():
    messages = [{"role": "user", "content": "Paris as a record"}]
    parsed = client().chat.completions.parse(model=MODEL, messages=messages, response_format=City)
    assert parsed.choices[0].message.parsed == City(city="Paris", people=2100000), parsed
    answer = ask(messages=messages, response_format={"type": "json_object"})
    assert "Paris" in answer.choices[0].message.content


def images():
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}},
    ]
    assert ask(messages=[{"role": "user", "content": parts}]).choices[0].message.content


def errors():
    error = raises(openai.NotFoundError, lambda: ask(model="no-such-model"))
    assert error.code == "model_not_found" and error.param == "model", error
    error = raises(openai.BadRequestError, lambda: ask(temperature=9))
    assert error.param == "temperature" and error.type == "invalid_request_error", error
    error = raises(openai.BadRequestError, lambda: ask(messages=[]))
    assert error.param == "messages", error
    error = raises(openai.BadRequestError, lambda: ask(messages=[{"role": "nobody", "content": "x"}]))
    assert "messages[0].role" in error.param, error
    error = raises(openai.BadRequestError, lambda: ask(n=99))
    assert error.param == "n", error
    assert raises(openai.NotFoundError, lambda: client().files.list()).code == "not_found"


def student(url, model):
    api = client(url)
    question = [{"role": "user", "content": "Plants turn light into sugar because of magic."}]
    answer = api.chat.completions.create(
        model="feynman", messages=question, user="pupil-1", metadata={"topic": "photosynthesis"}
    )
    assert "?" in answer.choices[0].message.content, answer
    assert answer.lesson["session_id"] == "pupil-1" and answer.lesson["questions"], answer
    chunks = list(api.chat.completions.create(model="feynman", messages=question, stream=True))
    text = "".join(c.choices[0].delta.content or "" for c in chunks)
    assert "?" in text, chunks
    first = api.responses.create(model="feynman", input=question[0]["content"])
    assert "?" in first.output_text and first.lesson["questions"], first
    more = api.responses.create(model="feynman", input="Light.", previous_response_id=first.id)
    assert more.lesson["session_id"] == first.lesson["session_id"], more
    for param, value in (("n", 2), ("logprobs", True), ("response_format", {"type": "json_object"})):
        request = {"model": "feynman", "messages": question, param: value}
        error = raises(openai.BadRequestError, lambda: api.chat.completions.create(**request))
        assert error.param == param, error


def panel(url):
    api = client(url)
    question = [{"role": "user", "content": "The moon pulls on the sea, so there are two tides a day."}]
    answer = api.chat.completions.create(model="panel", messages=question, metadata={"topic": "tides"})
    message = answer.choices[0].message
    assert message.content and answer.discussion["rounds"] >= 1, answer
    for agent in ("planner", "critic", "host", "reporter"):
        assert f"{agent}, round 1: " in message.reasoning_content, message
    chunks = list(api.chat.completions.create(model="panel", messages=question, stream=True))
    text = "".join(c.choices[0].delta.content or "" for c in chunks)
    assert text and chunks[-1].choices[0].finish_reason == "stop", chunks
    answer = api.responses.create(model="panel", input=question[0]["content"])
    assert answer.output_text and answer.discussion["session_id"], answer


def embeddings():
    api = client().embeddings
    texts = ["plants turn light into sugar", "sugar out of light in plants", "banks lend money"]
    answer = api.create(model="sim-embedding", input=texts)
    assert [item.index for item in answer.data] == [0, 1, 2] and answer.model == "sim-embedding", answer
    assert answer.usage.prompt_tokens > 0 and answer.usage.total_tokens > 0, answer.usage
    a, b, c = (item.embedding for item in answer.data)
    near = lambda x, y: sum(p * q for p, q in zip(x, y))
    assert len(a) == 64 and near(a, b) > near(a, c), (near(a, b), near(a, c))
    plain = api.create(model="sim-embedding", input=texts[0], encoding_format="float").data[0].embedding
    assert max(abs(p - q) for p, q in zip(a, plain)) < 1e-6
    short = api.create(model="sim-embedding", input=texts[0], dimensions=16).data[0].embedding
    assert len(short) == 16 and abs(near(short, short) - 1) < 1e-5
    own = api.create(model="hashing-v1-512", input=texts)
    assert len(own.data[0].embedding) == 512 and own.usage.prompt_tokens == 0
    for param, more in (
        ("input", {"input": [[1, 2, 3]]}),
        ("input", {"input": []}),
        ("input[1]", {"input": ["a", ""]}),
        ("dimensions", {"dimensions": 65}),
        ("model", {"model": MODEL}),
    ):
        request = {"model": "sim-embedding", "input": texts} | more
        error = raises(openai.BadRequestError, lambda: api.create(**request))
        assert error.param == param, (more, error)
    raises(openai.NotFoundError, lambda: api.create(model="nothing", input="x"))


def responses():
    api = client().responses
    answer = api.create(model=MODEL, input="hello", instructions="Be kind.", metadata={"a": "b"})
    assert answer.output_text == 'Hello "you", 你好.' and answer.status == "completed", answer
    assert answer.usage.input_tokens > 0 and answer.usage.input_tokens_details.cached_tokens == 0, answer
    assert answer.metadata == {"a": "b"} and answer.instructions == "Be kind." and answer.store, answer
    parts = [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"},
    ]
    assert api.create(model=MODEL, input=[{"role": "user", "content": parts}], store=False).output_text
    parsed = api.parse(model=MODEL, input="Paris as a record", text_format=City)
    assert parsed.output_parsed == City(city="Paris", people=2100000), parsed


def response_events():
    events = list(client().responses.create(model=MODEL, input="hello", stream=True))
    kinds = [event.type for event in events]
    deltas = kinds.count("response.output_text.delta")
    assert deltas > 1, kinds
    assert kinds == (
        ["response.created", "response.in_progress", "response.output_item.added"]
        + ["response.content_part.added"]
        + ["response.output_text.delta"] * deltas
        + ["response.output_text.done", "response.content_part.done", "response.output_item.done"]
        + ["response.completed"]
    ), kinds
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.output_text == 'Hello "you", 你好.', events[-1]
    assert events[-1].response.usage.output_tokens > 0, events[-1]
    with client().responses.stream(model=MODEL, input="Paris as a record", text_format=City) as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_parsed.people == 2100000


def response_tools():
    api = client().responses
    tool = {"type": "function", "strict": True} | TOOLS[0]["function"]
    question = [{"role": "user", "content": "calculate both"}]
    for streamed in (False, True):
        if streamed:
            with api.stream(model=MODEL, input=question, tools=[tool]) as events:
                kinds = [event.type for event in events]
                answer = events.get_final_response()
            assert kinds.count("response.function_call_arguments.done") == 2, kinds
        else:
            answer = api.create(model=MODEL, input=question, tools=[tool], tool_choice="auto")
        calls = [item for item in answer.output if item.type == "function_call"]
        assert [call.name for call in calls] == ["calculate"] * 2, answer
        assert "2+2" in calls[0].arguments and "3+3" in calls[1].arguments
        results = [
            {"type": "function_call_output", "call_id": call.call_id, "output": result}
            for call, result in zip(calls, ("4", "6"))
        ]
        said = [item.model_dump(exclude={"parsed_arguments"}, exclude_none=True) for item in answer.output]
        whole = api.create(model=MODEL, input=question + said + results, tools=[tool])
        assert whole.output_text == "The results are 4 and 6.", whole
        chained = api.create(
            model=MODEL, input=results, tools=[tool], previous_response_id=answer.id
        )
        assert chained.output_text == "The results are 4 and 6.", chained


def response_store():
    api = client().responses
    first = api.create(model=MODEL, input="hello")
    again = api.retrieve(first.id)
    assert again.output_text == first.output_text and again.id == first.id, again
    items = api.input_items.list(first.id).data
    assert items[0].content[0].text == "hello", items
    said = [{"role": "user", "content": text} for text in ("a", "b", "c")]
    longer = api.create(model=MODEL, input=said)
    for order, wanted in (("asc", "abc"), ("desc", "cba")):
        pages = api.input_items.list(longer.id, limit=2, order=order)
        assert pages.has_more and "".join(item.content[0].text for item in pages) == wanted, pages
    error = raises(openai.BadRequestError, lambda: api.retrieve(first.id, stream=True))
    assert error.param == "stream", error
    api.delete(first.id)
    raises(openai.NotFoundError, lambda: api.retrieve(first.id))
    error = raises(
        openai.BadRequestError,
        lambda: api.create(model=MODEL, input="more", previous_response_id=first.id),
    )
    assert error.param == "previous_response_id", error
    unkept = api.create(model=MODEL, input="hello", store=False)
    assert not unkept.store
    raises(openai.NotFoundError, lambda: api.retrieve(unkept.id))
    for param, more in (
        ("background", {"background": True}),
        ("tools[0].type", {"tools": [{"type": "web_search"}]}),
        ("input[0].type", {"input": [{"type": "item_reference", "id": "x"}]}),
        ("temperature", {"temperature": 3}),
        ("input", {"input": []}),
    ):
        request = {"model": MODEL, "input": "x"} | more
        error = raises(openai.BadRequestError, lambda: api.create(**request))
        assert error.param == param, (more, error)
    api.create(model=MODEL, input="x", truncation="auto", service_tier="auto", include=[], background=False)


RESPONSES = (responses, response_events, response_tools, response_store)
for test in (embeddings, models, chat, stream, tools, structured, images, errors, *RESPONSES):
    test()
student(OFFLINE, "feynman")
panel(OFFLINE)
