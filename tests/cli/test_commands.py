"""The command line as a person uses it, on real files.

`run` starts the program; every command is tried so. Where a test is about what a command does, `perform` runs it
in this process.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mempalace_mcp.cli.commands import commands
from mempalace_mcp.cli.main import is_session
from mempalace_mcp.cli.session import SESSION_OPTIONS
from tests.health import troubles
from tests.palace.importers.editors import write_lines
from tests.palace.support import opened

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
TEXTS = ROOT / "examples" / "texts"


def run(*arguments: str | Path, code: int = 0) -> str:
    """Run the program; what it prints."""
    finished = subprocess.run(
        [sys.executable, "-m", "mempalace_mcp", *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=60,
        env={**os.environ, "COLUMNS": "100"},
        check=False,
    )
    assert finished.returncode == code, finished.stdout + finished.stderr
    return finished.stdout + finished.stderr


def perform(*arguments: str | Path, code: int = 0) -> str:
    """Run a command in this process; what it prints."""
    previous = os.umask(0o077)  # as the program does
    try:
        result = CliRunner(env={"COLUMNS": "100"}).invoke(commands, [*map(str, arguments)], prog_name="mempalace-mcp")
    finally:
        os.umask(previous)
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result.output


def run_json(*arguments: str | Path, code: int = 0) -> Any:
    return json.loads(run(*arguments, "--json", code=code))


def perform_json(*arguments: str | Path, code: int = 0) -> Any:
    return json.loads(perform(*arguments, "--json", code=code))


@pytest.fixture(scope="module")
def palace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A palace into which the sample texts were imported by the command."""
    directory = tmp_path_factory.mktemp("imported") / "palace"
    shown = run("import", TEXTS / "notes", TEXTS / "transcripts", "--palace", directory)
    assert "18 filed, 0 unchanged, 0 updated" in shown
    return directory


def test_importing_twice_adds_nothing(palace: Path) -> None:
    shown = perform_json("import", TEXTS / "notes", TEXTS / "transcripts", "--palace", palace)
    assert (shown["filed"], shown["unchanged"], shown["complete"]) == (0, 18, True)


def test_importing_into_another_wing_says_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "tides.md").write_text("High tide at six.", encoding="utf-8")
    perform("import", tmp_path / "tides.md", "--palace", tmp_path / "palace", "--wing", "harbour")
    shown = perform("import", tmp_path / "tides.md", "--palace", tmp_path / "palace", "--wing", "ferry")
    assert "1 unchanged" in shown
    assert "in another wing and left there: 1 in 'harbour'" in shown


def test_the_histories_of_agents_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    for name in ("CLAUDE_CONFIG_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    shown = perform("import", "--agents", "--palace", tmp_path / "palace", code=1)
    assert "No histories of agents were found" in shown
    shutil.copytree(TEXTS / "transcripts", tmp_path / ".claude" / "projects" / "-srv-harbour")
    shown = perform("import", "--agents", "--dry-run", "--palace", tmp_path / "palace")
    assert f"Claude Code: {tmp_path / '.claude' / 'projects'}" in shown
    assert "would be filed" in shown
    assert perform_json("import", "--agents", "--palace", tmp_path / "palace")["filed"] > 0
    for name in "abcd":
        write_lines(tmp_path / ".copilot" / "session-state" / f"{name}.jsonl", {"type": "session.start"})
    shown = perform("import", "--agents", "--dry-run", "--palace", tmp_path / "palace")
    assert f"GitHub Copilot CLI: 4 places, such as {tmp_path / '.copilot'}" in shown
    assert "Name files or folders, or use --agents" in perform("import", "--palace", tmp_path / "palace", code=2)


def test_an_export_that_is_not_read_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "conversations.json").write_text('[{"chat_history": []}]', encoding="utf-8")
    shown = perform("import", tmp_path / "conversations.json", "--palace", tmp_path / "palace", code=1)
    assert "conversations.json: a conversation export, which this version does not read" in shown


def test_importing_what_is_not_there_says_so(palace: Path, tmp_path: Path) -> None:
    assert "missing" in perform("import", tmp_path / "missing", "--palace", palace, code=1)


