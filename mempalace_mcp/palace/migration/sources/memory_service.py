"""mcp-memory-service: its SQLite database, and the JSON file that it exports."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from mempalace_mcp.core.clock import UTC_ZONE
from mempalace_mcp.core.errors import InvalidArgument, PalaceError, StorageError
from mempalace_mcp.core.foreign_database import ForeignDatabase, is_database, open_foreign
from mempalace_mcp.palace.migration.items import FactItem, Item, LeftOut, Options, TextItem
from mempalace_mcp.palace.migration.sources.chroma import Piece
from mempalace_mcp.palace.migration.sources.pieces import joined
from mempalace_mcp.palace.migration.values import read_json, read_tags, read_time, text_of

_FILE = "sqlite_vec.db"
_FOLDERS = ("Library/Application Support/mcp-memory", ".local/share/mcp-memory", "AppData/Local/mcp-memory")
_WING = "memories"
_PROJECT_TAGS = ("project:", "proj:")
_LARGEST_EXPORT = 512 * 1024 * 1024
_FIELDS = (
    "content_hash", "content", "tags", "memory_type", "metadata", "created_at", "created_at_iso", "updated_at_iso",
    "deleted_at", "superseded_by", "parent_id", "version", "store", "confidence",
)  # fmt: skip
_BELIEF = ("belief_hash", "content", "status", "confidence", "created_at")
_EDGE = ("source_hash", "target_hash", "relationship_type", "created_at")
_COMPUTED = ("", "related")
"""The type of edges that the program has computed from similarity."""

_TITLE = 100


class MemoryService:
    """Memories become drawers, and the relations that somebody has named become facts between them."""

    name = "mcp-memory-service"
    title = "mcp-memory-service"
    has_unique_ids = True

    def places(self, options: Options) -> Iterator[Path]:
        """Where its settings say, or the folder of the operating system."""
        environment = options.environment
        if named := environment.get("MCP_MEMORY_SQLITE_PATH"):
            yield Path(named).expanduser()
        if named := environment.get("MCP_MEMORY_BASE_DIR"):
            yield Path(named).expanduser() / _FILE
        if options.home is not None:
            yield from (options.home / folder / _FILE for folder in _FOLDERS)

    def recognizes(self, path: Path) -> bool:
        """Its database by name or by its tables, the folder of that, or an export."""
        file = _file_of(path)
        if file is None:
            return False
        if not is_database(file):
            return bool(_export_of(file))
        if file.name == _FILE:
            return True
        try:
            with open_foreign(file) as database:
                return _has_memories(database)
        except PalaceError:
            return False

    def read(self, path: Path, options: Options) -> Iterator[Item]:
        """Memories, then beliefs, then relations."""
        file = _file_of(path)
        if file is None:
            raise StorageError(f"{path} is not there any more", hint=f"Name the file {_FILE}.")
        if not is_database(file):
            exported = (memory if isinstance(memory, dict) else {} for memory in _export_of(file))
            yield from _memories(exported, options)
            return
        with open_foreign(file, options.scratch) as database:
            if not _has_memories(database):
                raise InvalidArgument(f"{file} has no table of memories", hint="It is empty, or of an unknown version.")
            yield from _memories(_records(database, "memories", _FIELDS), options)
            for belief in _records(database, "beliefs", _BELIEF):
                yield _belief(belief, options)
            for edge in _records(database, "memory_graph", _EDGE):
                yield _relation(database, edge)


def _file_of(path: Path) -> Path | None:
    return next((file for file in (path, path / _FILE) if file.is_file()), None)


def _has_memories(database: ForeignDatabase) -> bool:
    return database.columns("memories") >= {"content_hash", "content"}


def _export_of(file: Path) -> list[Any]:
    """The memories of an export; none if the file is no export."""
    try:
        with file.open("rb") as opened:
            if file.suffix != ".json" or b'"export_metadata"' not in opened.read(4096):
                return []
            opened.seek(0)
            content = opened.read(_LARGEST_EXPORT + 1)
    except OSError:
        return []
    memories = read_json(content, dict).get("memories") if len(content) <= _LARGEST_EXPORT else None
    return memories if isinstance(memories, list) else []


def _records(database: ForeignDatabase, table: str, fields: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The rows of a table by the names of its columns; those that this version lacks are None."""
    columns = database.columns(table)
    if fields[0] not in columns:
        return
    chosen = ", ".join(name if name in columns else "NULL" for name in fields)
    for row in database.rows(f"SELECT {chosen} FROM {table} ORDER BY rowid"):
        yield dict(zip(fields, row, strict=True))


