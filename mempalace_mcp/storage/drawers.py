"""Drawers and their chunks: file, update, delete, restore and purge; chunks that wait for vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mempalace_mcp.core.clock import Instant
from mempalace_mcp.core.errors import InvalidArgument, NotFound
from mempalace_mcp.core.ids import DRAWER, new_id
from mempalace_mcp.core.model import (
    NOTHING,
    Chunk,
    Drawer,
    DrawerChanges,
    DrawerFilter,
    Filed,
    ModelStamp,
    NewDrawer,
    Place,
    Priority,
    Provenance,
    Span,
)
from mempalace_mcp.core.text import Name
from mempalace_mcp.storage import rows
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.lexical import Lexicon
from mempalace_mcp.storage.places import PlaceListing
from mempalace_mcp.storage.queries import DrawerListing, condition_of, newest
from mempalace_mcp.storage.query_terms import passage_text
from mempalace_mcp.storage.relocation import Relocation
from mempalace_mcp.storage.rows import PROVENANCE, PlaceRow, ensure_place, find_place
from mempalace_mcp.storage.successors import verify_link
from mempalace_mcp.storage.token_vectors import forget_token_vectors, store_token_vectors
from mempalace_mcp.storage.transactions import Transaction
from mempalace_mcp.storage.tunnels import Tunnels


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """A chunk of a live drawer: `drawer` is the drawer's row, `start` and `stop` are characters of its content."""

    chunk: int
    drawer: int
    drawer_id: str
    start: int
    stop: int
    when_at: Instant
    source_file: str | None
    superseded_by: str | None


@dataclass(frozen=True, slots=True)
class PendingCounts:
    """Chunks of live drawers that have no vector yet, by priority."""

    interactive: int
    bulk: int


