"""Drives a Lyceum server's sample graphs with LangGraph's official SDK.

Called by tests/langgraph.rs as `langgraph_samples.py classic URL` or `langgraph_samples.py
streaming URL`. Any failed assertion or unexpected exception ends with a traceback and status 1.
"""

import asyncio
import sys

from langgraph_sdk import get_client
from langgraph_sdk.errors import NotFoundError, UnprocessableEntityError

CITY = {"messages": [{"role": "human", "content": "SF", "id": "q"}]}
BLANK = {"messages": [], "value": "init", "items": []}
WHOLE = ["streamed", "tool", "asked", "sub"]


async def raises(kind, call):
    try:
        await call
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


async def new_thread(c):
    return (await c.threads.create())["thread_id"]


def texts(values):
    return [message["content"] for message in values["messages"]]


async def a_stop_inside_a_subgraph_can_be_seen_and_corrected(c):
    thread = await new_thread(c)
    parts = [part async for part in c.runs.stream(thread, "weather", input=CITY)]
    assert [part.data for part in parts][-1] == {"__interrupt__": []}, parts
    assert "route" not in parts[1].data and parts[2].data["route"] == "weather", parts
    task = (await c.threads.get_state(thread))["tasks"][0]
    assert task["checkpoint"]["checkpoint_ns"].startswith("weather_graph:"), task
    whole = await c.threads.get_state(thread, subgraphs=True)
    inner = whole["tasks"][0]["state"]
    assert inner["values"]["city"] == "San Francisco", inner
    assert inner["next"] == ["weather_node"], inner
    place = task["checkpoint"]
    await c.threads.update_state(thread, {"city": "LA"}, checkpoint=place)
    stream = c.runs.stream(
        thread, "weather", input=None, stream_mode=["values", "updates"], stream_subgraphs=True
    )
    parts = [part async for part in stream]
    seen = [part.event.split(":")[0] for part in parts]
    inside = ["values|weather_graph", "updates|weather_graph", "values|weather_graph"]
    assert seen == ["metadata", "values", *inside, "updates", "values"], seen
    assert texts(parts[-1].data) == ["SF", "It's sunny in LA!"], parts[-1]
    history = await c.threads.get_history(thread)
    assert [state["next"] for state in history][-1] == ["__start__"], history
    inner = await c.threads.get_history(thread, checkpoint=place)
    assert len(inner) == 5 and inner[0]["next"] == [], inner
    copy = (await c.threads.copy(thread))["thread_id"]
    assert len(await c.threads.get_history(copy)) == len(history)


async def what_is_configured_reaches_the_nodes(c, url):
    named = {"configurable": {"nodeName": "mine"}}
    stream = c.runs.stream(
        None, "dynamic", input={"messages": ["a"], "unknown": 1}, config=named, stream_mode="updates"
    )
    updates = [part.data async for part in stream if part.event == "updates"]
    assert [list(update) for update in updates] == [["mine"]], updates
    own = get_client(url=url, api_key=None, headers={"x-configurable-header": "mine"})
    said = {"messages": [{"role": "human", "content": "hi"}]}
    values = await own.runs.wait(None, "agent_simple", input=said)
    assert texts(values)[-1] == "end: mine", values
    values = await c.runs.wait(None, "simple_runtime", input={}, context={"model": "openai"})
    assert values == {"model": "openai"}, values
    assert await c.runs.wait(None, "simple_runtime", input={}) == {"model": "unknown"}
    graphs = await c.assistants.search(graph_id="nested")
    found = await c.assistants.get_subgraphs(graphs[0]["assistant_id"], recurse=True)
    assert list(found) == ["gp_two", "gp_two|p_two"], found


async def failures_have_names_and_events_form_a_tree(c):
    thread = await new_thread(c)
    stream = c.runs.stream(thread, "error", input={}, stream_mode=["debug", "events"])
    parts = [part async for part in stream]
    assert parts[-1].event == "error", parts[-1]
    assert parts[-1].data == {"error": "CustomError", "message": "Boo!"}, parts[-1]
    stream = c.runs.stream(None, "agent", input=CITY, stream_mode="events")
    told = [part.data["event"] async for part in stream if part.event == "events"]
    assert told[0] == "on_chain_start" and told[-1] == "on_chain_end", told
    assert told.count("on_chat_model_start") == told.count("on_chat_model_end") == 2, told


async def a_command_may_go_elsewhere(c):
    thread = await new_thread(c)
    await c.runs.wait(thread, "agent", input=CITY)
    command = {"goto": "tool", "update": {"keyOne": "one"}}
    values = await c.runs.wait(thread, "agent", command=command)
    assert values["keyOne"] == "one" and texts(values)[-2:] == ["tool_call__end", "end"], values


