"""`export` and the reading back of its files, as a person runs them."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mempalace_mcp.core.platform import HAS_FILE_MODES
from mempalace_mcp.palace.exchange.reading import Restoration
from tests.cli.test_commands import TEXTS, perform, perform_json, run, run_json
from tests.daemon.support import PROGRAM, bridge, end_processes_of, use
from tests.palace.support import opened

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def palace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A palace with texts, which no test changes."""
    directory = tmp_path_factory.mktemp("exported") / "palace"
    run("import", TEXTS / "notes", TEXTS / "transcripts", "--palace", directory)
    return directory


def test_there_and_back_with_the_same_bytes(palace: Path, tmp_path: Path) -> None:
    told = run("export", tmp_path / "backups", "--palace", palace)
    assert re.search(r"^drawer +18$", told, re.MULTILINE)
    file = tmp_path / "backups" / "palace.jsonl"
    assert str(file) in told
    if HAS_FILE_MODES:
        assert file.stat().st_mode & 0o777 == 0o600
    other = tmp_path / "other"
    report = run_json("import", tmp_path / "backups", "--palace", other)
    assert report["error"] is None
    assert report["exports"][0]["complete"] is True
    assert report["exports"][0]["records"]["drawer"]["added"] == 18
    result = run_json("export", tmp_path / "again.jsonl", "--palace", other)
    assert result["records"]["drawer"] == 18
    assert result["bytes"] == file.stat().st_size
    assert (tmp_path / "again.jsonl").read_bytes() == file.read_bytes()
    found = [perform_json("search", "release", "--palace", place)["results"] for place in (palace, other)]
    assert [hit["drawer_id"] for hit in found[0]] == [hit["drawer_id"] for hit in found[1]]
    assert perform_json("status", "--palace", other)["palace"]["pending"] == 0
    assert "18 here already" in perform("import", file, "--palace", other)
    imported = perform_json("import", TEXTS / "notes", TEXTS / "transcripts", "--palace", other)
    assert (imported["filed"], imported["unchanged"]) == (0, 18)


def test_beside_a_daemon(palace: Path, tmp_path: Path) -> None:
    run("export", tmp_path / "a.jsonl", "--palace", palace)
    served = tmp_path / "served"
    try:
        with bridge(served) as client:
            client.greet()
            use(client, 1, "add_drawer", wing="harbour", room="log", content="the lantern of pier nine is lit")
            result = run_json("export", tmp_path / "b.jsonl", "--palace", served)
            assert result["records"]["drawer"] == 1
            assert run_json("import", tmp_path / "a.jsonl", "--palace", served)["exports"][0]["complete"]
            assert len(use(client, 2, "list_drawers", limit=100)["drawers"]) == 19
            found = use(client, 3, "search", query="release")["results"]
            there = perform_json("search", "release", "--palace", palace)["results"]
            assert found[0]["drawer_id"] == there[0]["drawer_id"]
    finally:
        end_processes_of(served)


def test_a_palace_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    assert "there is no palace" in perform("export", tmp_path / "a.jsonl", "--palace", tmp_path / "none", code=1)
    assert not list(tmp_path.iterdir())


