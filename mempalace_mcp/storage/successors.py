"""Drawers that have taken the place of others. A chain of them leads to the newest that is live.

A link is kept as it was stated: a successor in the trash counts again when it is restored. When it is purged, what it
superseded is superseded by its own successor, if it has one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.storage.connection import Connection

LONGEST_CHAIN = 1000

_CHAIN = """
    WITH RECURSIVE chain (origin, drawer_id, steps) AS (
        SELECT d.drawer_id, d.superseded_by, 1 FROM {listed}
            {join} drawers d ON d.drawer_id = wanted.value WHERE d.superseded_by IS NOT NULL
        UNION ALL SELECT chain.origin, d.superseded_by, chain.steps + 1 FROM chain
            {join} drawers d ON d.drawer_id = chain.drawer_id WHERE d.superseded_by IS NOT NULL AND chain.steps < {most}
    )
    SELECT chain.origin, chain.drawer_id, w.key, d.deleted_at IS NULL FROM chain
        {join} drawers d ON d.drawer_id = chain.drawer_id {join} wings w ON w.id = d.wing ORDER BY chain.steps
"""


def newest_successors(
    connection: Connection, drawer_ids: Collection[str], within: Sequence[str] | None = None
) -> dict[str, str]:
    """The newest live successor of each of the drawers that has one, among drawers of some wings, by key, or of all."""
    newest: dict[str, str] = {}
    for origin, drawer_id, wing, is_live in _chains(connection, drawer_ids):
        if is_live and (within is None or wing in within):
            newest[origin] = drawer_id
    return newest


def verify_link(connection: Connection, drawer_id: str, successor: str) -> None:
    """Return if a drawer can be superseded by another one.

    Raises:
        InvalidArgument: they are the same, or the other one is superseded by this one.
    """
    if drawer_id == successor:
        raise InvalidArgument(
            f"{drawer_id} cannot supersede itself", argument="superseded_by", hint="Name the drawer that replaces it."
        )
    if any(each == drawer_id for _, each, _, _ in _chains(connection, [successor])):
        raise InvalidArgument(
            f"{successor} is itself superseded by {drawer_id}",
            argument="superseded_by",
            hint=f'First take that back: update_drawer of {successor} with superseded_by "none".',
        )


def _chains(connection: Connection, drawer_ids: Collection[str]) -> list[tuple[str, str, str, bool]]:
    """Origin, id, key of the wing and whether it is live, of all that follow the drawers, the nearest first."""
    dialect = connection.dialect
    sql = _CHAIN.format(listed=dialect.listed("?", "wanted", str), join=dialect.ordered_join, most=LONGEST_CHAIN)
    return connection.execute(sql, (dialect.array(list(drawer_ids)),)).fetchall()
