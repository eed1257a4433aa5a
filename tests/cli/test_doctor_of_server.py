"""The doctor on palaces in PostgreSQL: what is wrong there, and that nothing is changed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from mempalace_mcp.cli.doctor import doctor
from mempalace_mcp.core.config import Settings, load_settings
from mempalace_mcp.core.palace_url import PalaceUrl
from mempalace_mcp.runtime.app import open_app
from mempalace_mcp.storage.postgres.inspection import doubt_of
from tests.postgres_server import Server, free_port, fresh_schema

UNSAFE = ["server_unsafe"]
"""The server of the tests does not wait for the disk."""


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[Server]:
    server = Server()
    try:
        server.start()
        with psycopg.connect(server.address, autocommit=True) as connection:
            for statement in ("CREATE ROLE reader LOGIN", "CREATE DATABASE plain"):
                connection.execute(statement.encode())
        yield server
    finally:
        server.remove()


@pytest.fixture
def url(server: Server) -> Iterator[PalaceUrl]:
    with fresh_schema(server.address) as url:
        yield url


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def settings(address: PalaceUrl | str) -> Settings:
    return load_settings({"PALACE_URL": address if isinstance(address, str) else address.text})


def codes(address: PalaceUrl | str, *, fix: bool = False) -> list[str]:
    report, _ = doctor(settings(address), fix, as_json=False)
    found = [line.partition(":")[0] for line in report.splitlines() if line and line[0] != " "][:-1]
    return [code for code in found if code != "stale_sockets"]  # other tests kill daemons


def make(url: PalaceUrl) -> None:
    with open_app(settings(url)) as app:
        app.palace.add_drawer("w", "r", "A drawer in a palace that is well.")


def execute(url: PalaceUrl, statement: str) -> None:
    with psycopg.connect(url.conninfo, autocommit=True) as connection:
        connection.execute(f"SET search_path = {url.schema}, public".encode())
        connection.execute(statement.encode())


def test_a_palace_that_is_well(url: PalaceUrl) -> None:
    make(url)
    assert codes(url) == UNSAFE
    durable, well = doctor(settings(url), False, as_json=True)
    assert not well
    assert url.shown in durable


def test_a_palace_that_is_not_there_is_not_made(url: PalaceUrl) -> None:
    assert codes(url, fix=True) == [*UNSAFE, "palace_absent"]
    assert codes(url) == [*UNSAFE, "palace_absent"]


def test_what_the_server_lacks(server: Server, url: PalaceUrl) -> None:
    plain = server.address.removesuffix("postgres") + "plain"
    assert codes(plain) == ["extension_missing", *UNSAFE, "palace_absent"]
    assert codes(f"postgresql://postgres@127.0.0.1:{free_port()}/postgres") == ["server_unreachable"]
    assert codes(server.address.removesuffix("postgres") + "nowhere") == ["server_unreachable"]


def test_rights_that_are_missing(server: Server, url: PalaceUrl) -> None:
    make(url)
    foreign = url.text.replace("postgres@", "reader@")
    assert codes(foreign) == ["rights_missing"]
    assert "rights_missing" in codes(f"postgresql://reader@127.0.0.1:{server.port}/postgres?schema=of_mine")
    execute(url, f"GRANT USAGE ON SCHEMA {url.schema} TO reader")
    execute(url, f"GRANT SELECT ON ALL TABLES IN SCHEMA {url.schema} TO reader")
    assert codes(foreign)[0] == "rights_missing"
    execute(url, f"GRANT ALL ON ALL TABLES IN SCHEMA {url.schema} TO reader")
    assert codes(foreign) == UNSAFE


def test_an_index_that_was_not_finished_and_a_schema_of_the_future(url: PalaceUrl) -> None:
    make(url)
    execute(url, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'chunks_by_drawer'::regclass")
    assert codes(url) == [*UNSAFE, "index_invalid"]
    execute(url, "UPDATE schema_steps SET number = 99 WHERE number = 1")
    assert codes(url) == [*UNSAFE, "index_invalid", "schema_too_new"]


def test_faulty_token_vectors_and_a_foreign_model(url: PalaceUrl) -> None:
    make(url)
    execute(url, "INSERT INTO token_vectors (chunk, packed) SELECT id, '\\x00' FROM chunks")
    execute(url, "INSERT INTO model VALUES (1, 'of-somebody', 'none', 3)")
    assert codes(url) == [*UNSAFE, "model_mismatch", "token_vectors_faulty"]


def test_a_file_with_the_address_that_others_can_read(url: PalaceUrl, tmp_path: Path) -> None:
    make(url)
    file = tmp_path / "address"
    file.write_text(url.text)
    file.chmod(0o644)
    by_file = load_settings({"PALACE_URL_FILE": str(file)})
    assert "permissions: " in doctor(by_file, False, as_json=False)[0]
    assert "fixed: " in doctor(by_file, True, as_json=False)[0]
    assert "permissions: " not in doctor(by_file, False, as_json=False)[0]


@pytest.mark.parametrize(
    ("host", "mode", "is_encrypted", "doubt"),
    [
        ("/var/run/postgresql", "prefer", False, None),
        ("localhost", "prefer", False, None),
        ("127.0.0.5", "disable", False, None),
        ("::1", "prefer", False, None),
        ("10.0.0.7", "prefer", False, "not encrypted"),
        ("db.example", "require", True, "is trusted"),
        ("db.example", "verify-ca", True, None),
        ("db.example", "verify-full", True, None),
    ],
)
def test_a_server_beyond_this_machine_should_be_verified(
    host: str, mode: str, is_encrypted: bool, doubt: str | None
) -> None:
    found = doubt_of(host, mode, is_encrypted=is_encrypted)
    assert found is None if doubt is None else doubt in (found or "")


@contextmanager
def pooler(server: Server) -> Iterator[int]:
    """Passes everything on, but tells clients a number of its own for the server's process, as poolers do."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads = [threading.Thread(target=_pass_on, args=(listener, server.port), daemon=True)]
        threads[0].start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    threads[0].join()


def _pass_on(listener: socket.socket, port: int) -> None:
    pipes: list[threading.Thread] = []
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            upstream = socket.create_connection(("127.0.0.1", port))
            for source, sink in ((client, upstream), (upstream, client)):
                pipes.append(threading.Thread(target=_pump, args=(source, sink)))
                pipes[-1].start()
    for pipe in pipes:
        pipe.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    mark = b"K\0\0\0\x0c"  # BackendKeyData: the number of the process and a secret, four bytes each
    with closing(source), suppress(OSError):
        while data := source.recv(65536):
            head, found, rest = data.partition(mark)
            sink.sendall(head + found + b"\0\0\0\x01" + rest[4:] if found else data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


def test_a_pooler_is_told_of_unless_the_address_knows_it(server: Server, url: PalaceUrl) -> None:
    make(url)
    with pooler(server) as port:
        through = url.text.replace(f":{server.port}/", f":{port}/")
        assert codes(through) == ["pooler", *UNSAFE]
        assert codes(f"{through}&prepare=no") == UNSAFE
