"""Drives a Lyceum server with LangGraph's official SDK.

Called by tests/langgraph.rs as `langgraph_api.py all URL`, `langgraph_api.py webhook URL
ADDRESS` or `langgraph_api.py tenants URL KEY OTHER_KEY`. Any failed assertion or unexpected exception ends with a traceback and
status 1.
"""

import asyncio
import sys

from langgraph_sdk import get_client
from langgraph_sdk.errors import NotFoundError, UnprocessableEntityError

INPUT = {"messages": [{"role": "human", "content": "foo", "id": "i"}]}
WHOLE = ["foo", "begin", "tool_call__begin", "end"]
MODES = ["values", "updates", "messages-tuple", "tasks", "checkpoints", "debug", "custom"]


def texts(values):
    return [message["content"] for message in values["messages"]]


async def raises(kind, call):
    try:
        await call
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


async def new_thread(c, **more):
    return (await c.threads.create(**more))["thread_id"]


async def assistants(c):
    graphs = {found["graph_id"] for found in await c.assistants.search()}
    assert graphs == {"agent", "feynman"}, graphs
    own = await c.assistants.create("agent", metadata={"k": 1})
    name = own["assistant_id"]
    assert own["version"] == 1
    changed = await c.assistants.update(name, config={"configurable": {"x": 1}})
    assert changed["version"] == 2
    assert [v["version"] for v in await c.assistants.get_versions(name)] == [2, 1]
    assert (await c.assistants.set_latest(name, 1))["version"] == 1
    graph = await c.assistants.get_graph(name)
    edges = {(edge["source"], edge["target"]) for edge in graph["edges"]}
    assert {("agent", "tool"), ("tool", "agent")} <= edges, edges
    assert (await c.assistants.get_schemas(name))["graph_id"] == "agent"
    await c.assistants.delete(name)
    await raises(NotFoundError, c.assistants.get(name))


async def threads(c):
    thread = await new_thread(c, metadata={"m": 1})
    values = await c.runs.wait(thread, "agent", input=INPUT)
    assert texts(values) == WHOLE, values
    history = await c.threads.get_history(thread)
    nexts = [state["next"] for state in history]
    assert nexts == [[], ["agent"], ["tool"], ["agent"], ["__start__"]], nexts
    steps = [state["metadata"]["step"] for state in history]
    assert steps == [3, 2, 1, 0, -1] and history[-1]["values"]["messages"] == [], history
    state = await c.threads.get_state(thread)
    assert state["next"] == [] and texts(state["values"]) == WHOLE, state
    copy = (await c.threads.copy(thread))["thread_id"]
    assert (await c.threads.get_state(copy))["values"] == state["values"]
    found = await c.threads.search(metadata={"m": 1})
    assert thread in [entry["thread_id"] for entry in found], found
    error = await raises(
        Exception,
        c.runs.wait(copy, "agent", input=INPUT, config={"recursion_limit": 1}),
    )
    assert "recursion" in str(error).lower(), error
    await c.threads.delete(copy)
    await raises(NotFoundError, c.threads.get(copy))


async def streams(c):
    thread = await new_thread(c)
    stream = c.runs.stream(thread, "agent", input=INPUT, stream_mode=MODES)
    parts = [part async for part in stream]
    seen = {part.event for part in parts}
    assert {"metadata", "values", "updates", "messages", "tasks", "debug"} <= seen, seen
    assert parts[0].event == "metadata", parts[0]
    assert texts([p.data for p in parts if p.event == "values"][-1]) == WHOLE
    pieces = [part.data[0]["content"] for part in parts if part.event == "messages"]
    assert "".join(pieces).startswith("begin"), pieces
    updates = [list(p.data) for p in parts if p.event == "updates"]
    assert updates == [["agent"], ["tool"], ["agent"]], updates

    run = await c.runs.create(
        thread, "agent", input=INPUT, stream_mode="values", stream_resumable=True
    )
    joined = c.runs.join_stream(thread, run["run_id"], last_event_id="-1")
    full = [(part.event, part.id) async for part in joined]
    assert full[0][0] == "metadata" and len({at for _, at in full}) >= 4, full
    joined = c.runs.join_stream(thread, run["run_id"], last_event_id=full[1][1])
    rest = [(part.event, part.id) async for part in joined]
    assert rest == full[2:], (full, rest)


async def stops(c):
    thread = await new_thread(c)
    stream = c.runs.stream(thread, "agent", input=INPUT, interrupt_before=["tool"])
    parts = [part async for part in stream]
    assert "__interrupt__" in parts[-1].data, parts[-1]
    assert (await c.threads.get(thread))["status"] == "interrupted"
    state = await c.threads.get_state(thread)
    assert state["next"] == ["tool"]
    last = {**state["values"]["messages"][-1], "content": "modified"}
    await c.threads.update_state(thread, {"messages": [last]})
    values = await c.runs.wait(thread, "agent", input=None)
    assert texts(values) == ["foo", "modified", "tool_call__modified", "end"], values

    thread = await new_thread(c)
    values = await c.runs.wait(thread, "agent", input={**INPUT, "interrupt": True})
    assert values["__interrupt__"][0]["value"] == "i want to interrupt", values
    assert (await c.threads.get(thread))["interrupts"]
    values = await c.runs.wait(thread, "agent", command={"resume": "go"})
    assert texts(values) == WHOLE, values


