"""Who gets something from a server on loopback that has no token: its own account, and nobody else."""

from __future__ import annotations

import http.client
import json
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from mempalace_mcp.cli import tokens
from mempalace_mcp.server.http_connections import account_of, belongs_to_us, can_identify_accounts
from tests.palace.support import at
from tests.server.clients import PATIENCE, ROOT, RawHttp, SseClient, call, end, request

T = TypeVar("T")

STRANGER = 54321
GUARDED = ("/mcp", "/mcp/", "/sse", "/sse/", "/messages/?session_id=0", "/messages", "/api/history")
PROBES = ("/health", "/livez", "/readyz", "/metrics")
SECRETS = ("zebra", "Vault", "codes")

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whose a connection is"),
]
as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can act as another account"
)
in_namespace = pytest.mark.skipif(
    sys.platform != "linux" or subprocess.run(["unshare", "-U", "true"], capture_output=True).returncode != 0,
    reason="this system makes no namespaces of accounts",
)


def as_stranger(function: Callable[[], T]) -> T:
    """What the function returns in a process of another account."""
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(STRANGER)
            os.setuid(STRANGER)
            os.write(sink, pickle.dumps(function()))
            status = 0
        finally:
            os._exit(status)
    os.close(sink)
    with os.fdopen(source, "rb") as answer:
        told = answer.read()
    assert os.waitpid(child, 0)[1] == 0
    result: T = pickle.loads(told)
    return result


