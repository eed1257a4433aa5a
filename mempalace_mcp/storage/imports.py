"""The records of imports: which drawer holds each message and each part of a note, and the states of files.

They are in tables of their own, so an edited drawer is recognized too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mempalace_mcp.core.clock import Instant
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.rows import content_hash
from mempalace_mcp.storage.transactions import Transaction


@dataclass(frozen=True, slots=True)
class ImportedFile:
    """A file that was imported: its state when it was last read whole, and the drawers that hold what it said then."""

    row: int
    state: str | None
    drawers: int


@dataclass(frozen=True, slots=True)
class ImportedDrawer:
    """A drawer that an import filed.

    `path` is the file as the import knows it; the drawer may name another one since. `edited`: its text was changed
    after the import.
    """

    row: int
    drawer_id: str
    live: bool
    edited: bool
    content: str
    source_file: str | None
    path: str
    wing: str
    occurred_at: Instant | None
    digest: str


@dataclass(frozen=True, slots=True)
class FiledMessage:
    """The drawer that holds a message, None if it was purged, and the digest of the message."""

    drawer: int | None
    digest: int


@dataclass(frozen=True, slots=True)
class ImportedPart:
    """The drawer that holds a part of a note. `gone`: it was discarded because the file no longer had the part."""

    part: str
    digest: str
    drawer: int | None
    gone: bool


def text_digest(content: str) -> str:
    """The digest by which an edited drawer is recognized."""
    return content_hash(content).hex()


def find_file(connection: Connection, path: str) -> ImportedFile | None:
    """The record of a file; None if it was never imported."""
    row = connection.execute("SELECT id, state, drawers FROM import_files WHERE path = ?", (path,)).fetchone()
    return ImportedFile(*row) if row else None


def save_file(tx: Transaction, path: str, state: str | None, drawers: int) -> None:
    """Save the state of a file and the number of its drawers."""
    tx.connection.execute(
        "UPDATE import_files SET state = ?, drawers = ? WHERE id = ?", (state, drawers, ensure_file(tx, path))
    )


def ensure_file(tx: Transaction, path: str) -> int:
    """The row of a file, inserted if there is none."""
    tx.connection.execute("INSERT INTO import_files (path) VALUES (?) ON CONFLICT DO NOTHING", (path,))
    return int(tx.connection.execute("SELECT id FROM import_files WHERE path = ?", (path,)).fetchone()[0])


def filed_messages(connection: Connection, keys: Sequence[int]) -> dict[int, FiledMessage]:
    """The messages with these keys that are filed."""
    dialect = connection.dialect
    rows = connection.execute(
        f"SELECT s.key, s.drawer, s.digest FROM {dialect.listed('?', 'wanted')}"
        f" {dialect.ordered_join} said s ON s.key = wanted.value",
        (dialect.array(keys),),
    )
    return {key: FiledMessage(drawer, digest) for key, drawer, digest in rows}


def save_messages(tx: Transaction, drawer: int, said: Iterable[tuple[int, int]]) -> None:
    """Save which drawer holds messages, each given as key and digest."""
    tx.connection.executemany(
        "INSERT INTO said (key, drawer, digest) VALUES (?, ?, ?)"
        " ON CONFLICT (key) DO UPDATE SET drawer = excluded.drawer, digest = excluded.digest",
        [(key, drawer, digest) for key, digest in said],
    )


def imported_drawers(connection: Connection, rows: Iterable[int]) -> dict[int, ImportedDrawer]:
    """Drawers that imports filed, by row; in the trash or not."""
    dialect, join = connection.dialect, connection.dialect.ordered_join
    found = connection.execute(
        "SELECT d.id, d.drawer_id, d.deleted_at IS NULL, d.content_hash, d.content,"
        " d.source_file, f.path, w.name, d.occurred_at, i.digest"
        f" FROM {dialect.listed('?', 'wanted')} {join} drawers d ON d.id = wanted.value"
        f" {join} imported i ON i.drawer = d.id {join} import_files f ON f.id = i.file"
        f" {join} wings w ON w.id = d.wing",
        (dialect.array(sorted(rows)),),
    )
    return {
        row: ImportedDrawer(
            row, drawer_id, bool(live), hash.hex() != digest, content, source_file, path, wing, occurred_at, digest
        )
        for row, drawer_id, live, hash, content, source_file, path, wing, occurred_at, digest in found
    }


def imported_text(connection: Connection, drawer: ImportedDrawer) -> str:
    """The text that an import wrote into a drawer; its current text if that version is gone."""
    if drawer.edited:
        versions = connection.execute(
            "SELECT content FROM versions WHERE drawer = ? ORDER BY version DESC", (drawer.row,)
        )
        return next((text for (text,) in versions if text_digest(text) == drawer.digest), drawer.content)
    return drawer.content


def save_imported(tx: Transaction, drawer_id: str, path: str, content: str) -> int:
    """Save that an import wrote this text into a drawer, and from which file; returns the drawer's row."""
    (row,) = tx.connection.execute("SELECT id FROM drawers WHERE drawer_id = ?", (drawer_id,)).fetchone()
    tx.connection.execute(
        "INSERT INTO imported (drawer, file, digest) VALUES (?, ?, ?)"
        " ON CONFLICT (drawer) DO UPDATE SET file = excluded.file, digest = excluded.digest",
        (row, ensure_file(tx, path), text_digest(content)),
    )
    return int(row)


