"""Whatever becomes of the files of a client, what was said in them is filed once and stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64encode
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from random import Random
from threading import Event
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.model import Drawer
from mempalace_mcp.runtime.app import App
from mempalace_mcp.storage.transactions import Transaction
from tests.palace.earlier import record, said, write
from tests.palace.support import environment_of, opened
from tests.palace.test_importing import run

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("each_store")]

REPOSITORY = Path(__file__).parents[2]


def session(*numbers: int, name: str = "s-1") -> list[dict[str, Any]]:
    return [each for number in numbers for each in said(number * 10, name)]


def drawers(app: App) -> list[Drawer]:
    found: list[Drawer] = []
    cursor = None
    while True:
        page = app.palace.list_drawers(limit=100, cursor=cursor)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found


def holders(app: App, text: str) -> list[str]:
    return [drawer.drawer_id for drawer in drawers(app) if text in drawer.content]


def answer(number: int, text: str, name: str = "s-1", **fields: Any) -> dict[str, Any]:
    return record("assistant", number, [{"type": "text", "text": text}], name, **fields)


REWRITES = {
    "one new turn": lambda old: session(99),
    "empty": lambda old: [],
    "cut in the middle": lambda old: old[: len(old) // 2],
    "lost its first": lambda old: old[10:],
    "lost its middle": lambda old: [*old[:7], *old[22:]],
    "in another order": lambda old: [*old[15:], *old[:15]],
    "every second record": lambda old: old[::2],
    "answers only": lambda old: [each for each in old if each["type"] == "assistant"],
}


@pytest.mark.parametrize("rewrite", REWRITES.values(), ids=REWRITES.keys())
def test_a_transcript_that_was_rewritten_takes_nothing_away(tmp_path: Path, rewrite: Any) -> None:
    path = write(tmp_path / "s.jsonl", session(*range(1, 13)))
    with opened(tmp_path / "palace", started=False) as app:
        run(app, path)
        before = {drawer.drawer_id: drawer.content for drawer in drawers(app)}
        write(path, rewrite(session(*range(1, 13))))
        told = run(app, path)
        after = {drawer.drawer_id: drawer.content for drawer in drawers(app)}
        assert (told["removed"], told["updated"]) == (0, 0)
        assert before.items() <= after.items()
        assert all(len(holders(app, f"Pier {number * 10} is")) == 1 for number in range(1, 13))


def test_a_transcript_that_was_deleted_takes_nothing_away(tmp_path: Path) -> None:
    folder = tmp_path / "projects"
    folder.mkdir()
    write(folder / "a.jsonl", session(1, 2))
    write(folder / "b.jsonl", session(3))
    with opened(tmp_path / "palace", started=False) as app:
        run(app, folder)
        (folder / "a.jsonl").unlink()
        told = run(app, folder)
        assert (told["removed"], told["missing"], told["filed"]) == (0, 0, 0)
        assert len(drawers(app)) == 3


def test_an_answer_that_is_still_being_written_updates_its_drawer(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    whole = [*session(1, 2), answer(30, "One thing more."), answer(31, "And another.")]
    ids = set()
    with opened(tmp_path / "palace", started=False) as app:
        for count in range(4, len(whole) + 1):
            write(path, whole[:count])
            run(app, path)
            ids.add(holders(app, "Question 20:")[0])
        assert len(ids) == 1
        assert len(drawers(app)) == 2
        (drawer,) = (each for each in drawers(app) if each.drawer_id in ids)
        assert drawer.content.endswith("Pier 20 is 140 metres long.\n\nOne thing more.\n\nAnd another.")


def test_a_record_whose_text_grew_updates_and_one_that_shrank_does_not(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", [*session(1), answer(13, "The lamp is")])
    with opened(tmp_path / "palace", started=False) as app:
        run(app, path)
        (before,) = drawers(app)
        write(path, [*session(1), answer(13, "The lamp is green, and it turns.")])
        assert run(app, path)["updated"] == 1
        (grown,) = drawers(app)
        assert grown.drawer_id == before.drawer_id
        assert grown.content.count("The lamp is") == 1
        assert grown.content.endswith("green, and it turns.")
        write(path, [*session(1)[:2], answer(13, "The lamp")])
        assert run(app, path)["updated"] == 0
        assert drawers(app) == [grown]


def test_an_answer_with_encoded_bytes_joins_its_question_however_it_is_read(tmp_path: Path) -> None:
    pasted = b64encode(Random(9).randbytes(40_000)).decode()
    whole = [record("user", 10, f"Whose is this seal?\n{pasted}"), answer(11, "Look:"), answer(12, "The mayor's.")]
    path = tmp_path / "s.jsonl"
    with opened(tmp_path / "palace", started=False) as app:
        for count in (1, 2, 3):
            write(path, whole[:count])
            run(app, path)
        (drawer,) = drawers(app)
        assert drawer.content == f"User: Whose is this seal?\n{pasted}\n\nAssistant: Look:\n\nThe mayor's."


def test_a_record_that_says_something_else_now_adds_to_its_drawer(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", session(1))
    with opened(tmp_path / "palace", started=False) as app:
        run(app, path)
        write(path, [*session(1)[:2], answer(12, "Pier ten was pulled down.")])
        run(app, path)
        run(app, path)
        (drawer,) = drawers(app)
        assert drawer.content.count("Pier 10 is 70 metres long.") == 1
        assert drawer.content.count("Pier ten was pulled down.") == 1


def test_forks_and_resumed_sessions_are_filed_once(tmp_path: Path) -> None:
    with opened(tmp_path / "palace", started=False) as app:
        write(tmp_path / "a.jsonl", session(1, 2, 3))
        for number in range(5):
            name = f"fork-{number}"
            write(tmp_path / f"{name}.jsonl", session(1, 2, 3, 50 + number, name=name))
        told = run(app, tmp_path)
        assert told["filed"] == len(drawers(app)) == 8
        assert told["unchanged"] == 15
        again = run(app, tmp_path)
        assert (again["filed"], again["unchanged"]) == (0, 23)


def test_a_dry_run_counts_forks_once(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", session(1, 2, 3))
    write(tmp_path / "b.jsonl", session(1, 2, 3, 4, name="s-2"))
    with opened(tmp_path / "palace", started=False) as app:
        trial = run(app, tmp_path, dry_run=True)
        assert drawers(app) == []
        told = run(app, tmp_path)
        assert {name: trial[name] for name in ("filed", "unchanged", "updated")} == {
            name: told[name] for name in ("filed", "unchanged", "updated")
        }


def test_a_fork_in_the_middle_of_an_answer_keeps_both_ends(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", session(1))
    write(tmp_path / "b.jsonl", [*session(1)[:2], answer(15, "No: it is a quay.", "s-2")])
    with opened(tmp_path / "palace", started=False) as app:
        run(app, tmp_path)
        assert len(holders(app, "Let me look at pier 10.")) == 1
        (end,), (other,) = holders(app, "Pier 10 is 70 metres long."), holders(app, "it is a quay")
        assert end != other


def test_what_is_said_again_in_other_words_is_not_taken_for_the_same(tmp_path: Path) -> None:
    yes, longer, more = answer(11, "Yes."), answer(12, "The lamp says: Yes. Twice."), answer(13, "Good night.")
    path = write(tmp_path / "s.jsonl", [record("user", 10, "Is it lit?"), yes, longer])
    with opened(tmp_path / "palace", started=False) as app:
        run(app, path)
        write(path, [record("user", 10, "Is it lit?"), longer, more])
        run(app, path)
        (drawer,) = drawers(app)
        assert drawer.content.split("\n\n") == [
            "User: Is it lit?",
            "Assistant: Yes.",
            "The lamp says: Yes. Twice.",
            "Good night.",
        ]


def test_a_queued_prompt_that_becomes_a_record_later_is_filed_once(tmp_path: Path) -> None:
    queued = {
        "type": "queue-operation",
        "operation": "enqueue",
        "content": "Mind the tide.",
        "timestamp": "2026-05-17T12:10:00.000Z",
        "sessionId": "s-1",
    }
    running = [*session(1), queued, answer(14, "Still at it.")]
    later = [answer(15, "Done."), record("user", 16, "Mind the tide.", promptSource="queued"), answer(17, "I do.")]
    path = write(tmp_path / "s.jsonl", running)
    with opened(tmp_path / "palace", started=False) as app:
        run(app, path)
        write(path, [*running, *later])
        run(app, path)
        write(tmp_path / "fork.jsonl", [*session(1), *running[4:], *later])
        run(app, tmp_path)
        for text in ("Mind the tide.", "Still at it.", "Done.", "I do."):
            assert sum(drawer.content.count(text) for drawer in drawers(app)) == 1, text


def test_records_without_ids_are_known_by_text_and_time(tmp_path: Path) -> None:
    def anonymous(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{name: value for name, value in each.items() if name != "uuid"} for each in records]

    path = write(tmp_path / "a.jsonl", anonymous(session(1, 2, 3)))
    with opened(tmp_path / "palace", started=False) as app:
        run(app, path)
        write(path, anonymous(session(2, 3, 4)))
        write(tmp_path / "b.jsonl", anonymous(session(1, 2, 5, name="s-2")))
        told = run(app, tmp_path)
        assert (told["filed"], told["updated"], told["removed"]) == (2, 0, 0)
        assert len(drawers(app)) == 5


def test_exchanges_that_nothing_tells_apart_are_filed_once_and_counted_so(tmp_path: Path) -> None:
    def nameless(each: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in each.items() if name not in ("uuid", "timestamp")}

    turns = [record("user", 10, "Go on."), answer(11, "Done.")] * 3
    path = write(tmp_path / "s.jsonl", [nameless(each) for each in turns])
    with opened(tmp_path / "palace", started=False) as app:
        told = run(app, path)
        assert (told["filed"], told["unchanged"], len(drawers(app))) == (1, 0, 1)
        again = run(app, path)
        assert (again["filed"], again["unchanged"]) == (0, 1)


def test_a_file_begun_late_and_found_whole_afterwards_is_one_drawer(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", session(1)[1:])
    with opened(tmp_path / "palace", started=False) as app:
        run(app, path)
        (before,) = drawers(app)
        write(path, session(1))
        run(app, path)
        (after,) = drawers(app)
        assert after.drawer_id == before.drawer_id
        assert after.content.startswith("User: Question 10")


def test_what_somebody_edited_is_not_overwritten_and_what_is_new_is_filed(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", session(1))
    with opened(tmp_path / "palace", started=False) as app:
        run(app, path)
        (drawer,) = drawers(app)
        app.palace.update_drawer(drawer.drawer_id, content="In my own words.", metadata={"mine": 1})
        write(path, [*session(1), answer(15, "It was painted red.")])
        told = run(app, path)
        assert told["filed"] == 1
        assert {each.content for each in drawers(app)} == {"In my own words.", "Assistant: It was painted red."}
        assert run(app, path)["filed"] == 0


def test_what_was_deleted_stays_so_and_what_is_new_is_filed(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", session(1, 2))
    with opened(tmp_path / "palace", started=False) as app:
        run(app, path)
        app.palace.delete_drawers(drawer_ids=holders(app, "Question 10:"))
        assert (run(app, path)["in_trash"], len(drawers(app))) == (1, 1)
        write(path, [*session(1, 2), *session(3)])
        told = run(app, path)
        assert (told["filed"], told["in_trash"]) == (1, 1)
        app.writer.write(lambda tx: app.stores.drawers.purge(tx, tx.stamp.instant, 100), Deadline())
        write(path, session(1, 2, 3, 4))
        told = run(app, path)
        assert (told["filed"], told["in_trash"]) == (1, 1), "it was purged, and does not come back"
        assert holders(app, "Question 10:") == []


def test_a_name_of_somebodys_own_does_not_cut_a_drawer_from_its_records(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", session(1))
    with opened(tmp_path / "palace", started=False) as app:
        run(app, path)
        (drawer,) = drawers(app)
        app.palace.update_drawer(drawer.drawer_id, source_file="ticket 7", wing="elsewhere", metadata={})
        write(path, [*session(1), answer(15, "It was painted red.")])
        assert (run(app, path)["updated"], len(drawers(app))) == (1, 1)
        (after,) = drawers(app)
        assert (after.source_file, after.wing, after.metadata) == ("ticket 7", "elsewhere", {})


def test_a_moved_transcript_takes_its_drawers_along_and_a_copy_does_not(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", session(1, 2))
    with opened(tmp_path / "palace", started=False) as app:
        run(app, path)
        write(tmp_path / "copy.jsonl", session(1, 2))
        assert run(app, tmp_path / "copy.jsonl")["moved"] == 0
        path.unlink()
        told = run(app, path.parent / "copy.jsonl")
        assert (told["filed"], told["moved"]) == (0, 0), "the file is as it was, and nothing is read anew"
        moved = (tmp_path / "copy.jsonl").rename(tmp_path / "moved.jsonl")
        told = run(app, moved)
        assert (told["filed"], told["moved"]) == (0, 2)
        assert {drawer.source_file for drawer in drawers(app)} == {str(moved)}


def test_another_wing_is_told_of_and_not_taken(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", session(1, 2))
    with opened(tmp_path / "palace", started=False) as app:
        run(app, path)
        for _ in range(2):
            told = run(app, path, wing="other")
            assert (told["filed"], told["unchanged"], told["elsewhere"]) == (0, 2, {"harbour": 2})
        assert run(app, path, wing="HARBOUR")["elsewhere"] == {}


def test_two_processes_that_import_forks_at_once_double_nothing(tmp_path: Path) -> None:
    count = 60
    write(tmp_path / "a.jsonl", session(*range(1, count)))
    write(tmp_path / "b.jsonl", session(*range(1, count), name="s-2"))
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom mempalace_mcp.core.config import load_settings\n"
        "from mempalace_mcp.runtime.app import open_app\n"
        "with open_app(load_settings(os.environ)) as app:\n"
        "    print('ready', flush=True)\n    sys.stdin.readline()\n"
        "    print(sum(step.filed for step in app.palace.import_paths([Path(sys.argv[1])])))\n"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / name)],
            env=os.environ | environment_of(tmp_path / "palace"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
        for name in ("a.jsonl", "b.jsonl")
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    outputs = [child.communicate("go\n")[0] for child in children]
    assert sum(map(int, outputs)) == count - 1
    with opened(tmp_path / "palace", started=False) as app:
        assert len(drawers(app)) == count - 1


def test_what_another_import_files_meanwhile_is_not_filed_again(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", session(1, 2, 3))
    write(tmp_path / "b.jsonl", session(1, 2, 3, name="s-2"))
    held, release = Event(), Event()

    def hold(_: Transaction) -> None:
        held.set()
        release.wait()

    with ExitStack() as stack, ThreadPoolExecutor(3) as threads:
        holder, *importers = (stack.enter_context(opened(tmp_path / "palace", started=False)) for _ in range(3))
        stack.callback(release.set)
        holding = threads.submit(holder.database.write, hold, Deadline())
        held.wait()
        told = [
            threads.submit(run, app, tmp_path / name)
            for app, name in zip(importers, ("a.jsonl", "b.jsonl"), strict=True)
        ]
        while not all(app.writer.statistics().committing for app in importers):
            release.wait(0.01)  # until both have decided what they would file, and wait for the lock
        release.set()
        holding.result()
        assert sorted(each.result()["filed"] for each in told) == [0, 3]
        assert len(drawers(holder)) == 3


def test_long_exchanges_stay_in_their_parts_as_they_grow(tmp_path: Path) -> None:
    records = [record("user", 1, "Tell me all."), *(answer(2 + n, f"Step {n}: " + f"w{n} " * 700) for n in range(12))]
    path = tmp_path / "s.jsonl"
    with opened(tmp_path / "palace", started=False) as app:
        for count in (1, 2, 5, 9, 13):
            write(path, records[:count])
            run(app, path)
        assert [len(holders(app, f"Step {n}:")) for n in range(12)] == [1] * 12
        parts = {drawer.drawer_id for drawer in drawers(app)}
        write(path, records[6:])
        assert run(app, path)["filed"] == 0
        assert {drawer.drawer_id for drawer in drawers(app)} == parts


def some_history(dice: Random) -> list[dict[str, Any]]:
    """Exchanges of any shape, some with rewinds, tool results and long answers."""
    records: list[dict[str, Any]] = []
    number = 0
    for _ in range(dice.randint(1, 8)):
        for kind, count in (("user", dice.choice((1, 1, 1, 2))), ("assistant", dice.choice((0, 1, 1, 2, 4)))):
            for _ in range(count):
                number += 1
                text = f"<{number}> " + f"word{number} " * dice.choice((1, 5, 40, 900))
                records.append(record(kind, number, text))
    return records


def some_rewrite(dice: Random, records: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The history as a client might leave it: forked, cut, thinned, shuffled, or grown."""
    cut = sorted(dice.randint(0, len(records)) for _ in range(2))
    rest = dice.choice(
        (records, records[: cut[1]], records[cut[0] :], records[: cut[0]] + records[cut[1] :], records[cut[0] : cut[1]])
    )
    kept = [each for each in rest if dice.random() < dice.choice((1.0, 1.0, 0.8))]
    return [{**each, "sessionId": name} for each in kept]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32))
def test_no_sequence_of_rewrites_loses_or_doubles_anything(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    dice = Random(seed)
    folder = tmp_path_factory.mktemp("history")
    records = some_history(dice)
    told: set[int] = set()
    with opened(folder / "palace", started=False) as app:
        for _ in range(dice.randint(2, 7)):
            name = dice.choice(("a", "b", "c"))
            known = records[: dice.randint(1, len(records))]
            written = some_rewrite(dice, known, name)
            path = write(folder / f"{name}.jsonl", written)
            ids = {drawer.drawer_id for drawer in drawers(app)}
            run(app, path)
            told |= {int(each["uuid"][2:]) for each in written}
            contents = [drawer.content for drawer in drawers(app)]
            assert ids <= {drawer.drawer_id for drawer in drawers(app)}
            counts = Counter({number: sum(content.count(f"<{number}>") for content in contents) for number in told})
            assert set(counts.values()) <= {1}, (seed, counts)
        again = run(app, *(folder / f"{name}.jsonl" for name in "abc"))
        assert (again["filed"], again["updated"], again["removed"]) == (0, 0, 0)
    assert json.dumps(again)