@contextmanager
def served(palace: Path, *options: str, before: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
    """A server process of the palace, and what it announced."""
    command = [
        *before,
        sys.executable,
        "-m",
        "mempalace_mcp",
        "serve",
        "--palace",
        str(palace),
        "--port",
        "0",
        "--json",
    ]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert process.stdout is not None
        announced: dict[str, Any] = json.loads(process.stdout.readline())
        announced["port"] = int(announced["address"].rpartition(":")[2])
        yield announced
    finally:
        end(process)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Of a server without tokens, at both addresses of loopback, with something in its palace."""
    with served(tmp_path_factory.mktemp("accounts") / "palace", "--host", "localhost") as announced:
        assert "token" not in announced
        with RawHttp(announced["port"]) as own:
            own.ask("POST", "/mcp", call(1, "add_drawer", wing="Vault", room="codes", content="It is zebra."))
        yield announced["port"]


HOSTS = ("127.0.0.1", "::1")


@as_root
@pytest.mark.parametrize("host", HOSTS)
def test_another_account_gets_nothing(port: int, host: str) -> None:
    def try_everything() -> list[tuple[str, str, int, str]]:
        told = []
        for path in (*GUARDED, *PROBES):
            for method in ("GET", "POST", "OPTIONS", "DELETE"):
                connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
                body = json.dumps(call(7, "search", query="zebra"))
                connection.request(method, path, body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                told.append((method, path, answer.status, answer.read().decode()))
                connection.close()
        return told

    for method, path, status, text in as_stranger(try_everything):
        assert [secret for secret in SECRETS if secret in text] == []
        if path in PROBES:
            assert status == (200 if method == "GET" else 405)
            continue
        assert status == 401, (method, path)
        if path != "/api/history":
            error = json.loads(text)
            assert error["id"] == (7 if method == "POST" else None)
            assert (error["error"]["data"]["code"], "token new" in error["error"]["message"]) == ("unauthorized", True)


@as_root
def test_another_account_cannot_post_to_a_session_of_ours(port: int) -> None:
    with SseClient(port) as client:
        client.greet()

        def post() -> int:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
            connection.request(
                "POST", client.path, json.dumps(request(1, "ping")), {"Content-Type": "application/json"}
            )
            return connection.getresponse().status

        assert as_stranger(post) == 401
        assert client.ask(request(2, "ping"))["id"] == 2


@pytest.mark.parametrize("host", HOSTS)
def test_our_own_account_needs_no_ceremony(port: int, host: str) -> None:
    with RawHttp(port, host) as client:
        found = client.ask("POST", "/mcp", call(1, "search", query="zebra")).json["result"]["structuredContent"]
        assert [hit["wing"] for hit in found["results"]] == ["Vault"]
        assert client.ask("GET", "/api/history").status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "192.0.2.1"},
        {"X-Forwarded-Proto": "https"},
        {"x-forwarded-prefix": "/palace"},
        {"Forwarded": "for=192.0.2.1"},
        {"Via": "1.1 proxy"},
        {"X-Real-IP": "192.0.2.1"},
        {"CF-Connecting-IP": "192.0.2.1"},
        {"Tailscale-User-Login": "ada@example.com"},
        {"X-Envoy-External-Address": "192.0.2.1"},
    ],
)
@pytest.mark.parametrize("path", ["/mcp", "/sse", "/api/history"])
def test_what_a_proxy_passes_on_needs_a_token(port: int, headers: dict[str, str], path: str) -> None:
    with RawHttp(port) as client:
        refused = client.ask("POST" if path == "/mcp" else "GET", path, call(1, "status"), headers)
        assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert "proxy" in refused.body.decode()
        assert client.ask("GET", "/health", headers=headers).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://localhost:3000"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "https://127.0.0.1:{port}"},
        {"Origin": "http://localhost:{port}"},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://127.0.0.1:{port}", "Sec-Fetch-Site": "cross-site"},
    ],
)
@pytest.mark.parametrize("path", ["/mcp", "/sse", "/messages/?session_id=0", "/api/history"])
def test_pages_in_our_own_browser_are_not_trusted(port: int, headers: dict[str, str], path: str) -> None:
    told = {name: value.replace("{port}", str(port)) for name, value in headers.items()}
    with RawHttp(port) as client:
        for method in ("GET", "POST"):
            refused = client.ask(method, path, call(1, "status"), {"Host": f"127.0.0.1:{port}", **told})
            assert refused.status == 403


@pytest.mark.parametrize("site", [{}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}])
def test_a_page_of_the_server_itself_is_no_stranger(port: int, site: dict[str, str]) -> None:
    address = f"127.0.0.1:{port}"
    with RawHttp(port) as client:
        headers = {"Host": address, "Origin": f"http://{address}", **site}
        assert client.ask("POST", "/mcp", call(1, "status"), headers).status == 200


def test_a_token_that_is_made_counts_from_the_next_request_on(tmp_path: Path) -> None:
    with served(tmp_path / "palace") as announced, RawHttp(announced["port"]) as client:
        assert client.ask("POST", "/mcp", call(1, "status")).status == 200
        secret = tokens.make_token(at(tmp_path / "palace"), "laptop", "write", [], False)[0]
        assert client.ask("POST", "/mcp", call(1, "status")).status == 401
        bearer = {"Authorization": f"Bearer {secret}", "X-Forwarded-For": "192.0.2.1"}
        assert client.ask("POST", "/mcp", call(1, "status"), bearer).status == 200


@in_namespace
def test_where_nobody_can_identify_accounts_the_first_start_makes_a_token(tmp_path: Path) -> None:
    palace = tmp_path / "palace"
    with served(palace, before=("unshare", "-U")) as announced, RawHttp(announced["port"]) as client:
        assert client.ask("POST", "/mcp", call(1, "status")).status == 401
        bearer = {"Authorization": f"Bearer {announced['token']}"}
        assert client.ask("POST", "/mcp", call(1, "status"), bearer).status == 200
        secret = announced["token"].encode()
        assert [path.name for path in palace.glob("palace.db*") if secret in path.read_bytes()] == []
    with served(palace, before=("unshare", "-U")) as again, RawHttp(again["port"]) as client:
        assert "token" not in again
        assert client.ask("POST", "/mcp", call(1, "status"), bearer).status == 200


@in_namespace
def test_people_are_told_how_to_connect(tmp_path: Path) -> None:
    command = [
        "unshare",
        "-U",
        sys.executable,
        "-m",
        "mempalace_mcp",
        "serve",
        "--palace",
        str(tmp_path),
        "--port",
        "0",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert process.stdout is not None
        told = [process.stdout.readline().decode() for _ in range(4)]
        assert told[3].startswith("claude mcp add --transport http mempalace http://127.0.0.1:")
        assert '--header "Authorization: Bearer palace_' in told[3]
    finally:
        end(process)


@contextmanager
def connected(host: str, to: str = "", family: int = 0) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection: the client's, and ours."""
    listening = socket.AF_INET6 if ":" in host else socket.AF_INET
    with ExitStack() as opened:
        listener = opened.enter_context(socket.socket(listening))
        if listening == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host, 0))
        listener.listen()
        client = opened.enter_context(socket.socket(family or listening))
        client.connect((to or host, listener.getsockname()[1]))
        yield client, opened.enter_context(listener.accept()[0])


