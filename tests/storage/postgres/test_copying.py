"""A palace moves to PostgreSQL behind a network that loses what is sent."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

import pytest

from mempalace_mcp.core.errors import Busy, Conflict
from mempalace_mcp.core.palace_url import PalaceUrl, read_url
from mempalace_mcp.runtime.moving import move_palace
from mempalace_mcp.storage import copying as portable
from mempalace_mcp.storage.postgres import connection as connections
from mempalace_mcp.storage.postgres import copying
from tests.daemon.support import made
from tests.palace.lived_in import at, rows_of
from tests.postgres_server import text_of
from tests.storage.postgres.networks import Relay

pytestmark = pytest.mark.long


def nothing(label: str, done: int, total: int) -> None:
    """A step that goes on."""


def through(relay: Relay, url: PalaceUrl) -> PalaceUrl:
    """The same palace by another way."""
    port = url.conninfo.rpartition(":")[2].partition("/")[0]
    return read_url(text_of(url).replace(f":{port}/", f":{relay.port}/"))


def relay_to(url: PalaceUrl) -> contextlib.closing[Relay]:
    return contextlib.closing(Relay(int(url.conninfo.rpartition(":")[2].partition("/")[0])))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return made(tmp_path / "source", [f"drawer {number}" for number in range(50)], [("Ada", "keeps", "ropes")])


def test_a_network_that_falls_silent_ends_it(source: Path, url: PalaceUrl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "_ANSWER_SECONDS", 1)
    monkeypatch.setattr(connections, "ANSWER_SECONDS", 1)
    with relay_to(url) as relay:

        def step(label: str, done: int, total: int) -> None:
            if label == "indexing words":
                relay.cut()

        with pytest.raises(Busy, match="cannot be reached"):
            move_palace(at(source), at(through(relay, url)), step)
        with pytest.raises(Busy, match="another process moves"):  # for the server it is still there
            move_palace(at(source), at(url), nothing)
        relay.drop()
        wait_until_free(source, url)
    assert rows_of(url) == rows_of(source)


def wait_until_free(source: Path, url: PalaceUrl) -> None:
    """Move, as soon as the server has noticed that the other process is gone."""
    while True:
        try:
            assert move_palace(at(source), at(url), nothing).resumed
        except Busy:
            continue
        return


def test_a_commit_that_is_not_answered_is_known_at_the_next_attempt(source: Path, url: PalaceUrl) -> None:
    with relay_to(url) as relay:
        relay.cut_answers_to(b"DELETE FROM schema_steps")

        def drop() -> None:
            relay.is_cut.wait()
            relay.drop()

        cutting = threading.Thread(target=drop)
        cutting.start()
        with pytest.raises(Busy):
            move_palace(at(source), at(through(relay, url)), nothing)
        cutting.join()
    with pytest.raises(Conflict, match="holds this palace already") as caught:
        move_palace(at(source), at(url), nothing)
    assert "nothing to do" in (caught.value.hint or "")
    assert rows_of(url) == rows_of(source)


@pytest.mark.parametrize("watch_seconds", [0.0, 1_000.0])
def test_locks_that_are_held_for_long_are_looked_after(
    source: Path, url: PalaceUrl, monkeypatch: pytest.MonkeyPatch, watch_seconds: float
) -> None:
    """Their transactions may be idle for a second only; without a look at them they end."""
    monkeypatch.setattr(portable, "WATCH_SECONDS", watch_seconds)
    monkeypatch.setattr(copying, "_LONGEST_IDLE_SECONDS", 1)

    def step(label: str, done: int, total: int) -> None:
        if label == "copying":
            time.sleep(0.2)

    if watch_seconds:
        with pytest.raises(Busy):
            move_palace(at(source), at(url), step)
        assert move_palace(at(source), at(url), nothing).resumed
    else:
        move_palace(at(source), at(url), step)
    assert rows_of(url) == rows_of(source)
