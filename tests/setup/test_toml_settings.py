"""Tables in TOML: everything around them stays byte for byte."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempalace_mcp.setup.formats import SettingsFault, put, take
from mempalace_mcp.setup.toml_settings import Toml

TOML = Toml()
PATH = ("mcp_servers", "mempalace")
ENTRY = {"command": 'C:\\my "tools"\\mempalace-mcp.exe', "args": ["--palace", "/päläste"]}

PIECES = [
    "# a comment [mcp_servers.mempalace]\n",
    "\n",
    "model = 'gpt' # why\n",
    "notify = ['x', \"y\"]\n",
    '[mcp_servers.other]\ncommand = "x"\n',
    "[mcp_servers.third.env]\nA = '1'\n",
    "[profiles.'a.b']\n\tx = 1\n",
    "[[list]]\nx = 1\n\n",
    'text = """\n[mcp_servers.mempalace]\ncommand = 1\n"""\n',
    "mcp_servers.dotted.command = 'x'\n",
    "[mcp_servers]\n",
]


@given(st.lists(st.sampled_from(PIECES), max_size=6, unique=True), st.booleans(), st.booleans())
def test_a_table_is_put_and_taken_away_without_a_trace(pieces: list[str], is_windows: bool, is_cut: bool) -> None:
    text = "".join(pieces)
    if is_cut:
        text = text.rstrip("\n")
    if is_windows:
        text = text.replace("\n", "\r\n")
    try:
        TOML.read(text)
    except SettingsFault:
        return
    try:
        changed = put(TOML, text, PATH, ENTRY)
    except SettingsFault:
        assert "dotted" in text
        return
    assert changed.startswith(text)
    assert tomllib.loads(changed)["mcp_servers"]["mempalace"] == ENTRY
    assert is_windows or "\r" not in changed
    assert take(TOML, changed, PATH) == text
    later = changed + ("\r\n" if is_windows else "\n") + "[later]\nx = 1\n"
    assert take(TOML, later, PATH).endswith("[later]\nx = 1\n")
    assert put(TOML, put(TOML, text, PATH, {"command": "old"}), PATH, ENTRY) == changed


def test_tables_within_it_go_with_it() -> None:
    text = '[mcp_servers.mempalace]\ncommand = "x"\n\n[mcp_servers.mempalace.env]\nA = "1"\n\n# of z\n[z]\ny = 1\n'
    assert take(TOML, text, PATH) == "\n# of z\n[z]\ny = 1\n"


def test_what_others_wrote_into_the_same_table_stays() -> None:
    text = '[mcp_servers.other]\nx = 1\n\n[mcp_servers.mempalace]\ncommand = "x"\n# of z\n\n[z]\n'
    assert take(TOML, text, PATH) == "[mcp_servers.other]\nx = 1\n# of z\n\n[z]\n"


@pytest.mark.parametrize("text", ["mcp_servers = {}\n", "mcp_servers = { a = { x = 1 } }\n", "mcp_servers = 3\n"])
def test_what_is_in_one_line_is_left_alone(text: str) -> None:
    with pytest.raises(SettingsFault):
        put(TOML, text, PATH, ENTRY)


def test_what_is_wrong_is_named_by_its_place() -> None:
    with pytest.raises(SettingsFault) as caught:
        TOML.read("a = 1\nb = = 2\n")
    assert (caught.value.line, caught.value.column) == (2, 5)
