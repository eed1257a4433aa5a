"""The memory of the official reference server: a knowledge graph in a file of JSON lines, without times or ids."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from mempalace_mcp.core.errors import StorageError
from mempalace_mcp.palace.migration.items import FactItem, Item, LeftOut, Options, TextItem
from mempalace_mcp.palace.migration.values import read_json, text_of

_NAMES = ("memory.jsonl", "memory.json")
_WING = "memory"
_INSTALLED = "@modelcontextprotocol/server-memory/dist"
_EXTRA = ("tags", "importance", "createdAt", "created_at")
_LONGEST_LINE = 64 * 1024 * 1024
_LINES_LOOKED_AT = 20


class ServerMemory:
    """`@modelcontextprotocol/server-memory`, and what writes the same form."""

    name = "server-memory"
    title = "MCP server-memory"
    has_unique_ids = False

    def places(self, options: Options) -> Iterator[Path]:
        """Where its setting says, or inside the installed package."""
        if named := options.environment.get("MEMORY_FILE_PATH"):
            yield Path(named).expanduser()
        if options.home is not None:
            for name in _NAMES:
                yield from sorted((options.home / ".npm" / "_npx").glob(f"*/node_modules/{_INSTALLED}/{name}"))

    def recognizes(self, path: Path) -> bool:
        """A file one of whose first lines is an entity or a relation; or a folder with a file of the usual name."""
        file = _file_of(path)
        try:
            return file is not None and any(map(_kind, islice(_lines(file), _LINES_LOOKED_AT)))
        except OSError:
            return False

    def read(self, path: Path, options: Options) -> Iterator[Item]:
        """Entities, each with the fact that says what it is; then relations. Lines that are broken are left out."""
        file = _file_of(path)
        if file is None:
            raise StorageError(f"{path} is not there any more", hint="Name the file of JSON lines.")
        try:
            yield from _read(file, options.wing or _WING)
        except OSError as error:
            raise StorageError(f"{file} cannot be read: {error.strerror}", hint="Check that this user may.") from error


def _file_of(path: Path) -> Path | None:
    return next((file for file in (path, *(path / name for name in _NAMES)) if file.is_file()), None)


def _lines(file: Path) -> Iterator[bytes]:
    """The lines of a file; of one that is too long, its beginning."""
    with file.open("rb") as opened:
        while line := opened.readline(_LONGEST_LINE):
            if line.strip():
                yield line.removeprefix(b"\xef\xbb\xbf")


def _parsed(line: bytes) -> dict[str, Any]:
    return read_json(line.decode("utf-8", "replace"), dict)  # type: ignore[no-any-return]


def _kind(line: bytes) -> str:
    record = _parsed(line)
    kind = record.get("type")
    if kind == "entity" and _name(record):
        return "entity"
    return "relation" if kind == "relation" and ("from" in record or "from_id" in record) else ""


def _read(file: Path, wing: str) -> Iterator[Item]:
    """The file is read twice, since relations may come before the entities that they are about."""
    seen: Counter[str] = Counter()
    for number, line in enumerate(_lines(file), start=1):
        record, kind = _parsed(line), _kind(line)
        if kind == "entity":
            seen[_name(record)] += 1
            yield from _entity(record, wing, file, seen[_name(record)])
        elif not kind:
            yield LeftOut(f"{file}, line {number}", "a line is broken, or neither an entity nor a relation")
    for line in _lines(file):
        if _kind(line) == "relation":
            yield _relation(_parsed(line))


def _name(record: dict[str, Any]) -> str:
    return text_of(record.get("name") or record.get("entityName") or record.get("id")).strip()


def _entity(record: dict[str, Any], wing: str, file: Path, number: int) -> Iterator[Item]:
    """A drawer of the name and the observations, one on a line; and a fact. `number` counts those of one name."""
    name, kind = _name(record), text_of(record.get("entityType")).strip()
    observations = [text for each in _observations(record) if (text := _observation(each)).strip()]
    id = f"entity:{name}" + (f"#{number}" if number > 1 else "")
    extra: dict[str, Any] = {key: record[key] for key in _EXTRA if key in record}
    yield TextItem(
        id=id,
        wing=wing,
        room=kind or "entity",
        content="\n".join([name, *observations]),
        source_file=os.fspath(file.resolve()),
        metadata={"title": name, "entity_type": kind, **extra},
    )
    if kind and number == 1:
        yield FactItem(f"is:{name}", name, "is a", kind, source_id=id)


def _observations(record: dict[str, Any]) -> list[Any]:
    found = record.get("observations")
    return found if isinstance(found, list) else [found]


def _observation(value: Any) -> str:
    """The text of an observation, which some programs keep in an object."""
    if isinstance(value, dict):
        return text_of(value.get("content") or value.get("text")) or json.dumps(value, ensure_ascii=False)
    return text_of(value)


def _relation(record: dict[str, Any]) -> Item:
    ends = [text_of(record.get(side) or record.get(f"{side}_id")).strip() for side in ("from", "to")]
    relation = text_of(record.get("relationType") or record.get("relation_type")).strip()
    if not all(ends) or not relation:
        return LeftOut(str(record)[:200], "a relation lacks one of its ends or its type")
    return FactItem(
        f"relation:{json.dumps([*ends, relation], ensure_ascii=False)}",
        ends[0],
        relation,
        ends[1],
        source_id=f"entity:{ends[0]}",
    )
