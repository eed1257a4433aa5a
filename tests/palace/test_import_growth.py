"""Files that are being written: what is finished is filed once, and what is known is not read again."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.model import Drawer
from mempalace_mcp.palace.importers import FileState, Resume
from mempalace_mcp.palace.importers.claude_code import read_transcript
from mempalace_mcp.palace.importers.documents import Document, Source
from mempalace_mcp.palace.importers.file_state import format_place, read_place
from mempalace_mcp.palace.importing import QUIET_SECONDS
from mempalace_mcp.runtime.app import App
from mempalace_mcp.storage import imports
from tests.palace.importers.test_claude_code import Session
from tests.palace.support import opened
from tests.palace.test_importing import run

pytestmark = pytest.mark.long


@pytest.fixture
def session() -> Session:
    return Session()


def exchange(session: Session, number: int, **ending: Any) -> None:
    """A question and its answer, both of this moment."""
    now = {"timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z")}
    session.user(f"Question {number}?", **now)
    session.assistant(f"Answer {number}.", **now)
    session.records[-1]["message"] |= ending


def drawers(app: App) -> list[Drawer]:
    return list(app.palace.list_drawers(limit=100).items)


def contents(app: App) -> set[str]:
    return {drawer.content for drawer in drawers(app)}


def marks_in(text: str) -> set[str]:
    """The prompts and answers of `some_session` in a text."""
    return set(re.findall(r"<\d+(?:\.\d+)?>", text))


def place(app: App, path: Path) -> Resume | None:
    with app.database.read() as connection:
        known = imports.find_file(connection, str(path))
    return None if known is None else read_place(path, FileState.read(known.state).place, False)


def test_the_last_exchange_waits_while_it_may_go_on(tmp_path: Path, session: Session) -> None:
    exchange(session, 1)
    exchange(session, 2)
    path = session.write(tmp_path)
    with opened(tmp_path / "palace", started=False) as app:
        told = run(app, path)
        assert (told["filed"], told["waiting"]) == (1, 1)
        told = run(app, path)
        assert (told["filed"], told["unchanged"], told["waiting"]) == (0, 1, 1)
        exchange(session, 3)
        session.write(tmp_path)
        assert run(app, path)["filed"] == 1
        assert contents(app) == {f"User: Question {number}?\n\nAssistant: Answer {number}." for number in (1, 2)}


def finish_quietly(session: Session) -> None:
    """As without a window: snapshots and messages of the client follow the answer."""
    session.records[-1]["message"]["stop_reason"] = "end_turn"
    session.add("attachment", attachment={"type": "prompt_snapshot", "systemPrompt": ["…"]})
    session.user("<system-reminder>The session has a name now.</system-reminder>", isMeta=True)
    session.other("last-prompt", lastPrompt="Question 1?", leafUuid=session.leaf)


@pytest.mark.parametrize(
    "finish",
    [
        lambda session: session.records[-1]["message"].update(stop_reason="end_turn"),
        lambda session: session.add("system", subtype="turn_duration", durationMs=5),
        lambda session: finish_quietly(session),
    ],
)
def test_an_exchange_of_which_the_file_says_that_it_is_over_is_filed(
    tmp_path: Path, session: Session, finish: Any
) -> None:
    exchange(session, 1)
    finish(session)
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, session.write(tmp_path))["filed"] == 1


@pytest.mark.parametrize("more", [lambda session: session.user("And?"), lambda session: session.tool("Bash", "1")])
def test_an_answer_is_not_the_last_word_when_something_follows(tmp_path: Path, session: Session, more: Any) -> None:
    exchange(session, 1, stop_reason="end_turn")
    more(session)
    session.records[-1]["timestamp"] = session.records[0]["timestamp"]
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, session.write(tmp_path))["waiting"] == 1


@pytest.mark.parametrize("offset", [-QUIET_SECONDS - 5, 30 * 86_400])
def test_a_file_that_is_quiet_or_of_a_wrong_clock_is_finished(tmp_path: Path, session: Session, offset: float) -> None:
    exchange(session, 1)
    path = session.write(tmp_path)
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, path)["waiting"] == 1
        moment = time.time() + offset
        os.utime(path, (moment, moment))
        told = run(app, path)
        assert (told["filed"], told["waiting"]) == (1, 0)


def test_a_hook_knows_that_the_turn_is_over(tmp_path: Path, session: Session) -> None:
    exchange(session, 1)
    path = session.write(tmp_path)
    with opened(tmp_path / "palace", started=False) as app:
        assert run(app, path, turn_ended=True)["filed"] == 1
        (early,) = drawers(app)
        session.assistant("And one thing more.")
        session.write(tmp_path)
        told = run(app, path, turn_ended=True)
        assert (told["filed"], told["updated"]) == (0, 1)
        (late,) = drawers(app)
        assert late.drawer_id == early.drawer_id
        assert late.content.endswith("Answer 1.\n\nAnd one thing more.")


def test_a_dry_run_says_what_waits(tmp_path: Path, session: Session) -> None:
    exchange(session, 1)
    exchange(session, 2)
    with opened(tmp_path / "palace", started=False) as app:
        told = run(app, session.write(tmp_path), dry_run=True)
        assert (told["filed"], told["waiting"]) == (1, 1)
        assert drawers(app) == []


def test_a_file_that_has_grown_is_read_from_its_last_exchange_on(tmp_path: Path, session: Session) -> None:
    for number in range(1, 8):
        exchange(session, number, stop_reason="end_turn")
    path = session.write(tmp_path)
    size = path.stat().st_size
    with opened(tmp_path / "palace", started=False) as app:
        run(app, path)
        known = place(app, path)
        assert known is not None
        assert size * 5 // 7 < known.offset < size
        assert known.memo == "Question 1?"
        again = [each for each in read_transcript(Source(path, resume=known)) if isinstance(each, Document)]
        assert [each.content.splitlines()[0] for each in again] == ["User: Question 7?"]
        exchange(session, 8, stop_reason="end_turn")
        session.write(tmp_path)
        told = run(app, path)
        assert (told["files"], told["filed"], told["unchanged"], told["updated"]) == (1, 1, 7, 0)
        told = run(app, path)
        assert (told["filed"], told["unchanged"]) == (0, 8)
        assert {drawer.metadata["title"] for drawer in drawers(app)} == {"Question 1?"}
        assert (place(app, path) or known).offset > known.offset


def test_a_file_whose_beginning_changed_is_read_anew(tmp_path: Path, session: Session) -> None:
    for number in range(1, 5):
        exchange(session, number, stop_reason="end_turn")
    path = session.write(tmp_path)
    with opened(tmp_path / "palace", started=False) as app:
        run(app, path)
        other = Session("other")
        exchange(other, 9, stop_reason="end_turn")
        session.records = [*other.records, *session.records]
        session.write(tmp_path)
        assert place(app, path) is None
        assert run(app, path)["filed"] == 1
        session.records = session.records[:2]
        session.write(tmp_path)
        told = run(app, path)
        assert (told["filed"], told["unchanged"], len(drawers(app))) == (0, 1, 5)


def test_line_numbers_of_problems_are_those_of_the_file(tmp_path: Path, session: Session) -> None:
    exchange(session, 1, stop_reason="end_turn")
    exchange(session, 2, stop_reason="end_turn")
    path = session.write(tmp_path)
    with opened(tmp_path / "palace", started=False) as app:
        run(app, path)
        with path.open("a") as file:
            file.write("broken\n")
        assert run(app, path)["problems"] == [{"path": str(path), "reason": "not JSON", "lines": [5]}]
        exchange(session, 3, stop_reason="end_turn")
        assert run(app, path)["problems"], "it is told at each run"


def test_a_prompt_that_was_queued_before_the_place_is_filed_once(tmp_path: Path, session: Session) -> None:
    exchange(session, 1, stop_reason="end_turn")
    session.other("queue-operation", operation="enqueue", timestamp="2026-10-01T08:00:00Z", content="And then?")
    session.assistant("Still at it.")
    exchange(session, 2, stop_reason="end_turn")
    exchange(session, 3, stop_reason="end_turn")
    path = session.write(tmp_path)
    with opened(tmp_path / "palace", started=False) as app:
        run(app, path)
        assert [drawer.content.count("And then?") for drawer in drawers(app)].count(1) == 1
        session.user("And then?", promptSource="queued")
        session.assistant("Nothing.")
        exchange(session, 4, stop_reason="end_turn")
        session.write(tmp_path)
        run(app, path)
        assert sum(drawer.content.count("And then?") for drawer in drawers(app)) == 1


def test_records_without_ids_are_counted_from_the_beginning(tmp_path: Path, session: Session) -> None:
    path = tmp_path / "s.jsonl"
    with opened(tmp_path / "palace", started=False) as app:
        for count in (1, 2, 3):
            session.user("Go on.", uuid=None, timestamp="2026-10-01T08:00:00Z")
            session.assistant("Gone on.", uuid=None, timestamp="2026-10-01T08:00:00Z")
            session.write(tmp_path, "s")
            run(app, path)
            assert sum(drawer.content.count("Go on.") for drawer in drawers(app)) == 1
            with app.database.read() as connection:
                known = imports.find_file(connection, str(path))
            assert known is not None
            assert FileState.read(known.state).place == "", count


def test_a_sub_agent_in_the_file_of_its_session_reports_with_its_task(tmp_path: Path, session: Session) -> None:
    side = {"isSidechain": True, "agentId": "a1"}
    exchange(session, 1, stop_reason="end_turn")
    session.user("Count the lamps.", **side)
    exchange(session, 2, stop_reason="end_turn")
    exchange(session, 3, stop_reason="end_turn")
    path = session.write(tmp_path)
    with opened(tmp_path / "palace", started=False) as app:
        run(app, path)
        session.assistant("Two lamps.", **side)
        session.write(tmp_path)
        run(app, path, turn_ended=True)
        assert "Task: Count the lamps.\n\nReport: Two lamps." in contents(app)


def test_drawers_that_were_purged_do_not_come_back_when_the_file_grows(tmp_path: Path, session: Session) -> None:
    for number in range(1, 4):
        exchange(session, number, stop_reason="end_turn")
    path = session.write(tmp_path)
    with opened(tmp_path / "palace", started=False) as app:
        run(app, path)
        gone = [drawer.drawer_id for drawer in drawers(app) if "Question 3" in drawer.content]
        app.palace.delete_drawers(drawer_ids=gone)
        exchange(session, 4, stop_reason="end_turn")
        session.write(tmp_path)
        told = run(app, path)
        assert (told["filed"], told["unchanged"], told["in_trash"]) == (1, 2, 1)
        app.writer.write(lambda tx: app.stores.drawers.purge(tx, tx.stamp.instant, 100), Deadline())
        exchange(session, 5, stop_reason="end_turn")
        session.write(tmp_path)
        told = run(app, path)
        assert (told["filed"], told["in_trash"]) == (1, 1)
        assert len(drawers(app)) == 4


def test_states_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(b"x" * 10_000 + b"\n")
    for memo in ("", "A title: with | bars and : colons", "Überschrift\n"):
        text = str(FileState("3:17:4:abc", format_place(path, Resume(9_000, 12, memo), False), 4))
        assert FileState.read(text).fingerprint == "3:17:4:abc"
        assert FileState.read(text).drawers == 4
        assert read_place(path, FileState.read(text).place, False) == Resume(9_000, 12, memo)
        assert read_place(path, FileState.read(text).place, True) is None
    assert FileState.read("3:17:4:abc") == FileState("3:17:4:abc")
    assert FileState.read(None) == FileState("")
    path.write_bytes(b"x" * 8_000)
    assert read_place(path, FileState.read(text).place, False) is None


def some_session(dice: Random) -> Session:
    """A session of any shape: long answers, tools, queued prompts, rewinds, sub-agents."""
    session = Session(f"s-{dice.random()}")
    for number in range(dice.randint(2, 9)):
        if dice.random() < 0.3:
            session.other(
                "queue-operation", operation="enqueue", timestamp="2026-10-01T08:00:00Z", content=f"<{number}> ask"
            )
        fields = {"uuid": None} if dice.random() < 0.05 else {}
        session.user(f"<{number}> ask", **fields)
        for part in range(dice.randint(0, 3)):
            session.assistant(f"<{number}.{part}> " + "word " * dice.choice((1, 30, 1800)))
            if dice.random() < 0.3:
                session.tool("Bash", "output")
        if dice.random() < 0.1:
            session.assistant("Report.", isSidechain=True, agentId=f"a{number}")
        if dice.random() < 0.2:
            session.leaf = dice.choice([None, *prompts_of(session)])
    return session


def prompts_of(session: Session) -> list[str | None]:
    """The records before the prompts of the present branch: clients offer to go back to these."""
    records = {record["uuid"]: record for record in session.records if record.get("uuid")}
    before, leaf = [], session.leaf
    while leaf in records:
        if records[leaf].get("promptSource") == "typed":
            before.append(records[leaf]["parentUuid"])
        leaf = records[leaf]["parentUuid"]
    return before


def some_cuts(dice: Random, data: bytes) -> Iterator[bytes]:
    """The file as it grows, also in the midst of lines."""
    for cut in sorted(dice.randint(0, len(data)) for _ in range(dice.randint(1, 5))):
        yield data[:cut]
    yield data


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(seed=437112)  # so it is after a prompt that was taken back with its answer
@example(seed=28231122)  # a prompt follows the report of a sub-agent
@example(seed=850)  # the user goes back to the beginning after that
@example(seed=1129426)  # a prompt that is filed is taken back
@example(seed=1557)  # a prompt is taken back, and later the user goes back to a point before it
@given(seed=st.integers(0, 1 << 32))
def test_a_file_that_is_read_as_it_grows_loses_and_doubles_nothing(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    dice = Random(seed)
    folder = tmp_path_factory.mktemp("growth")
    lines = [json.dumps(record, separators=(",", ":")) for record in some_session(dice).records]
    data = "".join(f"{line}\n" for line in lines).encode()
    path = folder / "s.jsonl"
    path.write_bytes(data)
    with opened(folder / "at once", started=False) as app:
        run(app, path)
        expected = "\n".join(sorted(contents(app)))
    with opened(folder / "growing", started=False) as app:
        for written in some_cuts(dice, data):
            path.write_bytes(written)
            told = run(app, path, turn_ended=dice.random() < 0.5)
            assert told["files"] or not told["filed"]
        found = "\n".join(sorted(contents(app)))
        again = run(app, path)
        assert (again["filed"], again["updated"]) == (0, 0)
        # What was filed before the user took it back is a drawer of the palace, and no longer one of the file.
        withdrawn = sum(1 for text in contents(app) if marks_in(text) and not marks_in(text) & marks_in(expected))
        assert len(drawers(app)) - withdrawn <= again["unchanged"] <= len(drawers(app))
    for mark in [f"<{number}> ask" for number in range(9)] + [f"<{n}.{part}>" for n in range(9) for part in range(3)]:
        # a prompt may have been filed before the user took it back
        assert expected.count(mark) <= found.count(mark) <= 1, (seed, mark)
