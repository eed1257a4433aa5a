"""How long a bridge waits for a daemon that owes it an answer and says nothing, before it takes it for dead.

A daemon that is stopped or hangs keeps its seat, and with it every session of the palace. It answers a question about
its life from its event loop, however long its calls take; when it does not answer that either, its end is no loss:
what it has acknowledged is on the disk, and receipts keep the next one from doing anything twice.
"""

from __future__ import annotations

import contextlib
import os
import signal

from mempalace_mcp.process.connection import Connection

TICK_SECONDS = 2.0
ASK_AFTER = 5
END_AFTER = 15
"""Ticks of silence. They are counted, not measured: while this process or the machine sleeps, there are none."""


class Patience:
    """With one daemon."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._silence = 0

    def heard(self) -> None:
        """The daemon has said something."""
        self._silence = 0

    def wait(self, *, owed: bool) -> None:
        """A tick has passed in silence; `owed` tells whether the daemon should have said something some day."""
        self._silence = self._silence + 1 if owed else 0
        if self._silence == ASK_AFTER:
            self._connection.ask_for_life()
        elif self._silence == END_AFTER:
            self._end()

    def _end(self) -> None:
        """Free the seat; a process that somebody has started to serve HTTP is theirs, and only left, as is one that is
        hidden from this one: to `kill`, process 0 is the killer with all of its group."""
        pid = self._connection.pid
        note = f"mempalace-mcp: process {pid}, which serves the palace, does not answer; this session goes on without\n"
        with contextlib.suppress(OSError):
            os.write(2, note.encode())
        if pid > 0 and self._connection.welcome.get("http") is None:
            with contextlib.suppress(OSError):
                os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        self._connection.close()
