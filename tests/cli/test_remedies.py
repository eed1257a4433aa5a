"""What messages tell people to run: it is a command there is, and it mends what the message complains of."""

from __future__ import annotations

import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import pytest

import mempalace_mcp
from mempalace_mcp.cli.commands import commands
from mempalace_mcp.cli.doctor import doctor
from mempalace_mcp.cli.session import Options
from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.config import load_settings
from mempalace_mcp.core.errors import ModelMismatch, PalaceCorrupt, PalaceError
from mempalace_mcp.core.model import DrawerFilter, Priority, SearchMode
from mempalace_mcp.daemon.hook import CLIENTS
from mempalace_mcp.runtime.issues import REASONS
from tests.daemon.support import bridge, end_processes_of, use
from tests.laboratory import PACKAGE
from tests.palace.support import opened

ROOT = Path(__file__).parents[2]

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *Path(mempalace_mcp.__file__).parent.rglob("*.py")]

COMMANDS = sorted(
    {
        (command, page.relative_to(ROOT).as_posix())
        for page in PAGES
        if page.name != "CHANGELOG.md"
        for command in re.findall(r"`mempalace-mcp ([^`{]*)`", page.read_text(encoding="utf-8"))
    }
)

BARE = re.compile(r"`(?!mempalace-mcp )(?:[a-z]+ )?--?(?:fix|vectors)[^`]*`|`(?:reindex|doctor)\b[^`]*`")

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("private_runtime")]


@pytest.mark.parametrize(("command", "page"), COMMANDS)
def test_a_command_that_is_named_can_be_given(command: str, page: str) -> None:
    words = shlex.split(command)
    if words[0].startswith("-"):
        assert words == ["--help"] or Options.read(words) is not None
        return
    found: click.Command = commands
    if words[:2] == ["hook", "CLIENT"]:
        assert all(client in (commands.commands["hook"].help or "") for client in CLIENTS)
        return
    while isinstance(found, click.Group) and words:
        found = found.commands[words.pop(0)]
    if not isinstance(found, click.Group):
        found.make_context("mempalace-mcp", list(words)).close()


def test_remedies_name_whole_commands() -> None:
    for reason in REASONS:
        assert not BARE.search(reason.remedy), reason.code


@pytest.fixture
def palace(tmp_path: Path) -> Path:
    """A palace with three drawers, and their vectors."""
    directory = tmp_path / "palace"
    with opened(directory) as app:
        for text in ("the heron stands in the lake", "the harbour lights are green", "a third one"):
            app.palace.add_drawer("w", "r", text)
        app.wait_until_indexed()
    return directory


def run_remedy(hint: str, palace: Path) -> None:
    """Do what it says: every command, in its order."""
    named = re.findall(r"`mempalace-mcp ([^`]*)`", hint)
    assert named, hint
    for command in named:
        subprocess.run(
            [sys.executable, "-m", "mempalace_mcp", *shlex.split(command), "--palace", str(palace)],
            cwd=PACKAGE.parent,
            check=True,
            timeout=60,
            capture_output=True,
        )


def find(palace: Path) -> dict[str, Any]:
    """What the doctor finds, by code."""
    told = json.loads(doctor(load_settings({}, str(palace)), False, as_json=True)[0])
    return {finding["code"]: finding for finding in told["findings"]}


def execute(palace: Path, sql: str) -> None:
    with closing(sqlite3.connect(palace / "palace.db", isolation_level=None)) as connection:
        connection.execute(sql)


def make_foreign(palace: Path) -> None:
    execute(palace, "UPDATE model SET name = 'another'")


def forget_vectors(palace: Path) -> None:
    with opened(palace, started=False) as app:
        app.chunk_embedder.forget_vectors(Deadline())


def leave_index(palace: Path) -> None:
    (palace / "index" / "chroma-7").mkdir(parents=True, mode=0o700)
    (palace / "index").chmod(0o700)


