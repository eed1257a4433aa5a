"""Bearer tokens of HTTP requests, checked against the palace's table and `PALACE_TOKEN`."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets

from mempalace_mcp.core.call_context import Principal
from mempalace_mcp.core.errors import Busy, ConfigurationError, PalaceError
from mempalace_mcp.storage.database import DataVersion, PalaceDatabase
from mempalace_mcp.storage.tokens import WRITE, Token, TokenList, TokenStore
from mempalace_mcp.storage.tokens_file import FILE, take_over

ENVIRONMENT_TOKEN = "$PALACE_TOKEN"
"""The name of the token from the environment, which reaches everything. No token of the table can have it."""

PREFIX = "palace_"
"""Starts every token, so that people and secret scanners recognize one."""

_RANDOM_BYTES = 32

logger = logging.getLogger(__name__)


def new_token() -> str:
    """A random token, long enough that a plain SHA-256 of it is safe to keep."""
    return PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def digest_of(token: str) -> bytes:
    """The SHA-256 by which the palace knows a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


class Authenticator:
    """The valid tokens at this moment. Used from the event loop alone.

    The tokens of an earlier version's file are taken over first. If that fails the file is a `problem`, and callers
    must show a token nevertheless: the file may hold some. A palace on a server has never had such a file.

    Raises:
        ConfigurationError: callers must show a token, and there is none.
        PalaceError: the palace cannot be read.
    """

    def __init__(self, database: PalaceDatabase, environment_token: str | None = None) -> None:
        self.problem: str | None = None
        self._database = database
        self._file = str(database.directory / FILE) if database.server is None else None
        self._store = TokenStore()
        self._own = () if environment_token is None else (_environment_token(environment_token),)
        self._list = TokenList()
        self._version: DataVersion | None = None
        self._guarding = bool(self._own)
        failure: PalaceError | None = None
        try:
            if self._file is not None:
                take_over(database.directory, database, self._store)
        except PalaceError as error:
            failure = error
            logger.warning("%s. %s", error.message, error.hint)
        self._file_problem = f"{self._file} has not been taken over" if failure is None else failure.message
        self._reload()
        self.refresh()
        if self._guarding and not self:
            raise failure or ConfigurationError(
                "the last token of the palace was revoked, so nobody could come in",
                argument="token",
                hint="Make one with `mempalace-mcp token new NAME --scope write`, or run `mempalace-mcp token revoke "
                "--all` to serve this machine without.",
            )

    def __bool__(self) -> bool:
        """Is there a valid token?"""
        return bool(self._own or self._list.tokens)

    @property
    def guarding(self) -> bool:
        """Must callers show a token? Once true, it stays true as long as the process lives."""
        return self._guarding

    def principal_of(self, presented: str) -> Principal | None:
        """What the bearer of a token may do; None if the token is not valid. Takes the same time for every token."""
        digest = digest_of(presented)
        found = [token for token in (*self._own, *self._list.tokens) if hmac.compare_digest(token.digest, digest)]
        return found[0].principal if found else None

    def refresh(self) -> None:
        """Reload the tokens if any process has changed the palace. If they cannot be read, the last ones count and
        `problem` says why.

        Raises:
            Busy: another program holds the database, so that nobody knows.
        """
        problem = None
        try:
            self._reload()
        except Busy:
            raise
        except PalaceError as error:
            problem = f"{error.message}; the tokens that were read last count"
        if self._file is not None and os.path.lexists(
            self._file
        ):  # an earlier version of the program may have made it by now
            self._guarding = True
            problem = problem or f"{self._file_problem}; its tokens do not count"
        if problem != self.problem and problem is not None:
            logger.warning("%s", problem)
        self.problem = problem

    def _reload(self) -> None:
        changed = self._database.read_if_changed(self._version, self._store.load)
        if changed is not None:
            self._version, self._list = changed
            self._guarding |= self._list.ever_made


def _environment_token(secret: str) -> Token:
    return Token(ENVIRONMENT_TOKEN, digest_of(secret), WRITE)
