"""Ask the palace over stdio through a command that forwards to it, such as mcp-proxy: proxied.py COMMAND [ARG...]."""

from __future__ import annotations

import asyncio
import sys

from mcp import Client, StdioServerParameters


async def main(command: str, arguments: list[str]) -> None:
    async with Client(StdioServerParameters(command=command, args=arguments)) as client:
        await client.call_tool("add_drawer", {"wing": "proxy", "room": "notes", "content": "Filed through a proxy."})
        answer = await client.call_tool("search", {"query": "what came through the proxy?", "limit": 1})
        print([hit["passage"] for hit in (answer.structured_content or {})["results"]])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
