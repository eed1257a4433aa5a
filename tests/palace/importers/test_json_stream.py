"""Elements of large arrays come one by one, whatever is wrong behind them."""

from __future__ import annotations

import io
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempalace_mcp.palace.importers.json_stream import read_elements

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text(max_size=20),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=12,
)


class Trickle(io.RawIOBase):
    """A file that gives little at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        self._file = io.BytesIO(data)
        self._size = size

    def read(self, size: int = -1, /) -> bytes:
        return self._file.read(self._size if size < 0 else min(size, self._size))


def elements(data: bytes | str, size: int = 7) -> list[Any]:
    return list(read_elements(Trickle(data.encode() if isinstance(data, str) else data, size)))  # type: ignore[arg-type]


@given(st.lists(JSON), st.sampled_from([None, 1]), st.integers(1, 50))
def test_every_array_is_read_as_it_is(values: list[Any], indent: int | None, size: int) -> None:
    assert elements(json.dumps(values, indent=indent), size) == values
    assert elements(json.dumps(values, ensure_ascii=False).encode("utf-8-sig", "surrogatepass"), size) == [
        *json.loads(json.dumps(values, ensure_ascii=False).encode("utf-8", "surrogatepass").decode("utf-8", "replace"))
    ]


def test_one_object_is_one_element() -> None:
    assert elements('  {"mapping": {}}\n') == [{"mapping": {}}]
    assert elements(" \n") == []


@pytest.mark.parametrize("tail", ["", ',{"a": "cut', ",{", ' {"b": 1}]', "}", ',{"a": nonsense}]', "," + "[" * 200_000])
def test_what_stands_before_damage_is_read(tail: str) -> None:
    stream = read_elements(io.BytesIO(f'[{{"a": 1}}, {{"a": 2}}{tail}'.encode()))
    assert [next(stream), next(stream)] == [{"a": 1}, {"a": 2}]
    with pytest.raises(ValueError, match="damaged or cut off"):
        next(stream)


def test_an_element_that_is_too_long_is_not_read_to_its_end() -> None:
    with pytest.raises(ValueError, match="damaged or cut off"):
        list(read_elements(io.BytesIO(b'["' + b"x" * 5_000_000 + b'"]'), largest=1_000_000))


def test_memory_does_not_grow_with_the_number_of_elements() -> None:
    element = json.dumps({"text": "x" * 100_000})
    file = io.BytesIO(f"[{','.join([element] * 300)}]".encode())
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_elements(file)) == 300
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
