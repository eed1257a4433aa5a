"""Moves a palace to another place, from one database to another or to one of the same kind."""

from __future__ import annotations

from mempalace_mcp.core.config import Settings
from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.runtime.databases import open_source, open_target
from mempalace_mcp.storage.copying import CopyReport, Step, copy_palace


def move_palace(source: Settings, target: Settings, step: Step) -> CopyReport:
    """Copy the palace of `source` to the place of `target`, which holds none, and compare the two.

    The source stays as it was; nobody writes to it meanwhile. An interrupted move goes on where it stopped.

    Raises:
        InvalidArgument: both are the same place.
        NotFound: there is no palace.
        Conflict: the target holds a palace, or an unfinished copy of another one.
        PalaceError: one of the two cannot be read or written.
    """
    verify_apart(source, target)
    with open_source(source) as snapshot, open_target(target, snapshot.origin) as copy:
        return copy_palace(snapshot, copy, target.zone, step)


def verify_apart(source: Settings, target: Settings) -> None:
    """Return if the two are not the same place.

    Raises:
        InvalidArgument: they are.
    """
    if source.shown == target.shown:
        raise InvalidArgument(
            f"source and target are the same palace, {source.shown}", argument="TARGET", hint="Name another place."
        )
