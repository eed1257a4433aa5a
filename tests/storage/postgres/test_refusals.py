"""What is said when a palace's server cannot be used: wrong addresses, users, rights, versions and encryption."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from mempalace_mcp.core.errors import (
    Busy,
    ConfigurationError,
    PalaceCorrupt,
    PalaceError,
    SchemaTooNew,
    StorageReadOnly,
)
from mempalace_mcp.core.palace_url import read_url
from mempalace_mcp.storage.postgres.database import PostgresDatabase
from tests.postgres_server import Server, free_port
from tests.storage.postgres.networks import Relay
from tests.storage.support import add_wing, soon, wings

DEBIAN = Path("/usr/lib/postgresql")
CERTIFICATES = Path(__file__).parents[2] / "server" / "certificates"
ADMISSION = """\
local all all trust
host all locked all scram-sha-256
hostssl all encrypted all trust
host all stranger all ident
host all postgres,plain,counted,retired,absent all trust
"""
SET_UP = """\
CREATE ROLE locked LOGIN PASSWORD 'right';
CREATE ROLE encrypted LOGIN;
CREATE ROLE stranger LOGIN;
CREATE ROLE outsider LOGIN;
CREATE ROLE plain LOGIN;
CREATE ROLE counted LOGIN CONNECTION LIMIT 0;
CREATE ROLE retired NOLOGIN;
CREATE EXTENSION vector;
CREATE SCHEMA foreign_one;
CREATE TABLE foreign_one.things (id integer);
CREATE SCHEMA newer;
CREATE TABLE newer.schema_steps (number integer);
INSERT INTO newer.schema_steps VALUES (9000);
CREATE DATABASE early;
CREATE DATABASE bare;
CREATE DATABASE closed ALLOW_CONNECTIONS false;
CREATE DATABASE counted CONNECTION LIMIT 0"""


@pytest.fixture(scope="module")
def strict() -> Iterator[Server]:
    """A server that admits some users in some ways. It was built without encryption."""
    server = Server(settings={"password_encryption": "scram-sha-256"})
    try:
        (server.data / "pg_hba.conf").write_text(ADMISSION)
        server.start()
        with psycopg.connect(server.address, autocommit=True) as connection:
            for statement in SET_UP.split(";"):
                connection.execute(statement.encode())
        with psycopg.connect(f"{server.address.removesuffix('postgres')}early", autocommit=True) as connection:
            connection.execute("CREATE EXTENSION vector")
            connection.execute("UPDATE pg_extension SET extversion = '0.8.3' WHERE extname = 'vector'")
        yield server
    finally:
        server.remove()


def refusal(address: str) -> PalaceError:
    """The error with which a palace is not opened."""
    with pytest.raises(PalaceError) as caught:
        PostgresDatabase(read_url(address), Path("/nowhere")).close()
    return caught.value


@pytest.mark.parametrize(
    ("address", "kind", "said", "remedy"),
    [
        ("locked:wrong@{host}/postgres", ConfigurationError, 'failed for user "locked"', "password"),
        ("locked@{host}/postgres?passfile=/nowhere", ConfigurationError, "no password supplied", "PGPASSFILE"),
        ("absent@{host}/postgres", ConfigurationError, 'role "absent" does not exist', "user"),
        ("retired@{host}/postgres", ConfigurationError, "not permitted to log in", "user"),
        ("stranger@{host}/postgres", ConfigurationError, "Ident authentication failed", "pg_hba.conf"),
        ("outsider@{host}/postgres", ConfigurationError, "no pg_hba.conf entry", "pg_hba.conf"),
        ("encrypted@{host}/postgres", ConfigurationError, "no encryption", "sslmode=verify-full"),
        ("postgres@{host}/postgres?sslmode=require", ConfigurationError, "does not support SSL", "switch ssl on"),
        ("postgres@{host}/nothing", ConfigurationError, 'database "nothing" does not exist', "database"),
        ("postgres@{host}/closed", ConfigurationError, "not currently accepting connections", "database"),
        ("plain@{host}/counted", Busy, "takes no more connections", "limit of the user, the database"),
        ("counted@{host}/postgres", Busy, "takes no more connections", "limit of the user, the database"),
        ("postgres@{host}/early", ConfigurationError, "pgvector 0.8.3", "ALTER EXTENSION vector UPDATE"),
        ("plain@{host}/bare", ConfigurationError, "does not have the extension", "CREATE EXTENSION vector"),
        ("plain@{host}/postgres", StorageReadOnly, "permission denied", "GRANT CREATE ON DATABASE"),
        ("postgres@{host}/postgres?schema=foreign_one", PalaceCorrupt, "another program", "?schema=NAME"),
        ("postgres@{host}/postgres?schema=newer", SchemaTooNew, "schema 9000", "Upgrade mempalace-mcp"),
        ("postgres@{host}/postgres?target_session_attrs=standby", Busy, "not in hot standby", "PostgreSQL runs"),
        ("postgres@{host}/postgres?sslmod=require", ConfigurationError, "sslmod", "parameters"),
        ("postgres@{host}/postgres?sslmode=always", ConfigurationError, "invalid sslmode", "parameters"),
        ("postgres@{host}/postgres?options=-c%20nonsense%3D1", ConfigurationError, "nonsense", "parameters"),
        ("/postgres?service=nothing", ConfigurationError, '"nothing" not found', "parameters"),
        ("postgres@127.0.0.1:70000,{host}/postgres?sslmode=require", ConfigurationError, "SSL", "sslmode"),
        ("postgres@{free}/postgres", Busy, "Connection refused", "host and port"),
        ("postgres@{free},{other}/postgres", Busy, "Connection refused", "host and port"),
        ("locked:wrong@{host},{free}/postgres", ConfigurationError, "password authentication failed", "password"),
        ("postgres@nowhere.invalid/postgres", Busy, "nowhere.invalid", "host and port"),
        ("/postgres?host=/nowhere", Busy, "No such file", "host and port"),
    ],
)
def test_each_refusal_names_its_remedy(
    strict: Server, address: str, kind: type[PalaceError], said: str, remedy: str
) -> None:
    hosts = {name: f"127.0.0.1:{free_port()}" for name in ("free", "other")}
    error = refusal(f"postgresql://{address.format(host=f'127.0.0.1:{strict.port}', **hosts)}")
    assert type(error) is kind
    assert said in error.message
    assert remedy in (error.hint or "")
    assert "wrong" not in str(error.as_dict())
    if kind is ConfigurationError:
        assert error.argument == "PALACE_URL"


def test_the_way_to_a_socket_is_found(strict: Server, tmp_path: Path) -> None:
    url = read_url(f"postgresql:///postgres?user=postgres&host={strict.folder}&port={strict.port}&schema=by_socket")
    with contextlib.closing(PostgresDatabase(url, tmp_path)) as database:
        database.write(add_wing("by a socket"), soon())
        assert wings(database) == ["by a socket"]


def test_a_host_that_does_not_answer(strict: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = refusal(f"postgresql://postgres@127.0.0.1:{silent.getsockname()[1]}/postgres")
    assert type(error) is Busy
    assert "timeout" in error.message


def test_something_else_listens_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(100)
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        error = refusal(f"postgresql://postgres@127.0.0.1:{listener.getsockname()[1]}/postgres")
        thread.join()
    assert type(error) is ConfigurationError
    assert "host, port" in (error.hint or "")


def test_pgvector_is_not_installed() -> None:
    server = Server(settings={"extension_control_path": "/nowhere"})
    try:
        server.start()
        error = refusal(server.address)
    finally:
        server.remove()
    assert type(error) is ConfigurationError
    assert "is not available" in error.message
    assert "Install pgvector" in (error.hint or "")


def test_a_server_of_before() -> None:
    found = sorted(DEBIAN.glob("1[0-5]/bin"))
    if not found:
        pytest.skip("PostgreSQL 15 or older of Debian is not installed")
    server = Server(folder=found[-1])
    try:
        server.start()
        error = refusal(server.address)
    finally:
        server.remove()
    assert type(error) is ConfigurationError
    assert "PostgreSQL 1" in error.message
    assert "16 or newer" in error.message


@pytest.fixture
def encrypted(strict: Server) -> Iterator[Relay]:
    """The way to the server, encrypted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / "certificate.pem", CERTIFICATES / "key.pem")
    with contextlib.closing(Relay(strict.port, context)) as relay:
        yield relay


