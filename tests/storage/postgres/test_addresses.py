"""Addresses and servers of a palace that will not do, and connections that break."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from mempalace_mcp.core.errors import Busy, PalaceError, StorageReadOnly
from mempalace_mcp.core.palace_url import read_url
from mempalace_mcp.storage.postgres import migrations
from mempalace_mcp.storage.postgres.database import PostgresDatabase
from mempalace_mcp.storage.postgres.failures import explain, is_passing
from tests.postgres_server import Server, free_port


def refusal(address: str, tmp_path: Path) -> PalaceError:
    """The error with which a palace at the address cannot be opened."""
    with pytest.raises(PalaceError) as caught:
        PostgresDatabase(read_url(address), tmp_path).close()
    return caught.value


def test_a_server_or_an_extension_that_is_too_old(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "OLDEST_VECTOR", (0, 99))
    assert "needs 0.99" in refusal(address, tmp_path).message
    monkeypatch.setattr(migrations, "OLDEST_SERVER", 99)
    assert "needs 99" in refusal(address, tmp_path).message


def test_a_standby_is_told_from_a_server_that_is_down(own_server: Server, tmp_path: Path) -> None:
    own_server.stop()
    (own_server.data / "standby.signal").touch()
    own_server.start()
    error = refusal(own_server.address, tmp_path)
    assert type(error) is StorageReadOnly
    assert "standby" in error.message
    assert "host-a,host-b" in (error.hint or "")
    others = f"127.0.0.1:{free_port()},127.0.0.1:{own_server.port}"
    error = refusal(f"postgresql://postgres@{others}/postgres", tmp_path)
    assert type(error) is Busy, "the standby may be about to take the place of the other one"
    assert "Connection refused; session is read-only" in error.message


@pytest.mark.parametrize(
    "words",
    [
        "SSL connection has been closed unexpectedly",
        "SSL SYSCALL error: EOF detected",
        "SSL error: unexpected eof while reading",
        "server closed the connection unexpectedly",
        "the connection is lost",
    ],
)
def test_a_connection_that_breaks_is_no_fault_of_the_settings(words: str) -> None:
    error = psycopg.OperationalError(f"consuming input failed: {words}")
    assert is_passing(error)
    assert type(explain(error, read_url("postgresql://host/db"))) is Busy


@pytest.mark.parametrize("word", ["pa?ss=word", "pa/ss", "12?x=1", "12/x", "pa#ss"])
def test_a_password_that_is_not_escaped_is_refused_and_not_shown(word: str) -> None:
    with pytest.raises(ValueError, match="must") as caught:
        read_url(f"postgresql://anna:{word}@host/db")
    assert not re.search(re.escape(word), str(caught.value))
