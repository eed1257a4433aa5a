"""The tokens that open the HTTP doors at this moment: those of the file, followed as it changes, and one of its own."""

from __future__ import annotations

import hmac
import logging
from pathlib import Path

from mempalace_mcp.core.access import Access
from mempalace_mcp.core.errors import ConfigurationError
from mempalace_mcp.protocol.tokens import WRITE, Token, digest_of, read_tokens

logger = logging.getLogger(__name__)

OWN = "$PALACE_TOKEN"
"""The name of the token that comes from the environment, and reaches everything; no token of the file can have it."""

_Stamp = tuple[int, int, int, int]


class Keyring:
    """Used by the event loop alone. A file that changes is read at the next request; one that is wrong then changes
    nothing, and is a `problem`. A file that is removed takes its tokens along.

    Raises:
        ConfigurationError: the file is wrong at the start, or there is one, and no token at all.
    """

    def __init__(self, file: Path, own: str | None = None) -> None:
        self._file = file
        self._own = () if own is None else (Token(OWN, digest_of(own), WRITE),)
        self._stamp = self._look()
        self._tokens = read_tokens(file)
        self._guarding = bool(self._own) or self._stamp is not None
        self.problem: str | None = None
        if self._guarding and not self:
            raise ConfigurationError(
                f"{file} holds no token, so nobody could come in",
                argument=file.name,
                hint="Make one with `mempalace-mcp token new NAME`, or remove the file to serve this machine without.",
            )

    def __bool__(self) -> bool:
        """Is there any token?"""
        return bool(self._own or self._tokens)

    @property
    def guarding(self) -> bool:
        """Must callers show a token? As soon as there was one, for as long as the process lives."""
        self._follow()
        return self._guarding

    def access_of(self, presented: str) -> Access | None:
        """What the bearer of a token may do; None if it is no token of ours. Takes as long whichever token it is."""
        self._follow()
        digest = digest_of(presented)
        found = [token for token in (*self._own, *self._tokens) if hmac.compare_digest(token.digest, digest)]
        return found[0].access if found else None

    def _follow(self) -> None:
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        self._guarding |= stamp is not None
        try:
            self._tokens = read_tokens(self._file)
            self.problem = None
        except ConfigurationError as error:
            self.problem = f"{error.message}; the tokens before that change count"
            logger.warning("%s. %s", self.problem, error.hint)

    def _look(self) -> _Stamp | None:
        try:
            status = self._file.lstat()
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
