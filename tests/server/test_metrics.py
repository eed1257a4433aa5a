"""The page for Prometheus, read as strictly as its format is written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from starlette.testclient import TestClient

from mempalace_mcp.daemon.daemon_session import ToolSelection, services_of
from mempalace_mcp.runtime import issues
from mempalace_mcp.runtime.activity import Activity, Outcome, Transport
from mempalace_mcp.runtime.health import FIGURES, Health
from mempalace_mcp.runtime.issues import REASONS, Issue, Status
from mempalace_mcp.server.http import build_http
from mempalace_mcp.server.monitoring import exposition
from tests.palace.support import opened

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
VALUE = r'"((?:[^"\\\n]|\\[\\"n])*)"'
SAMPLE = re.compile(rf"({NAME})(?:\{{([a-zA-Z_][a-zA-Z0-9_]*)={VALUE}\}})? (\S+)")
CLOSED: dict[str, set[str]] = {
    "transport": set(Transport),
    "outcome": set(Outcome),
    "status": set(Status),
    "code": {reason.code for reason in REASONS},
}
"""Every label but the version, which is one."""


@dataclass
class Family:
    """A metric as it was read: its samples by their labels."""

    kind: str
    samples: dict[tuple[str, str] | None, float] = field(default_factory=dict)


def parse(page: str) -> dict[str, Family]:
    """Read a page; everything that the format forbids fails."""
    assert page.endswith("\n")
    families: dict[str, Family] = {}
    lines = iter(page[:-1].split("\n"))
    name = ""
    for line in lines:
        if line.startswith("#"):
            match = re.fullmatch(rf"# HELP ({NAME}) ((?:[^\\\n]|\\[\\n])+)", line)
            assert match, line
            name = match[1]
            assert name not in families, f"{name} comes in two pieces"
            kind = re.fullmatch(rf"# TYPE {name} (counter|gauge)", next(lines))
            assert kind, name
            families[name] = Family(kind[1])
            continue
        sample = SAMPLE.fullmatch(line)
        assert sample, line
        assert sample[1] == name, "a sample stands apart from its family"
        labels = (sample[2], sample[3]) if sample[2] else None
        assert labels not in families[name].samples, line
        families[name].samples[labels] = float(sample[4])
    return families


def verify(families: dict[str, Family]) -> None:
    """What we demand beyond the format."""
    for name, family in families.items():
        assert family.samples, f"{name} has a head and nothing else"
        assert name.endswith("_total") is (family.kind == "counter"), name
        for labels in family.samples:
            if labels and labels[0] != "version":
                assert labels[1] in CLOSED[labels[0]], labels


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What a whole process tells that has done a little."""
    with opened(tmp_path_factory.mktemp("palace"), started=False) as app:
        app.palace.add_drawer("w", "r", "counted")
        with app.activity.open(Transport.HTTP).call("search", 17):
            pass
        with TestClient(build_http(services_of(app, ToolSelection())), base_url="http://localhost") as client:
            response = client.get("/metrics")
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        yield response.text


def test_a_whole_process_keeps_to_the_format(page: str) -> None:
    families = parse(page)
    verify(families)
    assert families["mempalace_calls_total"].samples[("outcome", "ok")] == 1
    assert families["mempalace_received_bytes_total"].samples[None] == 17
    assert families["mempalace_commits_total"].samples[None] >= 1
    assert families["mempalace_database_bytes"].samples[None] > 0
    assert families["mempalace_status"].samples == {
        ("status", "ok"): 1,
        ("status", "degraded"): 0,
        ("status", "failing"): 0,
    }
    assert set(families["mempalace_reason"].samples.values()) == {0}


def test_what_holds_is_1() -> None:
    issue = Issue(issues.LOG_LARGE, "a path: /home/somebody")
    report = Health(Activity(5), checks=(lambda: issue,)).snapshot()
    families = parse(exposition(report))
    verify(families)
    assert families["mempalace_status"].samples[("status", "degraded")] == 1
    assert {code for (_, code), value in families["mempalace_reason"].samples.items() if value} == {"log_large"}  # type: ignore[misc]
    assert "somebody" not in exposition(report)


def test_what_cannot_be_read_has_no_sample() -> None:
    report = Health(Activity(5)).snapshot()
    assert "mempalace_database_bytes" not in exposition(report)
    nothing = dict.fromkeys(report.diagnostics)
    verify(parse(exposition(replace(report, diagnostics=nothing))))


def test_every_figure_has_names_of_its_own_and_all_but_states_a_metric(page: str) -> None:
    assert len({figure.key for figure in FIGURES}) == len(FIGURES)
    assert {figure.key for figure in FIGURES if figure.metric is None} == {"index_last_reopen"}
    about = {"mempalace_info", "mempalace_uptime_seconds", "mempalace_status", "mempalace_reason"}
    metrics = [figure.metric for figure in FIGURES if figure.metric is not None]
    assert len({*metrics, *about}) == len(metrics) + len(about)
    silent = {"mempalace_event_loop_lag_seconds", "mempalace_event_loop_lag_max_seconds"}  # no loop is watched
    silent |= {"mempalace_call_oldest_seconds", "mempalace_pending_embeddings", "mempalace_pending_token_vectors"}
    silent |= {metric for metric in metrics if metric.startswith("mempalace_server_")}  # its database has none
    assert set(metrics) | about == set(parse(page)) | silent


@pytest.mark.parametrize("version", ['1.0"', "1\\0", "1\n0", "ü"])
def test_whatever_a_label_holds_is_escaped(version: str) -> None:
    report = replace(Health(Activity(5)).snapshot(), version=version)
    families = parse(exposition(report))
    ((label, value),) = families["mempalace_info"].samples  # type: ignore[misc]
    unescaped = re.sub(r"\\(.)", lambda match: {"n": "\n"}.get(match[1], match[1]), value)
    assert (label, unescaped) == ("version", version)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(float("inf"), "+Inf"), (float("-inf"), "-Inf"), (float("nan"), "NaN"), (0.1, "0.1"), (10**20, "1" + "0" * 20)],
)
def test_numbers(value: float, shown: str) -> None:
    report = replace(Health(Activity(5)).snapshot(), uptime_seconds=value)
    assert f"\nmempalace_uptime_seconds {shown}\n" in exposition(report)
