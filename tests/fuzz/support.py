"""What the fuzz tests share: how thorough they are, how long anything may take, and bytes that are nearly right.

Hypothesis draws the shape of an example, and a seed; what is random within it comes from the seed, which is a hundred
times faster than drawing each byte, and still the same when the example is tried again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

F = TypeVar("F", bound=Callable[..., Any])

THOROUGHNESS = int(os.environ.get("THOROUGHNESS", "1"))
LONGEST_SECONDS = 1.0
"""Of processor time for one input: beyond it something takes more than linear time, or for ever."""

SEEDS = st.integers(0, 2**64 - 1)


def examples(count: int) -> Callable[[F], F]:
    """Try so many examples, times the thoroughness."""
    return settings(
        max_examples=count * THOROUGHNESS,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
    )


@contextmanager
def promptly() -> Iterator[None]:
    """Fail if the block takes this thread longer than any input may."""
    began = time.thread_time()
    yield
    assert time.thread_time() - began < LONGEST_SECONDS, "an input took far too long"


SPLINTERS = (
    b'"', b"\\", b"\\u", b"\\ud800", b"\\u0000", b"{", b"}", b"[", b"]", b",", b":", b"\0", b"\r", b"\xff", b"\xc3",
    b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"1e999", b"-0", b"NaN", b"Infinity", b"1" * 400, b"null",
    b"true", b'"id":', b'"id":null', b'"method":', b'"jsonrpc":"1.0"', b'"params":[]', b"[" * 3000, b'{"a":' * 200,
    b"[]," * 300, b'"' * 99, b"\\" * 99, b" " * 999, b"/*", b"'", b"%", b"%00", b"-", b"0", b"9223372036854775808",
)  # fmt: skip
"""What breaks JSON, or may break its readers."""

CHARACTERS = "aZ09 _-./:%\\\"'\t\r\n\0\x7f\x85é\u0301ßİ\u200b\u202e日🏰\ud800\udfff\uffff"


_SCALARS = (None, True, False, 0, -1, 5, 2**53 + 1, 2**63, 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf"))


def damage(dice: Random, whole: bytes, most: int = 4) -> bytes:
    """The bytes with some pieces taken out, put in, doubled or replaced; sometimes none."""
    for _ in range(dice.randint(0, most)):
        first = dice.randint(0, len(whole))
        last = min(len(whole), first + dice.choice((0, 1, 1, 3, 40)))
        piece = dice.choice((dice.choice(SPLINTERS), dice.randbytes(dice.randint(0, 4)), whole[first:last] * 2, b""))
        whole = whole[:first] + piece + whole[dice.choice((first, last)) :]
    return whole


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """The bytes, more or less."""
    return SEEDS.map(lambda seed: damage(Random(seed), whole))


def any_text(dice: Random, most: int = 12) -> str:
    """Any characters at all, lone surrogates among them."""
    return "".join(
        dice.choice((dice.choice(CHARACTERS), chr(dice.randrange(0x110000)))) for _ in range(dice.randint(0, most))
    )


def any_json(dice: Random, depth: int = 3) -> Any:
    """Any value that the standard library writes, and some that no other reader takes."""
    if depth and dice.random() < 0.3:
        return [any_json(dice, depth - 1) for _ in range(dice.randint(0, 3))]
    if depth and dice.random() < 0.3:
        return {any_text(dice, 6): any_json(dice, depth - 1) for _ in range(dice.randint(0, 3))}
    return dice.choice(
        (
            None,
            True,
            False,
            0,
            -1,
            5,
            2**53 + 1,
            2**63,
            10**30,
            0.5,
            -0.0,
            1e308,
            float("nan"),
            float("inf"),
            any_text(dice),
        )
    )


def compact(message: object) -> bytes:
    """A message as most clients write it."""
    return json.dumps(message, separators=(",", ":")).encode()
