"""The facade every door and the command line use: synchronous, thread-safe, typed values in and out."""

from __future__ import annotations

from mempalace_mcp.palace.facts import Facts
from mempalace_mcp.palace.filing import Filing
from mempalace_mcp.palace.importing import Importing
from mempalace_mcp.palace.places import Places
from mempalace_mcp.palace.reading import Reading
from mempalace_mcp.palace.searching import Searching
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.palace.vectorizing import Vectorizing
from mempalace_mcp.palace.waking import Waking


class Palace(Filing, Reading, Places, Searching, Facts, Waking, Importing):
    """One palace, in parts that share its stores.

    Every method raises a `PalaceError` for what it refuses, and then nothing was changed. Texts arrive as the caller
    gave them (dates as ISO 8601, names as written) and are verified here. An optional text that is empty means absent.
    `deadline` limits all waiting of a write.
    """

    def __init__(self, stores: Stores, vectorizing: Vectorizing) -> None:
        self._stores = stores
        self._vectorizing = vectorizing
