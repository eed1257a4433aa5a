from __future__ import annotations

import socket

import pytest

from mempalace_mcp.core.errors import ConfigurationError
from mempalace_mcp.server.security import ListenSettings, listen


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
