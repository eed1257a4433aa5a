"""A palace that was used: rows in every table, at random, and its rows as each database has them."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from mempalace_mcp.core.call_context import Deadline, IdempotencyKey
from mempalace_mcp.core.config import Settings, load_settings
from mempalace_mcp.core.palace_url import PalaceUrl
from mempalace_mcp.embedding.models import MODELS
from mempalace_mcp.runtime.app import App
from mempalace_mcp.storage.foreign_ids import save_item
from mempalace_mcp.storage.model_moves import begin_move, store_other_vectors
from mempalace_mcp.storage.postgres.connection import connect
from mempalace_mcp.storage.sqlite.connection import SqliteConnection
from mempalace_mcp.storage.tables import TABLES, Table
from mempalace_mcp.storage.tokens import Token, TokenStore
from mempalace_mcp.storage.transactions import Transaction
from tests.postgres_server import text_of

_SAID = (
    "harbour lantern Ähre naïve façade 東京 港 сторож tide pilot invoice RFC-2616 pay-hooks-eu1 C++ don't x=y"
    " łódź \ufb01ne café keeper ropes Nürnberg mooring engine spare-key grüße \U0001f642 42 0x1F ünïcode"
)
WORDS = _SAID.split()
PLACES = (("harbour", "Piers"), ("harbour", "Logs"), ("Ägypten", "räume"), ("notes", "misc"))
PEOPLE = ("Ada", "Bo Ågren", "the keeper", "東京港")
CALL = IdempotencyKey("tests", "call-1", b"of the request  ")


def at(place: PalaceUrl | Path) -> Settings:
    """The settings for a palace in a directory, or on a server."""
    return load_settings({}, text_of(place) if isinstance(place, PalaceUrl) else str(place))


def text(chance: random.Random, words: int = 40) -> str:
    """Some words, with line breaks and blanks."""
    return "".join(chance.choice(WORDS) + chance.choice((" ", " ", "\n", "  ", ". ")) for _ in range(words)).strip()


def live_in(app: App, seed: int, folder: Path, steps: int = 40) -> None:
    """Use the palace for a while; at the end every table has rows. The model must be loaded."""
    ids = use(app, random.Random(seed), folder, steps)
    app.wait_until_indexed()
    app.indexer.close()
    _rest(app, ids)


def use(app: App, chance: random.Random, folder: Path, steps: int) -> list[str]:
    """File, change, delete, restore, believe and import at random; returns the ids of what was filed one by one."""
    keyed = app.palace.add_drawer("harbour", "Piers", "filed once", deadline=Deadline(20, idempotency_key=CALL))
    app.palace.add_drawer("harbour", "Piers", "this is how it is now")
    app.palace.add_drawer("notes", "misc", "where the tunnel ends")
    app.palace.create_tunnel("harbour", "Piers", "notes", "misc", label="łódź", source_drawer_id=keyed.drawer_id)
    ids = [keyed.drawer_id]
    for number in range(steps):
        ids += _file(app, chance, number)
        _change(app, chance, ids)
        _believe(app, chance, ids)
    _import(app, folder)
    return ids


def _file(app: App, chance: random.Random, number: int) -> list[str]:
    if chance.random() < 0.2:
        entry = app.palace.diary_write(chance.choice(PEOPLE), text(chance), topic=chance.choice(("Ropes", "tides")))
        return [entry.drawer_id]
    wing, room = chance.choice(PLACES)
    filed = app.palace.add_drawer(
        wing,
        room,
        text(chance, chance.choice((3, 60, 300))),
        metadata={"ñ": [number, None, 0.1], "deep": {"x": "\\u0000"}} if chance.random() < 0.5 else None,
        source_file=f"/tmp/ünï/{number % 7}.md" if chance.random() < 0.5 else None,
        occurred_at=f"20{chance.randint(10, 25)}-0{chance.randint(1, 9)}-11" if chance.random() < 0.5 else None,
    )
    return [filed.drawer_id]


def _change(app: App, chance: random.Random, ids: Sequence[str]) -> None:
    chosen = chance.choice(ids)
    match chance.randrange(5):
        case 0:
            app.palace.restore_drawers([chosen])
            app.palace.update_drawer(chosen, content=text(chance))
        case 1:
            app.palace.delete_drawers(drawer_ids=[chosen])
        case 2:
            app.palace.restore_drawers([chosen])


def _believe(app: App, chance: random.Random, ids: Sequence[str]) -> None:
    who, year = chance.choice(PEOPLE), chance.randint(2001, 2030)
    fact = ("keeps", f"pier {chance.randint(1, 6)}")
    match chance.randrange(4):
        case 0:
            app.palace.kg_add(
                who, *fact, valid_from=str(year), valid_to=str(year + 1), confidence=1 / chance.randint(1, 9)
            )
        case 1:
            source = chance.choice(ids)
            app.palace.restore_drawers([source])
            app.palace.kg_add(who, "sees", chance.choice(PEOPLE), source_drawer_id=source)
        case 2:
            added = app.palace.kg_add(who, *fact, valid_from=str(year))
            app.palace.kg_invalidate(who, *fact, ended=str(year + 2), fact_id=added.fact.fact_id)
        case 3:
            added = app.palace.kg_add(who, "believes", text(chance, 300))
            app.palace.kg_invalidate(who, "believes", added.fact.object, retract=True)


def _import(app: App, folder: Path) -> None:
    from tests.palace.earlier import write_files

    write_files(folder)
    for _ in app.palace.import_paths([folder]):
        pass


def _rest(app: App, ids: Sequence[str]) -> None:
    """What has no way through the palace, or leads out of it: a move of models that is under way, and the like."""
    other = MODELS["multilingual"].stamp

    def work(tx: Transaction) -> None:
        connection = tx.connection
        TokenStore().add(tx, Token("ci", bytes(range(32)), "write", ("harbour",)))
        save_item(tx, "/memory.json", ["e1", "é2"], ids[1], b"digest")
        connection.execute("INSERT INTO unidentified (drawer, occurred_at) SELECT id, NULL FROM drawers WHERE id = 2")
        connection.execute("UPDATE drawers SET superseded_by = ? WHERE id = 1", (ids[1],))
        begin_move(tx, other)
        vectors = [
            (row[0], bytes(4 * other.dimension)) for row in connection.execute("SELECT chunk FROM vectors LIMIT 9")
        ]
        store_other_vectors(tx, other, vectors)
        # the last one is purged: its numbers must not be given again
        connection.execute("UPDATE drawers SET deleted_at = 1 WHERE id = (SELECT max(id) FROM drawers)")
        app.stores.drawers.purge(tx, 2, 1)
        connection.execute("INSERT INTO pending (chunk, bulk) SELECT max(id), 1 FROM chunks")
        connection.execute("DELETE FROM vectors WHERE chunk = (SELECT max(id) FROM chunks)")
        connection.execute("UPDATE token_backlog SET last = 7")
        tx.mark_changed()

    app.stores.writer.write(work, Deadline(20))


def rows_of(place: PalaceUrl | Path) -> dict[str, list[Any]]:
    """All rows of all tables, with the columns that each database reckons by itself."""
    if isinstance(place, PalaceUrl):
        with closing(connect(place)) as connection:
            connection.script(f"SET search_path = {connection.path}")
            return {table.name: connection.execute(_all(table)).fetchall() for table in TABLES}
    with closing(sqlite3.connect(place / "palace.db", factory=SqliteConnection)) as file:
        return {table.name: file.execute(_all(table)).fetchall() for table in TABLES}


def _all(table: Table) -> str:
    columns = ", ".join([*table.columns, *table.counted])
    return f"SELECT {columns} FROM {table.name} ORDER BY {', '.join(table.key)}"