def _memories(memories: Iterable[Mapping[str, Any]], options: Options) -> Iterator[Item]:
    """The memories, with those in one that were cut from one long text. They follow each other, and overlap."""
    for original, group in groupby(memories, _original):
        if original is None:
            yield from (_memory(memory, options) for memory in group)
        else:
            yield from _joined(list(group), options)


def _joined(cut: list[Mapping[str, Any]], options: Options) -> Iterator[Item]:
    """The memories that were cut from one text."""
    whole = {memory["content_hash"]: memory for memory in cut if _is_whole(memory)}
    yield from (_memory(memory, options) for memory in cut if not _is_whole(memory))
    pieces = [Piece(hash, memory["content"], _details(memory)) for hash, memory in whole.items()]
    for members, content in joined(pieces, overlapping=True):
        item = _memory({**whole[members[0].id], "content": content}, options)
        if isinstance(item, TextItem):
            item = replace(item, other_ids=tuple(piece.id for piece in members[1:]))
        yield item


def _original(memory: Mapping[str, Any]) -> str | None:
    """The hash of the text that a memory was cut from."""
    return text_of(_details(memory).get("original_hash")) or None


def _details(memory: Mapping[str, Any]) -> dict[str, Any]:
    return read_json(memory.get("metadata"), dict)  # type: ignore[no-any-return]


def _is_whole(memory: Mapping[str, Any]) -> bool:
    hash, content = text_of(memory.get("content_hash")), text_of(memory.get("content"))
    return memory.get("deleted_at") is None and bool(hash and content.strip())


def _memory(memory: Mapping[str, Any], options: Options) -> Item:
    id, content = text_of(memory.get("content_hash")), text_of(memory.get("content"))
    if memory.get("deleted_at") is not None:
        return LeftOut(id, "deleted there", is_derived=True)
    if not _is_whole(memory):
        return LeftOut(id or str(memory)[:80], "a memory has no text or no hash")
    tags = read_tags(memory.get("tags"))
    project = next((tag.partition(":")[2] for tag in tags if tag.lower().startswith(_PROJECT_TAGS)), "")
    others = [tag for tag in tags if not tag.lower().startswith(_PROJECT_TAGS)]
    told = {name: memory.get(name) for name in ("memory_type", "superseded_by", "parent_id", "updated_at_iso")}
    store = memory.get("store")
    return TextItem(
        id=id,
        wing=project.strip() or options.wing or _WING,
        room=text_of(memory.get("memory_type")).strip() or (others[0] if others else "general"),
        content=content,
        occurred_at=_time_of(memory),
        metadata={
            "tags": tags,
            **told,
            **({"store": store} if store not in (None, "default") else {}),
            **_details(memory),
        },
    )


def _time_of(memory: Mapping[str, Any]) -> int | None:
    exact = read_time(memory.get("created_at_iso"), UTC_ZONE)
    return read_time(memory.get("created_at"), UTC_ZONE) if exact is None else exact


def _belief(belief: Mapping[str, Any], options: Options) -> Item:
    content = text_of(belief["content"])
    if not content.strip():
        return LeftOut(str(belief["belief_hash"]), "a memory has no text or no hash")
    return TextItem(
        id=f"belief:{belief['belief_hash']}",
        wing=options.wing or _WING,
        room="beliefs",
        content=content,
        occurred_at=read_time(belief["created_at"], UTC_ZONE),
        metadata={"status": belief["status"], "confidence": belief["confidence"]},
    )


def _relation(database: ForeignDatabase, edge: Mapping[str, Any]) -> Item:
    """A named relation between two memories, which their first lines stand for."""
    what = f"{edge['source_hash']} {edge['target_hash']}"
    relation = text_of(edge["relationship_type"]).strip()
    if relation in _COMPUTED:
        return LeftOut(what, "associations that were computed from similarity", is_derived=True)
    ends = [_title(database, edge[side]) for side in ("source_hash", "target_hash")]
    if not all(ends):
        return LeftOut(what, "a relation leads to a memory that is gone")
    return FactItem(
        f"relation:{json.dumps([edge['source_hash'], relation, edge['target_hash']])}",
        ends[0],
        relation,
        ends[1],
        recorded_at=read_time(edge["created_at"], UTC_ZONE),
        source_id=text_of(edge["source_hash"]) or None,
    )


def _title(database: ForeignDatabase, hash: object) -> str:
    found = next(database.rows("SELECT content FROM memories WHERE content_hash = ?", (hash,)), ("",))
    return next((line.strip()[:_TITLE] for line in text_of(found[0]).splitlines() if line.strip()), "")
