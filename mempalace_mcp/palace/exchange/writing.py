"""Writes a palace as lines, from one snapshot of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mempalace_mcp.core.errors import NotFound
from mempalace_mcp.core.text import read_name
from mempalace_mcp.palace.exchange.files import target_of, written
from mempalace_mcp.palace.exchange.lines import Head, write_head, write_record
from mempalace_mcp.storage.connection import Connection, Reader
from mempalace_mcp.storage.export_kinds import KINDS, Extract
from mempalace_mcp.storage.rows import find_wing

Step = Callable[[int, int], None]
"""Called with how many records are done, and how many there are. It may raise to stop."""

STEP = 500


@dataclass(frozen=True, slots=True)
class Exported:
    """A finished export: its file, the size of it in bytes, and how many records of each kind it has."""

    path: Path
    bytes: int
    records: Mapping[str, int]


def export_palace(reader: Reader, destination: Path, wings: Sequence[str], step: Step) -> Exported:
    """Write a palace, or some wings of it, to a file, or to `palace.jsonl` in a directory.

    Raises:
        NotFound: there is no wing of that name.
        Conflict: something else is there.
        StorageError: the file cannot be written.
        PalaceError: the palace cannot be read.
    """
    path = target_of(destination)
    with reader.read() as connection:
        keys = _keys_of(connection, wings)
        extract = Extract(connection, keys)
        head = _head(connection, extract, keys)
        total, done = sum(head.counts.values()), Counter[str]()
        with written(path) as file:
            file.write(write_head(head).encode())
            for number, (kind, values) in enumerate(extract.records(), 1):
                file.write(write_record(kind, values).encode())
                done[kind.name] += 1
                if number % STEP == 0:
                    step(number, total)
    return Exported(path, path.stat().st_size, {kind.name: done[kind.name] for kind in KINDS})


def _head(connection: Connection, extract: Extract, keys: Sequence[str] | None) -> Head:
    row = connection.execute("SELECT name, quantization, dimension FROM model").fetchone()
    model = None if row is None else dict(zip(("name", "quantization", "dimension"), row, strict=True))
    names = None if keys is None else tuple(wing.shown for key in keys if (wing := find_wing(connection, key)))
    return Head({kind.name: extract.count(kind) for kind in KINDS}, names, model)


def _keys_of(connection: Connection, wings: Sequence[str]) -> list[str] | None:
    """The wings by key; None for all.

    Raises:
        NotFound: there is no wing of that name.
    """
    if not wings:
        return None
    keys = sorted({read_name(wing, "--wing").key for wing in wings})
    for wing in wings:
        if find_wing(connection, read_name(wing, "--wing").key) is None:
            raise NotFound(
                f"there is no wing {wing!r}", argument="--wing", hint="`mempalace-mcp status` lists the wings."
            )
    return keys
