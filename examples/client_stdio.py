"""File a note and find it again over stdio: the client starts the server itself."""

from __future__ import annotations

import asyncio
import sys
import tempfile

from mcp import Client, StdioServerParameters


async def main(palace: str) -> None:
    server = StdioServerParameters(command=sys.executable, args=["-m", "mempalace_mcp", "--palace", palace])
    async with Client(server) as client:
        filed = await client.call_tool(
            "add_drawer",
            {"wing": "home", "room": "garden", "content": "The tomatoes stand in the bed behind the shed."},
        )
        print("filed:", filed.structured_content)
        found = await client.call_tool("search", {"query": "where do the tomatoes grow?", "limit": 1})
        print("found:", found.structured_content)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(main(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as directory:
            asyncio.run(main(directory))
