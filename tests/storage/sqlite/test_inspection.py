from __future__ import annotations

from contextlib import closing
from pathlib import Path

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.storage.sqlite import inspection
from mempalace_mcp.storage.sqlite.connection import SqliteConnection
from mempalace_mcp.storage.sqlite.database import Database
from mempalace_mcp.storage.transactions import Transaction


def fill(tx: Transaction) -> None:
    tx.connection.execute("CREATE TABLE IF NOT EXISTS numbers (number INTEGER, text BLOB)")
    tx.connection.execute("CREATE INDEX IF NOT EXISTS by_number ON numbers (number)")
    tx.connection.execute("DELETE FROM numbers WHERE rowid % 3 = 1")
    tx.connection.execute(
        "WITH RECURSIVE counting (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counting WHERE n < 5000)"
        " INSERT INTO numbers SELECT abs(random()), randomblob(300) FROM counting"
    )


def test_a_palace_that_wakes_up_while_it_is_looked_at_is_not_taken_for_damaged(tmp_path: Path) -> None:
    with closing(Database(tmp_path)) as database:
        database.write(fill, Deadline())
    path, looks = tmp_path / "palace.db", 0

    def check(connection: SqliteConnection) -> list[str]:
        nonlocal looks
        looks += 1
        connection.execute("SELECT count(*) FROM numbers WHERE number > 5").fetchone()
        if looks == 1:
            with closing(Database(tmp_path)) as database:
                database.write(fill, Deadline())
        return [row[0] for row in connection.execute("PRAGMA quick_check")]

    assert inspection.ask(path, check) == ["ok"]
    assert looks == 2
    assert inspection.damages(path) == []
