"""Copies a palace from one database to another, and compares the two row by row.

The source is read as it is at one moment. The copy is marked by the number of its schema, so that nothing opens it
before it is finished: every version of the program refuses a schema that it does not know. Rows come in the order of
their keys and stay, so a copy that was interrupted goes on behind the last one that is there.
"""

from __future__ import annotations

import hashlib
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Protocol

from mempalace_mcp.core.clock import Zone
from mempalace_mcp.core.errors import Conflict, PalaceCorrupt
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.passage_texts import passage_texts
from mempalace_mcp.storage.tables import CHUNKS, STATE, TABLES, Table
from mempalace_mcp.storage.transactions import Transaction
from mempalace_mcp.storage.word_table import WordTable

Row = tuple[Any, ...]
Step = Callable[[str, int, int], None]
"""Called with what is being done, how many rows are done, and how many there are. It may raise to stop the copy."""

PAGE_ROWS = 2_000
PAGE_BYTES = 4 * 1024 * 1024
"""A page is committed as a whole; its last row may go beyond."""
PASSAGES = 500
WATCH_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Origin:
    """The row of `state`: of which palace, and of which moment of it, something is."""

    row: Row

    @property
    def palace_id(self) -> str:
        """The palace's own id, which its copies share."""
        return str(self._value("palace_id"))

    @property
    def seq(self) -> int:
        """The number of its last unit of work."""
        return int(self._value("seq"))

    def _value(self, column: str) -> Any:
        return self.row[STATE.columns.index(column)]

    @staticmethod
    def of(connection: Connection) -> Origin | None:
        """Of the palace behind a connection; None if it has none."""
        row = connection.execute(f"SELECT {', '.join(STATE.columns)} FROM state").fetchone()
        return None if row is None else Origin(tuple(row))


class Snapshot(Protocol):
    """A palace as it is at one moment. Nobody writes to it meanwhile, as far as that can be prevented."""

    @property
    def origin(self) -> Origin:
        """What it is a snapshot of."""
        ...

    def rows(self, table: Table, after: Row | None = None, /) -> Iterator[Row]:
        """The rows by key, those beyond the key `after` alone if it is given. Few of them are in memory at a time.

        Raises:
            PalaceError: they cannot be read.
        """
        ...

    def count(self, table: Table, /) -> int:
        """How many rows a table has."""
        ...

    def last_number(self, table: Table, /) -> int:
        """The largest number that a numbered table has ever given, 0 if it has given none."""
        ...

    def verify_held(self) -> None:
        """Return if nobody can have written since the snapshot.

        Raises:
            PalaceError: somebody may have.
        """
        ...


class PalaceCopy(ABC):
    """A palace that is being made out of another one."""

    def __init__(self, name: str, words: WordTable) -> None:
        """`name` is its address as people are shown it."""
        self.name = name
        self.words = words
        self.resumed = False
        """Is something there of an earlier attempt?"""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Transaction]:
        """A transaction, committed at the end of the block unless that raises.

        Raises:
            PalaceError: the database refuses, or cannot be reached.
        """

    @abstractmethod
    def rows(self, table: Table, /) -> Iterator[Row]:
        """All rows by key, few of them in memory at a time.

        Raises:
            PalaceError: they cannot be read.
        """

    @abstractmethod
    def append(self, table: Table, rows: Sequence[Row], /) -> None:
        """Store rows.

        Raises:
            PalaceError: the database refuses one of them, or cannot be reached.
        """

    @abstractmethod
    def last_passage(self, tx: Transaction, /) -> int:
        """The last chunk that has its words, 0 if none has."""

    @abstractmethod
    def add_words(self, tx: Transaction, texts: Mapping[int, str], /) -> None:
        """Make chunks findable by the words of their texts. They come in the order of their numbers."""

    @abstractmethod
    def clear(self, tx: Transaction, /) -> None:
        """Remove all rows, and all words."""

    @abstractmethod
    def verify_held(self) -> None:
        """Return if no other process can have begun to work on it.

        Raises:
            PalaceError: one may have.
        """

    @abstractmethod
    def finish(self, numbers: Mapping[Table, int], /) -> None:
        """Let it be a palace, in one step. Numbered tables go on behind these numbers.

        Raises:
            PalaceError: the database refuses, or cannot be reached.
        """

    def claim(self, tx: Transaction, origin: Origin) -> None:
        """Make it the copy of that palace: go on with what is there of the same moment, else begin anew.

        Raises:
            Conflict: there is an unfinished copy of another palace.
        """
        found = Origin.of(tx.connection)
        if found is not None and found.palace_id != origin.palace_id:
            raise Conflict(
                f"{self.name} holds an unfinished copy of another palace",
                argument="TARGET",
                hint="Finish that move first, or remove what is there. Or name another target.",
            )
        self.resumed = found == origin
        if not self.resumed:
            self.begin_anew(tx, origin)

    def begin_anew(self, tx: Transaction, origin: Origin) -> None:
        """Remove what is there, and note whose copy it will be."""
        self.resumed = False
        self.clear(tx)
        places = ", ".join("?" * len(STATE.columns))
        tx.connection.execute(f"INSERT INTO state ({', '.join(STATE.columns)}) VALUES ({places})", origin.row)


