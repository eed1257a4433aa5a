"""`token`: make, list and revoke what opens the HTTP doors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mempalace_mcp.cli import show
from mempalace_mcp.core.deadline import COMMAND_SECONDS, Deadline
from mempalace_mcp.core.errors import Conflict, NotFound
from mempalace_mcp.core.files import create_directory
from mempalace_mcp.core.locks import FileLock
from mempalace_mcp.protocol.tokens import FILE, Token, digest_of, new_token, read_token, read_tokens, write_tokens

LOCK = "tokens.lock"
FROM_NOW_ON = (
    "From now on every HTTP client of this palace must show a token, those of your own account too. "
    "Sessions over stdio need none."
)
_EVERYTHING = "all"


def is_first(palace: Path) -> bool:
    """Is there nothing yet for which the HTTP doors would ask?"""
    return not (palace / FILE).exists()


def new(palace: Path, name: str, scope: str, wings: Sequence[str], as_json: bool) -> str:
    """Make a token and store its digest; the answer is the only place where the token ever appears."""
    secret = new_token()
    token = read_token(name, digest_of(secret), scope, wings)
    create_directory(palace)
    with _alone(palace):
        known = read_tokens(palace / FILE)
        if any(each.name == name for each in known):
            raise Conflict(
                f"there is a token {name!r} already", argument="name", hint="Choose another name, or revoke that one."
            )
        write_tokens(palace / FILE, [*known, token])
    return json.dumps({**_described(token), "token": secret}) if as_json else secret


def connecting(address: str, secret: str) -> str:
    """How to connect a client with the token that was made because there was none."""
    return (
        "This system does not tell to which account a program belongs, so a token is needed; it is shown only now:\n"
        f'claude mcp add --transport http mempalace {address}/mcp --header "Authorization: Bearer {secret}"'
    )


def listed(palace: Path, as_json: bool) -> str:
    """Names, scopes and wings of all tokens."""
    known = read_tokens(palace / FILE)
    if as_json:
        return json.dumps({"tokens": [_described(token) for token in known]}, ensure_ascii=False)
    if not known:
        return "There are no tokens."
    rows = [(token.name, token.scope, ", ".join(token.wings or [_EVERYTHING])) for token in known]
    return show.table(("name", "scope", "wings"), rows)


def revoke(palace: Path, name: str, as_json: bool) -> str:
    """Forget a token; a running server refuses it from its next request on."""
    with _alone(palace):
        known = read_tokens(palace / FILE)
        kept = [token for token in known if token.name != name]
        if len(kept) == len(known):
            raise NotFound(
                f"there is no token {name[:80]!r}", argument="name", hint="`mempalace-mcp token list` names them."
            )
        write_tokens(palace / FILE, kept)
    if as_json:
        return json.dumps({"revoked": name})
    if kept:
        return f"{name} opens nothing any more."
    return (
        f"{name} opens nothing any more, and nobody comes in over HTTP: make another token, or stop `serve` and remove "
        f"{palace / FILE}, to serve your own account without one."
    )


def _described(token: Token) -> dict[str, object]:
    return {"name": token.name, "scope": token.scope, "wings": None if token.wings is None else list(token.wings)}


@contextmanager
def _alone(palace: Path) -> Iterator[None]:
    """While no other command changes the file."""
    lock = FileLock(palace / LOCK)
    try:
        with lock.hold(Deadline(COMMAND_SECONDS)):
            yield
    finally:
        lock.close()
