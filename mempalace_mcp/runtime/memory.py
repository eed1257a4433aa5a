"""How a serving process takes memory from the system."""

from __future__ import annotations

import ctypes

_ARENA_MAX = -8
"""`M_ARENA_MAX` of `mallopt(3)` in the GNU C library."""


def share_one_heap() -> None:
    """Let all threads take memory from one heap of the C library; where there is another library, nothing happens.

    The GNU library gives threads heaps of their own. SQLite's pages are taken by one thread and given back by another,
    so the heaps of a pool of threads fill with holes, and the process grows for hours though it uses no more. Threads
    that wait for the one heap cost nothing that could be measured. To be called before there are threads.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_ARENA_MAX, 1)
