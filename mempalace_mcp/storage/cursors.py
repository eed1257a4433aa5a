"""Cursors of listings: opaque to clients, bound to the question they were made for."""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct

from mempalace_mcp.core.errors import InvalidArgument

Position = tuple[int, ...]
"""The sort key of the last row that was shown."""

GREATEST = 2**63 - 1
"""No part of a sort key is beyond it, nor below its negative."""


def encode_cursor(position: Position, question: object) -> str:
    """The cursor for what follows a position in the listing that answers `question` (told apart by its repr)."""
    return base64.urlsafe_b64encode(_layout(position).pack(*position, _fingerprint(question))).decode("ascii")


def decode_cursor(cursor: str | None, question: object, beginning: Position) -> Position:
    """The position a cursor stands for; without a cursor, the beginning, which has as many parts.

    Raises:
        InvalidArgument: it is no cursor, or one of another listing.
    """
    if cursor is None:
        return beginning
    try:
        packed = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
        *position, fingerprint = _layout(beginning).unpack(packed)
    except (UnicodeEncodeError, binascii.Error, struct.error):
        raise _refusal("is not a cursor that this palace has given") from None
    if fingerprint != _fingerprint(question):
        raise _refusal("belongs to a listing with other filters")
    return tuple(position)


def _layout(position: Position) -> struct.Struct:
    return struct.Struct(f">{len(position)}q8s")


def _fingerprint(question: object) -> bytes:
    return hashlib.blake2b(repr(question).encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _refusal(problem: str) -> InvalidArgument:
    return InvalidArgument(
        f"cursor {problem}",
        argument="cursor",
        hint="Give the next_cursor of the last page together with the same filters, or leave it out to begin anew.",
    )
