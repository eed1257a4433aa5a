"""A client that asks for more than it reads: what it asks for is formed as it reads on, whoever forms it."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

from mempalace_mcp.daemon.daemon_session import ToolSelection, services_of
from mempalace_mcp.runtime.activity import Transport
from mempalace_mcp.runtime.app import App
from mempalace_mcp.server.methods import MethodServer
from mempalace_mcp.server.session import Session
from tests.palace.support import opened
from tests.server.clients import INITIALIZED, MODERN_REVISION, initialize, request

pytestmark = pytest.mark.long

LONG = '"' * 1_000_000
"""As JSON in JSON it is four times as long."""
MANY = 60
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": MODERN_REVISION,
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


def messages(kind: str, drawer_id: str) -> list[dict[str, Any]]:
    """Requests whose answers are as long as the drawer."""
    reads = [request(number, "resources/read", uri=f"palace://w/r/{drawer_id}") for number in range(MANY)]
    if kind == "modern resource":
        for each in reads:
            each["params"]["_meta"] = ENVELOPE
    return reads


async def until_it_waits(app: App) -> None:
    """Return when the session waits for its client, and for nothing else."""
    while True:
        await anyio.wait_all_tasks_blocked()
        statistics = app.executor.statistics()
        if not statistics.running and not statistics.waiting:
            return
        await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("kind", ["resource", "modern resource"])
async def test_long_answers_are_formed_as_the_client_reads_on(tmp_path: Path, kind: str) -> None:
    answers: dict[Any, int] = {}
    reading, begun = anyio.Event(), anyio.Event()
    reading.set()

    async def write(message: bytes) -> None:
        await reading.wait()
        answers[json.loads(message)["id"]] = len(message)
        begun.set()

    with opened(tmp_path, started=False) as app:
        drawer_id = app.palace.add_drawer("w", "r", LONG).drawer_id
        session = Session(MethodServer(services_of(app, ToolSelection())), app.activity.open(Transport.SOCKET), write)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.serve)
            first, *others = messages(kind, drawer_id)
            for message in (initialize(), INITIALIZED, first) if kind == "resource" else (first,):
                await session.receive(json.dumps(message).encode())
            while 0 not in answers:
                begun = anyio.Event()
                await begun.wait()
            reading = anyio.Event()
            hold = threading.Event()
            for number in range(app.executor.statistics().threads):
                tasks.start_soon(app.executor.run, number, hold.wait)
            for message in others:
                await session.receive(json.dumps(message).encode())
            hold.set()
            await until_it_waits(app)
            assert not session.broken.is_set()
            reading.set()
            await session.drain(60)
            session.close()
        assert all(answers[number] > 2 * len(LONG) for number in range(MANY))