def test_encryption_is_verified(encrypted: Relay, tmp_path: Path) -> None:
    address = f"postgresql://postgres@127.0.0.1:{encrypted.port}/postgres?schema=encrypted&sslmode=verify-full"
    trusted = f"{address}&sslrootcert={CERTIFICATES / 'certificate.pem'}"
    with contextlib.closing(PostgresDatabase(read_url(trusted), tmp_path)) as database:
        assert wings(database) == []
    for wrong in (f"{address}&sslrootcert=system", f"{address}&sslrootcert=/nowhere/root.crt"):
        error = refusal(wrong)
        assert type(error) is ConfigurationError
        assert "sslrootcert=FILE" in (error.hint or "")


def test_what_is_lost_on_an_encrypted_way_is_tried_again(encrypted: Relay, tmp_path: Path) -> None:
    address = f"postgresql://postgres@127.0.0.1:{encrypted.port}/postgres?schema=often_lost&sslmode=require"
    with contextlib.closing(PostgresDatabase(read_url(address), tmp_path)) as database:
        for number in range(3):
            encrypted.drop()
            database.write(add_wing(str(number)), soon())
            encrypted.drop()
            assert wings(database) == [str(each) for each in range(number + 1)]


def test_a_user_who_owns_the_schema_and_nothing_else(strict: Server, tmp_path: Path) -> None:
    with psycopg.connect(strict.address, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA of_plain AUTHORIZATION plain")
    address = f"postgresql://plain@127.0.0.1:{strict.port}/postgres?schema=of_plain"
    with contextlib.closing(PostgresDatabase(read_url(address), tmp_path)) as database:
        database.write(add_wing("owned"), soon())
        assert wings(database) == ["owned"]
