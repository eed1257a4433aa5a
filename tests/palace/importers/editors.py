"""Files as editors write them, and a program that keeps a database open."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

MINUTE = 60_000
NOON = 1_778_068_800_000
"""Milliseconds: 2026-05-06T12:00:00Z."""
HOUR_SECONDS = 3_600


def write_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return quiet(path)


def append(path: Path, text: str) -> Path:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
    return quiet(path)


def quiet(path: Path) -> Path:
    """Nothing was written to the file for an hour, so that what it holds counts as finished."""
    then = time.time() - HOUR_SECONDS
    os.utime(path, (then, then))
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
    return quiet(path)


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
