"""`reindex --model`: offline, beside a daemon, killed at any moment, on a full disk, interrupted."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mempalace_mcp.embedding.models import MODELS
from tests.cli.test_commands import run, run_json
from tests.daemon.support import PROGRAM, bridge, end_processes_of, use

pytestmark = pytest.mark.long

PASSAGES = 400
MINILM, MULTILINGUAL = (MODELS[name].stamp for name in ("minilm", "multilingual"))
SOUGHT = "У нашей дочери аллергия на арахис."
QUESTION = "what is our daughter allergic to?"


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A palace with MiniLM's vectors, which no test changes."""
    folder = tmp_path_factory.mktemp("imported")
    notes = folder / "notes"
    notes.mkdir()
    for number in range(PASSAGES):
        (notes / f"{number}.md").write_text(f"Build {number} of the harbour service failed.\n", encoding="utf-8")
    (notes / "allergy.md").write_text(SOUGHT, encoding="utf-8")
    run("import", notes, "--palace", folder / "palace")
    return folder / "palace"


@pytest.fixture
def palace(imported: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it."""
    directory = shutil.copytree(imported, tmp_path / "palace")
    yield directory
    end_processes_of(directory)


def state(palace: Path) -> tuple[str, set[int], int, int]:
    """The model, the lengths of its vectors in bytes, how many there are, and how many passages are pending."""
    with closing(sqlite3.connect(palace / "palace.db")) as connection:
        (model,) = connection.execute("SELECT name FROM model").fetchone()
        sizes = {row[0] for row in connection.execute("SELECT DISTINCT length(embedding) FROM vectors")}
        (vectors,) = connection.execute("SELECT count(*) FROM vectors").fetchone()
        (pending,) = connection.execute("SELECT count(*) FROM pending").fetchone()
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    return model, sizes, vectors, pending


def assert_complete(palace: Path, name: str) -> None:
    stamp = MODELS[name].stamp
    assert state(palace) == (stamp.name, {4 * stamp.dimension}, PASSAGES + 1, 0)


def begin_to_move(palace: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [*PROGRAM, "reindex", "--model", "multilingual", "--palace", str(palace), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def moved(palace: Path) -> int:
    """How many passages have a vector beside the one that answers; 0 after the switch."""
    with closing(sqlite3.connect(palace / "palace.db")) as connection:
        if connection.execute("SELECT count(*) FROM other_model WHERE wanted = 1").fetchone() == (0,):
            return 0
        return int(connection.execute("SELECT count(*) FROM other_vectors").fetchone()[0])


def found(palace: Path, question: str = QUESTION) -> str:
    answer = run_json("search", question, "--palace", palace, "--mode", "semantic", "--limit", "1")
    return str(answer["results"][0]["passage"])


def test_offline_and_back(palace: Path) -> None:
    assert found(palace) != SOUGHT
    told = run("reindex", "--model", "multilingual", "--palace", palace)
    assert "moved to the model multilingual" in told
    assert_complete(palace, "multilingual")
    assert found(palace) == SOUGHT
    assert "has the model multilingual already" in run("reindex", "--model", "multilingual", "--palace", palace)
    assert run_json("reindex", "--model", "minilm", "--palace", palace) == {"model": "minilm", "moved": True}
    assert_complete(palace, "minilm")


def test_sessions_are_served_meanwhile(palace: Path) -> None:
    with bridge(palace) as client:
        client.greet()
        assert use(client, "before", "search", query="harbour")["degraded"] is None
        mover = begin_to_move(palace, "--json")
        answers, number = [], 0
        while mover.poll() is None:
            number += 1
            answers.append(use(client, f"s{number}", "search", query="harbour service", mode="semantic"))
            filed = f"The spare key of locker {number} hangs behind the door."
            use(client, f"a{number}", "add_drawer", wing="home", room="keys", content=filed)
            hits = use(client, f"f{number}", "search", query=f"spare key of locker {number}", mode="semantic")
            best = hits["results"][0]
            assert best["passage"] == filed
            use(client, f"d{number}", "delete_drawers", drawer_ids=[best["drawer_id"]])  # hundreds would be too alike
        assert mover.stdout is not None
        assert mover.stderr is not None
        with mover.stdout as output, mover.stderr as errors:
            assert json.loads(output.read()) == {"model": "multilingual", "moved": True}, errors.read()
        assert answers
        assert all(answer["degraded"] is None and answer["results"] for answer in answers)
        best = use(client, "after", "search", query=QUESTION, mode="semantic")["results"][0]
        assert best["passage"] == SOUGHT
        told = use(client, "status", "status")["palace"]
        assert told["model"].startswith(MULTILINGUAL.name)
        assert told["moving"] is None


def test_killed_at_any_moment_it_has_one_model_or_the_other(palace: Path) -> None:
    chance = random.Random(11)
    for _ in range(4):
        mover = begin_to_move(palace)
        time.sleep(chance.uniform(0.3, 2.5))
        mover.kill()
        mover.communicate()
        name, sizes, vectors, pending = state(palace)
        stamp = MINILM if name == MINILM.name else MULTILINGUAL
        assert (name, sizes, vectors, pending) == (stamp.name, {4 * stamp.dimension}, PASSAGES + 1, 0)
    run("reindex", "--model", "multilingual", "--palace", palace)
    assert_complete(palace, "multilingual")
    assert found(palace) == SOUGHT


def test_an_interrupt_keeps_what_is_done(palace: Path) -> None:
    mover = begin_to_move(palace)
    while not moved(palace):
        assert mover.poll() is None
        time.sleep(0.01)
    mover.send_signal(signal.SIGINT)
    _, errors = mover.communicate(timeout=50)
    if mover.returncode != 0:  # it may have been faster
        assert mover.returncode == 130, errors
        assert moved(palace) > 0
        assert_complete(palace, "minilm")
        assert run_json("status", "--palace", palace)["palace"]["moving"]["model"] == MULTILINGUAL.name
        assert run_json("reindex", "--model", "minilm", "--palace", palace) == {"model": "minilm", "moved": False}
        assert run_json("status", "--palace", palace)["palace"]["moving"] is None


@pytest.mark.skipif(sys.platform == "win32", reason="there are no limits of files")
def test_a_full_disk_leaves_the_old_model_answering(palace: Path) -> None:
    """A file may grow no further, as on a full disk."""
    run("status", "--palace", palace)  # the log is in the database
    limit = (palace / "palace.db").stat().st_size + 64 * 1024
    limited = (
        f"import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));"
        "sys.argv = ['mempalace-mcp', *sys.argv[1:]]; runpy.run_module('mempalace_mcp', run_name='__main__')"
    )
    command = [sys.executable, "-c", limited, "reindex", "--model", "multilingual", "--palace", str(palace)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=55, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "The former vectors answer meanwhile" in done.stderr
    assert_complete(palace, "minilm")
    run("reindex", "--model", "multilingual", "--palace", palace)
    assert_complete(palace, "multilingual")


def test_wrong_names_are_refused_with_the_right_ones(palace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = run("reindex", "--model", "bert", "--palace", palace, code=2)
    assert "minilm" in told
    assert "multilingual" in told
    assert "leave out --vectors" in run("reindex", "--model", "minilm", "--vectors", "--palace", palace, code=2)
    monkeypatch.setenv("PALACE_MODEL", "MultiLingual-2")
    told = run("status", "--palace", palace, code=1)
    assert "PALACE_MODEL='MultiLingual-2' is wrong: must be one of minilm, multilingual" in told
