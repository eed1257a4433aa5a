"""How a long history of Claude Code is imported: time, memory, drawers, and what a second run costs.

uv run python benchmarks/history.py --records 200000
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

os.environ["OPENBLAS_NUM_THREADS"] = "1"

from mempalace_mcp.core.config import load_settings
from mempalace_mcp.palace.import_report import ImportSummary
from mempalace_mcp.runtime.app import App, open_app

MONTHS = 30
PROJECTS = ("harbour", "ferry", "lighthouse", "tide-tables", "signal-box", "chandlery", "moorings", "almanac")
SYLLABLES = [consonant + vowel for consonant in "bdklmnrst" for vowel in "aeio"]
VOCABULARY = 6_000
STEPS_OF_A_SESSION = (4, 100)
TOOL_OUTPUT = (200, 6_000)


class History:
    """Sessions of several projects over thirty months: the same for the same seed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._dice = Random(seed)
        self._words = ["".join(self._dice.choices(SYLLABLES, k=self._dice.randint(1, 4))) for _ in range(VOCABULARY)]
        self._now = datetime(2024, 1, 8, 8, tzinfo=UTC)
        self.records = 0

    def write(self, records: int) -> None:
        """Write transcripts until there are so many records."""
        sessions = max(1, records // 90)
        pause = timedelta(days=MONTHS * 30.4) / sessions
        earlier: dict[str, list[dict[str, Any]]] = {}
        while self.records < records:
            project = self._dice.choice(PROJECTS)
            self._now += pause
            session = self._id()
            fork = earlier.get(project) if self._dice.random() < 0.12 else None
            copied = fork[: self._dice.randint(1, len(fork))] if fork else []
            lines = [*({**each, "sessionId": session} for each in copied), *self._session(session, project)]
            folder = self._folder / f"-home-mira-code-{project}"
            self._save(folder / f"{session}.jsonl", lines)
            earlier[project] = [each for each in lines if each["type"] in ("user", "assistant")]
            if self._dice.random() < 0.25:
                agent = f"{self._dice.getrandbits(28):07x}"
                self._save(
                    folder / session / "subagents" / f"agent-{agent}.jsonl", [*self._agent(session, project, agent)]
                )

    def _session(self, session: str, project: str) -> Iterator[dict[str, Any]]:
        parent: str | None = None
        before: list[str | None] = []
        yield {"type": "file-history-snapshot", "messageId": self._id(), "snapshot": {"trackedFileBackups": {}}}
        for _ in range(self._dice.randint(*STEPS_OF_A_SESSION) // 4):
            if before and self._dice.random() < 0.06:
                parent = self._dice.choice(before)  # the user went back to an earlier prompt
            if self._dice.random() < 0.02:
                yield {**self._record("system", session, project, parent), "subtype": "compact_boundary"}
                summary = "This session is being continued from a previous conversation. " + self._text(300)
                yield self._spoken("user", summary, session, project, parent, isCompactSummary=True)
            before.append(parent)
            question = self._spoken("user", self._text(self._dice.choice((8, 20, 60))), session, project, parent)
            yield question
            parent = question["uuid"]
            for _ in range(self._dice.choice((0, 1, 2, 5))):
                call = self._spoken("assistant", [self._call()], session, project, parent)
                yield call
                output = self._text(self._dice.randint(*TOOL_OUTPUT) // 6)
                result = [{"type": "tool_result", "tool_use_id": "t", "content": output}]
                done = self._spoken("user", result, session, project, call["uuid"], toolUseResult={"stdout": output})
                yield done
                parent = done["uuid"]
            answer = [{"type": "text", "text": self._text(self._dice.choice((30, 90, 250)))}]
            last = self._spoken("assistant", answer, session, project, parent)
            yield last
            parent = last["uuid"]

    def _agent(self, session: str, project: str, agent: str) -> Iterator[dict[str, Any]]:
        fields = {"isSidechain": True, "agentId": agent}
        yield self._spoken("user", self._text(40), session, project, None, **fields)
        for _ in range(self._dice.randint(2, 8)):
            yield self._spoken("assistant", [self._call()], session, project, None, **fields)
        yield self._spoken("assistant", [{"type": "text", "text": self._text(150)}], session, project, None, **fields)

    def _record(self, kind: str, session: str, project: str, parent: str | None) -> dict[str, Any]:
        self._now += timedelta(seconds=self._dice.random() * 20)
        return {
            "parentUuid": parent,
            "isSidechain": False,
            "userType": "external",
            "cwd": f"/home/mira/code/{project}",
            "sessionId": session,
            "version": "2.1.332",
            "gitBranch": "main",
            "type": kind,
            "uuid": self._id(),
            "timestamp": self._now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }

    def _spoken(
        self, kind: str, content: Any, session: str, project: str, parent: str | None, **fields: Any
    ) -> dict[str, Any]:
        return {
            **self._record(kind, session, project, parent),
            "message": {"role": kind, "content": content},
            **fields,
        }

    def _call(self) -> dict[str, Any]:
        return {"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": self._text(6)}}

    def _text(self, words: int) -> str:
        return " ".join(self._dice.choices(self._words, k=words)).capitalize() + "."

    def _id(self) -> str:
        return str(UUID(int=self._dice.getrandbits(128), version=4))

    def _save(self, path: Path, records: list[dict[str, Any]]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(each, separators=(",", ":")) + "\n" for each in records)
        self.records += len(records)


class Peak(threading.Thread):
    """The largest resident memory of this process while it runs, in MB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.megabytes = 0.0
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.05):
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
            self.megabytes = max(self.megabytes, pages * resource.getpagesize() / 1e6)

    def stop(self) -> float:
        self._over.set()
        self.join()
        return self.megabytes


def imported(app: App, folder: Path) -> tuple[dict[str, Any], float, float, float]:
    """What an import told, its seconds, those of the processor, and the peak of memory meanwhile."""
    peak = Peak()
    peak.start()
    summary, started = ImportSummary(), time.perf_counter()
    busy = time.process_time()
    for step in app.palace.import_paths([folder]):
        summary.add(step)
    seconds = time.perf_counter() - started
    return summary.as_dict(complete=True), seconds, time.process_time() - busy, peak.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--embed", action="store_true", help="also embed, and tell how fast")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "projects")
        history = History(folder, options.seed)
        history.write(options.records)
        files = list(folder.rglob("*.jsonl"))
        size = sum(path.stat().st_size for path in files)
        print(f"{history.records:,} records, {len(files):,} files, {size / 1e6:,.0f} MB")
        with open_app(load_settings({}, str(Path(scratch, "palace")))) as app:
            if options.embed:
                app.start()
                app.embedder.wait()
            started = time.perf_counter()
            for run in ("first", "second"):
                told, seconds, busy, peak = imported(app, folder)
                counts = ", ".join(f"{told[name]:,} {name}" for name in ("filed", "unchanged", "updated"))
                rate = f"{seconds:.1f} s, {busy:.1f} s of the processor ({busy / (size / 1e9):.2f} s/GB)"
                print(f"{run} run: {rate}, {peak:.0f} MB, {counts}")
            if options.embed:
                app.wait_until_indexed()
                seconds = time.perf_counter() - started
                with app.database.read() as connection:
                    (chunks,) = connection.execute("SELECT count(*) FROM chunks").fetchone()
                print(f"{chunks:,} passages, embedded {seconds:.1f} s after the start: {chunks / seconds:.0f} a second")
        print(f"palace: {Path(scratch, 'palace', 'palace.db').stat().st_size / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
