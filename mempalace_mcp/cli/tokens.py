"""Commands that say who may use a palace over HTTP: its tokens are made, listed and revoked.

Each returns the text to print: JSON with `as_json`, otherwise text for people.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing

from mempalace_mcp.cli import output
from mempalace_mcp.core.call_context import COMMAND_SECONDS, Deadline
from mempalace_mcp.core.config import Settings
from mempalace_mcp.core.errors import NotFound
from mempalace_mcp.core.files import is_file
from mempalace_mcp.runtime.databases import is_there, open_database
from mempalace_mcp.server.auth import digest_of, new_token
from mempalace_mcp.storage.database import PalaceDatabase
from mempalace_mcp.storage.tokens import Token, TokenStore, validate_token
from mempalace_mcp.storage.tokens_file import FILE as TOKENS_FILE
from mempalace_mcp.storage.tokens_file import take_over
from mempalace_mcp.storage.transactions import Transaction

FROM_NOW_ON = (
    "From now on every HTTP client of this palace must show a token, those of your own account too. "
    "Sessions over stdio need none."
)
_EVERYTHING = "all"


def make_token(settings: Settings, name: str, scope: str, wings: Sequence[str], as_json: bool) -> tuple[str, bool]:
    """Make a token and store its digest; the text is the only place where the token ever appears. True if it is the
    first token of the palace."""
    with closing(_open_tokens(settings)) as database:
        secret, token, is_first = add_token(database, name, scope, wings)
    return json.dumps({**_described(token), "token": secret}) if as_json else secret, is_first


def add_token(database: PalaceDatabase, name: str, scope: str, wings: Sequence[str] = ()) -> tuple[str, Token, bool]:
    """Make a token in an open palace: its secret, what is stored of it, and whether it is the first one."""
    secret, store = new_token(), TokenStore()
    token = validate_token(name, digest_of(secret), scope, wings)

    def work(tx: Transaction) -> bool:
        is_first = not store.load(tx.connection).ever_made
        store.add(tx, token)
        return is_first

    return secret, token, database.write(work, Deadline(COMMAND_SECONDS))


def connecting(address: str, secret: str) -> str:
    """How to connect a client with the token that the first `serve` made."""
    return (
        "This system does not tell to which account a program belongs, so a token is needed; it is shown only now:\n"
        f'claude mcp add --transport http mempalace {address}/mcp --header "Authorization: Bearer {secret}"'
    )


def listed(settings: Settings, as_json: bool) -> str:
    """Names, scopes and wings of all tokens."""
    tokens: tuple[Token, ...] = ()
    if _has_tokens(settings):
        with closing(_open_tokens(settings)) as database, database.read() as connection:
            tokens = TokenStore().load(connection).tokens
    if as_json:
        return json.dumps({"tokens": [_described(token) for token in tokens]}, ensure_ascii=False)
    if not tokens:
        return "There are no tokens."
    rows = [(token.name, token.scope, ", ".join(token.wings or [_EVERYTHING])) for token in tokens]
    return output.table(("name", "scope", "wings"), rows)


def revoke(settings: Settings, name: str, as_json: bool) -> str:
    """Make a token invalid; running servers refuse it from its next request on."""
    if not _has_tokens(settings):
        raise NotFound(f"there is no token {name[:80]!r}", argument="name", hint="There are no tokens at all.")
    with closing(_open_tokens(settings)) as database:
        left = database.write(lambda tx: TokenStore().revoke(tx, name), Deadline(COMMAND_SECONDS))
    if as_json:
        return json.dumps({"revoked": name})
    if left.tokens:
        return f"{name} opens nothing any more."
    return (
        f"{name} opens nothing any more, and nobody comes in over HTTP: make another token, or run "
        "`mempalace-mcp token revoke --all` and start `serve` anew, to serve your own account without one."
    )


def revoke_all(settings: Settings, as_json: bool) -> str:
    """Forget all tokens. Running servers refuse them at once, and go on asking for one until they end."""
    count = 0
    if _has_tokens(settings):
        with closing(_open_tokens(settings)) as database:
            count = database.write(TokenStore().clear, Deadline(COMMAND_SECONDS))
    if as_json:
        return json.dumps({"revoked": count})
    return f"{output.count(count, 'token')} revoked. From its next start on `serve` asks for none."


def _described(token: Token) -> dict[str, object]:
    return {"name": token.name, "scope": token.scope, "wings": None if token.wings is None else list(token.wings)}


def _has_tokens(settings: Settings) -> bool:
    """May there be tokens? A palace is not made in order to look for them."""
    return is_there(settings) or (settings.url is None and is_file(settings.palace / TOKENS_FILE))


def _open_tokens(settings: Settings) -> PalaceDatabase:
    """The palace's database, with the tokens of an earlier version in it."""
    database = open_database(settings, readers=1)
    try:
        if settings.url is None:
            take_over(settings.palace, database, TokenStore())
    except BaseException:
        database.close()
        raise
    return database
