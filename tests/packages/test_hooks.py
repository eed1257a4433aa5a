"""The hooks of the packages, run by a shell as clients run them: with the program, with uvx alone, with neither."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.daemon.hook_spool import HookEvent, Spool
from scripts.make_packages import hook_line, hooks
from tests.daemon.support import bridge, use
from tests.laboratory import PACKAGE
from tests.packages.support import read

CLIENTS = ("claude-code", "codex", "gemini")
ENDS = {"claude-code": "Stop", "codex": "Stop", "gemini": "AfterAgent"}
"""The event at the end of a turn."""


def handlers(client: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Events, and what runs then."""
    for event, groups in read(f"plugins/{client}/hooks/hooks.json")["hooks"].items():
        for group in groups:
            yield from ((event, handler) for handler in group["hooks"])


def payload(client: str, folder: Path) -> dict[str, str]:
    """What the client says of a turn that has ended."""
    transcript = folder / "session.jsonl"
    transcript.touch()
    place = {"transcript_path": str(transcript), "cwd": str(folder)}
    return {"session_id": "5e1f0d3a", "hook_event_name": ENDS[client], **place}


def program(folder: Path, name: str, script: str) -> None:
    """A program that stands alone on the path."""
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    file.chmod(0o755)


def run(client: str, folder: Path, palace: Path) -> subprocess.CompletedProcess[str]:
    """The command of the package, with nothing but the folder's programs on the path."""
    [line] = {handler["command"] for _, handler in handlers(client)}
    environment = {**os.environ, "PATH": str(folder / "bin"), "PALACE_PATH": str(palace)}
    event = json.dumps(payload(client, folder))
    return subprocess.run(
        ["/bin/sh", "-c", line], input=event, capture_output=True, encoding="utf-8", env=environment, check=False
    )


@pytest.mark.parametrize("client", CLIENTS)
def test_every_event_is_one_that_the_hook_hears(client: str, tmp_path: Path) -> None:
    events = [event for event, _ in handlers(client)]
    assert {"SessionStart", ENDS[client]} <= set(events)
    for event in events:
        assert HookEvent.read(client, {**payload(client, tmp_path), "hook_event_name": event}), event


@pytest.mark.parametrize("client", CLIENTS)
def test_every_handler_runs_one_command_and_ends_in_time(client: str) -> None:
    unit = 0.001 if client == "gemini" else 1
    for _, handler in handlers(client):
        assert (handler["type"], handler["command"]) == ("command", hook_line(client))
        assert "args" not in handler  # Claude Code would take the line for a program
        assert 3 <= handler["timeout"] * unit <= 30


def test_a_client_that_is_not_known_has_no_hooks() -> None:
    with pytest.raises(KeyError):
        hooks("nobody")


@pytest.mark.parametrize("client", CLIENTS)
def test_the_installed_program_hears_of_the_turn(client: str, tmp_path: Path) -> None:
    palace = tmp_path / "palace"
    with bridge(palace, "--solo") as session:
        use(session, 1, "status")
    program(
        tmp_path / "bin", "mempalace-mcp", f'PYTHONPATH={PACKAGE.parent} exec {sys.executable} -m mempalace_mcp "$@"'
    )
    program(tmp_path / "bin", "uvx", "echo uvx; exit 2")
    done = run(client, tmp_path, palace)
    assert (done.returncode, json.loads(done.stdout)) == (0, {})
    assert Spool(str(palace)).count() == 1


@pytest.mark.parametrize("client", CLIENTS)
def test_uvx_takes_its_place_without_asking_an_index(client: str, tmp_path: Path) -> None:
    program(tmp_path / "bin", "uvx", f'echo "$@"; exec {sys.executable} -c "print(input())"')
    done = run(client, tmp_path, tmp_path / "none")
    call, event = done.stdout.splitlines()
    assert call == f"--offline mempalace-mcp hook {client}"
    assert json.loads(event) == payload(client, tmp_path)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("uvx", ["", "echo it is not in the cache >&2; exit 2"])
def test_a_client_hears_of_no_error_where_neither_works(client: str, uvx: str, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    if uvx:
        program(tmp_path / "bin", "uvx", uvx)
    done = run(client, tmp_path, tmp_path / "none")
    assert (done.returncode, done.stdout) == (0, "")  # 2 would send an agent on, a text would go to the model
