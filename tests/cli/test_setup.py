"""`setup` as a person and as a program use it: real processes, real files, a home directory of its own."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.languages import read_notes
from mempalace_mcp.setup.journal import Journal
from mempalace_mcp.setup.machine import Machine
from tests.postgres_server import fresh_schema, shared_address
from tests.setup.support import snapshot, write

pytestmark = pytest.mark.long

TRANSCRIPTS = Path(__file__).parents[2] / "examples" / "texts" / "transcripts"
SETUP = [sys.executable, "-m", "mempalace_mcp", "setup"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home directory with Claude Code's history, and settings of two more clients."""
    home = tmp_path / "home"
    folder = home / ".claude" / "projects" / "-srv-harbour"
    folder.mkdir(parents=True)
    for number, file in enumerate(sorted(TRANSCRIPTS.rglob("*.jsonl"))):
        shutil.copy(file, folder / f"{number}.jsonl")
    write(home / ".config/zed/settings.json", '// Zed\n{\n  "theme": "One", // mine\n}\n')
    write(home / ".config/goose/config.yaml", "# Goose\nGOOSE_MODEL: x\n")
    return home


@pytest.fixture(scope="module", autouse=True)
def server() -> str:
    """A server of PostgreSQL, started before the first test looks at what it leaves behind."""
    return shared_address()


def environment(home: Path) -> Mapping[str, str]:
    """What the programs of a test see: nothing but that home, and no client on the path."""
    programs = home.parent / "programs"
    programs.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "CLAUDE", "CODEX"))}
    return {**kept, "HOME": str(home), "PATH": str(programs), "COLUMNS": "100", "XDG_RUNTIME_DIR": str(home.parent)}


