"""Write a diary over SSE, for clients that speak nothing newer. Start `mempalace-mcp serve` first."""

from __future__ import annotations

import asyncio
import sys

from mcp import ClientSession
from mcp.client.sse import sse_client


async def main(address: str) -> None:
    async with sse_client(address) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        entry = "Moved the nightly backup to 02:30; it no longer meets the vacuum."
        await session.call_tool("diary_write", {"agent_name": "keeper", "entry": entry, "topic": "backup"})
        answer = await session.call_tool("diary_read", {"agent_name": "keeper", "last_n": 3})
        for each in (answer.structured_content or {})["entries"]:
            print(each["written_at"], each["content"])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8765/sse"))