def save_path(tx: Transaction, drawer: int, path: str) -> None:
    """Save the new path of a drawer's file."""
    tx.connection.execute("UPDATE imported SET file = ? WHERE drawer = ?", (ensure_file(tx, path), drawer))


def parts_of(connection: Connection, path: str) -> dict[str, ImportedPart]:
    """The parts of a note by name."""
    rows = connection.execute(
        "SELECT p.part, p.digest, p.drawer, p.gone FROM parts p JOIN import_files f ON f.id = p.file WHERE f.path = ?",
        (path,),
    )
    return {part: ImportedPart(part, digest, drawer, bool(gone)) for part, digest, drawer, gone in rows}


def same_parts(connection: Connection, part: str, content: str) -> list[tuple[int, str]]:
    """The drawers that hold such a part of a note and say just this, each with its file: the live ones, the newest
    first, then deleted ones."""
    return connection.execute(
        "SELECT d.id, f.path FROM drawers d JOIN parts p ON p.drawer = d.id JOIN import_files f ON f.id = p.file"
        " WHERE d.content_hash = ? AND d.content = ? AND p.part = ? AND (d.deleted_at IS NULL OR p.gone = 0)"
        " ORDER BY d.deleted_at IS NOT NULL, d.id DESC",
        (content_hash(content), content, part),
    ).fetchall()


def purged_parts(connection: Connection, part: str, digest: str) -> list[str]:
    """The files whose part of that name and digest was deleted and then purged."""
    rows = connection.execute(
        "SELECT f.path FROM parts p JOIN import_files f ON f.id = p.file"
        " WHERE p.drawer IS NULL AND p.digest = ? AND p.part = ? AND p.gone = 0",
        (digest, part),
    )
    return [path for (path,) in rows]


def save_part(tx: Transaction, path: str, part: str, drawer: int, digest: str) -> None:
    """Save which drawer holds a part of a note, and the digest of the part in the file."""
    tx.connection.execute(
        "INSERT INTO parts (file, part, drawer, digest) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (file, part) DO UPDATE SET drawer = excluded.drawer, digest = excluded.digest, gone = 0",
        (ensure_file(tx, path), part, drawer, digest),
    )


def forget_part(tx: Transaction, drawer: int) -> None:
    """Delete the record of which part of a note the drawer holds."""
    tx.connection.execute("DELETE FROM parts WHERE drawer = ?", (drawer,))


def mark_gone(tx: Transaction, drawers: Sequence[int]) -> None:
    """Save that these were discarded because their parts are gone from their files."""
    _set_gone(tx, drawers, 1)


def keep_parts(tx: Transaction, drawers: Sequence[int]) -> None:
    """Save that their files have these parts again."""
    _set_gone(tx, drawers, 0)


def _set_gone(tx: Transaction, drawers: Sequence[int], gone: int) -> None:
    dialect = tx.connection.dialect
    tx.connection.execute(
        f"UPDATE parts SET gone = ? WHERE drawer IN {dialect.members('?')}", (gone, dialect.array(drawers))
    )


def notes_below(connection: Connection, folder: str) -> dict[str, list[int]]:
    """The live drawers of notes in a folder, whose path ends with a separator, and below it: rows by file."""
    notes: dict[str, list[int]] = {}
    rows = connection.execute(
        "SELECT f.path, d.id FROM import_files f JOIN parts p ON p.file = f.id"
        " JOIN drawers d ON d.id = p.drawer WHERE f.path >= ? AND f.path < ? AND d.deleted_at IS NULL ORDER BY f.path",
        (folder, folder + "\U0010ffff"),
    )
    for path, row in rows:
        notes.setdefault(path, []).append(row)
    return notes