def run(home: Path, *arguments: str, code: int = 0) -> str:
    """What the command prints."""
    finished = subprocess.run(
        [*SETUP, *arguments],
        env=environment(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert finished.returncode == code, finished.stdout + finished.stderr
    return finished.stdout if "--json" in arguments else finished.stdout + finished.stderr


def run_json(home: Path, *arguments: str, code: int = 0) -> Any:
    return json.loads(run(home, *arguments, "--json", code=code))


def answer(home: Path, word: str) -> tuple[str, int]:
    """Run the command in a terminal, and answer its question; what it prints, and its exit code."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, SETUP, environment(home))
    shown, is_answered, end = b"", False, time.monotonic() + 50
    while time.monotonic() < end:
        if select.select([terminal], [], [], 1)[0]:
            try:
                shown += os.read(terminal, 65536)
            except OSError:  # the process has ended
                break
        if not is_answered and b"Do this?" in shown:
            os.write(terminal, f"{word}\n".encode())
            is_answered = True
    os.close(terminal)
    return shown.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def settings_of(home: Path) -> Mapping[str, object]:
    """What is below the home directory without the palace and the journal."""
    return {name: what for name, what in snapshot(home).items() if not name.startswith(".mempalace-mcp")}


def test_without_a_terminal_and_without_yes_the_plan_is_shown_and_nothing_changed(home: Path) -> None:
    before = snapshot(home)
    shown = run(home, code=2)
    assert "Nothing was changed" in shown
    for part in ("Claude Code", "~/.claude.json", "import 2 files, 37.7 kB", "Zed", "Goose"):
        assert part in shown
    assert run_json(home, code=2)["applied"] is False
    assert snapshot(home) == before


def test_a_dry_run_shows_what_would_stand_where(home: Path) -> None:
    before = snapshot(home)
    shown = run(home, "--dry-run")
    assert '+    "mempalace": {' in shown
    assert "+    cmd: " in shown
    assert "-  " not in shown
    assert snapshot(home) == before


def test_all_of_it_twice_and_back(home: Path) -> None:
    before = settings_of(home)
    shown = run(home, "--yes")
    for part in ("tools answer", "2 files", "10 filed", "Search: 'what did we decide", "harbour / sessions"):
        assert part in shown
    after = settings_of(home)
    again = run(home, "--yes")
    assert "There is nothing to do" in again
    assert settings_of(home) == after
    status = run_json(home, "--status")
    connected = {each["client"]: each["connected"] for each in status["clients"]}
    assert connected == {"claude-code": True, "zed": True, "goose": True}
    assert status["clients"][0]["hooks"]["state"] == "there"
    assert status["clients"][0]["imported"]["files"] == 2
    assert run(home, "--undo").count("as it was before") == 4
    assert settings_of(home) == before
    assert "nothing to take back" in run(home, "--undo")
    assert "connected" not in run(home, "--status")


def test_the_json_of_a_run_has_one_shape(home: Path) -> None:
    done = run_json(home, "--yes", "--client", "zed", "--client", "claude-code")
    assert (done["applied"], done["ok"], done["errors"]) == (True, True, [])
    assert done["tools"] > 20
    assert [each["client"] for each in done["clients"]] == ["claude-code", "zed"]
    server, hooks = done["clients"][0]["steps"]
    assert (server["kind"], server["state"], server["result"], server["how"]) == ("server", "add", "done", "written")
    assert (hooks["kind"], hooks["file"]) == ("hooks", str(home / ".claude/settings.json"))
    assert done["imported"]["filed"] == 10
    assert len(done["search"]["results"]) == 3
    assert done["advice"] is None, "the texts are in English"


def test_histories_in_another_language_are_offered_the_model_for_it(home: Path) -> None:
    folder = home / ".claude" / "projects" / "-srv-harbour"
    shutil.rmtree(folder)
    notes = [note for note in read_notes() if "de" in note.texts and "de" in note.questions]
    for number, note in enumerate(notes):
        said = {"user": note.questions["de"], "assistant": note.texts["de"]}
        records = [
            {
                "type": role,
                "uuid": f"{number}-{role}",
                "sessionId": f"s{number}",
                "cwd": "/srv/harbour",
                "timestamp": f"2026-05-17T08:{number:02}:00Z",
                "message": {"role": role, "content": text},
            }
            for role, text in said.items()
        ]
        write(folder / f"{number}.jsonl", "".join(f"{json.dumps(record)}\n" for record in records))
    done = run_json(home, "--yes", "--client", "claude-code")
    assert done["imported"]["filed"] == len(notes)
    assert "mempalace-mcp reindex --model multilingual" in done["advice"]


def test_hooks_and_import_can_be_left_out(home: Path) -> None:
    done = run_json(home, "--yes", "--no-hooks", "--no-import")
    assert not (home / ".claude/settings.json").exists()
    assert (done["imported"], done["search"]) == (None, None)
    assert not (home / ".mempalace-mcp/palace/palace.db").exists() or done["tools"]


def test_one_file_that_cannot_be_read_does_not_keep_the_others_back(home: Path) -> None:
    file = write(home / ".config/zed/settings.json", '{\n  "theme": \n}')
    shown = run(home, "--yes", "--no-import", code=1)
    assert "~/.config/zed/settings.json: line 3, column 1: expecting value" in shown
    assert "mempalace" in (home / ".config/goose/config.yaml").read_text(encoding="utf-8")
    assert file.read_text(encoding="utf-8") == '{\n  "theme": \n}'


def test_a_palace_elsewhere_is_named_in_every_command(home: Path, tmp_path: Path) -> None:
    elsewhere = str(tmp_path / "my palace")
    run(home, "--yes", "--no-import", "--palace", elsewhere)
    for file in (".claude.json", ".claude/settings.json", ".config/zed/settings.json", ".config/goose/config.yaml"):
        text = (home / file).read_text(encoding="utf-8")
        assert elsewhere in text
        assert "--palace" in text


def test_a_person_is_asked_once(home: Path) -> None:
    before = settings_of(home)
    shown, code = answer(home, "n")
    assert (code, settings_of(home) == before) == (2, True)
    assert "Nothing was changed" in shown
    shown, code = answer(home, "y")
    assert (code, shown.count("Do this?")) == (0, 1)
    assert "tools answer" in shown
    assert run(home, "--undo")
    assert settings_of(home) == before


def test_several_at_once_do_it_once(home: Path) -> None:
    before = settings_of(home)
    command = [*SETUP, "--yes", "--no-import", "--json"]
    options: dict[str, Any] = {"env": environment(home), "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
    running = [subprocess.Popen(command, **options) for _ in range(3)]
    told = [json.loads(each.communicate(timeout=50)[0]) for each in running]
    assert all(each["ok"] for each in told)
    hooks = json.loads((home / ".claude/settings.json").read_text(encoding="utf-8"))["hooks"]
    assert {len(elements) for elements in hooks.values()} == {1}
    assert run_json(home, "--undo")["ok"]
    assert settings_of(home) == before


def is_waiting(pid: int) -> bool:
    """Does the process wait for a lock?"""
    locks = [line.split() for line in Path("/proc/locks").read_text(encoding="ascii").splitlines()]
    return any(words[1] == "->" and str(pid) in words for words in locks)


def test_one_at_a_time_changes_settings(home: Path) -> None:
    before = settings_of(home)
    with Journal(Machine("linux", environment(home))).alone():
        command = [*SETUP, "--yes", "--no-import", "--json"]
        options: dict[str, Any] = {"env": environment(home), "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
        running = subprocess.Popen(command, **options)
        while running.poll() is None and not is_waiting(running.pid):
            time.sleep(0.05)
        is_unchanged = settings_of(home) == before
    assert json.loads(running.communicate(timeout=50)[0])["applied"]
    assert is_unchanged
    assert settings_of(home) != before


def test_a_machine_without_clients_is_told_what_to_name(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    assert "--client claude-code" in run(tmp_path / "home", code=1)


def test_unknown_clients_and_opposite_wishes_are_refused(home: Path) -> None:
    assert "'claude' is none of claude-code, claude-desktop" in run(home, "--client", "claude", code=2)
    assert "not both" in run(home, "--undo", "--status", code=2)


def test_a_palace_that_cannot_be_used_keeps_no_client_from_being_connected(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "palace" / "palace.db", "this is no database" * 100)
    done = run_json(home, "--yes", "--client", "claude-code", "--palace", str(tmp_path / "palace"), code=1)
    assert [step["result"] for step in done["clients"][0]["steps"]] == ["done", "done"]
    assert "palace.db" in done["errors"][-1]["message"]
    assert run_json(home, "--undo")["ok"]


def test_a_server_that_does_not_start_is_reported(home: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "programs" / "mempalace-mcp"
    wrong.parent.mkdir()
    wrong.write_text("#!/bin/sh\nexit 3\n", encoding="utf-8")
    wrong.chmod(0o755)
    done = run_json(home, "--yes", "--no-import", "--client", "zed", code=1)
    assert done["tools"] is None
    assert "does not start" in done["errors"][0]["message"]


def test_a_palace_on_a_server_is_named_by_a_file(home: Path, tmp_path: Path) -> None:
    secret = "correct-horse"
    with fresh_schema(shared_address().replace("postgres@", f"postgres:{secret}@")) as url:
        env = {**environment(home), "PALACE_URL": url.text}
        done = subprocess.run(
            [*SETUP, "--yes", "--json"],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        report = json.loads(done.stdout)
        assert report["ok"], report
        assert report["palace"] == url.shown
        assert report["imported"]["filed"]
        assert report["search"]["results"]
        assert report["tools"]
        file = Path(report["command"][-1])
        assert report["command"][-2] == "--palace"
        assert file.read_text() == f"{url.text}\n"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        written = [each for each in home.rglob("*") if each.is_file() and each != file]
        holding = [each for each in written if secret.encode() in each.read_bytes()]
        assert not holding
        assert str(file) in (home / ".config/zed/settings.json").read_text()
        hooks = (home / ".claude/settings.json").read_text()
        assert str(file) in hooks
        again = subprocess.run(
            [*SETUP, "--yes", "--palace", str(file)],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        assert b"nothing to do" in again.stdout
        stop = [sys.executable, "-m", "mempalace_mcp", "daemon", "stop"]
        subprocess.run(stop, env=env, check=True, capture_output=True)
