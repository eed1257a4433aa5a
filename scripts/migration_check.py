"""Checks `mempalace-mcp migrate` against MemPalace 3.x itself: that program fills a palace through its MCP server, the
palace is migrated, and every drawer, fact, diary entry and tunnel that it acknowledged is looked for.

    python -m scripts.migration_check --peer /path/to/its/bin/mempalace-mcp --model FOLDER

It is migrated while that program runs and writes, then again at rest into the same palace and into a new one. The
program is installed by `pip install mempalace==3.11.0` in an environment of its own; `--model` is the folder of
Chroma's ONNX model, which it would download otherwise. It needs about ten minutes, nearly all of them to fill.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mempalace_mcp.core.config import load_settings
from mempalace_mcp.runtime.app import open_app

WORDS = (
    *("lamp", "cellar", "boiler", "fuse", "bulb", "copper", "switch", "window"),
    *("garden", "ladder", "kettle", "compass", "harbour", "violin", "pepper"),
)


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


MODEL = Path(".cache/chroma/onnx_models/all-MiniLM-L6-v2/onnx")


def migrate(source: Path, palace: Path) -> dict[str, Any]:
    """The report of the command."""
    command = [sys.executable, "-m", "mempalace_mcp", "migrate", str(source), "--palace", str(palace), "--json"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise SystemExit(f"migrate ended with {finished.returncode}: {finished.stdout}{finished.stderr}")
    report: dict[str, Any] = json.loads(finished.stdout)
    return report


def traces(folder: Path) -> dict[str, tuple[int, int]]:
    """Times and sizes of everything below a folder."""
    found = sorted(folder.rglob("*"))
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in [folder, *found]}


def digest(text: str) -> bytes:
    """The hash of a text."""
    return hashlib.sha256(text.encode()).digest()


def compare(palace: Path, filled: Filled) -> list[str]:
    """What was acknowledged by the other program and is not in the palace under its id, byte for byte."""
    wrong = []
    with open_app(load_settings({}, str(palace))) as app:
        for id, text in {**filled.drawers, **filled.diaries}.items():
            found = app.palace.get_drawers([id]).drawers
            if [digest(each.content) for each in found] != [digest(text)]:
                wrong.append(id)
        for subject, predicate, object in filled.facts:
            facts = app.palace.kg_query(subject).facts
            if (predicate, object) not in {(fact.predicate.replace("_", " "), fact.object) for fact in facts}:
                wrong.append(f"{subject} {predicate} {object}")
        entries = sum(app.palace.diary_read(f"agent{number}").total for number in range(3))
    return wrong if entries == len(filled.diaries) else [*wrong, f"{entries} diary entries"]


class Writing:
    """Lets the other program file texts, one after the other, until it is told to stop."""

    def __init__(self, peer: Peer, filled: Filled) -> None:
        self._peer = peer
        self._filled = filled
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> Writing:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._stop.set()
        self._thread.join()

    def _write(self) -> None:
        chance = random.Random(8)
        for number in itertools.count(1_000_000):
            if self._stop.is_set():
                return
            add_drawer(self._peer, self._filled, number, chance)


def check(program: str, model: Path | None, folder: Path, drawers: int, facts: int) -> bool:
    """Fill, migrate and compare; tell what was found."""
    home, source = folder / "home", folder / "home" / "palace"
    (home / MODEL).parent.mkdir(parents=True)
    if model is not None:
        (home / MODEL).symlink_to(model)
    with peer_session(program, source, home) as peer:
        filled = fill(peer, drawers, facts)
        before = Filled(dict(filled.drawers), dict(filled.diaries), set(filled.facts), filled.tunnels)
        with Writing(peer, filled):
            running = migrate(source, folder / "ours")
        results = [("while it writes", running, compare(folder / "ours", before))]
        at_rest = traces(home)
        again = migrate(source, folder / "ours")
        untouched = traces(home) == at_rest
        results.append(("again, while it runs", again, compare(folder / "ours", filled)))
    anew = migrate(source, folder / "anew")
    results.append(("after its end", anew, compare(folder / "anew", filled)))
    for name, report, wrong in results:
        kinds = ("drawers", "diary_entries", "facts", "tunnels")
        counts = ", ".join(f"{report[kind]['read']} {kind} ({report[kind]['filed']} new)" for kind in kinds)
        print(f"{name}: {counts} in {report['seconds']} s; {report['checked']['same']} read back")
        print(f"  not as there: {wrong or 'none'}")
    expected = {"drawers": len(filled.drawers), "diary_entries": 20, "facts": len(filled.facts), "tunnels": 5}
    counted = {kind: anew[kind]["read"] for kind in expected}
    print(f"expected {expected}, counted {counted}; the source is {'untouched' if untouched else 'CHANGED'}")
    return counted == expected and untouched and not any(wrong for _, _, wrong in results)


def main() -> None:
    """Check, and exit with 1 if anything is missing or changed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", required=True, help="The program `mempalace-mcp` of MemPalace 3.x.")
    parser.add_argument("--model", type=Path, help="A folder with Chroma's ONNX model.")
    parser.add_argument("--drawers", type=int, default=1000)
    parser.add_argument("--facts", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="migration-check-") as folder:
        well = check(options.peer, options.model, Path(folder), options.drawers, options.facts)
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
