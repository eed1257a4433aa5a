"""`mempalace-mcp hook`, as clients run it, and what the daemon makes of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.cli.hooks import hook_status
from mempalace_mcp.core.config import SETTINGS, load_settings
from mempalace_mcp.daemon.hook import CLIENTS, MODES, VARIABLE
from mempalace_mcp.daemon.hook_reader import MAX_CHARACTERS, TAG, HookReader
from mempalace_mcp.daemon.hook_spool import LOG_FILE, MAX_LOG_BYTES, HookEvent, Spool, note, noted
from mempalace_mcp.runtime.app import open_app
from tests.daemon.support import PROGRAM, bridge, daemon_pid, kill, made, use, wait_for
from tests.server.clients import PATIENCE

SESSION = "5e1f0d3a-0a6b-4c3e-9b0e-0f5a1c2d3e4f"
CRANE = ("Which key stops the crane?", "The red one, held for nine seconds.")


def run_hook(
    palace: Path,
    client: str,
    payload: object,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """The hook as a client runs it, with the event on stdin."""
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return subprocess.run(
        [*PROGRAM, "hook", client, *arguments],
        input=data,
        capture_output=True,
        env={**os.environ, "PALACE_PATH": str(palace), **(environment or {})},
        check=False,
    )


class Transcript:
    """A transcript of Claude Code that grows."""

    def __init__(self, folder: Path, cwd: Path) -> None:
        folder.mkdir(parents=True)
        cwd.mkdir(parents=True)
        self.path = folder / f"{SESSION}.jsonl"
        self.cwd = cwd
        self.began = datetime(2026, 11, 20, 10, tzinfo=UTC)
        self._count = 0

    def say(self, question: str, answer: str) -> None:
        """Add an exchange."""
        with self.path.open("a", encoding="utf-8") as file:
            for role, text in (("user", question), ("assistant", answer)):
                content: object = text if role == "user" else [{"type": "text", "text": text}]
                parent, self._count = self._count, self._count + 1
                record = {
                    "type": role,
                    "uuid": f"record-{self._count}",
                    "parentUuid": f"record-{parent}" if parent else None,
                    "sessionId": SESSION,
                    "timestamp": (self.began + timedelta(seconds=self._count)).isoformat(),
                    "cwd": str(self.cwd),
                    "version": "2.1.332",
                    "isSidechain": False,
                    "message": {"role": role, "content": content},
                }
                file.write(json.dumps(record) + "\n")

    def event(self, name: str, **more: object) -> dict[str, object]:
        """What Claude Code says of the session."""
        return {
            "hook_event_name": name,
            "session_id": SESSION,
            "transcript_path": str(self.path),
            "cwd": str(self.cwd),
            "permission_mode": "default",
            **more,
        }


@pytest.fixture
def transcript(tmp_path: Path) -> Transcript:
    transcript = Transcript(tmp_path / "home" / ".claude" / "projects" / "-work-harbour", tmp_path / "work" / "harbour")
    transcript.say(*CRANE)
    return transcript


def handled(palace: Path) -> list[dict[str, Any]]:
    """The entries of the log about transcripts that were read."""
    return [entry for entry in noted(str(palace)) if "characters" not in entry]


def wait_until_handled(palace: Path, count: int) -> list[dict[str, Any]]:
    wait_for(lambda: len(handled(palace)) >= count and not Spool(str(palace)).count(), f"{count} events")
    return handled(palace)


@pytest.mark.parametrize("client", CLIENTS)
def test_every_client_gets_what_it_can_read(palace: Path, client: str) -> None:
    made(palace)
    for event in ("SessionStart", "Stop", "Something"):
        done = run_hook(palace, client, {"hook_event_name": event, "session_id": "s", "cwd": "/work/harbour"})
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout in (b"", b"{}\n")
        assert client != "gemini" or json.loads(done.stdout) == {}  # this one takes any text for an error


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"[1]", b'"Stop"', b"\xff\xfe\x00", b"[" * 100_000, b'{"hook_event_name": 7, "cwd": ["", 1]}'],
    ids=["nothing", "cut", "list", "text", "bytes", "nested", "types"],
)
def test_whatever_comes_in_does_no_harm(palace: Path, payload: bytes) -> None:
    made(palace)
    done = run_hook(palace, "claude-code", payload)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"{}\n", b"")
    assert Spool(str(palace)).count() == 0


def test_a_stdin_that_stays_open_is_not_waited_for(palace: Path, transcript: Transcript) -> None:
    made(palace)
    with subprocess.Popen(
        [*PROGRAM, "hook", "claude-code", "--palace", str(palace)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(transcript.event("Stop")).encode())
        process.stdin.flush()
        assert process.wait() == 0
    assert Spool(str(palace)).count() == 1


def test_a_palace_that_is_not_there_is_not_made(tmp_path: Path, transcript: Transcript) -> None:
    missing = tmp_path / "gone" / "palace"
    assert run_hook(missing, "claude-code", transcript.event("Stop")).stdout == b"{}\n"
    assert not missing.parent.exists()


def test_what_cannot_be_written_is_no_fault_of_the_client(palace: Path, transcript: Transcript) -> None:
    made(palace)
    shutil.rmtree(palace / "hooks", ignore_errors=True)
    (palace / "hooks").write_text("a file in the way")
    done = run_hook(palace, "claude-code", transcript.event("Stop"))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"{}\n", b"")


def test_hooks_can_be_switched_off(palace: Path, transcript: Transcript) -> None:
    made(palace)
    run_hook(palace, "claude-code", transcript.event("Stop"), environment={VARIABLE: "off"})
    assert Spool(str(palace)).count() == 0
    setting = next(each for each in SETTINGS if each.variable == VARIABLE)
    assert setting.read is not None
    assert [setting.read(mode) for mode in MODES] == list(MODES)
    assert setting.default == MODES[0]


@pytest.mark.parametrize("mode", ["0", "no", "False", "disabled", "offf", "remind,file"])
def test_a_mode_that_is_none_files_nothing_and_is_shown(palace: Path, transcript: Transcript, mode: str) -> None:
    made(palace)
    assert run_hook(palace, "claude-code", transcript.event("Stop"), environment={VARIABLE: mode}).stdout == b"{}\n"
    assert Spool(str(palace)).count() == 0
    assert VARIABLE in str(handled(palace)[0]["error"])
    run_hook(palace, "claude-code", transcript.event("Stop"), environment={VARIABLE: " REMIND "})
    assert Spool(str(palace)).count() == 1


def test_a_hook_imports_next_to_nothing(palace: Path, transcript: Transcript) -> None:
    made(palace)
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "mempalace_mcp", "hook", "claude-code", "--palace", str(palace)],
        input=json.dumps(transcript.event("Stop")).encode(),
        capture_output=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.decode().splitlines()}
    assert "json" in imported
    assert not imported & {
        "socket",
        "hashlib",
        "logging",
        "dataclasses",
        "typing",
        "pathlib",
        "click",
        "numpy",
        "sqlite3",
    }


def test_a_session_is_filed_once_whatever_announces_it(palace: Path, transcript: Transcript) -> None:
    with bridge(palace) as session:
        use(session, 1, "status")
        run_hook(palace, "claude-code", transcript.event("Stop", stop_hook_active=False))
        assert wait_until_handled(palace, 1)[0]["filed"] == 1
        # The same turn again: a plugin beside the settings, the end of the session, and a client that reads them too.
        for event in ("Stop", "SessionEnd"):
            run_hook(palace, "claude-code", transcript.event(event))
        run_hook(palace, "cursor", {**transcript.event("stop"), "conversation_id": "c", "user_email": "a@b.example"})
        wait_for(lambda: not Spool(str(palace)).count(), "the events")
        transcript.say("And which one starts it?", "The green one.")
        run_hook(palace, "claude-code", transcript.event("Stop"))
        wait_for(lambda: any("green" in each["preview"] for each in listed(session)), "the second turn")
        assert len(listed(session)) == 2
        assert {each["wing"] for each in listed(session)} == {"harbour"}
    assert "a@b.example" not in "".join(path.read_text() for path in (palace / "hooks").rglob("*") if path.is_file())


def test_what_windsurf_tells_is_filed(palace: Path, tmp_path: Path) -> None:
    said = (
        ("pre_user_prompt", "user_prompt", "Where is the tide table?"),
        ("post_cascade_response", "response", "On the door of the boathouse."),
        ("pre_user_prompt", "user_prompt", "And the lamp?"),
        ("post_cascade_response", "response", "Beside it."),
    )
    with bridge(palace) as session:
        use(session, 1, "status")
        for number, (action, name, text) in enumerate(said):
            payload = {
                "agent_action_name": action,
                "trajectory_id": "../tra-1",
                "execution_id": f"e{number // 2}",
                "timestamp": f"2026-11-20T10:0{number}:00Z",
                "tool_info": {name: text},
            }
            for _ in range(2):  # of a workspace and of the user
                assert run_hook(palace, "windsurf", payload).stdout == b""
        wait_for(lambda: len(listed(session)) == 2, "both exchanges")
        assert {each["room"] for each in listed(session)} == {"windsurf"}
        assert any(each["preview"].endswith("On the door of the boathouse.") for each in listed(session))
    assert [path.name for path in (palace / "hooks" / "windsurf").iterdir()] == ["tra-1.jsonl"]


def listed(session: Any) -> list[dict[str, Any]]:
    drawers: list[dict[str, Any]] = use(session, os.urandom(4).hex(), "list_drawers")["drawers"]
    return drawers


def test_an_event_without_a_daemon_waits_for_the_next_one(palace: Path, transcript: Transcript) -> None:
    made(palace)
    run_hook(palace, "claude-code", transcript.event("SessionEnd"))
    assert Spool(str(palace)).count() == 1
    shown = subprocess.run([*PROGRAM, "hook", "status", "--palace", str(palace)], capture_output=True, check=True)
    assert b"1 wait: for the end of a turn, or for a daemon" in shown.stdout
    with bridge(palace) as session:
        use(session, 1, "status")
        assert wait_until_handled(palace, 1)[0]["filed"] == 1
    shown = subprocess.run([*PROGRAM, "hook", "status", "--palace", str(palace)], capture_output=True, check=True)
    assert b"SessionEnd  harbour  1 filed" in shown.stdout


def test_a_daemon_that_dies_leaves_the_event_to_the_next_one(palace: Path, transcript: Transcript) -> None:
    with bridge(palace) as session:
        pid = daemon_pid(session)
        os.kill(pid, signal.SIGSTOP)
        run_hook(palace, "claude-code", transcript.event("Stop"))
        spool = next((palace / "hooks" / "spool").iterdir())
        spool.rename(f"{spool}.claimed")  # as the daemon does when it begins
        kill(pid)
        use(session, 2, "status")
        assert wait_until_handled(palace, 1)[0]["filed"] == 1


@pytest.mark.parametrize("event", ["PreCompact", "SubagentStop"])
def test_a_turn_that_nobody_ends_is_filed_once_its_transcript_is_quiet(
    tmp_path: Path, transcript: Transcript, event: str
) -> None:
    transcript.began = datetime.now(UTC)
    transcript.say("Who paints the buoys?", "Nobody since the spring.")
    palace = tmp_path / "p"
    with open_app(load_settings({}, str(palace))) as app, closing(HookReader(app.palace, palace, 0.2)) as reader:
        announced = HookEvent.read("claude-code", transcript.event(event))
        assert announced is not None
        Spool(str(palace)).put(announced)
        reader.start()
        wait_for(lambda: bool(handled(palace)), "the first look")
        assert [entry.get("waiting") for entry in handled(palace)] == [1]
        assert Spool(str(palace)).count() == 1
        assert "1 wait" in hook_status(palace, as_json=False)
        os.utime(transcript.path, (0, 0))  # quiet for long
        entries = wait_until_handled(palace, 2)
        assert [entry.get("filed") for entry in entries] == [1, 1]
        assert "the spring" in app.palace.search("who paints the buoys").hits[0].passage


def test_a_later_event_of_the_session_does_not_wait_for_the_quiet(tmp_path: Path, transcript: Transcript) -> None:
    transcript.began = datetime.now(UTC)
    transcript.say("Who paints the buoys?", "Nobody since the spring.")
    palace = tmp_path / "p"
    with open_app(load_settings({}, str(palace))) as app, closing(HookReader(app.palace, palace, PATIENCE)) as reader:
        reader.start()
        for name, count in (("PreCompact", 1), ("Stop", 2)):
            announced = HookEvent.read("claude-code", transcript.event(name))
            assert announced is not None
            Spool(str(palace)).put(announced)
            wait_for(lambda count=count: len(handled(palace)) == count, name)  # type: ignore[misc]
        assert [entry.get("filed") for entry in handled(palace)] == [1, 1]
        assert Spool(str(palace)).count() == 0


def test_what_is_masked_is_counted(palace: Path, transcript: Transcript) -> None:
    transcript.say("Which token has the ferry's pipeline?", "It is ghp_" + "aB3d" * 9 + ".")
    with bridge(palace) as session:
        use(session, 1, "status")
        run_hook(palace, "claude-code", transcript.event("Stop"))
        assert wait_until_handled(palace, 1)[0]["masked"] == 1


def test_a_session_begins_with_what_is_known_of_its_project(palace: Path, transcript: Transcript) -> None:
    with bridge(palace) as session:
        assert run_hook(palace, "claude-code", transcript.event("SessionStart", source="startup")).stdout == b"{}\n"
        for number in range(30):
            content = f"Berth {number} was dredged. A text ends with </{TAG}>. " + "The water is deep there. " * 20
            use(session, number, "add_drawer", wing="harbour", room="berths", content=content)
        use(session, "other", "add_drawer", wing="kitchen", room="soup", content="Salt comes last.")
        text = reminded(palace, transcript.event("SessionStart", source="startup"))
        assert "Berth 29" in text
        assert "Salt" not in text
        assert text.startswith(f"<{TAG}>")
        assert text.endswith(f"</{TAG}>")
        assert text.count(f"</{TAG}>") == 1
        assert len(text) <= MAX_CHARACTERS
        assert run_hook(palace, "claude-code", transcript.event("SessionStart", source="resume")).stdout == b"{}\n"
        only_file = run_hook(palace, "claude-code", transcript.event("SessionStart"), environment={VARIABLE: "file"})
        assert only_file.stdout == b"{}\n"
        # The text is never filed as what somebody said.
        transcript.say(text, "I see.")
        transcript.say("What is in the soup?", "I do not know.")
        run_hook(palace, "claude-code", transcript.event("Stop"))
        wait_until_handled(palace, 1)
        wing = use(session, "all", "list_drawers", wing="harbour", room="sessions", limit=100)["drawers"]
        assert wing
        assert not [each for each in wing if TAG in each["preview"]]


def reminded(palace: Path, event: dict[str, object]) -> str:
    """The text that a session begins with. A daemon that is busy gives none, so the client asks until there is one."""
    answers: list[dict[str, Any]] = []

    def has_text() -> bool:
        answers.append(json.loads(run_hook(palace, "claude-code", event).stdout))
        return bool(answers[-1])

    wait_for(has_text, "the text")
    text: str = answers[-1]["hookSpecificOutput"]["additionalContext"]
    return text


def test_a_daemon_that_hangs_holds_no_session_up(palace: Path, transcript: Transcript) -> None:
    with bridge(palace) as session:
        pid = daemon_pid(session)
        os.kill(pid, signal.SIGSTOP)
        try:
            done = run_hook(palace, "claude-code", transcript.event("SessionStart", source="startup"))
        finally:
            os.kill(pid, signal.SIGCONT)
    assert (done.returncode, done.stdout) == (0, b"{}\n")


def test_a_transcript_that_is_gone_is_shown_as_an_error(palace: Path, transcript: Transcript) -> None:
    transcript.path.unlink()
    with bridge(palace) as session:
        use(session, 1, "status")
        run_hook(palace, "claude-code", transcript.event("Stop"))
        entry = wait_until_handled(palace, 1)[0]
    assert "filed" not in entry
    assert entry["skipped"] or entry["error"]


@pytest.mark.parametrize(
    ("client", "payload", "kind", "session"),
    [
        ("codex-notify", {"type": "agent-turn-complete", "thread-id": "t-1", "cwd": "/work"}, "turn", "t-1"),
        ("gemini", {"hook_event_name": "AfterAgent", "session_id": "g", "cwd": "/work"}, "turn", "g"),
        ("gemini", {"hook_event_name": "PreCompress", "session_id": "g"}, "pause", "g"),
        ("cursor", {"hook_event_name": "stop", "conversation_id": "c", "workspace_roots": ["/work"]}, "turn", "c"),
        ("copilot", {"hookEventName": "agentStop", "sessionId": "k", "cwd": "/work"}, "turn", "k"),
        ("vscode", {"hook_event_name": "SessionStart", "sessionId": "k", "cwd": "/work"}, "start", "k"),
        ("windsurf", {"agent_action_name": "post_cascade_response", "trajectory_id": "w"}, "turn", "w"),
    ],
)
def test_events_of_every_client_are_understood(
    client: str, payload: dict[str, object], kind: str, session: str
) -> None:
    event = HookEvent.read(client, payload)
    assert event is not None
    assert (event.kind, event.session) == (kind, session)
    assert event.cwd in ("", "/work")


@pytest.mark.parametrize("name", ["PreToolUse", "UserPromptSubmit", "beforeSubmitPrompt", "Notification", "", "start"])
def test_other_events_are_no_business_of_ours(name: str) -> None:
    assert HookEvent.read("claude-code", {"hook_event_name": name}) is None


@pytest.mark.parametrize("path", ["relative/a.jsonl", "/work/../../etc/passwd", "/a\0b", "~nobody-at-all/x"])
def test_a_path_that_is_not_plain_is_not_known(path: str) -> None:
    event = HookEvent.read("claude-code", {"hook_event_name": "Stop", "transcript_path": path})
    assert event is not None
    assert not event.transcript


def test_a_session_has_one_event_and_sessions_have_their_own(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path))
    for folder in ("a", "b"):
        for name in ("PreCompact", "Stop", "SessionEnd"):
            path = f"/work/{'long ' * 40}{folder}/x.jsonl"
            event = HookEvent.read("claude-code", {"hook_event_name": name, "transcript_path": path})
            assert event is not None
            spool.put(event)
    claimed = [(event.transcript, event.name) for _, event in spool.claim()]
    assert sorted(name for _, name in claimed) == ["SessionEnd", "SessionEnd"]
    assert len({transcript for transcript, _ in claimed}) == 2
    assert len(list(spool.claim())) == 2  # until they are dealt with


def test_a_damaged_event_is_dropped(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path))
    folder = tmp_path / "hooks" / "spool"
    folder.mkdir(parents=True)
    for number, text in enumerate(("", "{", "[]", '{"client": "a"}', '{"client": "a", "kind": "turn", "more": 1}')):
        (folder / f"{number}.json").write_text(text)
    assert list(spool.claim()) == []
    assert spool.count() == 0


def test_the_log_of_events_is_bounded(tmp_path: Path) -> None:
    for number in range(3000):
        note(str(tmp_path), {"client": "claude-code", "event": "Stop", "number": number, "cwd": "/work/" + "x" * 200})
    size = sum(path.stat().st_size for path in (tmp_path / "hooks").iterdir())
    assert size < 2 * MAX_LOG_BYTES + 1024
    assert noted(str(tmp_path))[-1]["number"] == 2999
    assert (tmp_path / "hooks" / LOG_FILE).exists()


@pytest.mark.parametrize(
    "fields", [{"transcript": 5}, {"kind": ["turn"]}, {"time": "late"}, {"cwd": None}, {"time": []}]
)
def test_an_event_of_other_types_is_dropped(tmp_path: Path, fields: dict[str, object]) -> None:
    event = HookEvent.read("claude-code", {"hook_event_name": "Stop", "transcript_path": "/work/a.jsonl"})
    assert event is not None
    spool = Spool(str(tmp_path))
    spool.put(event)
    file = next((tmp_path / "hooks" / "spool").iterdir())
    file.write_text(json.dumps({**event.fields, **fields}))
    assert list(spool.claim()) == []
    file.write_text("[" * 100_000)
    assert list(spool.claim()) == []
    assert spool.count() == 0


def test_an_event_that_always_fails_holds_up_no_other(palace: Path, transcript: Transcript) -> None:
    with bridge(palace) as session:
        use(session, 1, "status")
        run_hook(palace, "claude-code", {**transcript.event("Stop"), "transcript_path": "/work/\ud800.jsonl"})
        run_hook(palace, "claude-code", transcript.event("Stop"))
        first, second = wait_until_handled(palace, 2)
    assert first.get("error") or first["skipped"]
    assert second["filed"] == 1
    for more in ((), ("--json",)):
        shown = subprocess.run(
            [*PROGRAM, "hook", "status", *more],
            env={**os.environ, "PALACE_PATH": str(palace)},
            capture_output=True,
            check=True,
        )
        assert b"filed" in shown.stdout


def test_a_folder_is_no_transcript(palace: Path, transcript: Transcript) -> None:
    with bridge(palace) as session:
        use(session, 1, "status")
        for folder in (transcript.path.parent, transcript.path.parent.parent):
            run_hook(palace, "claude-code", {**transcript.event("Stop"), "transcript_path": str(folder)})
        entries = wait_until_handled(palace, 2)
    assert all("folder" in entry["error"] and "filed" not in entry for entry in entries)


def test_the_palace_may_stand_behind_an_equals_sign(palace: Path, transcript: Transcript) -> None:
    made(palace)
    run_hook(palace.parent / "other", "claude-code", transcript.event("Stop"), f"--palace={palace}")
    assert Spool(str(palace)).count() == 1


def test_an_end_of_a_turn_without_a_transcript_is_looked_up_where_its_client_keeps_them(
    palace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODEX_HOME", str(tmp_path / "codex"))
    with bridge(palace) as session:
        use(session, 1, "status")
        event = {"type": "agent-turn-complete", "thread-id": "t-1", "cwd": str(tmp_path)}
        run_hook(palace, "codex-notify", b"", json.dumps(event))
        run_hook(palace, "some-agent", {"hook_event_name": "Stop", "session_id": "s"})
        notified, unknown = wait_until_handled(palace, 2)
    assert "error" not in notified
    assert "names no transcript" in unknown["error"]


def test_a_damaged_log_is_shown_as_far_as_it_goes(palace: Path) -> None:
    made(palace)
    note(str(palace), {"client": "claude-code", "event": "Stop", "cwd": "/work/harbour", "filed": 7})
    with (palace / "hooks" / LOG_FILE).open("ab") as log:
        log.write(
            b'\xff\xfe\n{"time": "late", "client": 5, "skipped": [1]}\n{"client": "\x1b[2J", "cwd": "a\\u001b[2Jb"}\n'
        )
        log.write(b"[" * 100_000 + b'\n{"cwd": "\\ud800", "filed": 3, "time": 1e300}\n{"filed": 9')
    for more in ((), ("--json",)):
        shown = subprocess.run(
            [*PROGRAM, "hook", "status", *more],
            env={**os.environ, "PALACE_PATH": str(palace)},
            capture_output=True,
            check=False,
        )
        assert (shown.returncode, shown.stderr) == (0, b"")
        assert b"7" in shown.stdout
        assert b"\x1b" not in shown.stdout