class ChunkLog:
    """Chunks and their vectors. Only chunks of live drawers are ever pending."""

    def pending(self, connection: Connection, limit: int, priority: Priority | None = None) -> list[Chunk]:
        """Chunks without a vector, interactive ahead of bulk, oldest first; of one priority or of both."""
        bulk = None if priority is None else int(priority is Priority.BULK)
        join = connection.dialect.ordered_join
        rows = connection.execute(
            "SELECT p.chunk, substr(d.content, c.start + 1, c.stop - c.start)"
            f" FROM pending p {join} chunks c ON c.id = p.chunk {join} drawers d ON d.id = c.drawer"
            f" {'' if bulk is None else 'WHERE p.bulk = :bulk'} ORDER BY p.bulk, p.chunk LIMIT :limit",
            {"bulk": bulk, "limit": limit},
        )
        return [Chunk(*row) for row in rows]

    def newest_pending(self, connection: Connection, filter: DrawerFilter, limit: int) -> list[Chunk]:
        """Interactive chunks without a vector that match, the latest first."""
        condition, join = condition_of(filter, connection.dialect), connection.dialect.ordered_join
        rows = connection.execute(
            "SELECT p.chunk, substr(d.content, c.start + 1, c.stop - c.start)"
            f" FROM pending p {join} chunks c ON c.id = p.chunk {join} drawers d ON d.id = c.drawer"
            f" WHERE p.bulk = 0 AND {condition.sql} ORDER BY p.chunk DESC LIMIT :limit",
            condition.values | {"limit": limit},
        )
        return [Chunk(*row) for row in rows]

    def pending_among(self, connection: Connection, chunks: Sequence[int]) -> list[Chunk]:
        """Those of the chunks that are interactive and have no vector, in the given order."""
        dialect, join = connection.dialect, connection.dialect.ordered_join
        rows = connection.execute(
            "SELECT p.chunk, substr(d.content, c.start + 1, c.stop - c.start)"
            f" FROM {dialect.listed('?', 'wanted')} {join} pending p ON p.chunk = wanted.value"
            f" {join} chunks c ON c.id = p.chunk {join} drawers d ON d.id = c.drawer"
            " WHERE p.bulk = 0 ORDER BY wanted.key",
            (dialect.array(chunks),),
        )
        return [Chunk(*row) for row in rows]

    def pending_count(self, connection: Connection) -> int:
        """How many chunks have no vector yet."""
        return int(connection.execute("SELECT count(*) FROM pending").fetchone()[0])

    def pending_counts(self, connection: Connection) -> PendingCounts:
        """How many chunks have no vector yet, by priority."""
        row = connection.execute(
            "SELECT count(*) FILTER (WHERE bulk = 0), count(*) FILTER (WHERE bulk = 1) FROM pending"
        )
        return PendingCounts(*row.fetchone())

    def store_vectors(
        self, tx: Transaction, vectors: Sequence[tuple[int, bytes]], tokens: Sequence[tuple[int, bytes]] = ()
    ) -> int:
        """Keep the vectors of chunks that still exist and have none, and their packed token vectors; returns how many
        vectors were stored."""
        connection = tx.connection
        cursor = connection.executemany(
            "INSERT INTO vectors (chunk, embedding) SELECT :chunk, :vector"
            " WHERE EXISTS (SELECT 1 FROM chunks WHERE id = :chunk) ON CONFLICT (chunk) DO NOTHING",
            [{"chunk": chunk, "vector": connection.dialect.vector(vector)} for chunk, vector in vectors],
        )
        stored = cursor.rowcount
        store_token_vectors(tx, tokens)
        connection.execute(
            f"DELETE FROM pending WHERE chunk IN {connection.dialect.members('?')}",
            (connection.dialect.array([chunk for chunk, _ in vectors]),),
        )
        if stored:
            tx.mark_changed()
        return stored

    def forget_vectors(self, tx: Transaction) -> int:
        """Drop all vectors, those of tokens too, and the model's stamp; every chunk of a live drawer is pending again.

        Returns how many are.
        """
        connection = tx.connection
        tx.mark_changed()
        connection.execute("DELETE FROM vectors")
        forget_token_vectors(tx)
        connection.execute("DELETE FROM model")
        connection.execute("DELETE FROM pending")
        cursor = connection.execute(
            "INSERT INTO pending (chunk, bulk) SELECT c.id, 1 FROM chunks c JOIN drawers d ON d.id = c.drawer"
            " WHERE d.deleted_at IS NULL"
        )
        return cursor.rowcount

    def chunk_rows(self, connection: Connection, chunk_ids: Sequence[int], filter: DrawerFilter) -> list[ChunkRow]:
        """Those of the chunks whose drawer is live and matches: the join of search with the truth."""
        condition, dialect = condition_of(filter, connection.dialect), connection.dialect
        rows = connection.execute(
            "SELECT c.id, d.id, d.drawer_id, c.start, c.stop, d.when_at, d.source_file, d.superseded_by"
            f" FROM {dialect.listed(':chunks', 'wanted')} {dialect.ordered_join} chunks c ON c.id = wanted.value"
            f" {dialect.ordered_join} drawers d ON d.id = c.drawer WHERE {condition.sql} ORDER BY wanted.key",
            condition.values | {"chunks": dialect.array(chunk_ids)},
        )
        return [ChunkRow(*row) for row in rows]

    def newest_chunks(self, connection: Connection, filter: DrawerFilter, limit: int) -> list[int]:
        """The first chunks of the newest drawers that match."""
        dialect = connection.dialect
        keys = dialect.array([drawer for _, drawer in newest(connection, filter, limit)])
        rows = connection.execute(
            f"SELECT c.id FROM {dialect.listed('?', 'wanted')}"
            f" {dialect.ordered_join} chunks c ON c.drawer = wanted.value AND c.ordinal = 0",
            (keys,),
        )
        return [chunk for (chunk,) in rows]

    def chunks_of(self, connection: Connection, drawer_ids: Sequence[str]) -> list[int]:
        """The chunks of drawers."""
        dialect = connection.dialect
        rows = connection.execute(
            f"SELECT c.id FROM {dialect.listed('?', 'wanted', str)} {dialect.ordered_join} drawers d"
            f" ON d.drawer_id = wanted.value {dialect.ordered_join} chunks c ON c.drawer = d.id",
            (dialect.array(drawer_ids),),
        )
        return [chunk for (chunk,) in rows]

    def undated_beginnings(self, connection: Connection, drawers: Sequence[int], length: int) -> dict[int, str]:
        """How the contents begin of those of the drawers, by row, that do not say when what they tell happened."""
        dialect = connection.dialect
        rows = connection.execute(
            f"SELECT d.id, substr(d.content, 1, ?) FROM {dialect.listed('?', 'wanted')}"
            f" {dialect.ordered_join} drawers d ON d.id = wanted.value WHERE d.occurred_at IS NULL",
            (length, dialect.array(drawers)),
        )
        return dict(rows.fetchall())

    def model_stamp(self, connection: Connection) -> ModelStamp | None:
        """The model of the stored vectors; None before the first."""
        row = connection.execute("SELECT name, quantization, dimension FROM model").fetchone()
        return ModelStamp(*row) if row else None

    def set_model_stamp(self, tx: Transaction, stamp: ModelStamp) -> None:
        """Record the model whose vectors are stored from now on."""
        tx.mark_changed()
        tx.connection.execute(
            "INSERT INTO model (id, name, quantization, dimension) VALUES (1, ?, ?, ?) ON CONFLICT (id) DO UPDATE"
            " SET name = excluded.name, quantization = excluded.quantization, dimension = excluded.dimension",
            (stamp.name, stamp.quantization, stamp.dimension),
        )