def test_what_was_not_taken_is_told(palace: Path, tmp_path: Path) -> None:
    perform("export", tmp_path / "a.jsonl.gz", "--palace", palace)
    perform("export", tmp_path / "b.jsonl", "--palace", palace)
    lines = (tmp_path / "b.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "b.jsonl").write_bytes(b"".join([*lines[:3], b"\x1b[31m}\n", *lines[4:9], lines[9][:20]]))
    told = perform("import", tmp_path / "b.jsonl", "--palace", tmp_path / "other", code=1)
    assert "  line 4: it is not JSON in UTF-8" in told
    assert "  line 10: the line is cut off; what follows is not read" in told
    assert f"{len(lines) - 9:,} lines of it are missing" in told
    assert "\x1b" not in told
    assert perform_json("import", tmp_path / "a.jsonl.gz", "--palace", tmp_path / "other")["exports"][0]["complete"]


def test_refusals(palace: Path, tmp_path: Path) -> None:
    perform("export", tmp_path / "a.jsonl", "--palace", palace)
    (tmp_path / "mine.txt").write_text("mine")
    notes = TEXTS / "notes"
    cases: list[tuple[list[str | Path], str]] = [
        (["import", tmp_path / "a.jsonl", notes], f"{notes} is no export of a palace"),
        (["import", tmp_path / "a.jsonl", "--wing", "x"], "--wing has no meaning for an export"),
        (["import", tmp_path / "a.jsonl", "--dry-run"], "--dry-run has no meaning for an export"),
        (["export", tmp_path / "mine.txt"], "is no export of a palace"),
        (["export", tmp_path / "b.jsonl", "--wing", "nowhere"], "there is no wing 'nowhere'"),
    ]
    for arguments, reason in cases:
        assert reason in perform(*arguments, "--palace", palace, code=1)
    assert not (tmp_path / "b.jsonl").exists()
    long = tmp_path / ("x" * 300)
    assert "File name too long" in perform("export", long, "--palace", palace, code=1)
    assert "File name too long" in perform("export", tmp_path / f"{long}.jsonl", "--palace", palace, code=1)
    assert perform_json("export", tmp_path / "mine.txt" / "a.jsonl", "--palace", palace, code=1)["error"]["hint"]
    (tmp_path / "palace.jsonl.gz").write_bytes(b"")
    perform("export", tmp_path, "--palace", palace)
    (tmp_path / "palace.jsonl.gz").unlink()
    perform("export", tmp_path / "palace.jsonl.gz", "--palace", palace)
    assert "holds several exports" in perform("import", tmp_path, "--palace", palace, code=1)


def test_killed_at_any_moment_it_goes_on(palace: Path, tmp_path: Path) -> None:
    perform("export", tmp_path / "a.jsonl", "--palace", palace)
    head, *lines = (tmp_path / "a.jsonl").read_text("utf-8").splitlines()
    drawers = [json.loads(line) for line in lines if '"kind":"drawer"' in line]
    copies = [
        each
        | {"id": f"{each['id'][:14]}{number:06}{position:06}", "content": f"{number} {each['content']}", "versions": 0}
        for number in range(150)
        for position, each in enumerate(drawers)
    ]
    first = [line for line in lines if '"kind":"wing"' in line or '"kind":"room"' in line]
    count = json.loads(head)
    count["counts"] = {"wing": len(first), "drawer": len(copies)}
    everything = [json.dumps(each, ensure_ascii=False) for each in (count, *map(json.loads, first), *copies)]
    (tmp_path / "many.jsonl").write_text("\n".join(everything) + "\n", "utf-8")
    other, killed = tmp_path / "other", 0
    while killed < 2:
        command = [*PROGRAM, "import", str(tmp_path / "many.jsonl"), "--palace", str(other)]
        reader = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while reader.poll() is None and drawers_in(other) < (killed + 1) * 400:
            time.sleep(0.02)
        assert reader.poll() is None, "it was too fast to be killed"
        reader.send_signal(signal.SIGKILL)
        reader.communicate()
        killed += 1
    found = drawers_in(other)
    assert found >= 800
    report = restored(tmp_path / "many.jsonl", other)
    assert report["complete"]
    assert report["records"]["drawer"]["unchanged"] == found
    assert drawers_in(other) == len(copies)


def drawers_in(palace: Path) -> int:
    """How many drawers are stored; 0 where no palace is yet."""
    try:
        with closing(sqlite3.connect(f"file:{palace}/palace.db?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM drawers").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def restored(path: Path, palace: Path) -> dict[str, Any]:
    """What comes of reading a file back, without embedding it."""
    with opened(palace, started=False) as app:
        restoration = Restoration(app.stores, path)
        for _ in restoration.run():
            pass
        return restoration.report.as_dict()