def places_of_file(connection: Connection, path: str) -> Mapping[str, int]:
    """How many live drawers an import filed from a file, by wing."""
    rows = connection.execute(
        "SELECT w.name, count(*) FROM import_files f JOIN imported i ON i.file = f.id JOIN drawers d ON d.id = i.drawer"
        " JOIN wings w ON w.id = d.wing WHERE f.path = ? AND d.deleted_at IS NULL GROUP BY w.id, w.name",
        (path,),
    )
    return dict(rows.fetchall())


def drawers_of_file(connection: Connection, path: str) -> int:
    """How many drawers an import filed from a file, in the trash or not; those that were purged are none."""
    (count,) = connection.execute(
        "SELECT count(*) FROM imported i JOIN import_files f ON f.id = i.file WHERE f.path = ?", (path,)
    ).fetchone()
    return int(count)


def discarded_of_file(connection: Connection, path: str) -> int:
    """How many drawers of a file were deleted after the import."""
    (count,) = connection.execute(
        "SELECT count(*) FROM import_files f JOIN imported i ON i.file = f.id JOIN drawers d ON d.id = i.drawer"
        " LEFT JOIN parts p ON p.drawer = d.id WHERE f.path = ? AND d.deleted_at IS NOT NULL"
        " AND (p.drawer IS NOT NULL AND p.gone = 0 OR EXISTS (SELECT 1 FROM said s WHERE s.drawer = d.id))",
        (path,),
    ).fetchone()
    return int(count)


def has_unidentified(connection: Connection) -> bool:
    """Are there drawers of conversations whose messages have no keys, as earlier versions filed them?"""
    return connection.execute("SELECT 1 FROM unidentified LIMIT 1").fetchone() is not None


def unidentified(
    connection: Connection, times: Sequence[Instant], path: str, text: str | None
) -> dict[int, ImportedDrawer]:
    """The drawers whose records are not known, of these times; with `text` those of no time too that came from the
    file and hold it."""
    dialect = connection.dialect
    rows = {
        row
        for (row,) in connection.execute(
            f"SELECT u.drawer FROM {dialect.listed('?', 'wanted')}"
            f" {dialect.ordered_join} unidentified u ON u.occurred_at = wanted.value",
            (dialect.array(times),),
        )
    }
    if text is not None:
        found = connection.execute(
            "SELECT u.drawer FROM import_files f JOIN imported i ON i.file = f.id JOIN unidentified u"
            " ON u.drawer = i.drawer JOIN drawers d ON d.id = u.drawer"
            f" WHERE f.path = ? AND u.occurred_at IS NULL AND {dialect.position('d.content', '?')} > 0",
            (path, text),
        )
        rows |= {row for (row,) in found}
    return imported_drawers(connection, rows)


def unidentified_before(connection: Connection, time: Instant, path: str) -> dict[int, ImportedDrawer]:
    """The drawers whose records are not known of the last moment before this time, in the file and in all of them."""
    rows = connection.execute(
        "SELECT drawer FROM unidentified"
        " WHERE occurred_at = (SELECT max(occurred_at) FROM unidentified WHERE occurred_at < :time)"
        " UNION SELECT u.drawer FROM import_files f JOIN imported i ON i.file = f.id"
        " JOIN unidentified u ON u.drawer = i.drawer WHERE f.path = :path AND u.occurred_at = ("
        "SELECT max(u.occurred_at) FROM import_files f JOIN imported i ON i.file = f.id"
        " JOIN unidentified u ON u.drawer = i.drawer WHERE f.path = :path AND u.occurred_at < :time)",
        {"time": time, "path": path},
    )
    return imported_drawers(connection, [row for (row,) in rows])


def forget_unidentified(tx: Transaction, drawers: Iterable[int]) -> None:
    """Remove drawers from those that are to be recognized by their text."""
    dialect = tx.connection.dialect
    tx.connection.execute(
        f"DELETE FROM unidentified WHERE drawer IN {dialect.members('?')}", (dialect.array(sorted(drawers)),)
    )


def is_cited(connection: Connection, drawer_id: str) -> bool:
    """Does a fact name the drawer as its source?"""
    row = connection.execute("SELECT 1 FROM facts WHERE source_drawer_id = ? LIMIT 1", (drawer_id,)).fetchone()
    return row is not None


def fold(tx: Transaction, drawer: int, into: int) -> None:
    """Assign the messages of one drawer to another one."""
    tx.connection.execute("UPDATE said SET drawer = ? WHERE drawer = ?", (into, drawer))
