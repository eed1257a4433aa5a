from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from mempalace_mcp.protocol.health import health_document
from mempalace_mcp.protocol.http import build_http
from mempalace_mcp.runtime.activity import Activity
from mempalace_mcp.runtime.health import Concern, Health, Status
from tests.protocol.doors import echo_services


class Mode(StrEnum):
    FAST = "fast"


@dataclass(frozen=True, slots=True)
class Secretive:
    """Statistics with things that nobody else should see."""

    depth: int = 3
    share: float = 0.5
    ratio: float = float("nan")
    mode: Mode = Mode.FAST
    path: Path = Path("/home/somebody/palace")
    last_query: str = "private words"
    waits: tuple[float, ...] = (0.1, 0.2)
    names: tuple[str, ...] = ("wing",)
    counts: Mapping[Mode, int] = field(default_factory=lambda: {Mode.FAST: 1})
    nothing: None = None


def broken() -> Any:
    raise OSError


def test_texts_and_paths_are_withheld() -> None:
    concern = Concern(Status.DEGRADED, "index_rebuilding", "the index at /home/somebody is being rebuilt")
    watched = Health(Activity(5), (("some", Secretive), ("broken", broken)), (lambda: concern,))
    document = health_document(watched.snapshot())
    assert document["components"] == {
        "some": {
            "depth": 3,
            "share": 0.5,
            "ratio": None,
            "mode": "fast",
            "waits": [0.1, 0.2],
            "names": [],
            "counts": {"fast": 1},
            "nothing": None,
        },
        "broken": None,
    }
    assert document["reasons"] == ["index_rebuilding"]
    shown = json.dumps(document, allow_nan=False)
    assert "somebody" not in shown
    assert "private" not in shown


def test_failing_is_503_and_degraded_is_200() -> None:
    with echo_services() as services:
        concerns: list[Concern] = []
        services.health = Health(services.activity, checks=(lambda: concerns[0] if concerns else None,))
        with TestClient(build_http(services), base_url="http://localhost") as client:
            assert client.get("/health").json()["status"] == "ok"
            concerns[:] = [Concern(Status.DEGRADED, "disk_low", "little space is left")]
            response = client.get("/health")
            assert (response.status_code, response.json()["status"]) == (200, "degraded")
            concerns[:] = [Concern(Status.FAILING, "writer_dead", "the writer has ended")]
            response = client.get("/health")
            assert (response.status_code, response.json()["reasons"]) == (503, ["writer_dead"])
