"""Drawers for tests: a palace's tables in memory, written by units of work as the database would run them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, TypeVar

from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.model import Drawer, DrawerChanges, DrawerFilter, Filed, NewDrawer, Place, Span
from mempalace_mcp.core.text import Name, read_name
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.diary import DiaryStore
from mempalace_mcp.storage.drawers import DrawerStore
from mempalace_mcp.storage.lexical import Lexicon
from mempalace_mcp.storage.transactions import Transaction
from tests.storage.support import fresh_connection, unit, word_table

T = TypeVar("T")

EVERY = DrawerFilter()
START: Instant = 1_700_000_000_000_000


def name(shown: str) -> Name:
    """A name as the palace reads it."""
    return read_name(shown, "name")


def place(wing: str = "Work", room: str = "Notes") -> Place:
    """A place by the names of its wing and room."""
    return Place(name(wing), name(room))


def whole(content: str) -> list[Span]:
    """The content as one chunk."""
    return [Span(0, len(content))]


def pieces(content: str, size: int) -> list[Span]:
    """The content in chunks of a size."""
    return [Span(start, min(start + size, len(content))) for start in range(0, len(content), size)]


class Cabinet:
    """The stores on one connection; the clock ticks once per unit of work."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.words = word_table()
        self.lexicon = Lexicon(self.words)
        self.drawers = DrawerStore(self.lexicon)
        self.diary = DiaryStore(self.drawers)
        self._clock = itertools.count(START, 1_000_000)

    def write(self, work: Callable[[Transaction], T]) -> T:
        """Run one unit of work."""
        with unit(self.connection, lambda: next(self._clock)) as transaction:
            return work(transaction)

    def file(self, content: str, wing: str = "Work", room: str = "Notes", size: int = 0, **details: Any) -> Filed:
        """File a text, as one chunk or in chunks of a size."""
        drawer = NewDrawer(place(wing, room), content, **details)
        spans = pieces(content, size) if size else whole(content)
        return self.write(lambda tx: self.drawers.file(tx, drawer, spans))

    def file_all(self, contents: Sequence[str], wing: str = "Work", room: str = "Notes") -> list[str]:
        """File many texts in one unit of work; returns their ids."""
        return self.write(
            lambda tx: [
                self.drawers.file(tx, NewDrawer(place(wing, room), each), whole(each)).drawer_id for each in contents
            ]
        )

    def update(self, drawer_id: str, size: int = 0, **changes: Any) -> Drawer:
        """Change a drawer; names may be given as text."""
        for field in ("wing", "room"):
            if isinstance(changes.get(field), str):
                changes[field] = name(changes[field])
        content = changes.get("content")
        spans = None if content is None else pieces(content, size) if size else whole(content)
        return self.write(lambda tx: self.drawers.update(tx, drawer_id, DrawerChanges(**changes), spans))

    def delete(self, *drawer_ids: str) -> list[str]:
        """Move drawers to the trash."""
        return self.write(lambda tx: self.drawers.delete(tx, drawer_ids))

    def restore(self, *drawer_ids: str) -> list[str]:
        """Bring drawers back."""
        return self.write(lambda tx: self.drawers.restore(tx, drawer_ids))

    def purge(self, before: Instant = 2 * START, limit: int = 1000) -> int:
        """Remove what is in the trash for good."""
        return self.write(lambda tx: self.drawers.purge(tx, before, limit))

    def tokenize(self) -> None:
        """Keep the tokens of all passages that have none."""
        texts = {chunk: text for chunk, text in self.words.texts_after(self.connection, 0, -1) if text is not None}
        with closing(self.words.new_tokenizer()) as tokenizer:
            tokens = tokenizer.stems(list(texts.values()))
        self.write(lambda tx: self.words.keep_tokens(tx, texts, tokens))

    def get(self, drawer_id: str) -> Drawer:
        """One drawer, in the trash or not."""
        (drawer,) = self.drawers.get(self.connection, [drawer_id], deleted=True)
        return drawer

    def found(self, query: str, limit: int = 50, filter: DrawerFilter = EVERY) -> list[str]:
        """The ids of drawers found by words, best chunk first."""
        hits = self.lexicon.search(self.connection, query, limit, filter)
        rows = self.drawers.chunk_rows(self.connection, [hit.chunk for hit in hits], filter)
        assert len(rows) == len(hits), "a hit that is not live or does not match"
        return list(dict.fromkeys(row.drawer_id for row in rows))

    def row(self, sql: str, *values: Any) -> Any:
        """The first row of a query."""
        return self.connection.execute(sql, values).fetchone()

    def seq(self) -> int:
        """How many units of work have changed something."""
        return int(self.row("SELECT seq FROM state")[0])


@contextmanager
def cabinet(path: str = ":memory:") -> Iterator[Cabinet]:
    """A new palace's tables, in memory or in a file."""
    with fresh_connection(path) as connection:
        palace = Cabinet(connection)
        with closing(palace.lexicon):
            yield palace
