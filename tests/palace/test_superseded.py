"""Drawers that others have taken the place of: they come later and say so, and are never hidden."""

from __future__ import annotations

from pathlib import Path

import pytest

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.errors import InvalidArgument, NotFound
from mempalace_mcp.core.model import SearchMode
from mempalace_mcp.palace.access_control import limited
from mempalace_mcp.palace.palace import Palace
from mempalace_mcp.runtime.app import App
from tests.palace.support import opened

pytestmark = pytest.mark.usefixtures("each_store")

OLD = "The service listens on port 4001."
NEW = "Since the move it is 4777, for all of them."


def file(palace: Palace, content: str, supersedes: list[str] | None = None, wing: str = "w") -> str:
    return palace.add_drawer(wing, "r", content, supersedes=supersedes).drawer_id


def mark_of(palace: Palace, drawer_id: str) -> str | None:
    (drawer,) = palace.get_drawers([drawer_id]).drawers
    assert [each.superseded_by for each in palace.list_drawers().items if each.drawer_id == drawer_id] == [
        drawer.superseded_by
    ]
    return drawer.superseded_by


def order(palace: Palace, query: str, **options: object) -> list[str]:
    return [hit.drawer.drawer_id for hit in palace.search(query, **options).hits]  # type: ignore[arg-type]


def purge(app: App, *drawer_ids: str) -> None:
    app.palace.delete_drawers(drawer_ids=drawer_ids)
    drawers = app.palace._stores.drawers
    app.database.write(lambda tx: drawers.purge(tx, 2**62, 100), Deadline())


@pytest.mark.parametrize("mode", list(SearchMode))
def test_a_correction_comes_first_although_it_shares_no_word_with_the_question(
    tmp_path: Path, mode: SearchMode
) -> None:
    with opened(tmp_path) as app:
        old = file(app.palace, OLD)
        others = [file(app.palace, f"The harbour has {n} cranes.") for n in range(3)]
        app.wait_until_indexed()
        question = "on which port does the service listen"
        assert order(app.palace, question, mode=mode)[0] == old
        new = file(app.palace, NEW, [old])
        app.wait_until_indexed()
        found = app.palace.search(question, mode=mode).hits
        assert found[0].drawer.drawer_id == new
        assert old in [hit.drawer.drawer_id for hit in found]
        marks = {hit.drawer.drawer_id: hit.drawer.superseded_by for hit in found}
        assert marks[old] == new
        assert set(marks.values()) == {None, new}
        assert marks.keys() <= {old, new, *others}
        assert mark_of(app.palace, old) == new


