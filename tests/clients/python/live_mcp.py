"""The official Python client of the Model Context Protocol reads and edits a room, with and without a handshake."""

import asyncio
import json
import os

from mcp import Client

house = os.environ["HOUSE"]


async def use(mode, version):
    async with Client(f"{house}/mcp?codeSpace=pythons", mode=mode) as client:
        assert client.protocol_version == version, client.protocol_version
        tools = (await client.list_tools()).tools
        assert {tool.name for tool in tools} >= {"read_code", "edit_code"}, tools

        async def call(name, **arguments):
            result = await client.call_tool(name, arguments)
            return result.is_error, result.content[0].text

        failed, text = await call("update_code", code="a\nb\nc")
        assert not failed, text
        failed, text = await call("edit_code", edits=[{"startLine": 2, "endLine": 2, "newContent": "B"}])
        assert json.loads(text)["linesChanged"] == 1
        failed, text = await call("read_code")
        assert json.loads(text)["code"] == "a\nB\nc"
        failed, text = await call("search_and_replace", search="(", replace="", isRegex=True)
        assert failed and "pattern" in text


async def main():
    await use("auto", "2026-07-28")
    await use("legacy", "2025-11-25")
    print("done")


asyncio.run(main())
