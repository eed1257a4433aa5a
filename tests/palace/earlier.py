"""A palace as version 0.1 filed it, with its records unknown and forks filed twice, and the files it was filed from."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from mempalace_mcp.storage.sqlite.connection import open_writer
from mempalace_mcp.storage.sqlite.migrations import load_migrations, migrate

DUMP = Path(__file__).with_name("earlier.sql")
FOLDER = "/histories"
"""Where the files were when the palace was dumped."""
SCHEMA = 3


def record(kind: str, number: int, content: Any, session: str = "s-1", **fields: Any) -> dict[str, Any]:
    """A record as the client writes it, `number` seconds after noon."""
    role = {"user": "user", "assistant": "assistant"}[kind]
    return {
        "parentUuid": f"r-{number - 1:04}",
        "isSidechain": False,
        "type": kind,
        "message": {"role": role, "content": content},
        "uuid": f"r-{number:04}",
        "sessionId": session,
        "cwd": "/home/mira/code/harbour",
        "gitBranch": "main",
        "timestamp": f"2026-05-17T12:{number // 60:02}:{number % 60:02}.000Z",
        **fields,
    }


def said(number: int, session: str = "s-1") -> list[dict[str, Any]]:
    """An exchange of a question and two answers, which takes three records."""
    return [
        record("user", number, f"Question {number}: what about pier {number}?", session),
        record("assistant", number + 1, [{"type": "text", "text": f"Let me look at pier {number}."}], session),
        record(
            "assistant", number + 2, [{"type": "text", "text": f"Pier {number} is {number * 7} metres long."}], session
        ),
    ]


def first_session(session: str = "s-1") -> list[dict[str, Any]]:
    """Six plain exchanges."""
    return [each for number in range(10, 70, 10) for each in said(number, session)]


def forked_session() -> list[dict[str, Any]]:
    """The first three of them again, as another session, and one of its own."""
    return [*first_session("s-2")[:9], *said(100, "s-2")]


def long_session() -> list[dict[str, Any]]:
    """One exchange of several parts, one with a decision, one with text between tags."""
    answers = [
        record(
            "assistant", 201 + number, [{"type": "text", "text": f"Step {number}: " + f"word{number} " * 500}], "s-3"
        )
        for number in range(6)
    ]
    options = [{"label": "PostgreSQL", "description": "as before"}, {"label": "SQLite", "description": "one file"}]
    asked = {"questions": [{"question": "Which database?", "header": "Database", "options": options}]}
    return [
        record("user", 200, "Tell me all the steps.", "s-3"),
        *answers,
        record("user", 220, "Set up the store.", "s-3"),
        record("assistant", 221, [{"type": "tool_use", "id": "t1", "name": "AskUserQuestion", "input": asked}], "s-3"),
        record(
            "user",
            222,
            [{"type": "tool_result", "tool_use_id": "t1", "content": "User has answered your questions."}],
            "s-3",
            toolUseResult={**asked, "answers": {"Which database?": "SQLite"}},
        ),
        record("assistant", 223, [{"type": "text", "text": "SQLite it is."}], "s-3"),
        record(
            "user", 230, "This is the log:\n<bash-stdout>\nfailed at 12:03\n</bash-stdout>\nWhy did it fail?", "s-3"
        ),
        record("assistant", 231, [{"type": "text", "text": "The tide was out."}], "s-3"),
    ]


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    """A transcript."""
    path.write_text("".join(json.dumps(each) + "\n" for each in records), encoding="utf-8")
    return path


def write_files(folder: Path) -> None:
    """The files from which the palace was filed."""
    folder.mkdir(exist_ok=True)
    write(folder / "a.jsonl", first_session())
    write(folder / "b.jsonl", forked_session())
    write(folder / "c.jsonl", long_session())
    (folder / "short.md").write_text("The lamp needs oil.\n", encoding="utf-8")
    sections = [f"# Part {number}\n\n" + f"Sentence {number} of the note. " * 300 + "\n\n" for number in range(4)]
    (folder / "long.md").write_text("".join(sections), encoding="utf-8")


def build(directory: Path, folder: Path) -> None:
    """The palace in a directory, as if it had been filed from the folder."""
    directory.mkdir()
    (directory / "palace.db").touch(0o600)
    connection = open_writer(directory / "palace.db")
    migrate(connection, load_migrations()[:SCHEMA])
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.executescript(f"BEGIN; {DUMP.read_text('utf-8').replace(FOLDER, str(folder))} COMMIT;")
    connection.execute(
        "UPDATE rooms SET drawers = (SELECT count(*) FROM drawers WHERE drawers.room = rooms.id AND deleted_at IS NULL)"
    )  # the triggers have counted on from what was dumped
    connection.close()


def dump(palace: Path, folder: Path) -> str:
    """What `DUMP` holds; to be called with the program that filed the palace."""
    tables = ("state", "wings", "rooms", "drawers", "versions", "chunks", "pending", "entities", "predicates", "facts")
    connection = sqlite3.connect(palace / "palace.db")
    lines = []
    for table in tables:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        for row in connection.execute(f"SELECT {', '.join(f'quote({column})' for column in columns)} FROM {table}"):
            lines.append(f"INSERT OR REPLACE INTO {table} ({', '.join(columns)}) VALUES ({', '.join(map(str, row))});")
    return "\n".join(lines).replace(str(folder), FOLDER) + "\n"