def verify_unwritten(connection: Connection, name: str, origin: Origin) -> None:
    """Return if nothing was ever written to the palace that is at the target, if there is one.

    Raises:
        Conflict: something was.
    """
    row = connection.execute("SELECT palace_id, seq FROM state").fetchone()
    if row is None or row[1] == 0:
        return
    if row[0] == origin.palace_id:
        raise Conflict(
            f"{name} holds this palace already, as of its change {row[1]:,}; the source is at {origin.seq:,}",
            argument="TARGET",
            hint="There is nothing to do if the move has just succeeded. For a newer copy name another target.",
        )
    raise _in_use(name)


def verify_unused(connection: Connection, name: str) -> None:
    """Return if the palace at the target has no rows but those with which every palace begins.

    Raises:
        Conflict: it has some.
    """
    if any(last_key(connection, table) for table in TABLES if table.name not in _BEGUN_WITH):
        raise _in_use(name)


_BEGUN_WITH = (STATE.name, "token_backlog")


def _in_use(name: str) -> Conflict:
    return Conflict(
        f"{name} holds a palace already, and nothing is overwritten",
        argument="TARGET",
        hint="Name another directory, or another schema: postgresql://host/database?schema=NAME.",
    )


@dataclass(frozen=True, slots=True)
class Compared:
    """A table that is the same on both sides: its rows, and the SHA-256 of all of them as `canonical` writes them."""

    rows: int
    digest: str


@dataclass(frozen=True, slots=True)
class CopyReport:
    """A finished copy: which palace, as of which unit of work, what was compared, and whether it had to go on."""

    palace_id: str
    seq: int
    tables: Mapping[str, Compared]
    resumed: bool


class _Different(PalaceCorrupt):
    """Raised when a row is not the same on both sides."""

    def __init__(self, message: str) -> None:
        super().__init__(
            f"{message}; the copy is not used",
            hint="Run the same command again: it compares anew. If that stays so, check both disks.",
        )


def copy_palace(source: Snapshot, target: PalaceCopy, zone: Zone, step: Step) -> CopyReport:
    """Copy everything, compare it, and let the copy be a palace.

    `zone` is the one in which days are words of what happened in them.

    Raises:
        PalaceCorrupt: the copy differs from its source; it stays unfinished.
        PalaceError: one of the two cannot be read or written; what was copied stays for the next attempt.
    """
    watched = _watched(source, target, step)
    try:
        tables = _copy_and_compare(source, target, zone, watched)
    except _Different:
        if not target.resumed:
            raise
        # What is written without a new number, such as vectors, has changed between the attempts.
        with target.transaction() as tx:
            target.begin_anew(tx, source.origin)
        tables = _copy_and_compare(source, target, zone, watched)
    source.verify_held()
    target.verify_held()
    target.finish({table: source.last_number(table) for table in TABLES if table.numbered})
    return CopyReport(source.origin.palace_id, source.origin.seq, tables, target.resumed)


def _watched(source: Snapshot, target: PalaceCopy, step: Step) -> Step:
    """The step, which also sees now and then that others are still kept away. That keeps connections alive, too."""
    last = time.monotonic()

    def watch(label: str, done: int, total: int) -> None:
        nonlocal last
        step(label, done, total)
        if time.monotonic() - last > WATCH_SECONDS:
            source.verify_held()
            target.verify_held()
            last = time.monotonic()

    return watch


def _copy_and_compare(source: Snapshot, target: PalaceCopy, zone: Zone, step: Step) -> Mapping[str, Compared]:
    total = sum(source.count(table) for table in TABLES)
    _copy_rows(source, target, total, step)
    _index_words(target, source.count(CHUNKS), zone, step)
    return _compare(source, target, total, step)


def _copy_rows(source: Snapshot, target: PalaceCopy, total: int, step: Step) -> None:
    done = 1
    for table in TABLES:
        if table is STATE:  # it is there since the copy was begun
            continue
        with target.transaction() as tx:
            last, there = last_key(tx.connection, table), count_rows(tx.connection, table)
        done += there
        for page in pages(source.rows(table, last)):
            target.append(table, page)
            done += len(page)
            step("copying", done, total)