def test_an_interrupted_import_keeps_what_is_done(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(400):
        (folder / f"{number:03}.md").write_text(f"Note {number}. " + f"words of note {number} " * 300, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "mempalace_mcp", "import", str(folder), "--palace", str(tmp_path / "palace"), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    database = tmp_path / "palace" / "palace.db-wal"
    while process.poll() is None and not (database.exists() and database.stat().st_size > 400_000):
        os.sched_yield()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "kept" in errors
    done = json.loads(output)
    assert done["filed"] <= 400
    rest = run_json("import", folder, "--palace", tmp_path / "palace", "--dry-run")
    assert rest["unchanged"] > 0
    assert rest["unchanged"] - done["filed"] in (0, 1), "what was committed when the signal came may not be counted"


def test_searching(palace: Path) -> None:
    shown = perform("search", "why do people get signed out all the time?", "--palace", palace, "--limit", "1")
    assert shown.startswith("1. harbour / sessions")
    found = perform_json("search", "rel-2026-05-17-b", "--palace", palace, "--mode", "keyword")
    assert "rel-2026-05-17-b" in found["results"][0]["passage"]
    assert perform("search", "anything", "--wing", "nowhere", "--palace", palace) == "Nothing found.\n"
    assert perform("search", "anything", "--since", "next week", "--palace", palace) == "Nothing found.\n"
    assert perform("search", "last week", "--now", "2026-05-20", "--palace", palace).startswith("1. ")


def test_what_is_superseded_says_so(tmp_path: Path) -> None:
    with opened(tmp_path / "palace", started=False) as app:
        old = app.palace.add_drawer("w", "r", "The rent is 900.").drawer_id
        new = app.palace.add_drawer("w", "r", "The rent is 950.", supersedes=[old]).drawer_id
    first, second, *_ = run("search", "rent", "--palace", tmp_path / "palace", "--mode", "keyword").split("\n\n")
    assert new in first
    assert "superseded" not in first
    assert f"superseded by {new}" in second


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252"])
def test_any_encoding_of_the_terminal_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    (tmp_path / "note.md").write_text("宮殿 means palace", encoding="utf-8")
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    run("import", tmp_path / "note.md", "--palace", tmp_path / "palace")
    assert "means palace" in run("search", "宮殿", "--palace", tmp_path / "palace")
    found = run_json("search", "宮殿", "--palace", tmp_path / "palace")
    assert found["results"][0]["passage"] == "宮殿 means palace"


def test_status(palace: Path) -> None:
    shown = run("status", "--palace", palace)
    assert "18 in 3 wings" in shown
    assert "boarding-app" in shown
    assert run_json("status", "--palace", palace)["palace"]["drawers"] == 18


def test_backing_up_and_restoring(palace: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    assert "verified" in run("backup", copy, "--palace", palace)
    refused = perform_json("backup", copy, "--palace", palace, code=1)
    assert "exists" in refused["error"]["message"]
    restored = tmp_path / "restored"
    restored.mkdir()
    shutil.copy(copy, restored / "palace.db")
    assert perform_json("status", "--palace", restored)["palace"]["drawers"] == 18


def vectors_stored(palace: Path) -> int:
    """How many vectors have ever been stored."""
    with closing(sqlite3.connect(palace / "palace.db")) as connection:
        (last,) = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'vectors'").fetchone()
        return int(last)


def test_reindexing(palace: Path) -> None:
    stored = vectors_stored(palace)
    assert "matches the palace" in run("reindex", "--palace", palace)
    assert vectors_stored(palace) == stored
    shown = perform_json("reindex", "--vectors", "--palace", palace)
    assert shown["faults"] == []
    assert vectors_stored(palace) > stored
    assert perform_json("status", "--palace", palace)["palace"]["pending"] == 0


@pytest.mark.parametrize("command", ["search words", "status", "reindex", "backup copy.db"])
def test_what_files_nothing_makes_no_palace(tmp_path: Path, command: str) -> None:
    name, *rest = command.split()
    refused = run_json(name, *(tmp_path / each for each in rest), "--palace", tmp_path / "typo", code=1)["error"]
    assert refused["code"] == "not_found"
    assert "typo" in refused["message"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("palace_is", ["a file", "below a file"])
def test_an_impossible_palace_is_refused_with_a_remedy(tmp_path: Path, palace_is: str) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    place = file if palace_is == "a file" else file / "palace"
    refused = perform_json("status", "--palace", place, code=1)["error"]
    assert str(file) in refused["message"]
    assert refused["hint"]
    assert str(file) in run("--palace", place, code=2)


def test_an_empty_palace_option_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PALACE_PATH", raising=False)
    assert "--palace" in run("--palace=", code=2)
    assert run_json("import", ROOT / "README.md", "--palace", "", code=1)["error"]["argument"] == "--palace"
    assert list(tmp_path.iterdir()) == []


def test_a_palace_that_cannot_be_reached_is_refused_with_a_remedy(tmp_path: Path) -> None:
    for command in ("status", "doctor", "daemon logs"):
        refused = perform_json(*command.split(), "--palace", tmp_path / ("long" * 75), code=1)["error"]
        assert "cannot be reached" in refused["message"]
        assert str(tmp_path) in refused["hint"]


def test_serving_until_told_to_stop(palace: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "mempalace_mcp", "serve", "--port", "0", "--palace", str(palace), "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        address = json.loads(process.stdout.readline())["address"]
        with urllib.request.urlopen(f"{address}/health", timeout=10) as response:
            health = json.load(response)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert not troubles(health)
    assert health["diagnostics"]["conversation_history_limit"] == 1000


def test_serving_beyond_loopback_is_refused(palace: Path) -> None:
    refused = run_json("serve", "--host", "0.0.0.0", "--port", "0", "--palace", palace, code=1)["error"]
    assert refused["code"] == "configuration"


def test_the_demonstration(tmp_path: Path) -> None:
    shown = run("demo")
    for telling in ("Filed 18 drawers", "Search by meaning", "rel-2026-05-17-b", "team Orion", "team Vega"):
        assert telling in shown


@pytest.mark.parametrize("command", ["serve", "import", "search", "status", "reindex", "backup", "demo"])
def test_every_command_explains_itself(command: str) -> None:
    assert "Usage: mempalace-mcp" in run(command, "--help")


def test_options_alone_are_a_session() -> None:
    assert is_session([])
    assert is_session(["--palace", "x"])
    assert not is_session(["serve"])
    assert not is_session(["--help"])
    assert not is_session(["--version"])


def test_a_session_explains_its_options() -> None:
    shown = run("--solo", "--help")
    assert "Usage: mempalace-mcp" in shown
    assert all(option.name in shown and option.help[:20] in shown for option in SESSION_OPTIONS)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--tools", "all"], "'all' is not one of 'core', 'full'"),
        (["--palace"], "'--palace' requires an argument"),
        (["--palace", "--solo"], "lacks its value"),
        (["--solo=1"], "'--solo' does not take a value"),
        (["--pal", "x"], "--pal"),
        (["--solo", "x"], "unexpected extra argument"),
    ],
)
def test_what_is_wrong_with_the_options_of_a_session_is_printed(arguments: list[str], complaint: str) -> None:
    assert complaint in run(*arguments, code=2)


@pytest.mark.parametrize(
    ("command", "prefix"),
    [((), "my palace."), ((), "p" * 60), (("--solo",), "my palace."), (("serve", "--port", "0"), "p" * 60)],
    ids=["session", "session, long", "solo", "serve, long"],
)
def test_a_prefix_that_makes_no_names_refuses_the_start(command: tuple[str, ...], prefix: str, tmp_path: Path) -> None:
    shown = run(
        *command, "--tool-prefix", prefix, "--palace", tmp_path / "palace", code=2 if command[:1] != ("serve",) else 1
    )
    assert prefix in shown
    assert "restore_drawers" in shown, "the longest one"
    assert not (tmp_path / "palace").exists()


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("--solo",),
        ("serve", "--port", "0"),
        ("status",),
        ("import", TEXTS),
        ("token", "list"),
        ("daemon", "status"),
        ("doctor",),
        ("demo",),
    ],
    ids=lambda command: " ".join(map(str, command[:2])) or "session",
)
def test_a_palace_that_nobody_named_is_not_made(
    command: tuple[str | Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    session = not command or command == ("--solo",)
    shown = run(*command, "--palace", "${workspaceFolder}/palace", code=2 if session else 1)
    assert "${workspaceFolder}" in shown
    assert list(tmp_path.iterdir()) == []


def test_paths_of_files_are_looked_at_too(palace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "$BACKUPS" in perform("backup", "$BACKUPS/b.db", "--palace", palace, code=2)
    assert "%USERPROFILE%" in perform("import", "%USERPROFILE%", "--palace", palace, code=2)
    perform("backup", "~/b.db", "--palace", palace)
    assert [path.name for path in tmp_path.iterdir()] == ["b.db"]


def test_the_first_token_and_the_last_change_who_comes_in_which_is_said(tmp_path: Path) -> None:
    palace = tmp_path / "palace"
    new = ("token", "new", "--scope", "write", "--palace", palace)
    assert "your own account too" in run(*new, "laptop")
    assert len(perform(*new, "desk").splitlines()) == 1
    assert run("token", "revoke", "desk", "--palace", palace).strip() == "desk opens nothing any more."
    shown = perform("token", "revoke", "laptop", "--palace", palace)
    assert "nobody comes in over HTTP" in shown
    assert "revoke --all" in shown
    assert "Usage" in perform("token", "revoke", "--palace", palace, code=2)
    assert perform_json("token", "revoke", "--all", "--palace", palace) == {"revoked": 0}
    assert "your own account too" in perform(*new, "laptop")
    assert "1 token revoked" in perform("token", "revoke", "--all", "--palace", palace)
    assert run("token", "list", "--palace", palace).strip() == "There are no tokens."
    assert set(perform_json(*new, "laptop")) == {"name", "scope", "wings", "token"}