async def a_thread_can_be_made_of_what_happened(c):
    steps = [
        {"updates": [{"as_node": name, "values": values}]}
        for name, values in [("__input__", CITY), ("__start__", CITY)]
    ]
    thread = await c.threads.create(graph_id="agent", supersteps=steps)
    history = await c.threads.get_history(thread["thread_id"])
    assert [state["next"] for state in history] == [["agent"], ["__start__"]], history
    found = await c.threads.search(ids=[thread["thread_id"]], select=["thread_id"])
    assert found == [{"thread_id": thread["thread_id"]}], found


async def items(c):
    await raises(UnprocessableEntityError, c.store.put_item(["a" * 1_025], "k", {}))
    for age in (1, 5):
        await c.store.put_item(["ages"], f"k{age}", {"age": age})
    found = await c.store.search_items(["ages"], filter={"age": {"$gt": 3}})
    assert [item["key"] for item in found["items"]] == ["k5"], found


async def crons(c):
    cron = await c.crons.create("agent", schedule="0 9 * * *", timezone="Asia/Tokyo", input=CITY)
    assert cron["next_run_date"].endswith("T00:00:00Z") and cron["run_id"], cron
    name = cron["cron_id"]
    found = await c.crons.search(assistant_id="agent")
    assert [one["payload"]["timezone"] for one in found] == ["Asia/Tokyo"], found
    changed = await c.crons.update(name, schedule="0 8 * * *", enabled=False)
    assert changed["schedule"] == "0 8 * * *" and changed["enabled"] is False, changed
    assert changed["next_run_date"] is None and await c.crons.count() == 1
    await raises(UnprocessableEntityError, c.crons.create("agent", schedule="61 * * * *"))
    await c.crons.delete(name)
    await raises(NotFoundError, c.crons.delete(name))


async def a_thread_is_followed_over_its_runs(c):
    thread = await new_thread(c)
    first = await c.runs.create(thread, "agent", input={**CITY, "sleep": 1})
    second = await c.runs.create(thread, "agent", input=CITY)
    seen = []
    async for part in await c.threads.join_stream(thread):
        if part.event == "metadata":
            seen.append(part.data["run_id"])
        if len(seen) == 2 and part.event == "values" and "end" in texts(part.data)[-1:]:
            break
    assert seen == [first["run_id"], second["run_id"]], seen


async def classic(url):
    c = get_client(url=url, api_key=None)
    await a_stop_inside_a_subgraph_can_be_seen_and_corrected(c)
    await what_is_configured_reaches_the_nodes(c, url)
    await failures_have_names_and_events_form_a_tree(c)
    await a_command_may_go_elsewhere(c)
    await a_thread_can_be_made_of_what_happened(c)
    await items(c)
    await crons(c)
    await a_thread_is_followed_over_its_runs(c)


async def asked_and_answered(c, transport):
    async with c.threads.stream(assistant_id="agent", transport=transport) as thread:
        await thread.run.start(input=BLANK)
        seen = [values async for values in thread.values]
        assert thread.interrupted and seen, seen
        await thread.run.respond("yes")
        values = await thread.output
        assert values["items"] == WHOLE, values
        assert "Human said: yes" in texts(values), values


async def streaming(url):
    c = get_client(url=url, api_key=None)
    for transport in ("sse", "websocket"):
        await asked_and_answered(c, transport)
    async with c.threads.stream(assistant_id="agent") as thread:
        await thread.run.start(input=BLANK)
        messages = [message async for message in thread.messages]
        said = ["".join([piece async for piece in message.text]) for message in messages]
        assert said == ["Hello, world!"], said
    async with c.threads.stream(assistant_id="agent") as thread:
        await thread.run.start(input=BLANK)
        steps = [event["step"] async for event in thread.extensions["progress"]]
        assert steps == ["stream_message"] * 2 + ["call_tool"] * 2 + ["ask_human"], steps
    async with c.threads.stream(assistant_id="tools_agent") as thread:
        await thread.run.start(input={"messages": [{"role": "user", "content": "x"}]})
        calls = [call async for call in thread.tool_calls]
        assert [call.name for call in calls] == ["search"], calls
        assert (await calls[0].output)["status"] == "success"
    async with c.threads.stream(assistant_id="deep_agent") as thread:
        await thread.run.start(input={"messages": [{"role": "user", "content": "x"}]})
        assert [graph.graph_name async for graph in thread.subgraphs] == ["researcher"]


asyncio.run({"classic": classic, "streaming": streaming}[sys.argv[1]](sys.argv[2]))
