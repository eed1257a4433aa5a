"""Access tokens of a palace: who may use it over HTTP, and how far."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass

from mempalace_mcp.core.call_context import Principal
from mempalace_mcp.core.errors import Conflict, InvalidArgument, NotFound
from mempalace_mcp.core.text import read_name
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.transactions import Transaction

READ, WRITE = "read", "write"
SCOPES = (READ, WRITE)

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Token:
    """A token by the digest of its secret. `wings` are names as written; None means the whole palace."""

    name: str
    digest: bytes
    scope: str
    wings: tuple[str, ...] | None = None

    @property
    def principal(self) -> Principal:
        """What its bearer may do."""
        keys = None if self.wings is None else tuple(sorted({read_name(wing, "wing").key for wing in self.wings}))
        return Principal(self.name, self.scope == WRITE, keys)


@dataclass(frozen=True, slots=True)
class TokenList:
    """The valid tokens in the order in which they were made. `ever_made` stays true when the last one is revoked."""

    tokens: tuple[Token, ...] = ()
    ever_made: bool = False


def validate_token(name: str, digest: bytes, scope: str, wings: Iterable[str]) -> Token:
    """A token from the arguments of a person; without wings it reaches the whole palace.

    Raises:
        InvalidArgument: the name, the scope or a wing is not valid.
    """
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"{name[:80]!r} cannot be the name of a token", argument="name", hint="Use letters, digits, - and _."
        )
    if scope not in SCOPES:
        raise InvalidArgument(f"scope is {scope[:80]!r}", argument="scope", hint=f"Use {READ} or {WRITE}.")
    shown = tuple(read_name(wing, "wings").shown for wing in wings)
    return Token(name, digest, scope, shown or None)


class TokenStore:
    """The table of tokens. A revoked token keeps its row without a digest, until its name is used again."""

    def load(self, connection: Connection) -> TokenList:
        """All of them."""
        rows = connection.execute("SELECT name, digest, scope, wings FROM access_tokens ORDER BY id").fetchall()
        tokens = (
            Token(name, digest, scope, None if wings is None else tuple(json.loads(wings)))
            for name, digest, scope, wings in rows
            if digest is not None
        )
        return TokenList(tuple(tokens), bool(rows))

    def add(self, tx: Transaction, token: Token) -> None:
        """Add a token.

        Raises:
            Conflict: a valid token has the name.
        """
        tx.connection.execute("DELETE FROM access_tokens WHERE name = ? AND digest IS NULL", (token.name,))
        if not self._insert(tx, token):
            raise Conflict(
                f"there is a token {token.name!r} already",
                argument="name",
                hint="Choose another name, or revoke that one.",
            )

    def take_over(self, tx: Transaction, tokens: Iterable[Token]) -> None:
        """Add tokens of an earlier version's file. A name that the table knows is left as it is, revoked or not."""
        known = {token.name: token for token in self.load(tx.connection).tokens}
        for token in tokens:
            if not self._insert(tx, token) and known.get(token.name) != token:
                logger.warning("the token %s of an earlier version is left out: the palace knows the name", token.name)

    def revoke(self, tx: Transaction, name: str) -> TokenList:
        """Make a token invalid; the tokens that remain.

        Raises:
            NotFound: no valid token has the name.
        """
        revoked = tx.connection.execute(
            "UPDATE access_tokens SET digest = NULL WHERE name = ? AND digest IS NOT NULL", (name,)
        )
        if not revoked.rowcount:
            raise NotFound(
                f"there is no token {name[:80]!r}", argument="name", hint="`mempalace-mcp token list` names them."
            )
        return self.load(tx.connection)

    def clear(self, tx: Transaction) -> int:
        """Forget all tokens, the revoked ones too, as if none had ever been made; the number of valid ones."""
        count = len(self.load(tx.connection).tokens)
        tx.connection.execute("DELETE FROM access_tokens")
        return count

    @staticmethod
    def _insert(tx: Transaction, token: Token) -> bool:
        wings = None if token.wings is None else json.dumps(token.wings, ensure_ascii=False)
        inserted = tx.connection.execute(
            "INSERT INTO access_tokens (name, digest, scope, wings) VALUES (?, ?, ?, ?) ON CONFLICT (name) DO NOTHING",
            (token.name, token.digest, token.scope, wings),
        )
        return inserted.rowcount > 0
