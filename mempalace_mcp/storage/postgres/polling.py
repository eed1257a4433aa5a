"""Looks, in a thread, whether the palace has changed, for those who must not wait for the server."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import copy
from typing import Any, TypeVar

from mempalace_mcp.core.errors import PalaceError
from mempalace_mcp.core.limits import wait_for_end
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.database import DataVersion

logger = logging.getLogger(__name__)

T = TypeVar("T")

POLL_SECONDS = 0.25
CLOSE_SECONDS = 5.0
# Tokens come and go without a change of the palace's number. There are few, and no number of a row tells all of it.
_STATE = "SELECT seq, (SELECT md5(string_agg(t::text, ' ' ORDER BY id)) FROM access_tokens t) FROM state"


class VersionPoll:
    """Keeps the latest value of each question that is asked. It begins with the first one."""

    def __init__(self, read: Callable[[], AbstractContextManager[Connection]]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._answers: dict[Callable[[Connection], Any], tuple[DataVersion, Any]] = {}
        self._number = 0
        self._error: PalaceError | None = None

    def read_if_changed(
        self, seen: DataVersion | None, read: Callable[[Connection], T]
    ) -> tuple[DataVersion, T] | None:
        """The latest answer of `read` and its version; None if that is the version `seen`.

        Raises:
            PalaceError: the palace could not be read at the last look.
        """
        if read not in self._answers:
            self._look(read)
        if self._error is not None:
            raise copy(self._error)  # the traceback of a shared one would grow with each call
        version, answer = self._answers[read]
        return None if version == seen else (version, answer)

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            wait_for_end(self._thread, CLOSE_SECONDS)

    def _look(self, new: Callable[[Connection], Any]) -> None:
        """Answer a question for the first time, and begin to look after it."""
        with self._lock:
            if new in self._answers:
                return
            with self._read() as connection:
                self._answers[new] = (self, self._number), new(connection)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="version poll", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        state: tuple[Any, ...] | None = None
        while not self._stop.is_set():
            try:
                state = self._refresh(state)
                self._error = None
            except PalaceError as error:
                self._error = error
            except Exception:  # the thread must survive: tokens are checked by what it reads
                logger.exception("looking for changes failed")
            self._stop.wait(POLL_SECONDS)

    def _refresh(self, seen: tuple[Any, ...] | None) -> tuple[Any, ...]:
        """Answer every question anew if the palace is not in the state `seen`; its state."""
        with self._read() as connection:
            state: tuple[Any, ...] = connection.execute(_STATE).fetchone()
            if state != seen:
                with self._lock:
                    self._number += 1
                    for read in self._answers:
                        self._answers[read] = (self, self._number), read(connection)
        return state