async def runs(c):
    thread = await new_thread(c)
    await c.runs.create(thread, "agent", input={**INPUT, "sleep": 30})
    rejected = c.runs.create(thread, "agent", input=INPUT, multitask_strategy="reject")
    await raises(UnprocessableEntityError, rejected)
    second = await c.runs.create(
        thread, "agent", input=INPUT, multitask_strategy="rollback"
    )
    await c.runs.join(thread, second["run_id"])
    assert [run["run_id"] for run in await c.runs.list(thread)] == [second["run_id"]]
    assert texts((await c.threads.get_state(thread))["values"]) == WHOLE
    third = await c.runs.create(thread, "agent", input={**INPUT, "sleep": 30})
    await c.runs.cancel(thread, third["run_id"], wait=True)
    assert (await c.runs.get(thread, third["run_id"]))["status"] == "interrupted"
    assert texts(await c.runs.wait(None, "agent", input=INPUT)) == WHOLE


async def items(c):
    await c.store.put_item(["a", "b"], "k", {"x": 1})
    assert (await c.store.get_item(["a", "b"], "k"))["value"] == {"x": 1}
    found = await c.store.search_items(["a"])
    assert [item["key"] for item in found["items"]] == ["k"], found
    assert (await c.store.list_namespaces())["namespaces"] == [["a", "b"]]
    await c.store.delete_item(["a", "b"], "k")
    assert (await c.store.search_items(["a"]))["items"] == []


async def lists(c):
    for at in range(3):
        thread = await new_thread(c, metadata={"list": "lists", "at": at})
    assert await c.threads.count(metadata={"list": "lists"}) == 3
    found = await c.threads.search(
        metadata={"list": "lists"}, sort_by="created_at", sort_order="asc", limit=2,
        select=["thread_id"], extract={"at": "metadata.at"},
    )
    assert [one["extracted"]["at"] for one in found] == [0, 1], found
    assert await c.assistants.count(graph_id="agent") == 1
    page = await c.assistants.search(limit=1, response_format="object")
    assert page["next"] == "1", page
    await c.threads.update(thread, metadata={"more": 1}, ttl=60)
    shown = await c.threads.get(thread, include=["ttl"])
    assert shown["ttl"]["ttl_minutes"] == 60 and shown["metadata"]["at"] == 2, shown
    state = await c.threads.get_state(thread, select=["next"])
    assert list(state) == ["next"], state


async def refusals(c):
    thread = await new_thread(c)
    both = c.runs.create(thread, "agent", input=INPUT, command={"resume": 1})
    await raises(UnprocessableEntityError, both)
    near = c.runs.create(thread, "agent", input=INPUT, webhook="http://127.0.0.1/hook")
    await raises(UnprocessableEntityError, near)
    await raises(UnprocessableEntityError, c.threads.search(limit=0))


async def student(c):
    said = {"role": "user", "content": "Photosynthesis makes sugar from light."}
    thread = await new_thread(c)
    values = await c.runs.wait(thread, "feynman", input={"messages": [said]})
    first, answer = values["messages"]
    assert first["content"] == said["content"] and answer["type"] == "ai", values
    assert answer["content"] and values["questions"], values


async def everything(url):
    c = get_client(url=url, api_key=None)
    for part in [assistants, threads, streams, stops, runs, items, lists, refusals, student]:
        await part(c)


async def tenants(url, ours, theirs):
    c, other = (get_client(url=url, api_key=key) for key in (ours, theirs))
    thread = await new_thread(c)
    await c.runs.wait(thread, "agent", input=INPUT)
    await c.store.put_item(["a"], "k", {"x": 1})
    await raises(NotFoundError, other.threads.get(thread))
    await raises(NotFoundError, other.threads.get_state(thread))
    await raises(NotFoundError, other.runs.create(thread, "agent", input=INPUT))
    await raises(NotFoundError, other.threads.delete(thread))
    assert await other.threads.search() == []
    assert (await other.store.search_items(["a"]))["items"] == []
    assert texts((await c.threads.get_state(thread))["values"]) == WHOLE


async def webhook(url, address):
    c = get_client(url=url, api_key=None)
    assert texts(await c.runs.wait(None, "agent", input=INPUT, webhook=address)) == WHOLE


if sys.argv[1] == "all":
    asyncio.run(everything(sys.argv[2]))
elif sys.argv[1] == "webhook":
    asyncio.run(webhook(*sys.argv[2:4]))
else:
    asyncio.run(tenants(*sys.argv[2:5]))
