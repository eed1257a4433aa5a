"""Files as editors write them, and a program that keeps a database open."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

MINUTE = 60_000
NOON = 1_798_718_400_000
"""Milliseconds: 2026-12-31T12:00:00Z."""


def write_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def write_lines(path: Path, *lines: Any) -> Path:
    """Each on a line of its own; texts as they are."""
    return write_json(path, "".join(f"{each if isinstance(each, str) else json.dumps(each)}\n" for each in lines))


def write_rows(path: Path, table: str, rows: Mapping[str, Any]) -> Path:
    """A database of keys and values: texts, bytes and None as they are, all else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"CREATE TABLE IF NOT EXISTS {table} (key TEXT UNIQUE ON CONFLICT REPLACE, value BLOB)")
        for key, value in rows.items():
            is_raw = value is None or isinstance(value, str | bytes)
            stored = value if is_raw else json.dumps(value, separators=(",", ":"))
            connection.execute(f"INSERT INTO {table} VALUES (?, ?)", (key, stored))
    return path


_HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("PRAGMA wal_autocheckpoint = 0")
for line in sys.stdin:
    connection.executescript(line)
    print("done", flush=True)
"""


@contextmanager
def held_open(path: Path) -> Iterator[Any]:
    """Another process that has the database open, and runs the SQL that it is given; all of it stays in the log."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def run(sql: str) -> None:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(sql + "\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n"

        try:
            yield run
        finally:
            process.stdin.close()
            process.wait()