def renew_vectors(tx: Transaction, drawers: Sequence[int]) -> None:
    """Enter the vectors of drawers into the log anew: the indexes may have dropped those of deleted ones."""
    connection = tx.connection
    renewed = connection.execute(
        "DELETE FROM vectors WHERE chunk IN"
        f" (SELECT id FROM chunks WHERE drawer IN {connection.dialect.members('?')})"
        " RETURNING position, chunk, embedding",
        (connection.dialect.array(drawers),),
    ).fetchall()
    connection.executemany(
        "INSERT INTO vectors (chunk, embedding) VALUES (?, ?)",
        [(chunk, connection.dialect.vector(embedding)) for _, chunk, embedding in sorted(renewed)],
    )


@dataclass(frozen=True, slots=True)
class _State(Provenance):
    """Everything of a drawer that an update can change."""

    place: Place
    content: str
    metadata: str

    def changed(self, changes: DrawerChanges) -> _State:
        """The state after an update. A place that differs in case only is the same place."""
        wing, room = changes.wing or self.place.wing, changes.room or self.place.room
        same_place = (wing.key, room.key) == (self.place.wing.key, self.place.room.key)
        provenance = {name: value for name, value in rows.provenance_of(changes).items() if value is not None}
        if changes.superseded_by == NOTHING:
            provenance["superseded_by"] = None
        return replace(
            self,
            place=self.place if same_place else Place(wing, room),
            content=self.content if changes.content is None else changes.content,
            metadata=self.metadata if changes.metadata is None else rows.write_metadata(changes.metadata),
            **provenance,
        )

    def reads_like(self, other: _State) -> bool:
        """Are the same words indexed for the same chunks?"""
        return replace(self, place=other.place, metadata=other.metadata, superseded_by=other.superseded_by) == other


@dataclass(frozen=True, slots=True)
class _Hashes:
    """By these, texts of the same bytes and texts that are equal after normalization are found."""

    content: bytes
    normalized: bytes

    @classmethod
    def of(cls, content: str) -> _Hashes:
        return cls(rows.content_hash(content), rows.normalized_hash(content))


