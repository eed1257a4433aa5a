"""Commands that look after a palace: status, reindex, backup.

Each returns the text to print: JSON with `as_json`, otherwise text for people.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mempalace_mcp.cli import output
from mempalace_mcp.cli.output import Interrupts, Progress
from mempalace_mcp.core.call_context import COMMAND_SECONDS, Deadline
from mempalace_mcp.core.config import Settings
from mempalace_mcp.core.errors import Busy, ConfigurationError, Forbidden
from mempalace_mcp.core.palace_url import PalaceUrl
from mempalace_mcp.daemon import control
from mempalace_mcp.runtime.app import App, open_app
from mempalace_mcp.runtime.issues import Status
from mempalace_mcp.storage.sqlite.database import Database
from mempalace_mcp.storage.sqlite.rotation import back_up_dated
from mempalace_mcp.storage.token_vectors import mend_token_vectors
from mempalace_mcp.storage.vectors.manifest import discard_files
from mempalace_mcp.storage.vectors.model import Difference, VectorStatistics


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
        f"files     {_describe_files(palace)}",
        f"index     {index['mode']}",
        f"model     {palace['model'] or 'none yet'}{_describe_move(palace['moving'])}",
        *([f"          {palace['advice']}"] if palace["advice"] else []),
        f"timezone  {palace['timezone']}",
        f"daemon    {_summarize_daemon(report['daemon'])}",
        f"health    {report['status']}, reported by {'the daemon' if reporter['daemon'] else 'this command'}, "
        f"process {reporter['pid']}",
        *(f"          {reason}" for reason in report["reasons"]),
    ]
    counts = [(room.wing, room.room, room.drawers) for room in app.palace.get_taxonomy().rooms]
    return "\n".join(lines) + (f"\n\n{output.table(('wing', 'room', 'drawers'), counts)}" if counts else "")


def _describe_files(palace: dict[str, Any]) -> str:
    if server := palace.get("server"):
        versions = f"PostgreSQL {server['postgresql']} with pgvector {server['pgvector']}"
        return f"{output.size(palace['database_bytes'] or 0)} in {versions}"
    return f"{output.size(palace['database_bytes'])} and {output.size(palace['wal_bytes'] or 0)} of write-ahead log"


def _describe_move(move: dict[str, Any] | None) -> str:
    return f", moving to {move['model']}: {move['done']:,} of {move['total']:,} passages" if move else ""


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
    return f"The index has been rebuilt ({statistics.rows_indexed:,} vectors in it) and {verdict}."


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
        app.stores.writer.write(mend_token_vectors, Deadline(COMMAND_SECONDS))
        if vectors:
            app.chunk_embedder.forget_vectors(Deadline(COMMAND_SECONDS))
        app.embedder.start()
        app.indexer.start()
        with Progress("indexing", enabled=show_progress) as progress:
            app.wait_until_indexed(progress.show, interrupts.check)
        with app.database.read() as connection:
            differences = app.index.verify(connection)
        return differences, app.index.statistics()


def backup(settings: Settings, destination: Path, keep: int | None, as_json: bool) -> str:
    """Copy the palace while it is in use, and verify the copy.

    With `keep` the destination is a directory: the copy gets a name with the date there, and only so many are kept.

    Raises:
        ConfigurationError: the palace is in PostgreSQL, whose own program makes backups.
        PalaceError: the palace cannot be opened, or the copy cannot be written.
    """
    if settings.url is not None:
        raise ConfigurationError(
            f"{settings.url} is copied by PostgreSQL's own program, not by this one",
            argument="destination",
            hint=f"Run: {dump_line(settings.url, destination)}",
        )
    with contextlib.closing(Database(settings.palace)) as database:
        if keep is None:
            report, removed = database.backup(destination), tuple[Path, ...]()
        else:
            rotation = back_up_dated(database, destination, keep)
            report, removed = rotation.report, rotation.removed
    if as_json:
        return json.dumps(dataclasses.asdict(report) | {"removed": removed}, default=str)
    line = shlex.join(["mempalace-mcp", "restore", str(report.path)])
    lines = [f"Backed up to {report.path}: {output.size(report.bytes)}, verified. To restore it: {line}"]
    return "\n".join([*lines, *(f"Removed {file}." for file in removed)])


def dump_line(url: PalaceUrl, destination: Path) -> str:
    """The command that copies a palace in PostgreSQL. It asks for the password, or finds it in PGPASSFILE."""
    return shlex.join(["pg_dump", "-Fc", "-n", url.schema, "-f", str(destination), "-d", url.without_password])
