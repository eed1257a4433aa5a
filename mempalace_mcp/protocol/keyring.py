"""The tokens that open the HTTP doors at this moment: those of the file, followed as it changes, and one of its own."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import queue
import threading
from pathlib import Path

from mempalace_mcp.core.access import Access
from mempalace_mcp.core.errors import Busy, ConfigurationError
from mempalace_mcp.protocol.glance import Glance
from mempalace_mcp.protocol.tokens import WRITE, Token, digest_of, read_tokens

logger = logging.getLogger(__name__)

OWN = "$PALACE_TOKEN"
"""The name of the token that comes from the environment, and reaches everything; no token of the file can have it."""

_Stamp = tuple[int, int, int, int]


LOOK_SECONDS = 5.0
"""A disk that has not answered by then is not waited for."""


class Keyring:
    """`look` reads the file if it has changed, everything else memory only. One that is wrong then changes nothing, and
    is a `problem`. A file that is removed takes its tokens along.

    Raises:
        ConfigurationError: the file is wrong at the start, or there is one, and no token at all.
    """

    def __init__(self, file: Path, own: str | None = None) -> None:
        self.file = file
        self._own = () if own is None else (Token(OWN, digest_of(own), WRITE),)
        self._stamp = self._stamp_of_file()
        self._tokens = read_tokens(file)
        self._guarding = bool(self._own) or self._stamp is not None
        self.problem: str | None = None
        if self._guarding and not self:
            raise ConfigurationError(
                f"{file} holds no token, so nobody could come in",
                argument=file.name,
                hint="Make one with `mempalace-mcp token new NAME --scope write`, or remove the file to serve this "
                "machine without.",
            )

    def __bool__(self) -> bool:
        """Is there any token?"""
        return bool(self._own or self._tokens)

    @property
    def guarding(self) -> bool:
        """Must callers show a token? As soon as there was one, for as long as the process lives."""
        return self._guarding

    def access_of(self, presented: str) -> Access | None:
        """What the bearer of a token may do; None if it is no token of ours. Takes as long whichever token it is."""
        digest = digest_of(presented)
        found = [token for token in (*self._own, *self._tokens) if hmac.compare_digest(token.digest, digest)]
        return found[0].access if found else None

    def look(self) -> None:
        """Follow the changes of the file."""
        stamp = self._stamp_of_file()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        self._guarding |= stamp is not None
        try:
            self._tokens = read_tokens(self.file)
            self.problem = None
        except ConfigurationError as error:
            self.problem = f"{error.message}; the tokens before that change count"
            logger.warning("%s. %s", self.problem, error.hint)
        except OSError as error:
            self.problem = f"{self.file} cannot be read: {error.strerror}; the tokens before that change count"
            logger.warning("%s", self.problem)

    def _stamp_of_file(self) -> _Stamp | None:
        try:
            status = self.file.lstat()
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class Watch:
    """Looks at a keyring's file in a thread of its own, for the disk it lies on may hang; and only if it may have
    changed, for that takes as long as a small call."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._glance: Glance | None = None
        self._asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="tokens", daemon=True)
        self._thread.start()

    async def look(self) -> None:
        """Return once the keyring holds what the file does.

        Raises:
            Busy: the disk does not answer.
        """
        if self._glance is not None and self._glance.shows_no_change():
            return
        loop = asyncio.get_running_loop()
        looked: asyncio.Future[Glance] = loop.create_future()
        self._asked.put((loop, looked))
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                self._hold(await looked)
        except TimeoutError:
            raise Busy(
                "the disk with the file of tokens does not answer", hint="Try again.", retry_after=LOOK_SECONDS
            ) from None

    def close(self) -> None:
        """Look no more."""
        self._asked.put(None)
        self._hold(None)

    def _hold(self, glance: Glance | None) -> None:
        if self._glance is not None and self._glance is not glance:
            self._glance.close()
        self._glance = glance

    def _run(self) -> None:
        while (asked := self._asked.get()) is not None:
            glance = Glance(self._keyring.file)
            self._keyring.look()
            loop, looked = asked
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
                loop.call_soon_threadsafe(_settle, looked, glance)


_Asked = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Glance]"]


def _settle(looked: asyncio.Future[Glance], glance: Glance) -> None:
    if looked.done():
        glance.close()
    else:
        looked.set_result(glance)