class DrawerStore(DrawerListing, PlaceListing, Tunnels, Relocation, ChunkLog):
    """Drawers with their chunks and words. It holds no connection: reads take one, writes take a transaction."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._lexicon = lexicon

    def file(self, tx: Transaction, drawer: NewDrawer, spans: Sequence[Span]) -> Filed:
        """File a text, cut into chunks at `spans`, unless its room has it already, and let it take others' place.

        The same bytes with the same source and time are the same drawer, unless that is superseded: then the text is
        said anew. A text that is equal after normalization is filed, and the answer names the drawer it resembles.

        Raises:
            InvalidArgument: the metadata is not JSON, or it would supersede itself.
            NotFound: it would supersede a drawer that is not live.
        """
        filed = self._file_once(tx, drawer, spans)
        for number, old in enumerate(drawer.supersedes):
            try:
                self.update(tx, old, DrawerChanges(superseded_by=filed.drawer_id), None)
            except (InvalidArgument, NotFound) as error:
                raise type(error)(error.message, argument=f"supersedes[{number}]", hint=error.hint) from None
        return filed

    def _file_once(self, tx: Transaction, drawer: NewDrawer, spans: Sequence[Span]) -> Filed:
        metadata = rows.write_metadata(drawer.metadata)
        place = find_place(tx.connection, drawer.place)
        hashes = _Hashes.of(drawer.content)
        same = _find_same(tx.connection, drawer, place, hashes) if place else None
        if same is not None:
            return Filed(same, created=False)
        resembled = _find_resembling(tx.connection, place, hashes) if place else None
        drawer_id = new_id(DRAWER, tx.stamp.instant)
        row = self._insert(tx, drawer_id, drawer, metadata, place or ensure_place(tx.connection, drawer.place), hashes)
        self._index(tx, row, drawer, spans, drawer.priority)
        return Filed(drawer_id, created=True, near_duplicate_of=resembled)

    def update(self, tx: Transaction, drawer_id: str, changes: DrawerChanges, spans: Sequence[Span] | None) -> Drawer:
        """Change a live drawer under its id and keep its earlier state; `spans` cut the new content, if there is one.
        If `spans` is None the new content is one chunk.

        Vectors are lost only when the content changes. An update that changes nothing leaves no trace.

        Raises:
            NotFound: no live drawer has that id, or that of the one that shall supersede it.
            InvalidArgument: the metadata is not JSON, or the other drawer is superseded by this one.
        """
        row, old = _read_state(tx.connection, drawer_id)
        if changes.superseded_by:
            if not self.get(tx.connection, [changes.superseded_by]):
                raise unknown_drawer(changes.superseded_by, "superseded_by")
            verify_link(tx.connection, drawer_id, changes.superseded_by)
        new = old.changed(changes)
        if new != old:
            _keep_version(tx, row, old)
            _write_state(tx, row, new)
        if new.content != old.content:
            self._forget_chunks(tx, [row])
            whole = [Span(0, len(new.content))]
            self._index(tx, row, new, whole if spans is None else spans, Priority.INTERACTIVE)
        elif not new.reads_like(old):
            self._reword(tx, row, new)
        return self.get(tx.connection, [drawer_id])[0]

    def delete(self, tx: Transaction, drawer_ids: Sequence[str]) -> list[str]:
        """Move drawers to the trash; returns those that were live, in the order given."""
        connection, live = tx.connection, _in_state(tx.connection, drawer_ids, "d.deleted_at IS NULL")
        if live:
            dialect, keys = connection.dialect, connection.dialect.array([row for row, _ in live])
            connection.execute(
                f"UPDATE drawers SET deleted_at = ?, seq = ? WHERE id IN {dialect.members('?')}",
                (tx.stamp.instant, tx.stamp.seq, keys),
            )
            connection.execute(
                f"DELETE FROM pending WHERE chunk IN (SELECT c.id FROM {dialect.listed('?', 'gone')}"
                f" {dialect.ordered_join} chunks c ON c.drawer = gone.value)",
                (keys,),
            )
        return [drawer_id for _, drawer_id in live]

    def restore(self, tx: Transaction, drawer_ids: Sequence[str]) -> list[str]:
        """Bring drawers back from the trash; returns those that were there, in the order given."""
        connection, trashed = tx.connection, _in_state(tx.connection, drawer_ids, "d.deleted_at IS NOT NULL")
        if trashed:
            dialect, keys = connection.dialect, connection.dialect.array([row for row, _ in trashed])
            connection.execute(
                f"UPDATE drawers SET deleted_at = NULL, seq = ? WHERE id IN {dialect.members('?')}",
                (tx.stamp.seq, keys),
            )
            connection.execute(
                f"INSERT INTO pending (chunk, bulk) SELECT c.id, 1 FROM {dialect.listed('?', 'back')}"
                f" {dialect.ordered_join} chunks c ON c.drawer = back.value LEFT JOIN vectors v ON v.chunk = c.id"
                " WHERE v.chunk IS NULL",
                (keys,),
            )
            renew_vectors(tx, [row for row, _ in trashed])
        return [drawer_id for _, drawer_id in trashed]

    def index_anew(self, tx: Transaction, drawer_id: str, spans: Sequence[Span]) -> None:
        """Index a live drawer as it is stored now, its content cut at `spans`.

        Raises:
            NotFound: no live drawer has that id.
        """
        row, state = _read_state(tx.connection, drawer_id)
        self._forget_chunks(tx, [row])
        self._index(tx, row, state, spans, Priority.BULK)

    def purge(self, tx: Transaction, before: Instant, limit: int) -> int:
        """Remove at most `limit` drawers that were deleted before an instant, with all that derives from them.

        With the last of them the full-text index is rewritten, because it would keep their words otherwise. Their bytes
        leave the file with the next checkpoint.
        """
        connection = tx.connection
        trash = connection.execute(
            "SELECT id FROM drawers WHERE deleted_at < ? AND deleted_at IS NOT NULL ORDER BY deleted_at LIMIT ?",
            (before, limit + 1),
        ).fetchall()
        gone = [row for (row,) in trash[:limit]]
        if gone:
            tx.mark_changed()
            self._forget_chunks(tx, gone)
            connection.execute(
                f"DELETE FROM drawers WHERE id IN {connection.dialect.members('?')}",
                (connection.dialect.array(gone),),
            )
            if len(trash) <= limit:
                self._lexicon.table.compact(tx)
        return len(gone)

    def _insert(
        self, tx: Transaction, drawer_id: str, drawer: NewDrawer, metadata: str, place: PlaceRow, hashes: _Hashes
    ) -> int:
        stamp = tx.stamp
        values = {
            "drawer_id": drawer_id,
            "wing": place.wing,
            "room": place.room,
            "created_at": stamp.instant,
            "updated_at": stamp.instant,
            "seq": stamp.seq,
            "content_hash": hashes.content,
            "normalized_hash": hashes.normalized,
            "added_by": drawer.added_by,
            "metadata": metadata,
            "content": drawer.content,
            **rows.provenance_of(drawer),
        }
        (row,) = tx.connection.execute(
            f"INSERT INTO drawers ({', '.join(values)}) VALUES (:{', :'.join(values)}) RETURNING id", values
        ).fetchone()
        return int(row)

    def _index(
        self, tx: Transaction, row: int, text: NewDrawer | _State, spans: Sequence[Span], priority: Priority
    ) -> None:
        """Make chunks of a drawer's content: findable by words at once, by meaning when their vectors are there."""
        connection, bulk = tx.connection, int(priority is Priority.BULK)
        for ordinal, span in enumerate(spans):
            (chunk,) = connection.execute(
                "INSERT INTO chunks (drawer, ordinal, start, stop) VALUES (?, ?, ?, ?) RETURNING id",
                (row, ordinal, span.start, span.stop),
            ).fetchone()
            connection.execute("INSERT INTO pending (chunk, bulk) VALUES (?, ?)", (chunk, bulk))
            self._add_words(tx, chunk, text, span)

    def _reword(self, tx: Transaction, row: int, state: _State) -> None:
        """Index the chunks of a drawer anew: their text is the same, their headers are not."""
        chunks = tx.connection.execute("SELECT id, start, stop FROM chunks WHERE drawer = ?", (row,)).fetchall()
        self._lexicon.table.remove(tx, [chunk for chunk, _, _ in chunks])
        for chunk, start, stop in chunks:
            self._add_words(tx, chunk, state, Span(start, stop))

    def _add_words(self, tx: Transaction, chunk: int, text: NewDrawer | _State, span: Span) -> None:
        lexicon = self._lexicon
        words = passage_text(text.content, span, text.occurred_at, text.source_file, lexicon.zone)
        lexicon.table.add(tx, chunk, words)

    def _forget_chunks(self, tx: Transaction, drawers: Sequence[int]) -> None:
        """Remove chunks, and with them words, vectors and what is pending."""
        connection, keys = tx.connection, (tx.connection.dialect.array(drawers),)
        members = connection.dialect.members("?")
        chunks = connection.execute(f"SELECT id FROM chunks WHERE drawer IN {members}", keys).fetchall()
        self._lexicon.table.remove(tx, [chunk for (chunk,) in chunks])
        connection.execute(f"DELETE FROM chunks WHERE drawer IN {members}", keys)


