"""Commands that query a palace or maintain it: search, status, reindex, backup, the daemon, tokens.

Each returns the text to print: JSON with `as_json`, otherwise text for people.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from mempalace_mcp.cli import output
from mempalace_mcp.cli.output import Interrupts, Progress
from mempalace_mcp.core.call_context import COMMAND_SECONDS, Deadline
from mempalace_mcp.core.config import Settings
from mempalace_mcp.core.errors import Busy, Forbidden, NotFound
from mempalace_mcp.core.files import is_file
from mempalace_mcp.daemon import control
from mempalace_mcp.runtime.app import App, open_app
from mempalace_mcp.runtime.context import AppContext
from mempalace_mcp.runtime.issues import Status
from mempalace_mcp.server.auth import digest_of, new_token
from mempalace_mcp.server.tools.registry import build_tools
from mempalace_mcp.storage.sqlite.database import DATABASE_FILE, Database
from mempalace_mcp.storage.tokens import Token, TokenStore, validate_token
from mempalace_mcp.storage.tokens_file import FILE as TOKENS_FILE
from mempalace_mcp.storage.tokens_file import take_over
from mempalace_mcp.storage.transactions import Transaction
from mempalace_mcp.storage.vectors.manifest import discard_files
from mempalace_mcp.storage.vectors.model import Difference, VectorStatistics

MODEL_SECONDS = 30.0
"""How long a search waits for the model; without it, it searches by words only."""

FROM_NOW_ON = (
    "From now on every HTTP client of this palace must show a token, those of your own account too. "
    "Sessions over stdio need none."
)
_EVERYTHING = "all"


def search(settings: Settings, query: str, mode: str, as_json: bool, **filters: Any) -> str:
    """Search once, as the `search` tool does."""
    arguments = {"query": query, "mode": mode} | {key: value for key, value in filters.items() if value is not None}
    with open_app(settings) as app:
        app.embedder.start()
        app.embedder.wait(MODEL_SECONDS)
        result = build_tools().call(AppContext(app), "search", arguments, Deadline(COMMAND_SECONDS))
    return json.dumps(result, ensure_ascii=False) if as_json else format_search(result)


def format_search(result: dict[str, Any]) -> str:
    """The answer of a search as text."""
    if not result["results"]:
        return "Nothing found."
    parts = [_format_hit(rank, hit) for rank, hit in enumerate(result["results"], 1)]
    if result["degraded"]:
        parts.append(f"Note: {result['degraded']}.")
    if result["pending"]:
        passages = output.count(result["pending"], "passage")
        parts.append(f"Note: {passages} not embedded yet, and found by words only.")
    return "\n\n".join(parts)


def _format_hit(rank: int, hit: dict[str, Any]) -> str:
    when = (hit.get("occurred_at") or hit["created_at"])[:10]
    source = f" · {hit['source_file']}" if hit.get("source_file") else ""
    head = f"{rank}. {hit['wing']} / {hit['room']} · {when}{source} · score {hit['score']:.2f} · {hit['drawer_id']}"
    return f"{output.harmless(head)}\n{output.passage(hit['passage'])}"


def status(settings: Settings, as_json: bool) -> str:
    """Sizes of the palace, and the health of its daemon, or of this process if there is no daemon."""
    with open_app(settings) as app:
        report = _merge_reports(app.status(), _describe_daemon(settings))
        return json.dumps(report, ensure_ascii=False) if as_json else _format_status(app, report)


def _describe_daemon(settings: Settings) -> dict[str, Any] | None:
    """The daemon's description of itself, None if there is no daemon, `error` and `hint` if it does not answer."""
    try:
        return control.describe(settings.palace)
    except (Busy, Forbidden) as error:
        return {"error": error.message, "hint": error.hint}


def _merge_reports(own: dict[str, Any], daemon: dict[str, Any] | None) -> dict[str, Any]:
    """The palace's sizes are from this process, which reads them from the disk; the rest is the daemon's report."""
    reporter = {"pid": own["process"]["pid"], "daemon": False}
    if daemon is None:
        return {**own, "daemon": None, "reported_by": reporter}
    if "error" in daemon:  # the health of the sessions is unknown
        silence = f"daemon_silent: {daemon['error']}. {daemon['hint'] or ''}".rstrip()
        status = Status.DEGRADED.value if own["status"] == Status.OK else own["status"]
        reasons = [silence, *own["reasons"]]
        return {**own, "status": status, "reasons": reasons, "daemon": daemon, "reported_by": reporter}
    view = dict(daemon.pop("view", ())) or _view_of_older_version(daemon)
    zone = {"timezone": view.pop("timezone")} if "timezone" in view else {}
    reporter = {"pid": daemon["pid"], "daemon": True}
    return {**own, **view, "palace": own["palace"] | zone, "daemon": daemon, "reported_by": reporter}


