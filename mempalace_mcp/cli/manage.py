"""Commands that ask a palace or its daemon, or look after it.

`search` and `status`: what a person asks the palace without an agent.

`reindex` and `backup`.

`daemon status|stop|logs`: for people who look after the process behind their sessions.

`token`: make, list and revoke what opens the HTTP doors.
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


def search(settings: Settings, query: str, mode: str, as_json: bool, **filters: Any) -> str:
    """Search once, as the tool does; waits for the model so that meaning takes part."""
    arguments = {"query": query, "mode": mode} | {key: value for key, value in filters.items() if value is not None}
    with open_app(settings) as app:
        app.embedder.start()
        app.embedder.wait(MODEL_SECONDS)
        answer = build_tools().call(AppContext(app), "search", arguments, Deadline(COMMAND_SECONDS))
    return json.dumps(answer, ensure_ascii=False) if as_json else found(answer)


def found(answer: dict[str, Any]) -> str:
    """Hits as a person reads them."""
    if not answer["results"]:
        return "Nothing found."
    told = [_hit(rank, hit) for rank, hit in enumerate(answer["results"], 1)]
    if answer["degraded"]:
        told.append(f"Note: {answer['degraded']}.")
    if answer["pending"]:
        told.append(f"Note: {output.count(answer['pending'], 'passage')} yet to be embedded; searched by words alone.")
    return "\n\n".join(told)


def status(settings: Settings, as_json: bool) -> str:
    """What the palace holds, and how the process that serves it fares; only without one, how this process does."""
    with open_app(settings) as app:
        told = _seen_by(_daemon(settings), app.status())
        return json.dumps(told, ensure_ascii=False) if as_json else _status(app, told)


def _seen_by(daemon: dict[str, Any] | None, own: dict[str, Any]) -> dict[str, Any]:
    """Sizes are ours, they are on the disk; the rest is the daemon's, as far as it tells."""
    if daemon is None or "error" in daemon:
        if daemon is not None:  # nobody knows how the sessions fare that it serves
            own = {**own, "status": _worse(own["status"]), "reasons": [_of_silence(daemon), *own["reasons"]]}
        return {**own, "daemon": daemon, "reported_by": {"pid": own["process"]["pid"], "daemon": False}}
    seen = dict(daemon.pop("view", ()))
    zone = {"timezone": seen.pop("timezone")} if "timezone" in seen else {}
    if not seen:  # an older version
        health = daemon["health"]
        reasons = [f"{reason['code']}: {reason['message']}. {reason['remedy']}" for reason in health["reasons"]]
        process = {"pid": daemon["pid"], "uptime_seconds": daemon["uptime_seconds"]}
        seen = {"status": health["status"], "reasons": reasons, "version": daemon["version"], "process": process}
    reported = {"pid": daemon["pid"], "daemon": True}
    return {**own, **seen, "palace": own["palace"] | zone, "daemon": daemon, "reported_by": reported}


def _worse(status: str) -> str:
    return Status.DEGRADED.value if status == Status.OK else status


def _of_silence(daemon: dict[str, Any]) -> str:
    return f"daemon_silent: {daemon['error']}. {daemon['hint'] or ''}".rstrip()


def _status(app: App, told: dict[str, Any]) -> str:
    palace, index = told["palace"], told["index"]
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
        f"zone      {palace['timezone']}",
        f"daemon    {_serving(told['daemon'])}",
        f"health    {told['status']}, {_witness(told)}"
        + "".join(f"\n          {reason}" for reason in told["reasons"]),
    ]
    counts = [(room.wing, room.room, room.drawers) for room in app.palace.get_taxonomy().rooms]
    return "\n".join(lines) + (f"\n\n{output.table(('wing', 'room', 'drawers'), counts)}" if counts else "")


def _daemon(settings: Settings) -> dict[str, Any] | None:
    """The process behind the palace's sessions, if there is one that answers."""
    try:
        return control.describe(settings.palace)
    except (Busy, Forbidden) as error:
        return {"error": error.message, "hint": error.hint}


def _witness(told: dict[str, Any]) -> str:
    """Who says so."""
    reporter = told["reported_by"]
    return f"as process {reporter['pid']} says, {'the daemon' if reporter['daemon'] else 'this command'}"


def _serving(daemon: dict[str, Any] | None) -> str:
    if daemon is None:
        return "none is running"
    if "error" in daemon:
        return str(daemon["error"])
    lasted = output.duration(daemon["uptime_seconds"])
    return f"process {daemon['pid']}, version {daemon['version']}, {len(daemon['sessions'])} sessions, for {lasted}"


def _hit(rank: int, hit: dict[str, Any]) -> str:
    when = (hit.get("occurred_at") or hit["created_at"])[:10]
    source = f" · {hit['source_file']}" if hit.get("source_file") else ""
    head = f"{rank}. {hit['wing']} / {hit['room']} · {when}{source} · score {hit['score']:.2f} · {hit['drawer_id']}"
    return f"{output.harmless(head)}\n{output.passage(hit['passage'])}"


