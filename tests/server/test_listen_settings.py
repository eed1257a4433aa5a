"""Where a server listens, and by which names it is called."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from mempalace_mcp.core.errors import ConfigurationError
from mempalace_mcp.server.security import Certificate, ListenSettings, listen

FILES = Path(__file__).parent / "certificates"

CERTIFICATE = Certificate(FILES / "certificate.pem", FILES / "key.pem")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_addresses_of_this_machine(host: str) -> None:
    assert ListenSettings(host).is_local
    assert not ListenSettings(host).is_unencrypted


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.1", "palace.example", "0", "127.1.example"])
def test_addresses_that_others_reach(host: str) -> None:
    assert not ListenSettings(host).is_local
    assert ListenSettings(host).is_unencrypted
    assert not ListenSettings(host, certificate=CERTIFICATE).is_unencrypted


@pytest.mark.parametrize(
    ("settings", "called", "not_called"),
    [
        (
            ListenSettings(),
            ["localhost", "127.0.0.1:80", "[::1]:8765", "LOCALHOST"],
            ["192.168.1.1", "127.0.0.2", "[::2]"],
        ),
        (ListenSettings("192.168.1.1"), ["192.168.1.1:8765", "localhost"], ["192.168.1.2", "palace.example"]),
        (ListenSettings("fe80::1"), ["[fe80::1]:8765"], ["fe80::1", "[fe80::2]"]),
        (ListenSettings("0.0.0.0"), ["10.1.2.3", "[fe80::1]:1"], ["palace.example", "10.1.2", "10.1.2.3.example", "1"]),
        (
            ListenSettings.read("::", ("Palace.example",), None, None),
            ["palace.example", "PALACE.example:443", "10.1.2.3"],
            ["evil.example", "palace.example.evil", "palace.example@evil", "palace.example:", "", "palace.example:1:2"],
        ),
    ],
)
def test_by_which_names_it_is_called(settings: ListenSettings, called: list[str], not_called: list[str]) -> None:
    assert [name for name in called if not settings.is_called(name)] == []
    assert [name for name in not_called if settings.is_called(name)] == []


@pytest.mark.parametrize(
    "name", ["", "https://palace.example", "palace.example:8765", "a b", "-", "palace/example", "*"]
)
def test_only_names_can_be_allowed(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ListenSettings.read("::", (name,), None, None)
    assert caught.value.argument == "--allowed-host"


def test_a_certificate_and_its_key_are_accepted() -> None:
    assert ListenSettings.read("::", (), CERTIFICATE.file, CERTIFICATE.key).url(1) == "https://[::]:1"


def test_what_is_no_certificate_with_its_key_is_refused_by_name(tmp_path: Path) -> None:
    nothing, nonsense = tmp_path / "nothing", tmp_path / "nonsense"
    nonsense.write_text("nonsense", encoding="utf-8")
    for certificate, key_file, argument, problem in (
        (CERTIFICATE.file, None, "--key", "missing"),
        (None, CERTIFICATE.key, "--certificate", "missing"),
        (nothing, CERTIFICATE.key, "--certificate", "No such file"),
        (CERTIFICATE.file, nothing, "--key", "No such file"),
        (CERTIFICATE.file, tmp_path, "--key", "directory"),
        (nonsense, CERTIFICATE.key, "--key", "no certificate and its key"),
        (CERTIFICATE.file, FILES / "other_key.pem", "--key", "mismatch"),
        (CERTIFICATE.file, FILES / "locked_key.pem", "--key", "encrypted"),
    ):
        with pytest.raises(ConfigurationError, match=problem) as caught:
            ListenSettings.read("::", (), certificate, key_file)
        assert caught.value.argument == argument


def addresses(host: str, port: int = 0) -> set[str]:
    with listen(ListenSettings(host), port) as listening:
        assert {each.getsockname()[1] for each in listening.sockets} == {listening.port}
        return {each.getsockname()[0] for each in listening.sockets}


def test_localhost_is_both_addresses_of_loopback() -> None:
    assert addresses("localhost") == {"127.0.0.1", "::1"}
    assert addresses("127.0.0.1") == {"127.0.0.1"}
    assert addresses("::1") == {"::1"}


@pytest.mark.parametrize(("taken", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
def test_a_port_that_is_taken_at_one_of_them_is_taken(taken: str, family: socket.AddressFamily) -> None:
    """Else some clients would speak to another program."""
    with socket.create_server((taken, 0), family=family) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match=str(port)) as caught:
            listen(ListenSettings("localhost"), port)
        assert caught.value.argument == "--port"
        with socket.socket(socket.AF_INET if family == socket.AF_INET6 else socket.AF_INET6) as free:
            free.bind(("127.0.0.1" if family == socket.AF_INET6 else "::1", port))