def unknown_drawer(drawer_id: str, argument: str = "drawer_id") -> NotFound:
    """The error for an id that no live drawer has."""
    return NotFound(
        f"no live drawer has the id {drawer_id!r}",
        argument=argument,
        hint="Take ids from search or list_drawers; a deleted drawer can be brought back with restore_drawers.",
    )


def _find_same(connection: Connection, drawer: NewDrawer, place: PlaceRow, hashes: _Hashes) -> str | None:
    same = connection.dialect.same
    row = connection.execute(
        "SELECT drawer_id FROM drawers"
        " WHERE content_hash = ? AND room = ? AND deleted_at IS NULL AND superseded_by IS NULL"
        f" AND {same('source_file', '?')} AND {same('occurred_at', '?')} AND content = ? ORDER BY id LIMIT 1",
        (hashes.content, place.room, drawer.source_file, drawer.occurred_at, drawer.content),
    ).fetchone()
    return str(row[0]) if row else None


def _find_resembling(connection: Connection, place: PlaceRow, hashes: _Hashes) -> str | None:
    row = connection.execute(
        "SELECT drawer_id FROM drawers WHERE normalized_hash = ? AND room = ? AND deleted_at IS NULL"
        " ORDER BY id LIMIT 1",
        (hashes.normalized, place.room),
    ).fetchone()
    return str(row[0]) if row else None