def reindex(settings: Settings, vectors: bool, as_json: bool) -> str:
    """Rebuild the derived index; with `vectors` embed every text anew first."""
    faults, statistics = rebuild(settings, vectors, show_progress=not as_json)
    if as_json:
        told = {"faults": [dataclasses.asdict(fault) for fault in faults], "index": dataclasses.asdict(statistics)}
        return json.dumps(told, ensure_ascii=False)
    verdict = "equals the truth" if not faults else "differs: " + "; ".join(map(str, faults))
    return f"The index has been rebuilt ({statistics.chroma_rows:,} vectors in Chroma) and {verdict}."


def rebuild(
    settings: Settings, vectors: bool = False, *, show_progress: bool = False
) -> tuple[Sequence[Difference], VectorStatistics]:
    """Embed what is pending, and build the indexes of words and vectors anew; where the latter differs from the truth
    afterwards, and its figures.

    Raises:
        Busy: another process holds the index.
        PalaceError: the palace cannot be opened.
    """
    with Interrupts() as interrupts, open_app(settings) as app:
        if not app.index.rebuild():
            raise Busy(
                "another process holds the Chroma index, so it cannot be rebuilt from here",
                hint="Stop that process with `mempalace-mcp daemon stop`, or leave it: its index follows the palace by "
                "itself.",
            )
        if settings.index != "exact":  # then nobody holds the lock on the files
            with contextlib.suppress(OSError):  # what stays is not trusted, and removed when Chroma is next opened
                discard_files(settings.palace / "index")
        app.stores.writer.write(app.stores.lexicon.table.rebuild, Deadline(COMMAND_SECONDS))
        if vectors:
            app.chunk_embedder.forget_vectors(Deadline(COMMAND_SECONDS))
        app.embedder.start()
        app.indexer.start()
        with Progress("indexing", enabled=show_progress) as progress:
            app.wait_until_indexed(progress.show, interrupts.check)
        with app.database.read() as connection:
            faults = app.index.verify(connection)
        return faults, app.index.statistics()


def backup(settings: Settings, destination: Path, as_json: bool) -> str:
    """Copy the palace online and verify the copy."""
    with open_app(settings) as app:
        report = app.database.backup(destination)
    if as_json:
        return json.dumps(dataclasses.asdict(report), default=str)
    return f"backed up to {report.path}: {output.size(report.bytes)}, verified. Restore: see docs/operations.md."


def daemon_status(palace: Path, as_json: bool) -> str:
    """Process, version, uptime and sessions of the palace's daemon."""
    told = control.describe(palace)
    if as_json:
        return json.dumps({"running": told is not None, **(told or {})})
    return "No daemon is running." if told is None else _session_described(told)


def stop(palace: Path, as_json: bool) -> str:
    """Stop it, if there is one."""
    stopped = control.stop(palace)
    if as_json:
        return json.dumps({"stopped": stopped and stopped.pid})
    if stopped is None:
        return "No daemon is running."
    told = (
        f"Killed process {stopped.pid}, which did not answer." if stopped.killed else f"Stopped process {stopped.pid}."
    )
    if stopped.http:
        return f"{told} It served {stopped.http}: `mempalace-mcp serve` starts that again."
    return f"{told} Sessions start it again when they need it."


def logs(palace: Path, as_json: bool) -> str:
    """What it has logged."""
    text = control.logged(palace)
    return json.dumps({"log": text}, ensure_ascii=False) if as_json else text


def _health(told: dict[str, Any]) -> str:
    """Its status with the reasons. A daemon of an older version does not tell."""
    health = told.get("health", {"status": "unknown", "reasons": []})
    return "\n          ".join([health["status"], *(reason["message"] for reason in health["reasons"])])


def _session_described(told: dict[str, Any]) -> str:
    lines = [
        f"process   {told['pid']}, version {told['version']}",
        f"palace    {told['palace']}",
        f"running   for {output.duration(told['uptime_seconds'])}",
        f"http      {told['http'] or 'no'}",
        f"health    {_health(told)}",
        f"sessions  {len(told['sessions'])}",
    ]
    rows = [
        (each["pid"], each["version"], each["tools"], "yes" if each["read_only"] else "no") for each in told["sessions"]
    ]
    table = output.table(("process", "version", "tools", "read-only"), rows)
    return "\n".join(lines) + (f"\n\n{table}" if rows else "")


FROM_NOW_ON = (
    "From now on every HTTP client of this palace must show a token, those of your own account too. "
    "Sessions over stdio need none."
)
_EVERYTHING = "all"


def new(palace: Path, name: str, scope: str, wings: Sequence[str], as_json: bool) -> str:
    """Make a token and store its digest; the answer is the only place where the token ever appears."""
    return make_token(palace, name, scope, wings, as_json)[0]


def make_token(palace: Path, name: str, scope: str, wings: Sequence[str], as_json: bool) -> tuple[str, bool]:
    """`new`, and whether it is the first token that the palace has."""
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
    """How to connect a client with the token that was made because there was none."""
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
