"""What bridge and daemon say to each other: frames, the handshake, the daemon's address."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempalace_mcp.daemon.ipc import (
    ClientHello,
    DaemonAddress,
    Frame,
    identity_of,
    is_newer,
    settings_of,
)


@given(st.integers(0, 2**63), st.sampled_from(["", "?", "!"]), st.binary(max_size=40).filter(lambda b: b"\n" not in b))
def test_frames_come_out_as_they_went_in(sequence: int, mark: str, line: bytes) -> None:
    encoded = Frame(sequence, line, mark).encode()
    assert encoded.endswith(b"\n")
    decoded = Frame.decode(encoded[:-1])
    assert (decoded.sequence, decoded.mark, decoded.line) == (sequence, mark, line)


@pytest.mark.parametrize("data", [b"", b"7", b"x {}", b" {}", b"-1 {}", b"{} {}", b"?! {}"])
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no frame"):
        Frame.decode(data)


def hello(**changes: object) -> ClientHello:
    fields = {"version": "1.0", "palace": (1, 2), "bridge": "ab", "pid": 3, **changes}
    return ClientHello(**fields)  # type: ignore[arg-type]


def test_a_hello_comes_out_as_it_went_in() -> None:
    said = hello(prefix="palace_", read_only=True, settings={"PALACE_INDEX": "exact"}, profile="full", token="t")
    heard = ClientHello.decode(said.encode())
    assert all(getattr(heard, name) == getattr(said, name) for name in ClientHello.__slots__)


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b'{"protocol": 2}', b'{"protocol": 1, "palace": [1, 2]}', b'{"protocol": 1, "palace": 7}'],
)
def test_what_is_no_hello_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the messages differ
        ClientHello.decode(data)


@pytest.mark.parametrize(
    ("version", "other", "expected"),
    [
        ("0.2.0", "0.1.9", True),
        ("0.10", "0.9", True),
        ("1.0", "1.0", False),
        ("1.0rc1", "1.0", False),
        ("x", "0", False),
    ],
)
def test_versions_are_compared_by_their_numbers(version: str, other: str, expected: bool) -> None:
    assert is_newer(version, other) is expected


def test_only_settings_of_palaces_are_said() -> None:
    secrets = {"PALACE_TOKEN": "x", "AGENT_KEY": "x", "SECRET": "x"}
    environment = {"PALACE_PATH": "/p", "PALACE_INDEX": "exact", "AGENT_HISTORY_LIMIT": "9" * 9999, **secrets}
    assert settings_of(environment) == {"PALACE_INDEX": "exact", "AGENT_HISTORY_LIMIT": "9" * 4096}


def test_an_address_is_read_as_written_and_removed_by_its_owner_alone(tmp_path: Path) -> None:
    file = str(tmp_path / "daemon.json")
    assert DaemonAddress.read(file) is None
    DaemonAddress(pid=1, version="1", started=2.5, port=80, token="t").write(file)
    found = DaemonAddress.read(file)
    assert found is not None
    assert (found.pid, found.port, found.path, found.token) == (1, 80, None, "t")
    DaemonAddress(pid=2, version="1", started=0).remove(file)
    assert Path(file).exists()
    found.remove(file)
    found.remove(file)
    other = tmp_path / "other.json"
    other.write_text("{}")
    assert DaemonAddress.read(str(other)) is None


def test_a_directory_is_known_by_more_than_its_path(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert identity_of(str(tmp_path / "link")) == identity_of(str(tmp_path))
