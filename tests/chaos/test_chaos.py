"""Everybody writes while processes die; afterwards every acknowledged write is there exactly once."""

from __future__ import annotations

import random
import socket
import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from mempalace_mcp.storage.sqlite.database import Database
from tests.chaos.agents import Agent, Crowd
from tests.chaos.conftest import MINIMUM_ROWS
from tests.chaos.faults import Kill, Killer, Serving
from tests.chaos.ledger import DrawerState, Ledger
from tests.chaos.scenarios import verify_facts
from tests.conftest import end_daemons_under
from tests.daemon.support import processes_of, wait_for
from tests.palace.support import opened
from tests.storage.vectors.support import advance_all, differences, index_of

NEW = DrawerState("")
BRIDGES = 6
WEB_CLIENTS = 2


def test_every_acknowledged_write_is_there_exactly_once(
    palace: Path, hasty: Path, chaos_seconds: float, chaos_seed: int
) -> None:
    print(f"--chaos-seed {chaos_seed}")
    ledger, dice = Ledger(), random.Random(chaos_seed)
    port = free_port()
    fill(palace, ledger)
    with (palace.parent / "processes.log").open("wb") as log:
        crowd = Crowd(palace, hasty, port, ledger, dice, log)
        serving = Serving(palace, hasty, port, log, random.Random(dice.getrandbits(64)))
        killer = Killer(palace, crowd, dice)
        try:
            serving.start()
            crowd.start(BRIDGES, WEB_CLIENTS)
            killer.go_on_until(time.monotonic() + chaos_seconds)
            crowd.finish()
        finally:
            crowd.close()
            serving.stop()
    tell(crowd, killer, serving, ledger)
    assert not crowd.failures, crowd.failures
    assert set(serving.exits[:-1]) <= {-9}, (palace.parent / "processes.log").read_text()
    end_daemons_under(palace)
    wait_for(lambda: not processes_of(palace), "the end of every process")
    verify_truth(palace, ledger)
    verify_index(palace)


def fill(palace: Path, ledger: Ledger) -> None:
    """File what makes Chroma worthwhile from the beginning."""
    with opened(palace, started=False) as app:
        for number in range(MINIMUM_ROWS + MINIMUM_ROWS // 2):
            text = f"before{number}: it was calm"
            ledger.file(app.palace.add_drawer("wing 1", "before", text).drawer_id, DrawerState(text))


def free_port() -> int:
    """A port that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def verify_truth(palace: Path, ledger: Ledger) -> None:
    """The palace holds what it has acknowledged, and besides at most what nobody was told about."""
    with opened(palace) as app:
        app.wait_until_indexed()
        assert app.database.integrity() == []
        with app.database.read() as connection:
            rows = connection.execute("SELECT drawer_id, content, version, deleted_at IS NULL FROM drawers").fetchall()
            versions = connection.execute(
                "SELECT drawer_id, count(versions.version) + 1 FROM drawers LEFT JOIN versions ON drawer = drawers.id"
                " GROUP BY drawer_id"
            ).fetchall()
            assert app.index.verify(connection) == []
        held = {row[0]: DrawerState(row[1], row[2], bool(row[3])) for row in rows}
        unasked = [held.pop(drawer_id).content for drawer_id in list(held) if drawer_id not in ledger.drawers]
        assert held == ledger.drawers
        assert set(unasked) <= ledger.perhaps
        assert len(unasked) == len(set(unasked)), "a call that was never answered was done twice"
        assert [(drawer_id, count) for drawer_id, count in versions if held.get(drawer_id, NEW).version != count] == []
        for subject in ledger.facts:
            facts = app.palace.kg_query(subject).facts
            verify_facts(ledger, subject, [(fact.object, fact.valid_to is None) for fact in facts])
        assert app.palace.kg_stats().facts == sum(len(objects) for objects, _ in ledger.facts.values())


def verify_index(palace: Path) -> None:
    """Chroma's files, whatever happened to them, lead to the vectors of the truth."""
    with closing(Database(palace)) as database, closing(index_of(palace, MINIMUM_ROWS)) as index:
        advance_all(index, database)
        assert index.statistics().chroma_rows > 0
        assert differences(index, database) == []


def tell(crowd: Crowd, killer: Killer, serving: Serving, ledger: Ledger) -> None:
    """What happened, for whoever looks at the output."""
    deaths = [kill for kill in killer.kills if kill.plan != "chroma"]
    print(
        f"{ledger.acknowledged} writes acknowledged; {sum(agent.answered for agent in crowd.stdio)} answers by stdio, "
        f"{sum(agent.answered for agent in crowd.web)} by HTTP after {sum(c.repeated for c in crowd.http_clients)} "
        f"repetitions; {len(ledger.perhaps)} calls unanswered in {crowd.visitor.visits} killed sessions"
    )
    print(
        f"{len(deaths)} daemons killed, {sum(kill.in_checkpoint for kill in deaths)} in a checkpoint, "
        f"{sum(kill.in_batch for kill in deaths)} while Chroma's files were changed or opened; "
        f"{len(killer.kills) - len(deaths)} of Chroma's processes killed; serve was started {serving.starts} times"
    )
    for name, agents in (("stdio", crowd.stdio), ("HTTP", crowd.web)):
        waits = {death.at: failover(death, agents) for death in deaths}
        known = [seconds for seconds in waits.values() if seconds is not None]
        if known:
            print(f"failover over {name}: p50 {statistics.median(known):.2f} s, max {max(known):.2f} s")
            print(*(f"{kill.plan} {waits[kill.at]}" for kill in deaths), sep=", ")


def failover(death: Kill, agents: Sequence[Agent]) -> float | None:
    """Seconds from a death to the last answer to a call that was on its way then."""
    waits = [
        latency.answered - death.at
        for agent in agents
        for latency in agent.latencies
        if latency.sent <= death.at < latency.answered
    ]
    return round(max(waits), 2) if waits else None
