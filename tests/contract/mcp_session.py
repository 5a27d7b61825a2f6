"""A session of an agent by the official client: every tool once, and what is refused.

The address of the gateway is the argument; the management key stands in KEYWAY_MANAGEMENT_TOKEN.
"""

import asyncio
import os
import sys

import mcp
from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client

TOOLS = {
    "list_providers",
    "get_provider",
    "add_provider",
    "update_provider",
    "delete_provider",
    "get_provider_health",
    "explain",
    "config_status",
}


async def call(session, tool, /, is_error=False, **arguments):
    result = (await session.call_tool(tool, arguments)).model_dump(by_alias=True)
    assert bool(result["isError"]) == is_error, result
    return result["structuredContent"]


async def session(url, token):
    headers = {"authorization": f"Bearer {token}"}
    async with create_mcp_http_client(headers=headers) as client:
        async with streamable_http_client(f"{url}/mcp", http_client=client) as streams:
            async with mcp.ClientSession(streams[0], streams[1]) as session:
                hello = (await session.initialize()).model_dump(by_alias=True)
                assert hello["serverInfo"]["name"] == "keyway", hello
                tools = {tool.name: tool.model_dump(by_alias=True) for tool in (await session.list_tools()).tools}
                assert set(tools) == TOOLS, tools
                assert [name for name, tool in tools.items() if tool["annotations"]["destructiveHint"]] == [
                    "delete_provider"
                ]
                made = await call(session, "add_provider", vendor="openai", name="agent", api_key="env.A_KEY")
                listed = await call(session, "list_providers")
                assert made in listed["data"], listed
                assert await call(session, "get_provider", id=made["id"]) == made
                assert (await call(session, "get_provider_health", id=made["id"]))["state"] == "unknown"
                renamed = await call(session, "update_provider", id=made["id"], name="renamed")
                assert renamed["name"] == "renamed", renamed
                explained = await call(session, "explain", model="openai/m")
                assert any(key["key"] == "renamed" for key in explained["keys"]), explained
                assert (await call(session, "config_status"))["running"]["keys"] == 1
                gone = await call(session, "delete_provider", id=made["id"])
                assert gone == {"id": made["id"], "deleted": True}, gone
                missing = await call(session, "get_provider", is_error=True, id=made["id"])
                assert missing["error"]["code"] == "provider_not_found", missing


async def main():
    url, token = sys.argv[1], os.environ["KEYWAY_MANAGEMENT_TOKEN"]
    await session(url, token)
    try:
        await session(url, token[:-1])
    except BaseException:
        print(f"{len(TOOLS)} tools called")
        return
    raise SystemExit("a wrong key was let in")


asyncio.run(main())