def _view_of_older_version(daemon: dict[str, Any]) -> dict[str, Any]:
    """What a newer daemon sends as its `view`, from the description by an older one."""
    health = daemon["health"]
    return {
        "status": health["status"],
        "reasons": [f"{reason['code']}: {reason['message']}. {reason['remedy']}" for reason in health["reasons"]],
        "version": daemon["version"],
        "process": {"pid": daemon["pid"], "uptime_seconds": daemon["uptime_seconds"]},
    }


def _format_status(app: App, report: dict[str, Any]) -> str:
    palace, index, reporter = report["palace"], report["index"], report["reported_by"]
    wings, rooms = output.count(palace["wings"], "wing"), output.count(palace["rooms"], "room")
    lines = [
        f"palace    {palace['path']}",
        f"drawers   {palace['drawers']:,} in {wings} and {rooms}",
        f"facts     {palace['facts']:,} about {output.count(palace['entities'], 'entity', 'entities')}",
        f"pending   {output.count(palace['pending'], 'passage')} to embed",
        f"files     {output.size(palace['database_bytes'])}"
        f" and {output.size(palace['wal_bytes'] or 0)} of write-ahead log",
        f"index     {index['mode']}",
        f"model     {palace['model'] or 'none yet'}",
        f"timezone  {palace['timezone']}",
        f"daemon    {_summarize_daemon(report['daemon'])}",
        f"health    {report['status']}, reported by {'the daemon' if reporter['daemon'] else 'this command'}, "
        f"process {reporter['pid']}",
        *(f"          {reason}" for reason in report["reasons"]),
    ]
    counts = [(room.wing, room.room, room.drawers) for room in app.palace.get_taxonomy().rooms]
    return "\n".join(lines) + (f"\n\n{output.table(('wing', 'room', 'drawers'), counts)}" if counts else "")


def _summarize_daemon(daemon: dict[str, Any] | None) -> str:
    if daemon is None:
        return "not running"
    if "error" in daemon:
        return str(daemon["error"])
    sessions, uptime = output.count(len(daemon["sessions"]), "session"), output.duration(daemon["uptime_seconds"])
    return f"process {daemon['pid']}, version {daemon['version']}, {sessions}, running for {uptime}"


def reindex(settings: Settings, vectors: bool, as_json: bool) -> str:
    """Rebuild the search indexes and verify them; with `vectors` compute all vectors again first."""
    differences, statistics = rebuild(settings, vectors, show_progress=not as_json)
    if as_json:
        faults = [dataclasses.asdict(difference) for difference in differences]
        return json.dumps({"faults": faults, "index": dataclasses.asdict(statistics)}, ensure_ascii=False)
    verdict = "differs from the palace: " + "; ".join(map(str, differences)) if differences else "matches the palace"
    return f"The index has been rebuilt ({statistics.chroma_rows:,} vectors in Chroma) and {verdict}."


def rebuild(
    settings: Settings, vectors: bool = False, *, show_progress: bool = False
) -> tuple[Sequence[Difference], VectorStatistics]:
    """Embed pending passages and rebuild the indexes of words and vectors.

    Returns where the vector index then differs from the palace, and its figures.

    Raises:
        Busy: another process holds the index.
        PalaceError: the palace cannot be opened.
    """
    with Interrupts() as interrupts, open_app(settings) as app:
        if not app.index.rebuild():
            raise Busy(
                "another process holds the Chroma index, so it cannot be rebuilt from here",
                hint="Stop that process with `mempalace-mcp daemon stop`, or leave it: it keeps its index up to date.",
            )
        if settings.index != "exact":  # in exact mode other processes may use the files, and this one has no lock
            with contextlib.suppress(OSError):  # files that stay are not trusted, and removed later
                discard_files(settings.palace / "index")
        app.stores.writer.write(app.stores.lexicon.table.rebuild, Deadline(COMMAND_SECONDS))
        if vectors:
            app.chunk_embedder.forget_vectors(Deadline(COMMAND_SECONDS))
        app.embedder.start()
        app.indexer.start()
        with Progress("indexing", enabled=show_progress) as progress:
            app.wait_until_indexed(progress.show, interrupts.check)
        with app.database.read() as connection:
            differences = app.index.verify(connection)
        return differences, app.index.statistics()


def backup(settings: Settings, destination: Path, as_json: bool) -> str:
    """Copy the palace while it is in use, and verify the copy."""
    with open_app(settings) as app:
        report = app.database.backup(destination)
    if as_json:
        return json.dumps(dataclasses.asdict(report), default=str)
    return f"Backed up to {report.path}: {output.size(report.bytes)}, verified. To restore, see docs/operations.md."


def daemon_status(palace: Path, as_json: bool) -> str:
    """Process, version, uptime, health and sessions of the palace's daemon."""
    daemon = control.describe(palace)
    if as_json:
        return json.dumps({"running": daemon is not None, **(daemon or {})})
    return "No daemon is running." if daemon is None else _format_daemon(daemon)


