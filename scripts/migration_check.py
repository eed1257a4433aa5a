"""Checks `mempalace-mcp migrate` against MemPalace 3.x itself: that program fills a palace through its MCP server, the
palace is migrated, and every drawer, fact, diary entry and tunnel that it acknowledged is looked for.

    python -m scripts.migration_check --peer /path/to/its/bin/mempalace-mcp

It is migrated twice: at rest, and while the other program runs and writes. The program is installed by
`pip install mempalace==3.11.0` in an environment of its own, with its embedding model in `--home`/.cache.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WORDS = [
    "lamp",
    "cellar",
    "boiler",
    "fuse",
    "bulb",
    "copper",
    "switch",
    "window",
    "garden",
    "ladder",
    "kettle",
    "compass",
    "harbour",
    "violin",
    "pepper",
]


@dataclass
class Filled:
    """What the other program has acknowledged: texts by id, triples, diary entries and tunnels."""

    drawers: dict[str, str] = field(default_factory=dict)
    diaries: dict[str, str] = field(default_factory=dict)
    facts: set[tuple[str, str, str]] = field(default_factory=set)
    tunnels: int = 0


class Peer:
    """A session with the other program's MCP server over stdio."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._numbers = itertools.count(1)
        initialize = {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "check", "version": "1"},
        }
        self.ask("initialize", initialize)
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The answer of a tool, which must have done what was asked."""
        result = self.ask("tools/call", {"name": f"mempalace_{tool}", "arguments": arguments})
        answer = json.loads(result["content"][0]["text"])
        if not isinstance(answer, dict) or answer.get("error") or answer.get("success") is False:
            raise SystemExit(f"{tool}: {answer}")
        return answer

    def ask(self, method: str, params: dict[str, Any]) -> Any:
        """The result of a request."""
        number = next(self._numbers)
        self._send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            if message.get("id") == number:
                if "error" in message:
                    raise SystemExit(f"{method}: {message['error']}")
                return message["result"]
        raise SystemExit(f"{method}: the other program has ended")

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()


@contextmanager
def peer_session(program: str, palace: Path, home: Path) -> Iterator[Peer]:
    """A running server of the other program."""
    environment = {**os.environ, "HOME": str(home), "ANONYMIZED_TELEMETRY": "False"}
    with (home / "peer.log").open("a") as log:
        process = subprocess.Popen(
            [program, "--palace", str(palace)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        )
        try:
            yield Peer(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(60)


def text_of(number: int, chance: random.Random) -> str:
    """The text of a drawer: every tenth is so long that the other program cuts it."""
    length = chance.randrange(900, 6000) if number % 10 == 0 else chance.randrange(20, 700)
    text = f"Drawer {number}, größer, 日本, 🙂\n\n"
    while len(text) < length:
        text += chance.choice(WORDS) + chance.choice((" ", " ", " ", "  ", "\n", ". ", "\n\n- "))
    return text.strip()


def fill(peer: Peer, drawers: int, facts: int) -> Filled:
    """Let the other program file texts, facts, diary entries and tunnels."""
    chance, filled = random.Random(7), Filled()
    for number in range(drawers):
        add_drawer(peer, filled, number, chance)
    for number in range(facts):
        subject, predicate, object = f"Thing {number}", chance.choice(("stands in", "uses")), f"Place {number % 17}"
        dates = chance.choice(({}, {"valid_from": "2026-05-01"}, {"valid_from": "2026-06-10T00:00:00Z"}))
        peer.call("kg_add", subject=subject, predicate=predicate, object=object, **dates)
        if number % 5 == 0 and dates:
            peer.call("kg_invalidate", subject=subject, predicate=predicate, object=object, ended="2026-07-01")
        filled.facts.add((subject, predicate, object))
    for number in range(20):
        entry = text_of(number, chance)
        answer = peer.call("diary_write", agent_name=f"agent{number % 3}", entry=entry, topic="work")
        filled.diaries[answer["entry_id"]] = entry
    for number in range(5):
        peer.call(
            "create_tunnel",
            source_wing="wing0",
            source_room=f"room{number}",
            target_wing="wing1",
            target_room=f"room{number}",
            label=f"both are about {WORDS[number]}",
        )
        filled.tunnels += 1
    return filled


def add_drawer(peer: Peer, filled: Filled, number: int, chance: random.Random) -> None:
    """Let the other program file one text."""
    text = text_of(number, chance)
    answer = peer.call("add_drawer", wing=f"wing{number % 7}", room=f"room{number // 7 % 5}", content=text)
    filled.drawers[answer["drawer_id"]] = text
