"""Filing, changing, discarding and restoring drawers; counters and words always equal the truth."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mempalace_mcp.core.errors import InvalidArgument, NotFound
from mempalace_mcp.core.ids import DRAWER, is_id
from mempalace_mcp.core.model import DrawerChanges, DrawerFilter, NewDrawer, RoomCount
from mempalace_mcp.storage.queries import ALL
from tests.storage.drawer_support import EVERY, START, Cabinet, cabinet, place, whole
from tests.storage.support import broken_references, verify_words

pytestmark = pytest.mark.usefixtures("each_store")

AWKWARD = "Line one\r\n\n\ttab  two  spaces \u200b e\u0301 \ufb01 \U0001f600 'quote' \"double\" % _ \\ \x01 end "


def test_content_comes_back_byte_for_byte_with_everything_known_about_it() -> None:
    with cabinet() as palace:
        filed = palace.file(
            AWKWARD,
            wing="Projekt Ä",
            room="Küche",
            source_file="/a/b.md",
            added_by="Nora",
            occurred_at=-5,
            metadata={"tags": ["ü", None, 1.5], "\U0001f600": {"deep": True}},
        )
        drawer = palace.get(filed.drawer_id)
    assert filed.created
    assert filed.near_duplicate_of is None
    assert is_id(DRAWER, filed.drawer_id)
    assert drawer.content.encode() == AWKWARD.encode()
    assert (drawer.wing, drawer.room, drawer.source_file, drawer.added_by) == ("Projekt Ä", "Küche", "/a/b.md", "Nora")
    assert (drawer.occurred_at, drawer.created_at, drawer.updated_at, drawer.deleted_at) == (-5, START, START, None)
    assert drawer.version == 1
    assert drawer.metadata == {"tags": ["ü", None, 1.5], "\U0001f600": {"deep": True}}


def test_get_keeps_the_order_asked_and_leaves_out_what_is_missing_or_deleted() -> None:
    with cabinet() as palace:
        first, second, third = palace.file_all(["one", "two", "three"])
        palace.delete(second)
        got = palace.drawers.get(palace.connection, [third, "d_nobody", second, first, "\ud800"])
        with_trash = palace.drawers.get(palace.connection, [second, first], deleted=True)
    assert [drawer.drawer_id for drawer in got] == [third, first]
    assert [drawer.drawer_id for drawer in with_trash] == [second, first]


def test_the_same_bytes_in_the_same_room_are_one_drawer() -> None:
    with cabinet() as palace:
        filed = palace.file("the same", source_file="a", occurred_at=7)
        seq = palace.seq()
        again = palace.file("the same", wing="WORK", room="notes", source_file="a", occurred_at=7)
        assert again == type(again)(filed.drawer_id, created=False)
        assert palace.seq() == seq, "filing nothing new is no change"
        assert palace.drawers.count(palace.connection, EVERY) == 1


@pytest.mark.parametrize(
    "other",
    [{"room": "Elsewhere"}, {"wing": "Home"}, {"source_file": "b"}, {"source_file": None}, {"occurred_at": 8}],
    ids=str,
)
def test_the_same_bytes_elsewhere_or_at_another_time_are_another_drawer(other: dict[str, Any]) -> None:
    with cabinet() as palace:
        details: dict[str, Any] = {"source_file": "a", "occurred_at": 7}
        filed = palace.file("the same", **details)
        again = palace.file("the same", **details | other)
    assert again.created
    assert again.drawer_id != filed.drawer_id
    assert again.near_duplicate_of == (None if {"room", "wing"} & other.keys() else filed.drawer_id)


def test_a_drawer_that_was_changed_does_not_swallow_its_first_text() -> None:
    with cabinet() as palace:
        filed = palace.file("A")
        palace.update(filed.drawer_id, content="B")
        again = palace.file("A")
        same = palace.file("B")
        assert again.created
        assert palace.get(again.drawer_id).content == "A"
        assert same == type(same)(filed.drawer_id, created=False)


def test_a_deleted_drawer_does_not_swallow_its_text() -> None:
    with cabinet() as palace:
        filed = palace.file("A")
        palace.delete(filed.drawer_id)
        again = palace.file("A")
        assert again.created
        assert again.near_duplicate_of is None


def test_texts_equal_after_normalization_are_both_kept_and_the_answer_says_so() -> None:
    with cabinet() as palace:
        first = palace.file("Caf\u00e9  at\nNoon")
        second = palace.file("cafe\u0301 AT noon")
        assert second.created
        assert second.near_duplicate_of == first.drawer_id
        assert palace.get(second.drawer_id).content == "cafe\u0301 AT noon"


def test_names_are_compared_without_case_and_shown_as_first_written() -> None:
    with cabinet() as palace:
        palace.file("one", wing="STRASSE", room="Tür")
        palace.file("two", wing="Straße", room="TÜR")
        assert palace.drawers.taxonomy(palace.connection, None) == [RoomCount("STRASSE", "Tür", 2)]
        assert palace.drawers.count(palace.connection, DrawerFilter(wing="strasse", room="tür")) == 2
        wing = palace.drawers.find_wing(palace.connection, "strasse")
        assert wing is not None
        assert wing.shown == "STRASSE"
        assert palace.drawers.find_wing(palace.connection, "nowhere") is None
        room = palace.drawers.find_room(palace.connection, "strasse", "tür")
        assert room is not None
        assert (room.wing.shown, room.room.shown) == ("STRASSE", "Tür")
        assert palace.drawers.find_room(palace.connection, "strasse", "none") is None


@pytest.mark.parametrize("metadata", [{"a": float("nan")}, {"a": "\ud800"}, {"a": {1, 2}}, {"a": float("inf")}])
def test_metadata_that_is_not_json_is_refused_and_nothing_is_filed(metadata: dict[str, Any]) -> None:
    with cabinet() as palace:
        with pytest.raises(InvalidArgument) as refused:
            palace.file("text", metadata=metadata)
        assert refused.value.argument == "metadata"
        filed = palace.file("text")
        with pytest.raises(InvalidArgument):
            palace.update(filed.drawer_id, metadata=metadata)
        assert palace.get(filed.drawer_id).version == 1
        assert palace.row("SELECT count(*) FROM drawers")[0] == 1


def test_metadata_too_deep_to_write_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    with cabinet() as palace, pytest.raises(InvalidArgument):
        palace.file("text", metadata=deep)
    while deep:
        deep = deep["a"]


def test_an_update_keeps_the_id_and_every_earlier_version() -> None:
    with cabinet() as palace:
        filed = palace.file("one", source_file="a", occurred_at=1, metadata={"n": 1})
        palace.update(filed.drawer_id, content="two", wing="Home", metadata={"n": 2})
        drawer = palace.update(filed.drawer_id, room="Attic", source_file="b", occurred_at=2)
        versions = palace.drawers.versions(palace.connection, filed.drawer_id)
    assert (drawer.drawer_id, drawer.version) == (filed.drawer_id, 3)
    assert (drawer.content, drawer.wing, drawer.room) == ("two", "Home", "Attic")
    assert (drawer.source_file, drawer.occurred_at, drawer.metadata) == ("b", 2, {"n": 2})
    assert drawer.created_at == START < drawer.updated_at
    assert [(v.version, v.content, v.wing, v.room, v.source_file, v.occurred_at, v.metadata) for v in versions] == [
        (1, "one", "Work", "Notes", "a", 1, {"n": 1}),
        (2, "two", "Home", "Notes", "a", 1, {"n": 2}),
    ]
    assert versions[0].replaced_at < versions[1].replaced_at == drawer.updated_at


def test_an_update_that_changes_nothing_leaves_no_trace() -> None:
    with cabinet() as palace:
        filed = palace.file("one", source_file="a", occurred_at=1, metadata={"n": 1})
        before, seq = palace.get(filed.drawer_id), palace.seq()
        after = palace.update(
            filed.drawer_id, content="one", wing="WORK", room="notes", source_file="a", occurred_at=1, metadata={"n": 1}
        )
        assert after == before
        assert palace.seq() == seq
        assert palace.drawers.versions(palace.connection, filed.drawer_id) == []
        assert palace.drawers.taxonomy(palace.connection, None) == [RoomCount("Work", "Notes", 1)]


def test_true_and_1_are_different_metadata() -> None:
    with cabinet() as palace:
        filed = palace.file("one", metadata={"n": True})
        palace.update(filed.drawer_id, metadata={"n": 1})
        assert palace.get(filed.drawer_id).version == 2
        assert palace.get(filed.drawer_id).metadata["n"] is not True


def test_updating_what_is_not_live_is_refused() -> None:
    with cabinet() as palace:
        filed = palace.file("one")
        palace.delete(filed.drawer_id)
        for drawer_id in (filed.drawer_id, "d_nobody", ""):
            with pytest.raises(NotFound) as refused:
                palace.update(drawer_id, content="two")
            assert refused.value.argument == "drawer_id"
        assert palace.get(filed.drawer_id).content == "one"


def test_new_content_gets_new_chunks_and_a_move_keeps_them() -> None:
    def chunks() -> list[Any]:
        return palace.connection.execute("SELECT id, start, stop FROM chunks ORDER BY id").fetchall()

    with cabinet() as palace:
        filed = palace.file("abcdefghij", size=4)
        first = chunks()
        assert [row[1:] for row in first] == [(0, 4), (4, 8), (8, 10)]
        palace.update(filed.drawer_id, wing="Elsewhere", metadata={"a": 1})
        palace.update(filed.drawer_id, occurred_at=0, source_file="mirador.txt")
        assert chunks() == first, "vectors stay valid"
        assert palace.found("mirador") == [filed.drawer_id]
        palace.update(filed.drawer_id, content="abcdefghi", size=5)
        assert [row[1:] for row in chunks()] == [(0, 5), (5, 9)]
        assert min(row[0] for row in chunks()) > max(row[0] for row in first)
        assert palace.row("SELECT count(*) FROM passages")[0] == 2


def test_deleting_twice_and_restoring_twice() -> None:
    with cabinet() as palace:
        first, second = palace.file_all(["one alpha", "two alpha"])
        assert palace.delete(second, "d_nobody", first, second) == [second, first]
        seq = palace.seq()
        assert palace.delete(first) == []
        assert palace.seq() == seq
        assert palace.found("alpha") == []
        assert palace.restore(first, "d_nobody", first) == [first]
        assert palace.restore(first) == []
        assert palace.found("alpha") == [first]
        assert palace.get(first).deleted_at is None
        assert palace.get(second).deleted_at == START + 1_000_000


def test_every_change_of_a_drawer_moves_its_seq() -> None:
    with cabinet() as palace:
        filed = palace.file("one")
        seen = []
        for step in (
            lambda: palace.update(filed.drawer_id, room="Attic"),
            lambda: palace.delete(filed.drawer_id),
            lambda: palace.restore(filed.drawer_id),
        ):
            step()
            seen.append((palace.row("SELECT seq FROM drawers")[0], palace.seq()))
    assert seen == [(2, 2), (3, 3), (4, 4)]


def test_purging_takes_what_was_deleted_before_and_everything_derived_from_it() -> None:
    with cabinet() as palace:
        old, new, kept = palace.file_all(["old words", "new words", "kept words"])
        palace.update(old, content="old text of an update")
        palace.delete(old)
        palace.delete(new)
        assert palace.purge(before=palace.get(old).deleted_at or 0) == 0, "not yet that old"
        assert palace.purge(before=palace.get(new).deleted_at or 0) == 1
        assert palace.drawers.get(palace.connection, [old, new], deleted=True) == [palace.get(new)]
        assert palace.drawers.versions(palace.connection, old) == []
        assert palace.restore(old) == []
        assert palace.purge() == 1
        assert palace.purge() == 0
        for table in ("drawers", "chunks", "passages", "pending"):
            assert palace.row(f"SELECT count(*) FROM {table}")[0] == 1, table
        assert palace.found("words") == [kept]


def test_purging_goes_on_where_the_limit_stopped_it() -> None:
    with cabinet() as palace:
        palace.delete(*palace.file_all([f"text {n}" for n in range(10)]))
        assert [palace.purge(limit=4) for _ in range(4)] == [4, 4, 2, 0]


def test_chunk_ids_are_never_used_again() -> None:
    with cabinet() as palace:
        filed = palace.file("one")
        (first,) = palace.row("SELECT max(id) FROM chunks")
        palace.delete(filed.drawer_id)
        palace.purge()
        palace.file("two")
        assert palace.row("SELECT min(id) FROM chunks")[0] > first


Operation = tuple[str, int, int]

OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["file", "update", "move", "date", "delete", "restore", "purge"]),
        st.integers(0, 5),
        st.integers(0, 3),
    ),
    max_size=40,
)


class Model:
    """What the palace should hold, in plain Python: id to (room, word), which are dated, which are in the trash."""

    def __init__(self) -> None:
        self.drawers: dict[str, tuple[str, str]] = {}
        self.dated: set[str] = set()
        self.trash: set[str] = set()

    def live(self) -> dict[str, tuple[str, str]]:
        return {each: state for each, state in self.drawers.items() if each not in self.trash}

    def pick(self, number: int) -> str:
        return list(self.drawers)[number % len(self.drawers)] if self.drawers else "d_nobody"


def _perform(palace: Cabinet, model: Model, operation: Operation) -> None:
    kind, which, value = operation
    room, word, target = f"room{value}", f"word{value}", model.pick(which)
    live = target in model.live()
    if kind == "file":
        content = f"text word{which}"
        alike = [each for each, state in model.live().items() if state == (room, f"word{which}")]
        same = [each for each in alike if each not in model.dated]
        filed = palace.file(content, room=room)
        assert filed.created is not bool(same)
        assert filed.drawer_id in same or filed.drawer_id not in model.drawers
        assert (filed.near_duplicate_of in alike) if filed.created and alike else filed.near_duplicate_of is None
        model.drawers[filed.drawer_id] = (room, f"word{which}")
    elif kind == "update" and live:
        palace.update(target, content=f"text {word}")
        model.drawers[target] = (model.drawers[target][0], word)
    elif kind == "move" and live:
        palace.update(target, room=room.upper())
        model.drawers[target] = (room, model.drawers[target][1])
    elif kind == "date" and live:
        palace.update(target, occurred_at=value)
        model.dated.add(target)
    elif kind == "delete":
        assert palace.delete(target) == ([target] if live else [])
        model.trash |= {target} & model.drawers.keys()
    elif kind == "restore":
        assert palace.restore(target) == ([target] if target in model.trash else [])
        model.trash.discard(target)
    elif kind == "purge":
        assert palace.purge() == len(model.trash)
        model.drawers = model.live()
        model.trash = set()


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(OPERATIONS)
def test_whatever_happens_counters_words_and_pending_chunks_equal_the_truth(operations: list[Operation]) -> None:
    model = Model()
    with cabinet() as palace:
        for operation in operations:
            _perform(palace, model, operation)
        live = model.live()
        counted = {each.room.casefold(): each.drawers for each in palace.drawers.taxonomy(palace.connection, None)}
        rooms = [room for room, _ in live.values()]
        assert counted == {room: rooms.count(room) for room in rooms}
        assert palace.drawers.count(palace.connection, EVERY) == len(live)
        assert set(palace.drawers.matching(palace.connection, EVERY, ALL)) == live.keys()
        for word in [f"word{n}" for n in range(6)]:
            assert set(palace.found(word)) == {each for each, state in live.items() if state[1] == word}
        for room in set(rooms):
            assert set(palace.found("text", filter=DrawerFilter(room=room))) == {
                each for each, state in live.items() if state[0] == room
            }
        assert palace.drawers.pending_count(palace.connection) == len(live)
        assert palace.row("SELECT count(*) FROM passages")[0] == len(model.drawers)
        assert broken_references(palace.connection) == []
        verify_words(palace.connection)


def test_a_unit_that_fails_halfway_leaves_nothing() -> None:
    with cabinet() as palace:

        def work(tx: Any) -> None:
            palace.drawers.file(tx, NewDrawer(place("New", "Room"), "text"), whole("text"))
            raise RuntimeError

        with pytest.raises(RuntimeError):
            palace.write(work)
        assert palace.drawers.find_wing(palace.connection, "new") is None
        assert palace.found("text") == []
        assert palace.seq() == 0


def test_a_megabyte_in_many_chunks() -> None:
    content = "Wörter 漢字 " * 60_000
    with cabinet() as palace:
        filed = palace.file(content, size=800)
        assert palace.get(filed.drawer_id).content == content
        texts = [chunk.text for chunk in palace.drawers.pending(palace.connection, 10_000)]
        assert "".join(texts) == content
        palace.update(filed.drawer_id, content="short")
        assert palace.row("SELECT count(*) FROM chunks")[0] == 1


def test_without_spans_new_content_is_one_chunk() -> None:
    with cabinet() as palace:
        filed = palace.file("old")
        palace.write(lambda tx: palace.drawers.update(tx, filed.drawer_id, DrawerChanges(content="brand new"), None))
        assert palace.found("brand") == [filed.drawer_id]
        assert palace.row("SELECT start, stop FROM chunks") == (0, 9)