def _in_state(connection: Connection, drawer_ids: Sequence[str], state: str) -> list[tuple[int, str]]:
    """Row and id of those of the drawers that are in a state, each once, in the order given."""
    dialect = connection.dialect
    return connection.execute(
        f"SELECT d.id, d.drawer_id FROM {dialect.listed('?', 'wanted', str)}"
        f" {dialect.ordered_join} drawers d ON d.drawer_id = wanted.value"
        f" WHERE {state} GROUP BY d.id, d.drawer_id ORDER BY min(wanted.key)",
        (dialect.array(drawer_ids),),
    ).fetchall()


def _read_state(connection: Connection, drawer_id: str) -> tuple[int, _State]:
    row = connection.execute(
        f"SELECT d.id, w.name, w.key, r.name, r.key, d.content, d.metadata, {rows.columns(PROVENANCE, 'd')}"
        " FROM drawers d JOIN wings w ON w.id = d.wing JOIN rooms r ON r.id = d.room"
        " WHERE d.drawer_id = ? AND d.deleted_at IS NULL",
        (drawer_id,),
    ).fetchone()
    if row is None:
        raise unknown_drawer(drawer_id)
    place, provenance = Place(Name(*row[1:3]), Name(*row[3:5])), dict(zip(PROVENANCE, row[7:], strict=True))
    return row[0], _State(place, *row[5:7], **provenance)


def _keep_version(tx: Transaction, row: int, old: _State) -> None:
    provenance = ", ".join(PROVENANCE)
    tx.connection.execute(
        f"INSERT INTO versions (drawer, version, wing, room, replaced_at, metadata, content, {provenance})"
        f" SELECT id, version, ?, ?, ?, metadata, content, {provenance} FROM drawers WHERE id = ?",
        (old.place.wing.shown, old.place.room.shown, tx.stamp.instant, row),
    )


def _write_state(tx: Transaction, row: int, new: _State) -> None:
    place, hashes = ensure_place(tx.connection, new.place), _Hashes.of(new.content)
    values = {
        "wing": place.wing,
        "room": place.room,
        "metadata": new.metadata,
        "content": new.content,
        "content_hash": hashes.content,
        "normalized_hash": hashes.normalized,
        "updated_at": tx.stamp.instant,
        "seq": tx.stamp.seq,
        **rows.provenance_of(new),
    }
    assignments = ", ".join(f"{name} = :{name}" for name in values)
    tx.connection.execute(
        f"UPDATE drawers SET version = version + 1, {assignments} WHERE id = :id", {**values, "id": row}
    )