@pytest.mark.parametrize(
    ("break_it", "code"), [(make_foreign, "model_mismatch"), (forget_vectors, "embeddings_pending")]
)
def test_what_the_doctor_advises_mends(palace: Path, break_it: Callable[[Path], None], code: str) -> None:
    break_it(palace)
    finding = find(palace)[code]
    run_remedy(finding["remedy"], palace)
    assert find(palace) == {}
    with opened(palace) as app:
        hits = app.palace.search("heron", mode=SearchMode.SEMANTIC).hits
        assert hits[0].drawer.content == "the heron stands in the lake"


def test_another_model_is_mended_by_what_the_refusal_advises_also_beside_a_session(palace: Path) -> None:
    make_foreign(palace)
    with opened(palace) as app, app.database.read() as connection:
        with pytest.raises(ModelMismatch) as caught:
            app.chunk_embedder.check_model(connection, app.embedder.get().stamp)
        app.palace.add_drawer("w", "r", "pending")
        with pytest.raises(ModelMismatch):
            app.chunk_embedder.embed_pending(1, Priority.INTERACTIVE, Deadline())
    try:
        with bridge(palace) as client:
            client.greet()
            assert use(client, 1, "search", query="heron")["degraded"]
            run_remedy(str(caught.value.hint), palace)
            answer = use(client, 2, "search", query="heron", mode="semantic")
            assert answer["degraded"] is None
            assert answer["results"][0]["passage"] == "the heron stands in the lake"
    finally:
        end_processes_of(palace)
    assert not set(find(palace)) & {"model_mismatch", "embeddings_pending"}


@pytest.mark.parametrize(("position", "kind"), [(1, ModelMismatch), (2, PalaceCorrupt)])
def test_vectors_of_wrong_lengths_are_mended_by_what_the_refusal_advises(
    palace: Path, position: int, kind: type[PalaceError]
) -> None:
    execute(palace, f"UPDATE vectors SET embedding = zeroblob(8) WHERE position = {position}")
    with opened(palace) as app:
        query = app.embedder.get().embed(["heron"])[0]
        with app.database.read() as connection, pytest.raises(kind) as caught:
            app.index.nearest(connection, query, 5, DrawerFilter())
    run_remedy(str(caught.value.hint), palace)
    with opened(palace) as app, app.database.read() as connection:
        assert app.index.verify(connection) == []
        assert len(app.index.nearest(connection, query, 5, DrawerFilter())) == 3


def test_an_index_that_fails_is_begun_anew_by_its_remedy(palace: Path) -> None:
    leave_index(palace)
    (remedy,) = (reason.remedy for reason in REASONS if reason.code == "index_failing")
    run_remedy(remedy, palace)
    assert find(palace) == {}


def test_what_cannot_be_done_beside_another_process_changes_nothing(palace: Path) -> None:
    """A reindex that is refused must not have thrown the vectors away."""
    with opened(palace, started=False) as app:
        assert app.index.rebuild(), "this process holds Chroma"
        command = [sys.executable, "-m", "mempalace_mcp", "reindex", "--vectors", "--palace", str(palace)]
        refused = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, timeout=60, check=False)
        assert refused.returncode == 1
        assert "daemon stop" in refused.stderr
        with app.database.read() as connection:
            assert app.stores.drawers.pending_count(connection) == 0


def test_an_old_sqlite_refuses_the_start_and_is_what_the_doctor_finds(palace: Path, tmp_path: Path) -> None:
    """As a Python would start that comes with one."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sqlite3\nsqlite3.sqlite_version, sqlite3.sqlite_version_info = '3.37.2', (3, 37, 2)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{PACKAGE.parent}"}

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mempalace_mcp", *map(str, arguments)]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL
        )

    elsewhere = tmp_path / "elsewhere"
    for arguments in (("--solo",), ("import", ROOT / "README.md"), ("serve", "--port", "0")):
        refused = run(*arguments, "--palace", elsewhere)
        assert refused.returncode != 0
        assert "SQLite 3.37.2" in refused.stderr
        assert not (elsewhere / "palace.db").exists()
    told = json.loads(run("doctor", "--json", "--palace", palace).stdout)
    assert told["sqlite"] == "3.37.2"
    assert [finding["code"] for finding in told["findings"]] == ["sqlite_old"]
