"""The HTTP transports of a real server that has tokens: who comes in, how far, and what the others are told."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from mempalace_mcp.cli import tokens
from mempalace_mcp.core.config import load_settings
from mempalace_mcp.core.errors import ConfigurationError
from mempalace_mcp.daemon.ipc import settings_of
from mempalace_mcp.server.auth import digest_of
from mempalace_mcp.storage.tokens_file import FILE
from tests.health import troubles
from tests.palace.support import at
from tests.server.clients import PATIENCE, ROOT, call, end, request
from tests.server.test_listen_settings import CERTIFICATE

pytestmark = pytest.mark.long

ROUTES = ("/mcp", "/mcp/", "/sse", "/sse/", "/messages/?session_id=x", "/messages?session_id=x", "/api/history")
NOWHERE = (
    "/",
    "/nothing",
    "/health/",
    "/Health",
    "/.well-known/oauth-protected-resource/mcp",
    "/.well-known/oauth-authorization-server",
    "/.well-known/openid-configuration",
    "/register",
    "/authorize",
    "/token",
)
PROBES = ("/health", "/livez", "/readyz", "/metrics")
HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
LISTENING: tuple[tuple[str, dict[str, Any]], ...] = (
    ("initialize", HELLO),
    ("resources/subscribe", {"uri": "palace://kitchen"}),
)
SAME_KEY = {"_meta": {"idempotencyKey": "one"}}


@dataclass(frozen=True)
class Served:
    """A server, its palace, and the tokens that were made for it."""

    process: subprocess.Popen[bytes]
    palace: Path
    url: str
    secrets: dict[str, str]
    log: Path

    def client(self, token: str | None = None, **headers: str) -> httpx.Client:
        shown = {} if token is None else {"Authorization": f"Bearer {self.secrets[token]}"}
        accept = {"Accept": "application/json, text/event-stream"}
        context = ssl.create_default_context(cafile=CERTIFICATE.file)
        return httpx.Client(base_url=self.url, verify=context, headers=accept | shown | headers, timeout=PATIENCE)

    def ask(self, token: str, message: dict[str, Any]) -> Any:
        with self.client(token) as client:
            return client.post("/mcp", json=message).raise_for_status().json()["result"]

    def tool(self, token: str, name: str, /, **arguments: Any) -> dict[str, Any]:
        content: dict[str, Any] = self.ask(token, call(1, name, **arguments))["structuredContent"]
        return content


@contextmanager
def served(palace: Path, *options: str, secrets: dict[str, str] | None = None, **environment: str) -> Iterator[Served]:
    """A server process, which ends with the block."""
    log = palace.with_suffix(".log")
    command = (
        sys.executable,
        "-m",
        "mempalace_mcp",
        "serve",
        "--palace",
        str(palace),
        "--port",
        "0",
        "--json",
        *options,
    )
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, cwd=ROOT, env={**os.environ, **environment}, umask=0
        )
    try:
        assert process.stdout is not None
        announced = process.stdout.readline()
        assert announced, log.read_text(encoding="utf-8")
        yield Served(process, palace, json.loads(announced)["address"], secrets or {}, log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        end(process)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    palace = tmp_path_factory.mktemp("security") / "palace"
    secrets = {
        "writer": tokens.make_token(at(palace), "writer", "write", [], False)[0],
        "other": tokens.make_token(at(palace), "other", "write", [], False)[0],
        "reader": tokens.make_token(at(palace), "reader", "read", [], False)[0],
        "cook": tokens.make_token(at(palace), "cook", "write", ["Kitchen"], False)[0],
        "guest": tokens.make_token(at(palace), "guest", "read", [], False)[0],
    }
    options = ("--certificate", str(CERTIFICATE.file), "--key", str(CERTIFICATE.key), "--allowed-host", "palace.test")
    with served(palace, *options, "--tools", "full", secrets=secrets, PALACE_LOG_LEVEL="debug") as running:
        running.tool("writer", "add_drawer", wing="Vault", room="codes", content="The password is zebra.")
        running.tool("writer", "add_drawer", wing="kitchen", room="codes", content="The password is honey.")
        yield running


@pytest.mark.parametrize("path", ROUTES)
def test_without_a_token_every_route_says_the_same(server: Served, path: str) -> None:
    right = server.secrets["writer"]
    shown = [None, "", "Bearer", f"Basic {right}", right, f"Bearer {right[:-1]}", f"Bearer {right}x"]
    shown += [
        f"Bearer {right[:-1]}{'a' if right[-1] != 'a' else 'b'}",
        f"Bearer {right} {right}",
        "Bearer " + "x" * 5000,
    ]
    answers = set()
    with server.client() as client:
        for header in shown:
            for method in ("GET", "POST", "OPTIONS"):
                headers = {} if header is None else {"Authorization": header}
                answer = client.request(method, path, headers=headers, follow_redirects=False)
                answers.add((answer.status_code, answer.headers["www-authenticate"], answer.content))
        both = [("Authorization", f"Bearer {right}"), ("Authorization", "Bearer x")]
        assert client.get(path, headers=both).status_code == 401
    assert len(answers) == 1
    assert next(iter(answers))[:2] == (401, "Bearer")


@pytest.mark.parametrize("path", NOWHERE)
@pytest.mark.parametrize("token", [None, "writer", "cook"])
def test_where_there_is_nothing_everybody_is_told_so(server: Served, path: str, token: str | None) -> None:
    with server.client(token) as client:
        for method in ("GET", "POST"):
            answer = client.request(method, path, follow_redirects=False)
            assert (answer.status_code, answer.json()["error"]) == (404, "not_found")
            assert "token new" in answer.json()["error_description"]


@pytest.mark.parametrize("path", PROBES)
def test_probes_need_no_token_and_tell_no_names(server: Served, path: str) -> None:
    with server.client() as client:
        answer = client.get(path)
    assert answer.status_code == 200
    for told in ("zebra", "Vault", "codes", str(server.palace), *server.secrets.values()):
        assert told not in answer.text


@pytest.mark.parametrize("path", [*ROUTES, *NOWHERE, *PROBES])
def test_host_and_origin_count_whatever_the_token(server: Served, path: str) -> None:
    port = httpx.URL(server.url).port
    with server.client("writer") as client:
        for host in ("evil.example", "palace.test.evil", "192.168.1.1", "palace.test:1:2"):
            assert client.get(path, headers={"Host": host}).status_code == 421, host
        for origin in ("https://evil.example", "null", "https://palace.test@evil", "file://", "https://192.168.1.1"):
            assert client.get(path, headers={"Origin": origin}).status_code == 403, origin
        if not path.startswith("/sse"):
            for host in (f"palace.test:{port}", "PALACE.test", "localhost"):
                headers = {"Host": host, "Origin": f"https://{host}"}
                assert client.get(path, headers=headers, follow_redirects=False).status_code not in (403, 421)


def test_a_reader_is_offered_no_writer_and_refused_by_name(server: Served) -> None:
    listed = {tool["name"] for tool in server.ask("reader", request(1, "tools/list"))["tools"]}
    assert {"search", "kg_query", "status"} <= listed
    assert not {"add_drawer", "kg_add", "import_path"} & listed
    assert server.tool("reader", "add_drawer")["error"]["code"] == "read_only"
    assert len(server.tool("reader", "search", query="password")["results"]) == 2


def test_a_bearer_limited_to_a_wing_sees_nothing_else(server: Served) -> None:
    listed = {tool["name"] for tool in server.ask("cook", request(1, "tools/list"))["tools"]}
    assert {"search", "add_drawer"} <= listed
    assert not {"kg_query", "import_path", "reconnect"} & listed
    assert [hit["wing"] for hit in server.tool("cook", "search", query="password")["results"]] == ["kitchen"]
    assert server.tool("cook", "kg_query", entity="zebra")["error"]["code"] == "forbidden"
    with server.client("cook") as client:
        assert client.get("/api/history").status_code == 403


def test_resources_and_completions_end_at_the_wing_too(server: Served) -> None:
    server.tool("writer", "kg_add", subject="Zebra", predicate="sleeps in", object="Vault")

    def complete(token: str, reference: dict[str, str], name: str, value: str) -> list[str]:
        message = request(1, "completion/complete", ref=reference, argument={"name": name, "value": value})
        return list(server.ask(token, message)["completion"]["values"])

    listed = {token: server.ask(token, request(1, "resources/list"))["resources"] for token in ("writer", "cook")}
    (secret,) = [each["uri"] for each in listed["writer"] if "Vault" in each["uri"]]
    assert not [each for each in listed["cook"] if "Vault" in json.dumps(each)]
    with server.client("cook") as client:
        for uri in (secret, secret.rpartition("/")[0], secret.rpartition("/")[0].rpartition("/")[0]):
            answer = client.post("/mcp", json=request(1, "resources/read", uri=uri))
            assert "error" in answer.json()
            assert "zebra" not in answer.text
    wing = {
        "type": "ref/resource",
        "uri": server.ask("cook", request(1, "resources/templates/list"))["resourceTemplates"][0]["uriTemplate"],
    }
    assert "Vault" in complete("writer", wing, "wing", "v")
    assert "Vault" not in complete("cook", wing, "wing", "v")


def test_idempotency_keys_belong_to_their_token(server: Served) -> None:
    def write(token: str) -> str:
        message = call(1, "diary_write", agent_name="Ada", entry="The same.", wing="kitchen")
        message["params"] |= SAME_KEY
        return str(server.ask(token, message)["structuredContent"]["drawer_id"])

    assert write("writer") == write("writer")
    assert len({write("writer"), write("other"), write("cook")}) == 3


def test_nobody_posts_to_the_session_of_another(server: Served) -> None:
    with server.client("writer") as client, client.stream("GET", "/sse") as stream:
        lines = stream.iter_lines()
        assert next(lines) == "event: endpoint"
        path = next(lines).removeprefix("data: ")
        with server.client("other") as other:
            assert other.post(path, json=request(1, "ping")).status_code == 404
        with server.client("writer") as own:
            assert own.post(path, json=request(1, "ping")).status_code == 202


def test_a_stream_ends_before_it_tells_a_revoked_token_anything(server: Served) -> None:
    server.secrets["listener"] = tokens.make_token(at(server.palace), "listener", "read", [], False)[0]
    with server.client("listener") as client, client.stream("GET", "/sse") as stream:
        lines = stream.iter_lines()
        assert next(lines) == "event: endpoint"
        path = next(lines).removeprefix("data: ")
        with server.client("listener") as posting:
            for number, (method, params) in enumerate(LISTENING):
                posting.post(path, json=request(number, method, **params)).raise_for_status()
                assert f'"id":{number},' in next(line for line in lines if line.startswith("data: "))
            tokens.revoke(at(server.palace), "listener", False)
            server.tool("writer", "add_drawer", wing="kitchen", room="news", content="Nobody is to hear of it.")
            assert not "".join(lines)
            assert posting.post(path, json=request(9, "ping")).status_code == 401
    assert "Exception" not in server.log.read_text(encoding="utf-8")


def test_tokens_are_revoked_and_made_while_it_runs(server: Served) -> None:
    with server.client("guest") as client:
        assert client.post("/mcp", json=request(1, "ping")).status_code == 200
        tokens.revoke(at(server.palace), "guest", False)
        assert client.post("/mcp", json=request(1, "ping")).status_code == 401
    server.secrets["guest"] = tokens.make_token(at(server.palace), "guest", "read", [], False)[0]
    assert server.ask("guest", request(1, "ping")) == {}


def test_a_file_of_tokens_shows_and_changes_nothing_until_it_is_taken_over(server: Served) -> None:
    file = server.palace / FILE
    good = f'[late]\nsha256 = "{digest_of("late").hex()}"\nscope = "read"\n'
    server.secrets["late"] = "late"
    with server.client() as client, server.client("late") as late:
        file.touch(0o600)
        file.write_text(f"[oops\n{good}", "utf-8")
        assert server.ask("reader", request(1, "ping")) == {}
        assert late.post("/mcp", json=request(1, "ping")).status_code == 401
        assert client.get("/health").json()["reasons"] == ["tokens_wrong"]
        with pytest.raises(ConfigurationError, match="line 1"):
            tokens.listed(at(server.palace), False)
        file.write_text(good, "utf-8")
        assert "late" in tokens.listed(at(server.palace), False)
        assert late.post("/mcp", json=request(1, "ping")).status_code == 200
        assert not troubles(client.get("/health").json())
    assert str(file) in server.log.read_text(encoding="utf-8")


def test_all_files_of_the_palace_are_private_whatever_the_umask(server: Served) -> None:
    found = {path.name: path.stat().st_mode & 0o777 for path in [server.palace, *server.palace.rglob("*")]}
    assert {"palace", "palace.db", "palace.db-wal", "palace.db-shm", "write.lock", "daemon.json"} <= set(found)
    assert {name: oct(mode) for name, mode in found.items() if mode & 0o077} == {}


def test_logs_and_refusals_hold_no_texts_and_no_tokens(server: Served) -> None:
    mark = "xylophone"
    text = {
        "wing": mark,
        "room": mark,
        "content": mark,
        "entry": mark,
        "agent_name": mark,
        "query": mark,
        "entity": mark,
    }
    text |= {"subject": mark, "predicate": mark, "object": mark, "old_object": mark, "new_object": mark, "topic": mark}
    for tool in server.ask("writer", request(1, "tools/list"))["tools"]:
        known = tool["inputSchema"]["properties"]
        right = {name: value for name, value in text.items() if name in known}
        for arguments in (
            right,
            {name: [mark] for name in known},
            {mark: mark},
            {**right, "cursor": mark, "since": mark},
        ):
            server.tool("writer", tool["name"], **arguments)
    bearer = f"Bearer {server.secrets['writer']}"
    with server.client() as client:
        for body in (
            mark,
            f'{{"jsonrpc":"2.0","id":"{mark}","method":"{mark}","params":{{"name":"{mark}"}}}}',
            f'["{mark}"]',
        ):
            for path in ("/mcp", f"/messages/?session_id={mark}", f"/{mark}?{mark}"):
                headers = {"Content-Type": "application/json", "Authorization": bearer, "Mcp-Name": mark}
                client.post(path, content=body, headers=headers)
        refused = client.post("/mcp", content=mark, headers={"Authorization": f"Bearer {mark}"})
        assert mark not in refused.text
    log = server.log.read_text(encoding="utf-8")
    for secret in (mark, "zebra", *server.secrets.values()):
        assert secret not in log


def test_beyond_this_machine_it_needs_a_token_and_warns_when_it_is_not_encrypted(tmp_path: Path) -> None:
    secret = "s" * 32
    command = (sys.executable, "-m", "mempalace_mcp", "serve", "--palace", str(tmp_path / "p"), "--host", "0.0.0.0")
    refused = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE)
    assert refused.returncode == 1
    assert "token new" in refused.stderr
    options = ("--host", "0.0.0.0")
    with served(tmp_path / "palace", *options, secrets={"own": secret}, PALACE_TOKEN=secret) as running:
        local = Served(**{**vars_of(running), "url": running.url.replace("0.0.0.0", "127.0.0.1")})
        with local.client() as client:
            assert client.get("/health").status_code == 200
            assert client.post("/mcp", json=request(1, "ping")).status_code == 401
            assert client.get("/health", headers={"Host": "192.168.1.1"}).status_code == 200
            assert client.get("/health", headers={"Host": "palace.test"}).status_code == 421
        assert local.ask("own", request(1, "ping")) == {}
        log = running.log.read_text(encoding="utf-8")
    assert log.count("not encrypted") == 1
    assert secret not in log


def vars_of(running: Served) -> dict[str, Any]:
    """Its fields."""
    return {name: getattr(running, name) for name in running.__dataclass_fields__}


@pytest.mark.parametrize("value", ["short", "s" * 31, "s" * 513, "s" * 32 + " s", "s" * 32 + "é"])
def test_a_token_that_is_too_weak_refuses_to_start_and_is_not_shown(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigurationError, match="32 to 512 characters") as caught:
        load_settings({"PALACE_TOKEN": value}, str(tmp_path))
    assert caught.value.argument == "PALACE_TOKEN"
    assert value not in str(caught.value.as_dict())
    assert "s" * 32 not in repr(load_settings({"PALACE_TOKEN": "s" * 32}, str(tmp_path)))
    assert "PALACE_TOKEN" not in settings_of({"PALACE_TOKEN": "s" * 32, "PALACE_INDEX": "exact"})