def _format_daemon(daemon: dict[str, Any]) -> str:
    health = daemon.get("health", {"status": "unknown", "reasons": []})  # older versions send none
    lines = [
        f"process   {daemon['pid']}, version {daemon['version']}",
        f"palace    {daemon['palace']}",
        f"running   for {output.duration(daemon['uptime_seconds'])}",
        f"http      {daemon['http'] or 'no'}",
        f"health    {health['status']}",
        *(f"          {reason['message']}" for reason in health["reasons"]),
        f"sessions  {len(daemon['sessions'])}",
    ]
    rows = [
        (session["pid"], session["version"], session["tools"], "yes" if session["read_only"] else "no")
        for session in daemon["sessions"]
    ]
    table = output.table(("process", "version", "tools", "read-only"), rows)
    return "\n".join(lines) + (f"\n\n{table}" if rows else "")


def stop(palace: Path, as_json: bool) -> str:
    """Stop the palace's daemon, if there is one."""
    stopped = control.stop(palace)
    if as_json:
        return json.dumps({"stopped": stopped and stopped.pid})
    if stopped is None:
        return "No daemon is running."
    done = (
        f"Killed process {stopped.pid}, which did not answer." if stopped.killed else f"Stopped process {stopped.pid}."
    )
    if stopped.http:
        return f"{done} It served {stopped.http}. To start it again, run `mempalace-mcp serve`."
    return f"{done} Sessions start it again when they need it."


def logs(palace: Path, as_json: bool) -> str:
    """The log of the palace's daemon."""
    text = control.logged(palace)
    return json.dumps({"log": text}, ensure_ascii=False) if as_json else text


def make_token(palace: Path, name: str, scope: str, wings: Sequence[str], as_json: bool) -> tuple[str, bool]:
    """Make a token and store its digest; the text is the only place where the token ever appears. True if it is the
    first token of the palace."""
    with closing(_open_tokens(palace)) as database:
        secret, token, is_first = add_token(database, name, scope, wings)
    return json.dumps({**_described(token), "token": secret}) if as_json else secret, is_first


def add_token(database: Database, name: str, scope: str, wings: Sequence[str] = ()) -> tuple[str, Token, bool]:
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


def listed(palace: Path, as_json: bool) -> str:
    """Names, scopes and wings of all tokens."""
    tokens: tuple[Token, ...] = ()
    if _has_tokens(palace):
        with closing(_open_tokens(palace)) as database, database.read() as connection:
            tokens = TokenStore().load(connection).tokens
    if as_json:
        return json.dumps({"tokens": [_described(token) for token in tokens]}, ensure_ascii=False)
    if not tokens:
        return "There are no tokens."
    rows = [(token.name, token.scope, ", ".join(token.wings or [_EVERYTHING])) for token in tokens]
    return output.table(("name", "scope", "wings"), rows)


def revoke(palace: Path, name: str, as_json: bool) -> str:
    """Make a token invalid; running servers refuse it from its next request on."""
    if not _has_tokens(palace):
        raise NotFound(f"there is no token {name[:80]!r}", argument="name", hint="There are no tokens at all.")
    with closing(_open_tokens(palace)) as database:
        left = database.write(lambda tx: TokenStore().revoke(tx, name), Deadline(COMMAND_SECONDS))
    if as_json:
        return json.dumps({"revoked": name})
    if left.tokens:
        return f"{name} opens nothing any more."
    return (
        f"{name} opens nothing any more, and nobody comes in over HTTP: make another token, or run "
        "`mempalace-mcp token revoke --all` and start `serve` anew, to serve your own account without one."
    )


def revoke_all(palace: Path, as_json: bool) -> str:
    """Forget all tokens. Running servers refuse them at once, and go on asking for one until they end."""
    count = 0
    if _has_tokens(palace):
        with closing(_open_tokens(palace)) as database:
            count = database.write(TokenStore().clear, Deadline(COMMAND_SECONDS))
    if as_json:
        return json.dumps({"revoked": count})
    return f"{output.count(count, 'token')} revoked. From its next start on `serve` asks for none."


def _described(token: Token) -> dict[str, object]:
    return {"name": token.name, "scope": token.scope, "wings": None if token.wings is None else list(token.wings)}


def _has_tokens(palace: Path) -> bool:
    """May there be tokens? A palace is not made in order to look for them."""
    return is_file(palace / DATABASE_FILE) or is_file(palace / TOKENS_FILE)


def _open_tokens(palace: Path) -> Database:
    """The palace's database, with the tokens of an earlier version in it."""
    database = Database(palace, readers=1)
    try:
        take_over(palace, database, TokenStore())
    except BaseException:
        database.close()
        raise
    return database