def test_it_counts_for_less_also_where_its_successor_is_left_out(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        old = file(app.palace, "The pump needs 40 litres of oil.")
        other = file(app.palace, "The pump needs a litre of oil, or two.")
        app.wait_until_indexed()
        question = "how many litres of oil does the pump need, 40?"
        assert order(app.palace, question, wing="w") == [old, other]
        file(app.palace, "60 since the overhaul.", [old], wing="elsewhere")
        assert order(app.palace, question, wing="w") == [other, old]


def test_chains_lead_to_the_newest_that_is_live(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        palace = app.palace
        ids = [file(palace, "Version 0")]
        for number in range(1, 5):
            ids.append(file(palace, f"Version {number}", [ids[-1]]))
        assert {mark_of(palace, each) for each in ids[:-1]} == {ids[-1]}
        assert order(palace, "Version", mode=SearchMode.KEYWORD)[0] == ids[-1]
        palace.delete_drawers(drawer_ids=[ids[4], ids[2]])
        assert [mark_of(palace, each) for each in (ids[0], ids[1], ids[3])] == [ids[3], ids[3], None]
        palace.restore_drawers([ids[4]])
        assert mark_of(palace, ids[0]) == ids[4]
        purge(app, ids[2])
        assert mark_of(palace, ids[1]) == ids[4], "what is purged from the middle of a chain leaves it whole"
        purge(app, ids[3], ids[4])
        assert mark_of(palace, ids[1]) is None
        assert mark_of(palace, ids[0]) == ids[1]
        purge(app, ids[1])
        assert mark_of(palace, ids[0]) is None


def test_it_can_be_said_later_and_taken_back(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        palace = app.palace
        old, new = file(palace, OLD), file(palace, NEW)
        assert palace.update_drawer(old, superseded_by=new).superseded_by == new
        again = palace.update_drawer(old, superseded_by=f" {new} ")
        assert again.version == 2, "a repetition changes nothing"
        assert palace.update_drawer(old, superseded_by="", content=OLD + "!").superseded_by == new
        assert palace.update_drawer(old, superseded_by="None").superseded_by is None
        assert [version.superseded_by for version in palace.versions(old)] == [None, new, new]
        assert mark_of(palace, old) is None


def test_links_that_cannot_be_are_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        palace = app.palace
        first = file(palace, "first")
        second = file(palace, "second", [first])
        third = file(palace, "third", [second])
        trashed = file(palace, "trashed")
        palace.delete_drawers(drawer_ids=[trashed])
        nowhere = "d_" + "0" * 24
        for successor, refusal in (
            (first, InvalidArgument),
            (second, InvalidArgument),
            (third, InvalidArgument),
            (trashed, NotFound),
            (nowhere, NotFound),
            ("first", InvalidArgument),
        ):
            with pytest.raises(refusal) as caught:
                palace.update_drawer(third, superseded_by=successor)
            assert caught.value.argument == "superseded_by"
            assert caught.value.hint
        total = palace.list_drawers().total
        for listed, argument in (
            ([first, nowhere], "supersedes[1]"),
            ([trashed], "supersedes[0]"),
            (["x"], "supersedes[0]"),
        ):
            with pytest.raises((InvalidArgument, NotFound)) as refused:
                file(palace, "a fourth", listed)
            assert refused.value.argument == argument
        with pytest.raises(NotFound) as within:
            palace.checkpoint([{"wing": "w", "room": "r", "content": "a fifth", "supersedes": [nowhere]}])
        assert within.value.argument == "items[0].supersedes[0]"
        assert palace.list_drawers().total == total
        assert [mark_of(palace, each) for each in (first, second, third)] == [third, third, None]


def test_filing_twice_is_filing_once_but_what_is_superseded_can_be_said_anew(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        palace = app.palace
        old = file(palace, OLD)
        new = file(palace, NEW, [old])
        assert file(palace, NEW, [old]) == new
        assert len(palace.versions(old)) == 1
        again = palace.add_drawer("w", "r", OLD, supersedes=[new])
        assert again.created
        assert again.drawer_id not in (old, new)
        assert palace.add_drawer("w", "r", OLD).drawer_id == again.drawer_id
        assert mark_of(palace, old) == mark_of(palace, new) == again.drawer_id
        with pytest.raises(InvalidArgument, match="itself"):
            file(palace, OLD, [again.drawer_id])


def test_a_question_for_a_time_alone_is_answered_with_what_was_said_then(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        old = app.palace.add_drawer("w", "r", OLD, occurred_at="2024-05-03").drawer_id
        new = file(app.palace, NEW, [old])
        app.wait_until_indexed()
        assert order(app.palace, "what did we say on 3 May 2024")[0] == old
        assert order(app.palace, "which port does the service use since 3 May 2024")[0] == new


def test_words_and_vectors_stay_as_they_are(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        old = file(app.palace, OLD)
        app.wait_until_indexed()
        new = file(app.palace, NEW)
        app.wait_until_indexed()
        app.palace.update_drawer(old, superseded_by=new)
        with app.database.read() as connection:
            assert app.palace._stores.drawers.pending_count(connection) == 0
        assert order(app.palace, "4001", mode=SearchMode.KEYWORD)[:1] in ([old], [new])


def test_a_new_session_sees_it_behind_what_is_so_now(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        new = file(app.palace, "The rent is 900.")
        olds = [file(app.palace, f"The rent is {n}.") for n in range(100, 120)]
        for each in olds[5:]:
            app.palace.update_drawer(each, superseded_by=new)
        lines = app.palace.wake_up(max_tokens=4000).text.splitlines()
        drawers = [line for line in lines if line.startswith("- ") and "(d_" in line]
        assert sum("superseded by" in line for line in drawers) == len(drawers) - 6 > 0
        assert not any("superseded" in line for line in drawers[:6])


def test_who_is_limited_to_wings_neither_sees_nor_makes_links_beyond_them(tmp_path: Path) -> None:
    with opened(tmp_path, started=False) as app:
        palace = app.palace
        mine = Palace(limited(palace._stores, ["w"]), palace._chunk_embedder)
        old = file(palace, OLD)
        secret = file(palace, "secret", [old], wing="closed")
        assert mark_of(palace, old) == secret
        assert mark_of(mine, old) is None
        assert mine.search("service port", mode=SearchMode.KEYWORD).hits[0].drawer.superseded_by is None
        last = file(palace, NEW, [secret])
        assert mark_of(mine, old) == last, "what follows within the wings is theirs to see"
        palace.update_drawer(old, content=OLD + "!")
        assert {version.superseded_by for version in mine.versions(old)} == {None}
        assert {version.superseded_by for version in palace.versions(old)} == {None, secret}
        for refuse in (
            lambda: mine.update_drawer(last, superseded_by=secret),
            lambda: mine.update_drawer(secret, superseded_by=last),
            lambda: file(mine, "mine", [secret]),
        ):
            with pytest.raises(NotFound) as caught:
                refuse()
            assert "wing" not in str(caught.value)
        assert mine.list_drawers().total == 2


@pytest.mark.parametrize("question", ["what was the rent in March", "rent in March 2026", "on 2 March 2026, the rent?"])
def test_what_was_said_then_is_asked_for_whatever_came_after(tmp_path: Path, question: str) -> None:
    with opened(tmp_path) as app:
        old = app.palace.add_drawer("w", "r", "Our rent is 900 euros.", occurred_at="2026-03-02").drawer_id
        new = app.palace.add_drawer(
            "w", "r", "Our rent is 980 euros.", occurred_at="2026-09-02", supersedes=[old]
        ).drawer_id
        app.wait_until_indexed()
        assert order(app.palace, question, now="2026-11-29")[:2] == [old, new]
        assert order(app.palace, "what is the rent", now="2026-11-29")[:2] == [new, old]
        assert mark_of(app.palace, old) == new
