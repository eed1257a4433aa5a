"""`move` as a person runs it: there and back, killed and interrupted, beside a daemon, with wrong places."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.core.palace_url import PalaceUrl
from tests.cli.test_commands import perform, perform_json, run, run_json
from tests.daemon.support import PROGRAM, bridge, end_processes_of, made, use
from tests.palace.lived_in import WORDS, rows_of
from tests.postgres_server import fresh_schema, shared_address, text_of

pytestmark = pytest.mark.long

DRAWERS = 800
FACTS = [("Ada", "keeps", f"pier {number}") for number in range(20)]


@pytest.fixture(scope="module", autouse=True)
def server() -> None:
    """Start it before the first test looks at what it leaves behind."""
    shared_address()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A palace that no test changes."""
    chance = random.Random(3)
    texts = [f"{number} " + " ".join(chance.choices(WORDS, k=50)) for number in range(DRAWERS)]
    return made(tmp_path_factory.mktemp("filled") / "palace", texts, FACTS)


@pytest.fixture
def palace(filled: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it."""
    directory = shutil.copytree(filled, tmp_path / "palace")
    yield directory
    end_processes_of(directory)


@pytest.fixture
def url() -> Iterator[PalaceUrl]:
    """A place for a palace in PostgreSQL."""
    with fresh_schema() as url:
        yield url


def begin(source: object, target: object) -> subprocess.Popen[str]:
    command = [*PROGRAM, "move", str(source), str(target), "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_there_and_back(palace: Path, url: PalaceUrl, tmp_path: Path) -> None:
    report = run_json("move", palace, text_of(url))
    assert report["source"] == str(palace)
    assert report["target"] == str(url)
    assert report["tables"]["drawers"]["rows"] == DRAWERS
    assert len(report["tables"]["drawers"]["digest"]) == 64
    assert rows_of(url) == rows_of(palace)
    address = tmp_path / "address"
    address.write_text(f"{text_of(url)}\n")
    back = tmp_path / "back"
    told = run("move", address, back)
    assert re.search(rf"^drawers +{DRAWERS}  {report['tables']['drawers']['digest'][:16]}$", told, re.MULTILINE)
    assert "were compared one by one" in told
    assert "PALACE_PATH" in told
    assert rows_of(back) == rows_of(palace)
    assert "holds this palace already" in run("move", palace, back, code=1)
    found = [run_json("search", "harbour lantern", "--palace", place) for place in (palace, back, address)]
    assert [hit["drawer_id"] for hit in found[0]["results"]] == [hit["drawer_id"] for hit in found[2]["results"]]
    assert found[0]["results"] == found[1]["results"]


@pytest.mark.parametrize("to_server", [True, False], ids=["to PostgreSQL", "to a directory"])
def test_killed_at_any_moment_it_goes_on(palace: Path, url: PalaceUrl, tmp_path: Path, to_server: bool) -> None:
    target = url if to_server else tmp_path / "target"
    place = text_of(url) if to_server else tmp_path / "target"
    chance, killed = random.Random(17), 0
    for _ in range(3):
        mover = begin(palace, place)
        wait_until_begun(mover, target)
        time.sleep(chance.uniform(0.0, 0.4))
        mover.send_signal(signal.SIGKILL)
        output, _ = mover.communicate()
        if mover.returncode == 0:  # it was faster
            break
        assert not output
        killed += 1
        told = perform("status", "--palace", place, code=1)
        assert "not finished yet" in told
        assert "move SOURCE TARGET" in told
        assert "unfinished_copy" in perform("doctor", "--palace", place, code=1)
    assert killed
    if mover.returncode != 0:
        assert run_json("move", palace, place)["resumed"] is True
    assert rows_of(target) == rows_of(palace)
    assert perform_json("status", "--palace", place)["palace"]["drawers"] == DRAWERS


def wait_until_begun(mover: subprocess.Popen[str], target: PalaceUrl | Path) -> None:
    """Until some rows are copied, or the move has ended."""
    while mover.poll() is None:
        try:
            if rows_of(target)["wings"]:
                return
        except Exception:  # noqa: BLE001 - the tables are not there yet, in one database or the other
            time.sleep(0.02)


def test_an_interrupt_says_how_to_go_on(palace: Path, tmp_path: Path) -> None:
    mover = begin(palace, tmp_path / "target")
    wait_until_begun(mover, tmp_path / "target")
    mover.send_signal(signal.SIGINT)
    output, errors = mover.communicate(timeout=50)
    if mover.returncode != 0:  # it may have been faster
        assert (mover.returncode, output) == (130, "")
        assert "The same command goes on with it." in errors
        assert run_json("move", palace, tmp_path / "target")["resumed"] is True
    assert rows_of(tmp_path / "target") == rows_of(palace)


def test_a_daemon_of_the_source_has_to_end_first(palace: Path, tmp_path: Path) -> None:
    with bridge(palace) as client:
        client.greet()
        use(client, "s", "search", query="harbour")
        error = run_json("move", palace, tmp_path / "target", code=1)["error"]
        assert (error["code"], error["argument"]) == ("busy", "SOURCE")
        assert f"mempalace-mcp daemon stop --palace {palace}" in error["hint"]
    assert not (tmp_path / "target").exists()
    run("daemon", "stop", "--palace", palace)
    run("move", palace, tmp_path / "target")
    assert rows_of(tmp_path / "target") == rows_of(palace)


def test_sessions_read_meanwhile_and_their_writes_wait(palace: Path, url: PalaceUrl) -> None:
    """They have begun after the move."""
    mover = begin(palace, text_of(url))
    wait_until_begun(mover, url)
    with bridge(palace) as client:
        client.greet()
        assert use(client, "s", "search", query="harbour", mode="keyword")["results"]
        use(client, "a", "add_drawer", wing="w", room="r", content="after the move")
    output, errors = mover.communicate(timeout=50)
    assert mover.returncode == 0, errors
    report: dict[str, Any] = json.loads(output)
    assert report["tables"]["drawers"]["rows"] == DRAWERS
    assert len(rows_of(palace)["drawers"]) == DRAWERS + 1


def test_a_restored_backup_is_a_source(palace: Path, tmp_path: Path) -> None:
    restored = tmp_path / "restored"
    restored.mkdir()
    run("backup", restored / "palace.db", "--palace", palace)
    run("move", restored, tmp_path / "target")
    assert rows_of(tmp_path / "target") == rows_of(palace)


@pytest.mark.parametrize(
    ("source", "target", "argument", "told"),
    [
        ("{palace}", "{palace}", "TARGET", "the same palace"),
        ("{palace}", "{palace}/../palace/", "TARGET", "the same palace"),
        ("{folder}/nothing", "{folder}/target", "SOURCE", "there is no palace"),
        ("{palace}", "mysql://host/database", "TARGET", "must begin with postgresql://"),
        ("postgresql://h/d?schema=public", "{folder}/target", "SOURCE", "a name of its own"),
        ("{palace}", "{palace}/palace.db", "TARGET", "palace.db is a file"),
        ("{palace}", "${{NOWHERE}}/target", "TARGET", "stands where a value should"),
        ("{palace}", "postgresql://nobody:secret@127.0.0.1:1/d", None, "cannot be reached"),
        ("{url}_missing", "{folder}/target", "SOURCE", "there is no palace"),
    ],
)
def test_wrong_places_are_named(
    palace: Path, url: PalaceUrl, tmp_path: Path, source: str, target: str, argument: str | None, told: str
) -> None:
    places = {"palace": palace, "folder": tmp_path, "url": text_of(url)}
    error = run_json("move", source.format(**places), target.format(**places), code=1)["error"]
    assert told in error["message"]
    assert error["argument"] == argument
    assert error["hint"]
    assert "secret" not in json.dumps(error)
    assert not (tmp_path / "target").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no limits of files")
def test_a_full_disk_says_how_to_go_on(palace: Path, tmp_path: Path) -> None:
    """A file may grow no further, as on a full disk."""
    limited = (
        "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000));"
        "sys.argv = ['mempalace-mcp', *sys.argv[1:]]; runpy.run_module('mempalace_mcp', run_name='__main__')"
    )
    command = [sys.executable, "-c", limited, "move", str(palace), str(tmp_path / "target")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=55, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "The same command goes on with it." in done.stderr
    assert run_json("move", palace, tmp_path / "target")["resumed"] is True
    assert rows_of(tmp_path / "target") == rows_of(palace)
