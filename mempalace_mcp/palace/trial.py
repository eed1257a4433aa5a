"""What a dry run has heard already: it stores nothing, and must not count twice what several files hold."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace

from mempalace_mcp.palace.importers import Document, rendered


class Trial:
    """The records that a dry run has counted, in a temporary file, for there may be many; and the notes it moved."""

    def __init__(self) -> None:
        self._heard = sqlite3.connect("")
        self._heard.execute("CREATE TABLE heard (key INTEGER PRIMARY KEY)")
        self.moved: set[int] = set()

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *_: object) -> None:
        self._heard.close()

    def unheard(self, documents: Iterable[Document]) -> list[Document]:
        """The documents without what was heard before; those of which nothing is left are left out."""
        left = []
        for document in documents:
            said = tuple(each for each in document.said if not self._knows(each.key))
            if len(said) == len(document.said):
                left.append(document)
            elif said:
                left.append(replace(document, said=said, content=rendered(said)))
        return left

    def hear(self, documents: Sequence[Document]) -> None:
        """Remember what is said in these."""
        keys = [(said.key,) for document in documents for said in document.said]
        self._heard.executemany("INSERT OR IGNORE INTO heard VALUES (?)", keys)

    def _knows(self, key: int) -> bool:
        return self._heard.execute("SELECT 1 FROM heard WHERE key = ?", (key,)).fetchone() is not None
