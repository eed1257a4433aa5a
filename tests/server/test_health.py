from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from mempalace_mcp.runtime import issues
from mempalace_mcp.runtime.activity import Activity
from mempalace_mcp.runtime.health import Health
from mempalace_mcp.runtime.issues import Issue, IssueKind
from mempalace_mcp.server.http import build_http
from mempalace_mcp.server.monitoring import health_document
from mempalace_mcp.storage.vectors.model import Cause
from tests.server.echo_services import echo_services


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


def test_why_chroma_was_opened_is_told_in_a_word_of_a_closed_set() -> None:
    report = Health(Activity(5)).snapshot()
    report = replace(report, diagnostics={**report.diagnostics, "index_last_reopen": Cause.FILES_CHANGED})
    assert health_document(report)["diagnostics"]["index_last_reopen"] == "files changed"


def broken() -> Any:
    raise OSError


def test_texts_and_paths_are_withheld() -> None:
    issue = Issue(issues.INDEX_REBUILDING, "the index at /home/somebody is being rebuilt")
    watched = Health(Activity(5), (("some", Secretive), ("broken", broken)), (lambda: issue,))
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


@pytest.fixture
def found() -> list[Issue]:
    return []


@pytest.fixture
def client(found: list[Issue]) -> Iterator[TestClient]:
    """The routes of a process with these issues."""
    with echo_services() as services:
        services.health = Health(services.activity, checks=(lambda: found[0] if found else None,))
        with TestClient(build_http(services), base_url="http://localhost") as client:
            yield client


def test_failing_is_503_and_degraded_is_200(client: TestClient, found: list[Issue]) -> None:
    assert client.get("/health").json()["status"] == "ok"
    found[:] = [Issue(issues.DISK_LOW, "little space is left")]
    response = client.get("/health")
    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    found[:] = [Issue(issues.WRITER_DEAD, "the writer has ended")]
    response = client.get("/health")
    assert (response.status_code, response.json()["reasons"]) == (503, ["writer_dead"])


@pytest.mark.parametrize(
    ("reason", "live", "ready"),
    [
        (None, 200, 200),
        (issues.DISK_LOW, 200, 200),
        (issues.EXECUTOR_FULL, 200, 503),
        (issues.PALACE_MISSING, 200, 503),
        (issues.INDEXER_DEAD, 503, 200),
        (issues.WRITER_DEAD, 503, 503),
    ],
)
def test_a_restart_is_asked_for_only_where_it_helps(
    client: TestClient, found: list[Issue], reason: IssueKind | None, live: int, ready: int
) -> None:
    found[:] = [Issue(reason, "so it is")] if reason else []
    for path, code in (("/livez", live), ("/readyz", ready)):
        response = client.get(path)
        expected = {"status": "ok", "reasons": []} if code == 200 else {"status": "failing", "reasons": [reason.code]}  # type: ignore[union-attr]
        assert (response.status_code, response.json()) == (code, expected)
        assert response.headers.get("Retry-After") == (None if code == 200 else "1")


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz", "/metrics"])
def test_probes_only_tell_and_only_this_machine(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 200
    assert client.head(path).status_code == 200
    assert client.post(path).status_code == 405
    assert client.get(path, headers={"Host": "evil.example"}).status_code == 421
    assert client.get(path, headers={"Origin": "http://evil.example"}).status_code == 403
