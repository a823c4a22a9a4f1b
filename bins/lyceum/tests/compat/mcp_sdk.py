"""Lyceum as a server, by the protocol's official SDK: standard input and output, and HTTP.

usage: mcp_sdk.py PROGRAM DATA_DIR URL
"""

import asyncio
import sys

from mcp import Client, MCPError, StdioServerParameters

LESSON = "Water freezes because it gets cold. Ice always floats on water."


def words(result):
    return result.content[0].text


async def lesson(client):
    tools = {tool.name for tool in (await client.list_tools()).tools}
    own = {"teach", "knowledge", "exam", "teach_back", "review", "notes", "discuss"}
    assert own | {"calculate", "date_time"} <= tools, tools

    taught = await client.call_tool("teach", {"topic": "Ice", "explanation": LESSON})
    assert not taught.is_error, taught
    data = taught.structured_content
    assert 1 <= len(data["questions"]) <= 3, data
    assert any("always" in gap["quote"] for gap in data["gaps"]), data
    session = data["session"]

    again = "Ice floats only if the water is not too warm, for example in a lake."
    more = {"topic": "Ice", "explanation": again, "session": session}
    assert (await client.call_tool("teach", more)).structured_content["session"] == session
    known = await client.call_tool("knowledge", {"session": session})
    assert known.structured_content["turns"] == 2, known

    asked = {"session": session, "question": "Why does water freeze?"}
    exam = await client.call_tool("exam", asked)
    assert exam.structured_content["verdict"] in ("answered", "partly"), exam
    assert "cold" in words(exam), exam
    told = await client.call_tool("teach_back", {"session": session, "tone": "examiner"})
    assert "Statements on record" in words(told), told
    assert (await client.call_tool("review", {"session": session})).structured_content["items"]

    templates = (await client.list_resource_templates()).resource_templates
    address = templates[0].uri_template.replace("{session}", session)
    notes = (await client.read_resource(address)).contents[0]
    assert notes.mime_type == "text/markdown" and "Ice" in notes.text, notes
    assert words(await client.call_tool("notes", {"session": session})) == notes.text

    report = await client.call_tool("discuss", {"topic": "Ice", "text": LESSON, "rounds": 1})
    assert report.structured_content["turns"][0]["agent"] == "planner", report
    assert "42" in words(await client.call_tool("calculate", {"expression": "6*7"}))

    nobody = await client.call_tool("notes", {"session": "never-begun"})
    assert nobody.is_error and "no such lesson" in words(nobody), nobody
    try:
        await client.read_resource("lyceum://sessions/never-begun/notes")
    except MCPError:
        pass
    else:
        raise AssertionError("a lesson that never was has notes")


async def main():
    program, data_dir, url = sys.argv[1:]
    arguments = ["mcp", "--provider", "offline", "--data-dir", data_dir]
    stdio = StdioServerParameters(command=program, args=arguments)
    for server in (stdio, f"{url}/mcp"):
        async with Client(server) as client:
            assert client.server_info.name == "lyceum", client.server_info
            await lesson(client)


asyncio.run(main())
