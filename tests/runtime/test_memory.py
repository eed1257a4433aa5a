from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

GNU = hasattr(ctypes.CDLL(None), "malloc_info")
THREADS = """
import ctypes, threading
from mempalace_mcp.runtime.monitor import share_one_heap

{prepare}
library = ctypes.CDLL(None)
taken = threading.Barrier(8)

def take():
    assert library.malloc(5000)
    taken.wait()

threads = [threading.Thread(target=take) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
library.fdopen.restype = ctypes.c_void_p
stream = ctypes.c_void_p(library.fdopen(1, b"w"))
library.malloc_info(0, stream)
library.fflush(stream)
"""


def heaps(prepare: str) -> int:
    """How many heaps the C library has after eight threads have taken memory at once."""
    script = THREADS.format(prepare=prepare)
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30).stdout
    return told.count("<heap ")


@pytest.mark.skipif(not GNU, reason="the C library is another one")
def test_threads_share_one_heap() -> None:
    assert heaps("") > 1
    assert heaps("share_one_heap()") == 1