def known(ours: socket.socket) -> int | None:
    client, server = ours.getpeername(), ours.getsockname()
    return account_of(client[:2], server[:2])


@pytest.mark.parametrize(
    ("host", "to", "family"),
    [
        ("127.0.0.1", "", 0),
        ("127.9.8.7", "", 0),
        ("::1", "", 0),
        ("::", "::1", 0),
        ("::", "127.0.0.1", socket.AF_INET),
        ("::", "::ffff:127.0.0.1", socket.AF_INET6),
        ("127.0.0.1", "::ffff:127.0.0.1", socket.AF_INET6),
    ],
)
def test_a_connection_belongs_to_the_account_that_made_it(host: str, to: str, family: int) -> None:
    with connected(host, to, family) as (client, ours):
        assert known(ours) == os.geteuid()
        client.shutdown(socket.SHUT_WR)
        assert ours.recv(1) == b""
        assert known(ours) == os.geteuid(), "it waits for the answer"


@pytest.mark.parametrize("host", HOSTS)
def test_a_connection_whose_client_has_gone_belongs_to_nobody(host: str) -> None:
    with connected(host) as (client, ours):
        ends = ours.getpeername()[:2], ours.getsockname()[:2]
        client.sendall(b"x")
        client.close()
        assert ours.recv(2) == b"x"
        assert ours.recv(2) == b""
        assert account_of(*ends) is None, "not root's, though the system shows 0"
        ours.close()
        assert account_of(*ends) is None, "nor while its ports are kept"


def test_what_is_no_connection_belongs_to_nobody() -> None:
    with connected("127.0.0.1") as (_, ours):
        there, here = ours.getpeername(), ours.getsockname()
        assert account_of(("127.0.0.1", 1), here) is None
        assert account_of(("::1", there[1]), here) is None
        assert account_of(("192.0.2.1", there[1]), here) is None
        assert account_of(("testclient", there[1]), here) is None
        with socket.create_server(("127.0.0.1", 0)) as listener:
            assert account_of(listener.getsockname(), here) is None, "it only listens"


@as_root
@pytest.mark.parametrize("host", HOSTS)
def test_a_strangers_connection_is_the_strangers(host: str) -> None:
    assert can_identify_accounts()
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        hold, release = os.pipe()

        def connect() -> None:
            os.close(release)
            with socket.create_connection(listener.getsockname()[:2]) as client:
                client.sendall(b"x")
                os.read(hold, 1)

        child = os.fork()
        if child == 0:
            try:
                os.setgid(STRANGER)
                os.setuid(STRANGER)
                connect()
            finally:
                os._exit(0)
        with listener.accept()[0] as ours:
            assert ours.recv(1) == b"x"
            assert known(ours) == STRANGER
            assert not belongs_to_us(ours.getpeername()[:2], ours.getsockname()[:2])
            os.close(release)
        os.waitpid(child, 0)
        os.close(hold)
