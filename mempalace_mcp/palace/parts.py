"""What is said around short drawers of one source, such as the turns of a conversation.

A turn seldom answers alone: the question before it names what it is about. So a drawer of one chunk is also judged by
the part of its source that it stands in, the drawers before and after it. A part has the words and tokens of all of
them, and the cosine of the nearest one. Words weigh the more, the fewer of the candidates hold them: what is rare in a
palace may be what all of a conversation is about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from mempalace_mcp.core.model import DrawerFilter
from mempalace_mcp.palace.ranking import Signals
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.drawers import ChunkRow
from mempalace_mcp.storage.queries import first_chunks, neighbours

REACH = 2
"""Drawers on either side; 1 to 4 rank alike."""
MOST = 80
"""Candidates that are looked at: up to 40 that stand beside others, then the best."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The chunks around some candidates, by the candidate's chunk, itself among them."""

    around: Mapping[int, Sequence[int]]

    @property
    def chunks(self) -> list[int]:
        """The chunks in them."""
        return list({chunk for chunks in self.around.values() for chunk in chunks})

    def signals(
        self, chunk: int, bm25: Mapping[int, float], cosines: Mapping[int, float], match: float | None
    ) -> Signals | None:
        """What speaks for the part of a candidate; None if it has none."""
        chunks = self.around.get(chunk)
        if chunks is None:
            return None
        cosine = max((cosines[each] for each in chunks if each in cosines), default=None)
        return Signals(sum(bm25.get(each, 0.0) for each in chunks), cosine, match)


def read_parts(
    connection: Connection, rows: Sequence[ChunkRow], drawer_filter: DrawerFilter, reach: int = REACH
) -> Parts:
    """The parts of the candidates among these chunks that stand in one, the first `MOST` of them."""
    sourced = [row for row in rows if row.source_file is not None][:MOST]
    if not sourced:
        return Parts({})
    beside = neighbours(connection, [row.drawer for row in sourced], reach)
    chunks = first_chunks(connection, list(set(chain.from_iterable(beside.values()))), drawer_filter)
    around = {}
    for row in sourced:
        near = [chunks[drawer] for drawer in beside.get(row.drawer, ()) if drawer in chunks]
        if near:
            around[row.chunk] = [row.chunk, *near]
    return Parts(around)
