"""The cases of `bench graph` in LangGraph: python - DATA_FOLDER SECONDS [ONLY].

Prints one JSON object a case. Every run is a new thread, without a saver and then with one in
each durability, and every commit is synced, as on the other side.
"""

import asyncio
import json
import operator
import os
import sys
import time
from typing import Annotated, TypedDict

import aiosqlite
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

DATA, SECONDS = sys.argv[1], float(sys.argv[2])
ONLY = sys.argv[3] if len(sys.argv) > 3 else ""
SYNCHRONOUS_FULL = 2
DURABILITIES = ["sync", "async", "exit"]


class Count(TypedDict):
    value: int


class Sum(TypedDict):
    total: Annotated[int, operator.add]
    joined: int


class Items(TypedDict):
    items: Annotated[list, operator.add]
    total: int


async def count(state):
    return {"value": state["value"] + 1}


def chain(nodes):
    builder = StateGraph(Count)
    names = [f"n{n:04}" for n in range(nodes)]
    for name in names:
        builder.add_node(name, count)
    for source, target in zip([START, *names], [*names, END]):
        builder.add_edge(source, target)
    return builder, {"value": 0}, lambda state: state["value"] == nodes


def fan_out():
    async def add(state):
        return {"total": 1}

    async def join(state):
        return {"joined": state["total"]}

    builder = StateGraph(Sum)
    names = ["a", "b", "c", "d", "e"]
    for name in names:
        builder.add_node(name, add)
        builder.add_edge(START, name)
    builder.add_node("join", join)
    builder.add_edge(names, "join")
    builder.add_edge("join", END)
    return builder, {"total": 0, "joined": 0}, lambda state: state["joined"] == 5


def sends():
    async def double(payload):
        return {"items": [payload["n"] * 2]}

    async def gather(state):
        return {"total": sum(state["items"])}

    builder = StateGraph(Items)
    builder.add_node("double", double)
    builder.add_node("gather", gather)
    split = lambda state: [Send("double", {"n": n}) for n in range(100)]
    builder.add_conditional_edges(START, split, ["double"])
    builder.add_edge("double", "gather")
    builder.add_edge("gather", END)
    return builder, {"items": [], "total": 0}, lambda state: state["total"] == 9900


def turns():
    builder = StateGraph(Count)
    builder.add_node("turn", count)
    builder.add_edge(START, "turn")
    again = lambda state: "turn" if state["value"] < 1000 else END
    builder.add_conditional_edges("turn", again, ["turn", END])
    return builder, {"value": 0}, lambda state: state["value"] == 1000


CASES = {
    "chain-3": lambda: chain(3),
    "fan-out-5": fan_out,
    "chain-10": lambda: chain(10),
    "send-100": sends,
    "loop-1000": turns,
}


class Commits:
    """Counts the commits of a connection."""

    def __init__(self, connection):
        self.count = 0
        commit = connection.commit

        async def counted():
            self.count += 1
            await commit()

        connection.commit = counted


def tell(case, seconds, cpu, runs, commits):
    each = lambda total: total * 1e6 / runs
    figure = {"case": case, "mean_us": each(seconds), "cpu_us": each(cpu), "repeats": runs}
    figure["commits"] = None if commits is None else commits.count / runs
    print(json.dumps(figure), flush=True)


def config(thread):
    return {"recursion_limit": 2000, "configurable": {"thread_id": thread}}


async def repeat(case, graph, durable, commits, start, is_right):

    async def once(n):
        state = await graph.ainvoke(start, config(f"{case}-{n}"), **durable)
        assert is_right(state), f"{case} gave a wrong result"

    await once(-1)
    if commits is not None:
        commits.count = 0
    runs, began, cpu = 0, time.perf_counter(), time.process_time()
    while runs < 2 or time.perf_counter() - began < SECONDS:
        await once(runs)
        runs += 1
    tell(case, time.perf_counter() - began, time.process_time() - cpu, runs, commits)


async def crowd(case, graph, durable, commits, start, is_right):
    if commits is not None:
        commits.count = 0
    runs, began, cpu = 0, time.perf_counter(), time.process_time()
    while runs == 0 or time.perf_counter() - began < SECONDS:
        states = await asyncio.gather(
            *(
                graph.ainvoke(start, config(f"crowd-{runs + n}"), **durable)
                for n in range(64)
            )
        )
        assert all(is_right(state) for state in states), f"{case} gave a wrong result"
        runs += 64
    tell(case, time.perf_counter() - began, time.process_time() - cpu, runs, commits)


async def measure(name, make, measured):
    if ONLY not in name:
        return
    print(f"bench: LangGraph: {name}", file=sys.stderr)
    builder, start, is_right = make()
    await measured(f"{name}/none", builder.compile(), {}, None, start, is_right)
    for durability in DURABILITIES:
        path = os.path.join(DATA, f"{name}-{durability}.db")
        async with aiosqlite.connect(path) as connection:
            saver = AsyncSqliteSaver(connection)
            await saver.setup()
            await connection.execute(f"PRAGMA synchronous={SYNCHRONOUS_FULL}")
            graph = builder.compile(checkpointer=saver)
            durable = {"durability": durability}
            commits = Commits(connection)
            case = f"{name}/sqlite-{durability}"
            await measured(case, graph, durable, commits, start, is_right)


async def main():
    for name, make in CASES.items():
        await measure(name, make, repeat)
    await measure("crowd-64", lambda: chain(10), crowd)


asyncio.run(main())
