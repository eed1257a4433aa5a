"""`demo`: files sample texts, then searches them through a real MCP session over stdio."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import click
from mcp import Client, StdioServerParameters

from mempalace_mcp.cli import output
from mempalace_mcp.cli.importing import import_quietly
from mempalace_mcp.core.config import load_settings
from mempalace_mcp.core.errors import PalaceError

SEARCHES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("by meaning", {"query": "why do people get signed out all the time?", "limit": 1}),
    ("by exact identifier", {"query": "rel-2026-05-17-b", "limit": 1}),
    ("only in the wing notes", {"query": "what do we cook when guests come?", "wing": "notes", "limit": 1}),
)
FACT = {"subject": "Nadia", "predicate": "works in", "object": "team Orion", "valid_from": "2025-09-01"}
CHANGE = {
    "subject": "Nadia",
    "predicate": "works in",
    "old_object": "team Orion",
    "new_object": "team Vega",
    "at": "2026-06-01",
}
DATES = ("2026-05-20", "2026-06-20")


def run_demo(palace: str | None, as_json: bool) -> None:
    """Import the sample texts, start a server on them, and print what a client gets.

    Raises:
        PalaceError: the palace cannot be used.
    """
    with _directory(palace) as directory:
        texts = _texts()
        sources = [(texts / "transcripts", None), (texts / "notes", "notes")]
        filed = import_quietly(load_settings({}, directory), sources)
        steps: list[dict[str, Any]] = [{"filed": filed}]
        if not as_json:
            click.echo(f"Filed {filed['filed']} drawers from {filed['files']} files in {filed['seconds']:.1f} s.\n")
        for step in asyncio.run(_converse(directory)):
            steps.append(step)
            if not as_json:
                click.echo(_format_step(step))
    if as_json:
        click.echo(json.dumps(steps, ensure_ascii=False))
    elif palace is None:
        click.echo("That was a temporary palace. Keep yours with `mempalace-mcp import PATH...`.")


async def _converse(directory: str) -> list[dict[str, Any]]:
    """One MCP session: the rooms, three searches, and a fact that changes."""
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "mempalace_mcp", "--solo", "--palace", directory], env=dict(os.environ)
    )
    async with Client(server) as client:
        steps: list[dict[str, Any]] = [{"places": await _call(client, "get_taxonomy")}]
        for label, arguments in SEARCHES:
            answer = await _call(client, "search", **arguments)
            steps.append({"search": label, "query": arguments["query"], "answer": answer})
        await _call(client, "kg_add", **FACT)
        await _call(client, "kg_supersede", **CHANGE)
        for date in DATES:
            steps.append({"as_of": date, "answer": await _call(client, "kg_query", entity="Nadia", as_of=date)})
    return steps


async def _call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    if result.is_error or not isinstance(result.structured_content, dict):
        raise PalaceError(f"the server refused {tool}: {result.content}")
    return result.structured_content


def _format_step(step: dict[str, Any]) -> str:
    if "places" in step:
        wings = step["places"]["taxonomy"]
        rooms = [(wing, room, drawers) for wing, inside in wings.items() for room, drawers in inside.items()]
        return output.table(("wing", "room", "drawers"), rooms) + "\n"
    if "search" in step:
        head = f"Search {step['search']}: {step['query']!r}"
        return "\n".join([head, *map(_format_hit, step["answer"]["results"])]) + "\n"
    facts = "; ".join(f"{each['subject']} {each['predicate']} {each['object']}" for each in step["answer"]["facts"])
    return f"As of {step['as_of']}: {facts}" + ("\n" if step["as_of"] == DATES[-1] else "")


def _format_hit(hit: dict[str, Any]) -> str:
    return f"   {hit['wing']} / {hit['room']} · score {hit['score']:.2f}\n{output.passage(hit['passage'], lines=3)}"


@contextmanager
def _directory(palace: str | None) -> Iterator[str]:
    if palace is not None:
        yield palace
        return
    with tempfile.TemporaryDirectory(prefix="mempalace-demo-") as directory:
        yield directory


def _texts() -> Path:
    """The sample texts: inside the installed package, or in the checkout."""
    installed = Path(str(resources.files("mempalace_mcp"))) / "examples"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "examples" / "texts"
