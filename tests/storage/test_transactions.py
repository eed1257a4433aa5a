"""Units of work: parts that are whole or not at all, alone and in a group; and the text of what comes of them."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path, PurePath
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from mempalace_mcp.core import errors, model
from mempalace_mcp.core.errors import Busy, NotFound, PalaceError
from mempalace_mcp.core.model import Changes, CheckpointReport, Deletion, Drawer, Fact, FactAdded, Filed, NewFact
from mempalace_mcp.core.text import Name
from mempalace_mcp.storage.database import PalaceDatabase
from mempalace_mcp.storage.transactions import Stamp, Transaction, Unit, decode, encode
from tests.storage.support import add_wing, fresh_store, soon, wings

pytestmark = pytest.mark.usefixtures("each_store")

Run = Callable[[Callable[[Transaction], Any]], Any]
DATACLASSES = [kind for kind in vars(model).values() if dataclasses.is_dataclass(kind) and kind is not Changes] + [Name]
"""All but what only readings return: the results of writes are kept, theirs are not."""
ERRORS = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, PalaceError)]
SCALARS: dict[Any, SearchStrategy[Any]] = {
    str: st.text(),
    int: st.integers(),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    bytes: st.binary(),
    NoneType: st.none(),
}
JSON = st.recursive(
    st.one_of([SCALARS[kind] for kind in (str, int, float, bool, NoneType)]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[PalaceDatabase]:
    with fresh_store(tmp_path) as database:
        yield database


@pytest.fixture(params=["alone", "in a group"])
def run(request: pytest.FixtureRequest, database: PalaceDatabase) -> Run:
    """Runs a unit of work, alone or between two others that change nothing."""

    def run(work: Callable[[Transaction], Any]) -> Any:
        others = [Unit(lambda tx: None, soon()) for _ in range(0 if request.param == "alone" else 2)]
        unit: Unit[Any] = Unit(work, soon())
        database.write_group([*others[:1], unit, *others[1:]])
        return unit.outcome.result()

    return run


def refuse(tx: Transaction, *names: str) -> None:
    """A part that writes, if names are given, and then refuses."""
    with suppress(NotFound), tx.savepoint():
        for name in names:
            add_wing(name)(tx)
        raise NotFound("nothing")


def test_a_part_leaves_alone_what_is_older(run: Run, database: PalaceDatabase) -> None:
    def work(tx: Transaction) -> None:
        refuse(tx, "undone")
        add_wing("first")(tx)
        refuse(tx, "undone")
        with tx.savepoint():
            add_wing("second")(tx)
        refuse(tx, "undone")

    run(work)
    assert wings(database) == ["first", "second"]


def test_a_part_at_the_beginning_of_another_is_taken_back_alone(run: Run, database: PalaceDatabase) -> None:
    def work(tx: Transaction) -> None:
        with tx.savepoint():
            refuse(tx, "undone")
            add_wing("kept")(tx)

    run(work)
    assert wings(database) == ["kept"]


def test_a_part_takes_back_the_one_at_its_beginning(run: Run, database: PalaceDatabase) -> None:
    def fail(tx: Transaction) -> None:
        with tx.savepoint():
            with tx.savepoint():
                add_wing("inner")(tx)
            add_wing("outer")(tx)
            raise NotFound("nothing")

    def work(tx: Transaction) -> None:
        with pytest.raises(NotFound):
            fail(tx)

    run(work)
    assert wings(database) == []


def test_a_part_may_follow_one_that_took_back_others_inside_it(run: Run, database: PalaceDatabase) -> None:
    def fail(tx: Transaction) -> None:
        with tx.savepoint():
            add_wing("outer")(tx)
            with tx.savepoint():
                pass
            raise NotFound("nothing")

    def work(tx: Transaction) -> None:
        with pytest.raises(NotFound):
            fail(tx)
        refuse(tx, "undone")
        add_wing("kept")(tx)

    run(work)
    assert wings(database) == ["kept"]


def test_a_unit_that_fails_after_a_part_leaves_nothing(run: Run, database: PalaceDatabase) -> None:
    def work(tx: Transaction) -> None:
        refuse(tx, "undone")
        with tx.savepoint():
            add_wing("part")(tx)
        raise NotFound("nothing")

    with pytest.raises(NotFound):
        run(work)
    assert wings(database) == []


def test_a_savepoint_takes_back_what_is_older_than_one_inside_it(database: PalaceDatabase) -> None:
    def fail(tx: Transaction) -> None:
        with tx.savepoint():
            add_wing("outer")(tx)
            with tx.savepoint():
                add_wing("inner")(tx)
            raise NotFound("nothing")

    def work(tx: Transaction) -> None:
        add_wing("kept")(tx)
        with pytest.raises(NotFound):
            fail(tx)

    database.write(work, soon())
    assert wings(database) == ["kept"]


def test_a_savepoint_gives_its_stamp_back(database: PalaceDatabase) -> None:
    def work(tx: Transaction) -> list[int]:
        refuse(tx, "undone")
        before = tx.stamp.seq
        refuse(tx, "undone")
        with tx.savepoint():
            add_wing("done")(tx)
        return [before, tx.stamp.seq]

    assert database.write(work, soon()) == [1, 1]
    assert wings(database) == ["done"]
    with database.read() as connection:
        assert Stamp.last(connection).seq == 1


def strategy_of(hint: Any) -> SearchStrategy[Any]:
    """Everything that a type hint allows."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any or isinstance(hint, TypeVar):
        return JSON
    if hint in SCALARS:
        return SCALARS[hint]
    if origin in (Union, UnionType):
        return st.one_of([strategy_of(each) for each in inner])
    if origin is Sequence:
        several = st.lists(strategy_of(inner[0]), max_size=3)
        return several | several.map(tuple)
    if origin is tuple:
        return st.lists(strategy_of(inner[0]), max_size=3).map(tuple)
    if origin is Mapping:
        return st.dictionaries(strategy_of(inner[0]), strategy_of(inner[1]), max_size=3)
    if dataclasses.is_dataclass(origin):
        return strategy_of(origin)
    if issubclass(hint, Enum):
        return st.sampled_from(hint)
    hints = get_type_hints(hint)
    fields = {field.name: strategy_of(hints[field.name]) for field in dataclasses.fields(hint)}
    if hint is NewFact:  # which verifies itself
        fields |= {"valid_from": st.integers(0, 2**62), "valid_to": st.none() | st.integers(2**62 + 1, 2**63 - 1)}
        fields |= {"confidence": st.none() | st.floats(0, 1)}
    return st.builds(hint, **fields)


