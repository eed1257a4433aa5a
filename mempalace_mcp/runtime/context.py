"""The interface of the running process for tools."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mempalace_mcp.core.call_context import Deadline, Principal
from mempalace_mcp.core.errors import Forbidden
from mempalace_mcp.palace.access_control import limited
from mempalace_mcp.palace.palace import Palace
from mempalace_mcp.runtime.activity import describe_history
from mempalace_mcp.runtime.app import App
from mempalace_mcp.runtime.feed import ChangeFeed

IMPORT_RESERVE_SECONDS = 10.0
"""An import through a tool stops when this much of the call's time is left. The next call continues it."""


class AppContext:
    """The palace, and what tools need beside it: feed, status, reconnect, history, import."""

    def __init__(self, app: App) -> None:
        self._app = app

    @property
    def palace(self) -> Palace:
        """The palace all tools work on."""
        return self._app.palace

    @property
    def feed(self) -> ChangeFeed:
        """The feed of its changes."""
        return self._app.feed

    def granted(self, access: Principal) -> AppContext:
        """The context for a caller with this access."""
        return self if access.wings is None else LimitedContext(self._app, access.wings)

    def status(self) -> dict[str, Any]:
        """Health and sizes of palace and process."""
        return self._app.status()

    def reconnect(self) -> dict[str, Any]:
        """Close and reopen the database and the index; their statistics `before` and `after`."""
        app = self._app
        database_before = dataclasses.asdict(app.database.statistics())
        app.database.reopen()
        with app.database.read() as connection:
            index = app.index.reconnect(connection)
        app.indexer.wake()
        return {
            "before": {"database": database_before, "index": dataclasses.asdict(index.before)},
            "after": {
                "database": dataclasses.asdict(app.database.statistics()),
                "index": dataclasses.asdict(index.after),
            },
        }

    def history(self, *, session: int | None, limit: int, cursor: str | None) -> dict[str, Any]:
        """A page of the calls that the process remembers, of one session or of all."""
        return describe_history(self._app.activity, session=session, limit=limit, cursor=cursor)

    def import_paths(
        self, paths: Sequence[str], *, wing: str | None, dry_run: bool, deadline: Deadline
    ) -> dict[str, Any]:
        """File the texts under the paths, within the allowed folders and the call's time; with `dry_run` only count."""
        from mempalace_mcp.palace.import_report import ImportSummary  # few sessions import

        summary = ImportSummary()
        roots = self._app.settings.import_roots
        for step in self.palace.import_paths([Path(path) for path in paths], wing=wing, dry_run=dry_run, within=roots):
            summary.add(step)
            deadline.report(summary.steps, None, f"{summary.filed} drawers filed, now at {Path(step.path).name}")
            if deadline.cancelled or deadline.remaining < IMPORT_RESERVE_SECONDS:
                return summary.as_dict(complete=False)
        return summary.as_dict(complete=True)


class LimitedContext(AppContext):
    """For a caller limited to some wings: sees nothing else of the palace, and little of the process."""

    def __init__(self, app: App, wings: Sequence[str]) -> None:
        super().__init__(app)
        self._palace = Palace(limited(app.stores, wings), app.chunk_embedder)

    @property
    def palace(self) -> Palace:
        """The palace, limited to these wings."""
        return self._palace

    def status(self) -> dict[str, Any]:
        """The health without details, and the sizes of these wings."""
        report, taxonomy = self._app.health.snapshot(), self._palace.get_taxonomy()
        return {
            "status": report.status.value,
            "reasons": [issue.code for issue in report.reasons],
            "version": report.version,
            "palace": {
                "drawers": taxonomy.drawers,
                "wings": len({room.wing for room in taxonomy.rooms}),
                "rooms": len(taxonomy.rooms),
            },
        }

    def history(self, *, session: int | None, limit: int, cursor: str | None) -> dict[str, Any]:
        """Refused."""
        raise Forbidden("history concerns everybody's calls", hint="Use a token that is not limited to wings.")

    def reconnect(self) -> dict[str, Any]:
        """Refused."""
        raise Forbidden("reconnect concerns the whole palace", hint="Use a token that is not limited to wings.")

    def import_paths(
        self, paths: Sequence[str], *, wing: str | None, dry_run: bool, deadline: Deadline
    ) -> dict[str, Any]:
        """Refused: an import also changes earlier drawers of a file, which may be in other wings."""
        raise Forbidden("imports concern the whole palace", hint="Use a token that is not limited to wings.")
