from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from mempalace_mcp.core.model import DrawerChanges
from mempalace_mcp.storage.queries import changes_since
from mempalace_mcp.storage.transactions import Stamp
from tests.storage.drawer_support import Cabinet, cabinet, name


@pytest.fixture
def palace() -> Iterator[Cabinet]:
    with cabinet() as palace:
        yield palace


def test_places_of_what_was_filed_changed_deleted_and_restored(palace: Cabinet) -> None:
    first = palace.file("one", wing="Work", room="Notes").drawer_id
    for act in (
        lambda: palace.file("two", wing="WORK", room="notes"),
        lambda: palace.write(lambda tx: palace.drawers.update(tx, first, DrawerChanges(content="new"), None)),
        lambda: palace.write(lambda tx: palace.drawers.delete(tx, [first])),
        lambda: palace.write(lambda tx: palace.drawers.restore(tx, [first])),
    ):
        before = Stamp.last(palace.connection)
        act()
        assert changes_since(palace.connection, before, []).places == {("work", "notes")}
        assert changes_since(palace.connection, Stamp.last(palace.connection), []).places == frozenset()


def test_a_drawer_that_moves_changes_every_place_on_its_way(palace: Cabinet) -> None:
    drawer = palace.file("one", wing="Work", room="Notes").drawer_id
    palace.write(lambda tx: palace.drawers.update(tx, drawer, DrawerChanges(room=name("Earlier")), None))
    before = Stamp.last(palace.connection)
    for wing, room in (("Work", "Straße"), ("Home", "Desk")):
        changes = DrawerChanges(wing=name(wing), room=name(room))
        palace.write(partial(palace.drawers.update, drawer_id=drawer, changes=changes, spans=None))
    assert changes_since(palace.connection, before, []).places == {
        ("work", "earlier"),
        ("work", "strasse"),
        ("home", "desk"),
    }


def test_only_the_drawers_in_question_are_named(palace: Cabinet) -> None:
    ids = palace.file_all(["one", "two", "three"])
    before = Stamp.last(palace.connection)
    palace.write(lambda tx: palace.drawers.delete(tx, ids[:2]))
    assert changes_since(palace.connection, before, [ids[0], ids[2], "d_none"]).drawers == {ids[0]}


def test_work_on_other_things_changes_no_place(palace: Cabinet) -> None:
    palace.file("one")
    before = Stamp.last(palace.connection)
    palace.write(lambda tx: tx.stamp)
    assert Stamp.last(palace.connection).seq == before.seq + 1
    assert changes_since(palace.connection, before, []).places == frozenset()
