from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import AnyUrl

from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.core.text import Name, read_name
from mempalace_mcp.server.subscriptions import MAX_URI_CHARACTERS, ResourceAddress, read_uri, write_uri


def as_name(text: str) -> Name | None:
    try:
        return read_name(text, "wing")
    except InvalidArgument:
        return None


NAMES = st.text(min_size=1, max_size=40).map(as_name).filter(bool)
AWKWARD = ("a/b", "100 %", "%2F", "..", ".", "~", "Ünïcödé 🏰", "user@host:80", "[::1]", "a?b#c", "\\", "日本", "a b")


@given(NAMES, NAMES)
@example(Name("..", ".."), Name(".", "."))
def test_any_legal_names_come_back(wing: Name, room: Name) -> None:
    address = read_uri(write_uri(wing.shown, room.shown, "d_x"))
    assert read_name(address.wing, "wing") == wing
    assert read_name(address.room or "", "room") == room
    assert address.drawer == "d_x"


@pytest.mark.parametrize("name", AWKWARD)
def test_clients_that_normalize_addresses_do_no_harm(name: str) -> None:
    for uri in (write_uri(name), write_uri(name, name), write_uri("w", name, "d_x")):
        assert uri.isascii()
        normalized, plain = read_uri(str(AnyUrl(uri))), read_uri(uri)
        assert normalized == plain
        assert (normalized.room or normalized.wing).strip() == name


def test_each_part_may_be_left_out_from_behind() -> None:
    assert read_uri("palace://a%20b") == ResourceAddress("a b")
    assert read_uri("PALACE://a/b") == ResourceAddress("a", "b")
    assert read_uri("palace://a/ü/d_1") == ResourceAddress("a", "ü", "d_1")


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "palace:",
        "palace://",
        "palace:///room",
        "palace://wing//d_1",
        "palace://a/b/c/d",
        "file:///etc/passwd",
        "palace://%",
        "palace://%zz",
        "palace://a%2",
        "palace://%ff",
        "palace://a?b",
        "palace://a#b",
        "palace://\ud800",
        "palace://" + "a" * MAX_URI_CHARACTERS,
    ],
)
def test_what_is_no_address_is_refused_in_words(uri: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        read_uri(uri)
    assert refused.value.argument == "uri"
    assert refused.value.hint
    assert len(refused.value.message) < 200