def same(one: object, other: object) -> bool:
    """Equal, and of the same types all through: neither 1 and True nor a list and a tuple are the same."""
    return one == other and repr(one) == repr(other)


def test_there_is_something_to_keep() -> None:
    assert {Filed, Drawer, Fact, NewFact, CheckpointReport, Deletion, Name} <= set(DATACLASSES)
    assert {PalaceError, NotFound, Busy} <= set(ERRORS)


@pytest.mark.long
@pytest.mark.parametrize("kind", DATACLASSES, ids=lambda kind: kind.__name__)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_value_comes_back(kind: type, data: st.DataObject) -> None:
    value = data.draw(strategy_of(kind))
    assert same(decode(encode(value)), value)


@pytest.mark.long
@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_error_comes_back(kind: type[PalaceError], data: st.DataObject) -> None:
    hints = get_type_hints(kind.__init__)
    parts = {name: data.draw(strategy_of(hints[name])) for name in inspect.signature(kind).parameters}
    error = kind(**parts)
    again = decode(encode(error))
    assert type(again) is kind
    assert (str(again), again.as_dict()) == (str(error), error.as_dict())


@settings(max_examples=25, deadline=None)
@given(JSON | st.lists(st.tuples(strategy_of(Filed), SCALARS[bytes]), max_size=3).map(tuple))
def test_whatever_holds_them_comes_back(value: object) -> None:
    assert same(decode(encode(value)), value)


@pytest.mark.parametrize(
    "value",
    [
        {"Filed": {"drawer_id": "d", "created": True}},
        {"dict": {}},
        {"tuple": [1]},
        {"bytes": "AA=="},
        {},
        {"": None},
        [[], (), {}, b"", ""],
        (None, (True, 1, 1.0)),
        float("inf"),
        10**30,
        "\ud800 \0 \u2028 🍵",
    ],
)
def test_what_looks_like_another_type_is_told_apart(value: object) -> None:
    assert same(decode(encode(value)), value)


def test_a_receipt_is_readable_and_short() -> None:
    fact = Fact("f_1", "Ada", "works at", "Acme", None, None, 5, None, 0.5, None)
    assert encode([Filed("d_1", created=True)]) == (
        '[{"Filed":{"drawer_id":"d_1","created":true,"near_duplicate_of":null}}]'
    )
    assert decode(encode(FactAdded(fact, created=True))) == FactAdded(fact, created=True)


class Text(str):
    """Not quite a text."""


class Unforeseen(NotFound):
    """An error that is not among those of the core."""


@pytest.mark.parametrize(
    "value",
    [{1}, {1: 2}, {b"a": 1}, PurePath("x"), Text("x"), ValueError("x"), Unforeseen("x"), Filed, [[{1}]]],
    ids=repr,
)
def test_other_types_are_refused(value: object) -> None:
    with pytest.raises(TypeError):
        encode(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "{}",
        '{"Filed":{},"Fact":{}}',
        '{"Filed":{}}',
        '{"Filed":[]}',
        '{"Filed":{"drawer_id":"d","created":true,"of_the_next_version":1}}',
        '{"Priority":{"value":"never"}}',
        '{"PurePath":{"dict":{}}}',
        '{"object":{}}',
        '{"MappingProxyType":{"mapping":{"dict":{}}}}',
        '{"Any":{}}',
        '{"ClassVar":{}}',
        '{"os.system":{"command":"true"}}',
        '{"dict":[]}',
        '{"tuple":5}',
        '{"bytes":"no base 64"}',
        '{"bytes":5}',
    ],
)
def test_a_text_makes_nothing_but_values(text: str) -> None:
    with pytest.raises(ValueError, match="stands for no value"):
        decode(text)
