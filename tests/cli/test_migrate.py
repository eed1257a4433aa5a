"""`migrate` as a person uses it: real processes, a palace of MemPalace 3.x."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.palace.migration.peer import PeerPalace
from tests.palace.migration.support import traces

pytestmark = pytest.mark.long


@pytest.fixture
def peer(tmp_path: Path) -> PeerPalace:
    made = PeerPalace.make(tmp_path / "home" / ".mempalace" / "palace")
    for number in range(3):
        made.add_drawer(f"drawer_{number}", f"the lamp number {number} " * 60, wing="house")
    made.add_entry("entry", "today", "ada", "2026-01-01T10:00:00")
    made.add_fact("t", "Ada", "likes", "tea")
    made.add("blank", " ", wing="w", room="r")
    return made


def run(home: Path, *arguments: str | Path, code: int = 0) -> str:
    """Run the program with that home directory; what it prints."""
    finished = subprocess.run(
        [sys.executable, "-m", "mempalace_mcp", *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        env={**os.environ, "HOME": str(home), "PALACE_TIMEZONE": "UTC"},
        check=False,
    )
    assert finished.returncode == code, finished.stdout + finished.stderr
    return finished.stdout + finished.stderr


def run_json(home: Path, *arguments: str | Path, code: int = 0) -> Any:
    return json.loads(run(home, *arguments, "--json", code=code))


def test_without_a_source_it_lists_what_there_is_and_does_nothing(peer: PeerPalace, tmp_path: Path) -> None:
    home = tmp_path / "home"
    before = traces(tmp_path)
    told = run(home, "migrate", "--palace", tmp_path / "ours")
    assert str(peer.folder) in told
    assert "MemPalace 3.x" in told
    listed = run_json(home, "migrate", "--palace", tmp_path / "ours")
    assert listed == {"found": [{"kind": "mempalace", "path": str(peer.folder)}]}
    assert traces(tmp_path) == before
    assert "No memory" in run(tmp_path, "migrate", "--palace", tmp_path / "ours")


def test_a_palace_comes_is_read_back_and_found(peer: PeerPalace, tmp_path: Path) -> None:
    home, ours = tmp_path / "home", tmp_path / "ours"
    before = traces(home)
    told = run(home, "migrate", peer.folder, "--dry-run", "--palace", ours)
    assert "would come" in told
    assert "3 drawers: 3 new" in told
    assert "1 × the record has no text" in told
    assert not ours.exists()
    report = run_json(home, "migrate", peer.folder, "--palace", ours)
    assert (report["complete"], report["checked"]) == (True, {"same": 4, "edited": 0, "deleted": 0, "wrong": []})
    assert [report[kind]["filed"] for kind in ("drawers", "diary_entries", "facts")] == [3, 1, 1]
    assert report["pieces_joined"] == 6
    assert traces(home) == before
    hits = run_json(home, "search", "lamp", "--palace", ours)["results"]
    assert hits[0]["wing"] == "house"
    again = run(home, "migrate", peer.folder, "--palace", ours)
    assert "3 drawers: 3 here already" in again
    assert "Read back: 4 drawers byte for byte" in again


def test_drawers_are_found_under_their_old_ids_over_mcp(peer: PeerPalace, tmp_path: Path) -> None:
    run(tmp_path / "home", "migrate", peer.folder, "--palace", tmp_path / "ours")
    calls: list[dict[str, Any]] = [
        {"id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18", "capabilities": {},
         "clientInfo": {"name": "t", "version": "1"}}},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": {"name": "get_drawers", "arguments": {"drawer_ids": ["drawer_1"]}}},
        {"id": 3, "method": "tools/call", "params": {"name": "get_drawers", "arguments": {"drawer_ids": ["drawer_9"]}}},
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "mempalace_mcp", "--solo", "--palace", str(tmp_path / "ours")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        for call in calls:
            process.stdin.write(json.dumps({"jsonrpc": "2.0", **call}) + "\n")
        process.stdin.flush()
        answers: dict[Any, Any] = {}
        while len(answers) < 3:
            message = json.loads(process.stdout.readline())
            answers[message.get("id")] = message
        process.stdin.close()
    found = answers[2]["result"]["structuredContent"]["drawers"]
    assert [each["content"] for each in found] == ["the lamp number 1 " * 60]
    assert "is not an id of a drawer" in json.dumps(answers[3])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [("nowhere", None, "there is nothing"), ("text.txt", b"text", "no memory"), ("chroma.sqlite3", b"x", "no memory")],
)
def test_what_cannot_be_migrated(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    told = run(tmp_path, "migrate", tmp_path / name, "--palace", tmp_path / "ours", code=1)
    assert words in told
    assert not (tmp_path / "ours").exists()
    error = run_json(tmp_path, "migrate", tmp_path / name, "--palace", tmp_path / "ours", code=1)["error"]
    assert error["argument"] == "SOURCE"


def test_a_damaged_palace_says_so_and_keeps_what_came(peer: PeerPalace, tmp_path: Path) -> None:
    content = peer.chroma.read_bytes()
    peer.chroma.write_bytes(content[: len(content) // 2])
    told = run(tmp_path / "home", "migrate", peer.folder, "--palace", tmp_path / "ours", code=1)
    assert "damaged" in told
    assert str(peer.chroma) in told
    assert "1 fact: 1 new" in told


def test_ctrl_c_keeps_what_has_come(tmp_path: Path) -> None:
    peer = PeerPalace.make(tmp_path / "theirs")
    fields = {"wing": "w", "room": "r", "filed_at": "2026-01-01T00:00:00"}
    peer.add_all([(f"d{number}", f"text {number}", fields) for number in range(5000)])
    ours = tmp_path / "ours"
    command = [sys.executable, "-m", "mempalace_mcp", "migrate", str(peer.folder), "--palace", str(ours), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not (ours / "palace.db-wal").exists() and process.poll() is None:
            threading.Event().wait(0.01)
        threading.Event().wait(0.3)
        process.send_signal(signal.SIGINT)
        printed, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command again" in told
    report = json.loads(printed)
    assert report["complete"] is False
    assert 0 < report["drawers"]["filed"] < 5000
