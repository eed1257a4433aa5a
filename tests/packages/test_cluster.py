"""Several servers of a palace in PostgreSQL: the composition, its balancer, and the manifests for Kubernetes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from mempalace_mcp.core.config import SETTINGS
from tests.daemon.server_support import HttpServer, environment_of, serving
from tests.postgres_server import as_another_user, free_port, fresh_schema, shared_address
from tests.server.clients import PATIENCE, call

PACKAGING = Path(__file__).parents[2] / "packaging"
CLUSTER = PACKAGING / "cluster"
BALANCER = (CLUSTER / "nginx.conf").read_text(encoding="utf-8")
COMPOSITION: dict[str, Any] = yaml.safe_load((CLUSTER / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSITION["services"]
MANIFESTS: dict[str, Any] = {
    each["kind"]: each
    for each in yaml.safe_load_all((PACKAGING / "kubernetes" / "mempalace.yaml").read_text(encoding="utf-8"))
}
KNOWN = {setting.variable for setting in SETTINGS} | {"PALACE_URL_FILE"}
TOKEN = "0123456789abcdef" * 4
WAIT_SECONDS = 30.0


def test_the_composition_hangs_together() -> None:
    servers = [name for name, service in SERVICES.items() if service.get("image") == "mempalace-mcp"]
    assert len(servers) == 2
    for name in servers:
        service = SERVICES[name]
        assert set(service["environment"]) <= KNOWN
        assert (CLUSTER / service["build"] / "Dockerfile").is_file()
        assert service["environment"]["PALACE_URL_FILE"] == f"/run/secrets/{service['secrets'][0]}"
    for service in SERVICES.values():
        assert set(service.get("secrets", ())) <= set(COMPOSITION["secrets"])
        assert set(service.get("depends_on", ())) <= set(SERVICES)
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source in COMPOSITION["volumes"] or (CLUSTER / source).is_file()
    assert set(re.findall(r"server (\S+):8765", BALANCER)) == set(servers)


def test_the_data_of_postgresql_lies_in_the_volume() -> None:
    postgres = SERVICES["postgres"]
    version = int(re.fullmatch(r"pgvector/pgvector:pg(\d+)", postgres["image"])[1])  # type: ignore[index]
    assert version >= 18
    assert postgres["volumes"] == ["postgres:/var/lib/postgresql"]
    assert set(COMPOSITION["volumes"]) == {"postgres"}
    assert postgres["environment"] == {"POSTGRES_PASSWORD_FILE": "/run/secrets/postgres"}


def test_the_manifests_hang_together() -> None:
    assert set(MANIFESTS) == {"Secret", "Deployment", "Service", "PodDisruptionBudget"}
    deployment, service = MANIFESTS["Deployment"]["spec"], MANIFESTS["Service"]["spec"]
    (container,) = deployment["template"]["spec"]["containers"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == labels == service["selector"]
    assert MANIFESTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert deployment["replicas"] > MANIFESTS["PodDisruptionBudget"]["spec"]["minAvailable"]
    environment = {each["name"]: each for each in container["env"]}
    assert set(environment) <= KNOWN
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    volumes = {each["name"]: each for each in deployment["template"]["spec"]["volumes"]}
    assert set(mounts) == set(volumes)
    (item,) = volumes["address"]["secret"]["items"]
    assert environment["PALACE_URL_FILE"]["value"] == f"{mounts['address']}/{item['path']}"
    secret = MANIFESTS["Secret"]
    assert volumes["address"]["secret"]["secretName"] == secret["metadata"]["name"]
    wanted = {item["key"], environment["PALACE_TOKEN"]["valueFrom"]["secretKeyRef"]["key"]}
    assert wanted == set(secret["stringData"])
    assert secret["stringData"]["url"].startswith("postgresql://")


@contextmanager
def balanced(servers: list[HttpServer]) -> Iterator[str]:
    """The balancer before these servers, as the composition has it; its address."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed (Debian package nginx-light)")
    port, text = free_port(), BALANCER
    with tempfile.TemporaryDirectory() as folder:
        for number, server in enumerate(servers, 1):
            text = text.replace(f"mempalace-{number}:8765", server.announced["address"].removeprefix("http://"))
        text = text.replace("listen 8765", f"listen 127.0.0.1:{port}").replace("/tmp/", f"{folder}/")
        file = Path(folder, "nginx.conf")
        file.write_text(text, encoding="utf-8")
        Path(folder).chmod(0o777)
        process = subprocess.Popen([program, "-c", str(file), "-g", "daemon off;"], **as_another_user())
        try:
            address = f"http://127.0.0.1:{port}"
            wait_until_served(address)
            yield address
        finally:
            process.terminate()
            process.wait(WAIT_SECONDS)


def wait_until_served(address: str) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            httpx.get(f"{address}/livez")
        except httpx.ConnectError:
            assert time.monotonic() < end
            time.sleep(0.05)
        else:
            return


def tool(client: httpx.Client, name: str, /, **arguments: Any) -> Mapping[str, Any]:
    """Call a tool; what it returns."""
    answer = client.post("/mcp", json=call(1, name, **arguments)).raise_for_status().json()
    content: Mapping[str, Any] = answer["result"]["structuredContent"]
    return content


@pytest.fixture(scope="module")
def database() -> str:
    """The server that the tests share, started before the first one looks at what it leaves behind."""
    return shared_address()


@pytest.mark.timeout(180)
def test_the_balancer_before_two_servers(database: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        url = stack.enter_context(fresh_schema(database))
        environment = {**environment_of(url, tmp_path), "PALACE_TOKEN": TOKEN}
        servers = [stack.enter_context(serving(environment)) for _ in range(2)]
        address = stack.enter_context(balanced(servers))
        headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "application/json, text/event-stream"}
        client = stack.enter_context(httpx.Client(base_url=address, headers=headers, timeout=PATIENCE))
        assert httpx.post(f"{address}/mcp", json=call(1, "status")).status_code == 401

        pids = {client.get("/health").json()["pid"] for _ in range(8)}
        assert pids == {server.process.pid for server in servers}
        for number in range(6):
            filed = tool(client, "add_drawer", wing="w", room="r", content=f"The word of the day is unheard{number}.")
            assert tool(client, "search", query=f"unheard{number}")["results"][0]["drawer_id"] == filed["drawer_id"]

        with client.stream("GET", "/sse") as events:
            lines = events.iter_lines()  # the stream ends when nobody holds it
            way = next(line for line in lines if line.startswith("data:")).removeprefix("data:").strip()
            # Each request goes to the server that has the session.
            pings = [client.post(way, json={"jsonrpc": "2.0", "id": number, "method": "ping"}) for number in range(6)]
            assert {answer.status_code for answer in pings} == {202}

        servers[0].process.kill()
        servers[0].process.wait()
        for number in range(6):
            assert tool(client, "search", query=f"unheard{number}")["results"]
        tool(client, "add_drawer", wing="w", room="r", content="One of them is enough.")
