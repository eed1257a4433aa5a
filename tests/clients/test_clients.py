"""The clients that need Python alone, each in an environment of its own, against the real server."""

from __future__ import annotations

import pytest

from tests.clients.catalogue import Catalogue
from tests.clients.environments import Environments, cache_folder
from tests.clients.jobs import Reference
from tests.clients.judging import STEPS, judge
from tests.clients.running import probe
from tests.clients.servers import OWN_PROGRAM

CATALOGUE = Catalogue.read()
TRIED = (
    ("python-sdk-1", "stdio"),
    ("python-sdk-1", "http"),
    ("python-sdk-1", "sse"),
    ("fastmcp", "http"),
    ("langchain", "stdio"),
    ("openai-agents", "stdio"),
    ("google-genai", "stdio"),
    ("google-genai-1", "stdio"),
)
"""A transport each is enough where another client has tried it: the whole of it is `python -m scripts.clients`."""


@pytest.fixture(scope="session")
def reference() -> Reference:
    """What the server says on the wire."""
    return Reference.ask(OWN_PROGRAM)


@pytest.mark.timeout(300)  # the first time, packages are fetched
@pytest.mark.parametrize(("identifier", "over"), TRIED)
def test_a_client_reads_all_that_the_server_says(identifier: str, over: str, reference: Reference) -> None:
    client = CATALOGUE.clients[identifier]
    way = next(way for way in client.ways if way.name == over)
    report = probe(Environments(cache_folder(), CATALOGUE), CATALOGUE, client, way, OWN_PROGRAM)
    verdict = judge(client, way, report, reference)
    assert not verdict.surprises
    assert verdict.cells.keys() == STEPS.keys()
