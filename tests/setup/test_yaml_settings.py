"""Entries in YAML: everything around them stays byte for byte."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mempalace_mcp.setup.formats import SettingsFault, put, take
from mempalace_mcp.setup.yaml_settings import Yaml

YAML = Yaml()
PATH = ("extensions", "mempalace")
ENTRY = {"type": "stdio", "cmd": "/opt/my tools: new/mempalace-mcp", "args": ["--palace", "yes"], "timeout": 300}

PIECES = [
    "# a comment\n",
    "\n",
    "GOOSE_MODEL: 'gpt' # why\n",
    "a: |\n  text\n  more: not a key\n",
    "b: >-\n  folded\n\n",
    "list:\n- 1\n-   two\n",
    "deep:\n    x:\n      - y: 1\n        z: [1, {a: b}]\n",
    "empty:\n",
    "anchor: &a {q: 1}\nalias: *a\n",
]
EXTENSIONS = [
    "",
    "extensions:\n",
    "extensions: {}\n",
    "extensions: {other: {cmd: x}}  # in braces\n",
    "extensions:  # of others\n  # before\n  other:\n    cmd: x\n    args:\n    - a\n  # after\n",
    "extensions:\n    other: {cmd: x}\n    text: |\n        long\n",
    "extensions:\n  other: null\n  last: 'quoted\n    further'\n",
]


@given(
    st.lists(st.sampled_from(PIECES), max_size=4, unique=True),
    st.sampled_from(EXTENSIONS),
    st.lists(st.sampled_from(["# tail\n", "\n", "tail: 1\n"]), max_size=2, unique=True),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=60)
def test_an_entry_is_put_and_taken_away_without_a_trace(
    pieces: list[str], extensions: str, tail: list[str], is_windows: bool, is_cut: bool
) -> None:
    text = "".join([*pieces, extensions, *tail])
    if is_cut:
        text = text.rstrip("\n")
    if is_windows:
        text = text.replace("\n", "\r\n")
    before = YAML.read(text) or {}
    if text.endswith(("key", "folded", "long")):
        return  # a text that runs to the end of the file: another line would change it
    changed = put(YAML, text, PATH, ENTRY)
    assert yaml.safe_load(changed)["extensions"]["mempalace"] == ENTRY
    assert is_windows or "\r" not in changed
    holder = PATH if "extensions" in before else PATH[:1]
    assert take(YAML, changed, holder) == text
    again = put(YAML, put(YAML, text, PATH, {"cmd": "old"}), PATH, ENTRY)
    assert again == changed


def test_a_text_that_runs_to_the_end_of_the_file_is_not_changed() -> None:
    with pytest.raises(SettingsFault):
        put(YAML, "a: |\n  text", PATH, ENTRY)


@pytest.mark.parametrize("text", ["- a\n", "extensions: [a]\n", "extensions: text\n", "a: 1\n---\nb: 1\n", "a: [1\n"])
def test_what_stands_in_the_way_stays(text: str) -> None:
    with pytest.raises(SettingsFault):
        put(YAML, text, PATH, ENTRY)


def test_what_is_wrong_is_named_by_its_place() -> None:
    with pytest.raises(SettingsFault) as caught:
        YAML.read("a: 1\nb: 'x\n")
    assert caught.value.line == 3
    with pytest.raises(SettingsFault) as caught:
        YAML.read("a: 1\n\tb: 2\n")
    assert (caught.value.line, caught.value.column) == (2, 1)
