from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mempalace_mcp.server.lines import EDGE_BYTES, LineSplitter, Overlong


def split(chunks: list[bytes], limit: int = 1 << 20) -> list[bytes | Overlong]:
    splitter = LineSplitter(limit)
    return [line for chunk in chunks for line in splitter.feed(chunk)] + list(splitter.finish())


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.binary(max_size=40), max_size=20))
def test_lines_do_not_depend_on_how_the_bytes_arrive(chunks: list[bytes]) -> None:
    expected = [line for line in b"".join(chunks).split(b"\n") if line.strip()]
    assert split(chunks) == expected


def test_a_last_line_without_a_newline_counts() -> None:
    assert split([b'{"a":1}\n{"b"', b":2}"]) == [b'{"a":1}', b'{"b":2}']


def test_a_line_at_the_limit_passes_and_one_byte_more_does_not() -> None:
    limit = EDGE_BYTES * 3
    exact, long = b"x" * limit, b"y" * (limit + 1)
    first, overlong, last = split([exact + b"\n" + long + b"\n" + b"after\n"], limit)
    assert (first, last) == (exact, b"after")
    assert isinstance(overlong, Overlong)
    assert overlong.head == overlong.tail == b"y" * EDGE_BYTES


def test_only_the_ends_of_a_long_line_are_kept() -> None:
    limit = EDGE_BYTES * 2
    splitter = LineSplitter(limit)
    assert not list(splitter.feed(b"head"))
    for _ in range(100):
        assert not list(splitter.feed(b"-" * 4096 * 16))
        assert len(splitter._pending) <= limit + 4096 * 16
    [line] = splitter.feed(b"tail\n")
    assert isinstance(line, Overlong)
    assert line.head.startswith(b"head")
    assert line.tail.endswith(b"tail")
    assert list(splitter.feed(b"next\n")) == [b"next"]
