"""Keep a fact true over Streamable HTTP. Start `mempalace-mcp serve` first; the address may be given."""

from __future__ import annotations

import asyncio
import sys

from mcp import Client


async def main(address: str) -> None:
    async with Client(address) as client:
        fact = {"subject": "the API", "predicate": "runs on", "object": "port 8080", "valid_from": "2026-01-01"}
        await client.call_tool("kg_add", fact)
        change = {"subject": "the API", "predicate": "runs on", "at": "2026-05-01"}
        await client.call_tool("kg_supersede", change | {"old_object": "port 8080", "new_object": "port 9090"})
        for day in ("2026-02-01", "2026-06-01"):
            answer = await client.call_tool("kg_query", {"entity": "the API", "as_of": day})
            print(day, [fact["object"] for fact in (answer.structured_content or {})["facts"]])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8765/mcp"))
