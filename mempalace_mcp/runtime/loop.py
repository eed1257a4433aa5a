"""The event loop of a serving process."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar, TypeVarTuple

import anyio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_FAST = sys.platform != "win32"
"""uvloop takes a third off the time of a small call; there is none for Windows."""


def run_loop(serve: Callable[[*Ts], Awaitable[T]], *arguments: *Ts) -> T:
    """Run the coroutine function in an event loop of its own, and return what it returns."""
    return anyio.run(serve, *arguments, backend_options={"use_uvloop": _FAST})