def pages(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Rows in groups that fit into memory."""
    page: list[Row] = []
    size = 0
    for row in rows:
        page.append(row)
        size += sum(len(value) for value in row if isinstance(value, str | bytes))
        if len(page) == PAGE_ROWS or size >= PAGE_BYTES:
            yield page
            page, size = [], 0
    if page:
        yield page


def last_key(connection: Connection, table: Table) -> Row | None:
    """The key of the last row, None if there are no rows."""
    keys = ", ".join(table.key)
    order = ", ".join(f"{column} DESC" for column in table.key)
    row = connection.execute(f"SELECT {keys} FROM {table.name} ORDER BY {order} LIMIT 1").fetchone()
    return None if row is None else tuple(row)


def count_rows(connection: Connection, table: Table) -> int:
    """How many rows a table has."""
    return int(connection.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0])


def select(table: Table, after: Row | None) -> str:
    """The query for the rows of a table by key, beyond a key if one is given."""
    keys = ", ".join(table.key)
    beyond = f" WHERE ({keys}) > ({', '.join('?' * len(after))})" if after else ""
    return f"SELECT {', '.join(table.columns)} FROM {table.name}{beyond} ORDER BY {keys}"


def _index_words(target: PalaceCopy, total: int, zone: Zone, step: Step) -> None:
    """Add the words of all chunks that have none yet."""
    with target.transaction() as tx:
        done = target.words.collection(tx.connection).rows
        last = target.last_passage(tx)
    while True:
        with target.transaction() as tx:
            chunks = tx.connection.execute(
                "SELECT id, drawer, start, stop FROM chunks WHERE id > ? ORDER BY id LIMIT ?", (last, PASSAGES)
            ).fetchall()
            if not chunks:
                return
            target.add_words(tx, passage_texts(tx.connection, chunks, zone))
        last = chunks[-1][0]
        done += len(chunks)
        step("indexing words", done, total)


def _compare(source: Snapshot, target: PalaceCopy, total: int, step: Step) -> Mapping[str, Compared]:
    compared: dict[str, Compared] = {}
    done = 0
    for table in TABLES:
        digest, rows = hashlib.sha256(), 0
        for own, copied in zip_longest(source.rows(table), target.rows(table)):
            expected = None if own is None else canonical(own)
            if expected is None or copied is None or expected != canonical(copied):
                raise _difference(table, own, copied)
            digest.update(expected)
            rows += 1
            if rows % PAGE_ROWS == 0:
                step("comparing", done + rows, total)
        done += rows
        step("comparing", done, total)
        compared[table.name] = Compared(rows, digest.hexdigest())
    with target.transaction() as tx:
        words = target.words.collection(tx.connection).rows
    if words != compared[CHUNKS.name].rows:
        raise _Different(f"the copy has the words of {words} passages, and not of {compared[CHUNKS.name].rows}")
    return compared


def _difference(table: Table, own: Row | None, copied: Row | None) -> _Different:
    key = len(table.key)
    if own is not None and copied is not None and own[:key] == copied[:key]:
        pairs = zip(table.columns, own, copied, strict=True)
        columns = ", ".join(column for column, one, other in pairs if canonical((one,)) != canonical((other,)))
        return _Different(f"row {name_of(table, own)} of {table.name} differs in {columns}")
    if own is None or (copied is not None and copied[:key] < own[:key]):
        assert copied is not None
        return _Different(f"row {name_of(table, copied)} of {table.name} is in the copy alone")
    return _Different(f"row {name_of(table, own)} of {table.name} is in the source alone")


def name_of(table: Table, row: Row) -> str:
    """The row by its key, as people are told of it."""
    return ", ".join(f"{column} {value!r}" for column, value in zip(table.key, row, strict=False))


def broken_rule(table: Table, rows: Sequence[Row], told: str) -> Conflict:
    """The error for rows that contradict others of their palace."""
    return Conflict(
        f"a row of {table.name} between {name_of(table, rows[0])} and {name_of(table, rows[-1])} breaks a rule of the"
        f" palace: {told}",
        argument="SOURCE",
        hint="Check the source with `mempalace-mcp doctor`.",
    )


_FLOAT = struct.Struct("<d")


def canonical(row: Row) -> bytes:
    """The row as bytes, which are the same for equal rows of any database and different for different ones."""
    return b"".join(map(_canonical, row))


def _canonical(value: Any) -> bytes:
    if value is None:
        return b"n"
    if isinstance(value, int):
        return b"i%d;" % value
    if isinstance(value, str):
        text = value.encode("utf-8", "surrogatepass")
        return b"t%d:%b" % (len(text), text)
    if isinstance(value, float):
        return b"f" + _FLOAT.pack(value)
    return b"b%d:%b" % (len(value), value)
