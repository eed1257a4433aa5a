"""Entries in JSONC: everything around them stays byte for byte, and taking them away restores the text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mempalace_mcp.setup.formats import KeyPath, SettingsFault, lookup, put, take
from mempalace_mcp.setup.jsonc import Jsonc

JSONC = Jsonc()
ENTRY = {"command": "/opt/my tools/mempalace-mcp", "args": ["--palace", 'a "b" \\ //c']}


@st.composite
def documents(draw: st.DrawFn, newline: str | None = None) -> tuple[str, Any]:
    """JSONC with comments in every place, trailing commas, tabs, either newline; and what it means."""
    ending = draw(st.sampled_from(["\n", "\r\n"])) if newline is None else newline
    gaps = st.lists(
        st.sampled_from([" ", "\t", "  ", ending, "/* , } */", "/*/*/", f'// it\'s "x": {{{ending}', f"//{ending}"]),
        max_size=3,
    ).map("".join)

    def gap() -> str:
        return draw(gaps)

    def value(depth: int, kind: str | None = None) -> tuple[str, Any]:
        kind = kind or (draw(st.sampled_from(["scalar", "object", "list"])) if depth else "scalar")
        if kind == "scalar":
            scalars: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers() | st.text()
            plain = draw(scalars | st.sampled_from(["//", "/*", '",}', "\\"]))
            return json.dumps(plain, ensure_ascii=draw(st.booleans())), plain
        size = draw(st.integers(0, 3))
        members = [(draw(st.text(max_size=3)), *value(depth - 1)) for _ in range(size)]
        if kind == "object":
            members = list({key: (key, text, plain) for key, text, plain in members}.values())
            written = [f"{gap()}{json.dumps(key)}{gap()}:{gap()}{text}{gap()}" for key, text, _ in members]
        else:
            written = [f"{gap()}{text}{gap()}" for _, text, _ in members]
        comma = f",{gap()}" if draw(st.booleans()) and members else ""
        opening, closing = "{}" if kind == "object" else "[]"
        inside = ",".join(written) + comma if members else gap()
        means: Any = {key: plain for key, _, plain in members} if kind == "object" else [each[2] for each in members]
        return opening + inside + closing, means

    name = draw(st.sampled_from(["mcpServers", "hooks"]))
    rest_text, rest = value(1)
    kind = draw(st.sampled_from([None, "object", "list"]))
    members = [f'{gap()}"other"{gap()}:{gap()}{rest_text}{gap()}']
    data = {"other": rest}
    if kind is not None:
        text, means = value(2, kind)
        members.insert(draw(st.integers(0, 1)), f'{gap()}"{name}"{gap()}:{gap()}{text}{gap()}')
        data[name] = means
    comma = f",{gap()}" if draw(st.booleans()) else ""
    return f"{gap()}{{{','.join(members)}{comma}}}{gap()}", data


def path_in(data: dict[str, Any]) -> KeyPath:
    """Where an entry of ours would go."""
    servers, hooks = data.get("mcpServers", {}), data.get("hooks", {})
    if isinstance(hooks, list):
        return ("hooks", len(hooks))
    if isinstance(servers, list):
        return ("mcpServers", len(servers))
    return ("mcpServers", "mempalace")


def is_within(small: str, large: str) -> bool:
    """Can characters of the large text be left out until the small one remains?"""
    rest = iter(large)
    return all(character in rest for character in small)


@given(documents())
@settings(max_examples=150)
def test_an_entry_is_put_and_taken_away_without_a_trace(document: tuple[str, Any]) -> None:
    text, data = document
    assert JSONC.read(text) == data
    path = path_in(data)
    changed = put(JSONC, text, path, ENTRY)
    assert lookup(JSONC.read(changed), path) == ENTRY
    assert is_within(text, changed)
    holder = path[:1] if path[0] not in data else path
    assert take(JSONC, changed, holder) == text


@given(documents())
@settings(max_examples=60)
def test_an_entry_is_taken_from_among_others_that_came_later(document: tuple[str, Any]) -> None:
    text, data = document
    path = path_in(data)
    later: KeyPath = (*path[:-1], path[-1] + 1) if isinstance(path[-1], int) else (*path[:-1], "later")
    changed = put(JSONC, put(JSONC, text, path, ENTRY), later, {"of": "others"})
    left = JSONC.read(take(JSONC, changed, path))
    assert {"of": "others"} in (left[path[0]].values() if isinstance(left[path[0]], dict) else left[path[0]])
    comments = [line for line in text.splitlines() if line.strip() == "//"]
    assert len([line for line in changed.splitlines() if line.strip() == "//"]) == len(comments)


@given(documents())
@settings(max_examples=40)
@example(('{"mcpServers": {"mempalace": 1, // x\n}}', {}))
def test_a_value_is_replaced_where_it_stands(document: tuple[str, Any]) -> None:
    text, _ = document
    once = put(JSONC, text, ("x", "mempalace"), {"command": "old"})
    twice = put(JSONC, once, ("x", "mempalace"), ENTRY)
    assert JSONC.read(put(JSONC, twice, ("x", "mempalace"), {"command": "old"})) == JSONC.read(once)
    assert is_within(text, twice)


PRETTY = [
    ("", '{\n  "mcpServers": {\n    "mempalace": {\n      "command": "m"\n    }\n  }\n}\n'),
    ("{}", '{\n  "mcpServers": {\n    "mempalace": {\n      "command": "m"\n    }\n  }\n}'),
    ('{"mcpServers":{}}', '{"mcpServers":{"mempalace": {"command": "m"}}}'),
    (
        '{\n\t"mcpServers": {\n\t\t"a": 1 // one\n\t}\n}',
        '{\n\t"mcpServers": {\n\t\t"a": 1, // one\n\t\t"mempalace": {\n\t\t\t"command": "m"\n\t\t}\n\t}\n}',
    ),
    (
        '{\r\n    "mcpServers": {\r\n        // none yet\r\n    },\r\n}',
        '{\r\n    "mcpServers": {\r\n        // none yet\r\n        "mempalace": {\r\n            '
        '"command": "m"\r\n        }'
        "\r\n    },\r\n}",
    ),
    (
        '{\n  "mcpServers": {\n    "a": 1,\n  },\n}',
        '{\n  "mcpServers": {\n    "a": 1,\n    "mempalace": {\n      "command": "m"\n    },\n  },\n}',
    ),
]


@pytest.mark.parametrize(("text", "expected"), PRETTY)
def test_an_entry_looks_like_its_surroundings(text: str, expected: str) -> None:
    assert put(JSONC, text, ("mcpServers", "mempalace"), {"command": "m"}) == expected


WRONG = [
    ('{\n  "a": 1\n  "b": 2\n}', 3, 3),
    ('{"a": tru}', 1, 7),
    ("{,}", 1, 2),
    ("[1,,2]", 1, 4),
    ('{"a": 1} trailing', 1, 10),
    ('{\n "a": "never closed\n}', 2, 20),
    ("{ /* never closed }", 1, 3),
    ("{'single': 1}", 1, 2),
    ('{"a": NaN}', 0, 0),
    ("[" * 100_000, 0, 0),
]


@pytest.mark.parametrize(("text", "line", "column"), WRONG)
def test_what_is_wrong_is_named_by_its_place(text: str, line: int, column: int) -> None:
    with pytest.raises(SettingsFault) as caught:
        JSONC.read(text)
    assert (caught.value.line, caught.value.column) == (line, column)


@pytest.mark.parametrize("text", ["[]", '{"mcpServers": []}', '{"mcpServers": null}', '{"mcpServers": "none"}', "3"])
def test_what_stands_in_the_way_stays(text: str) -> None:
    with pytest.raises(SettingsFault):
        put(JSONC, text, ("mcpServers", "mempalace"), ENTRY)


HAND_WRITTEN = [
    ('{ "a": 1, // c\n  "mempalace": 2 }', '{ "a": 1 // c\n   }'),
    ('{ // c\n "mempalace": 2, "a": 1}', '{ // c\n  "a": 1}'),
    ('{"mempalace": 2, "a": 1}', '{ "a": 1}'),
    ('{"a": 1, "mempalace": 2, /* of b */ "b": 3}', '{"a": 1, /* of b */ "b": 3}'),
    ('{\n  "mempalace": 2, // ours\n  "a": 1\n}', '{ // ours\n  "a": 1\n}'),
    ('{\n  "a": 1\n  , "mempalace": 2\n}', '{\n  "a": 1\n  \n}'),
]


@pytest.mark.parametrize(("text", "left"), HAND_WRITTEN)
def test_an_entry_that_was_written_by_hand_is_taken_away(text: str, left: str) -> None:
    """A comment of a line ends with it: nothing may come to stand behind it."""
    assert take(JSONC, text, ("mempalace",)) == left


def test_of_a_key_that_occurs_twice_the_last_one_counts() -> None:
    text = '{"mcpServers": {"a": 1}, "mcpServers": {"b": 2}}'
    assert JSONC.read(put(JSONC, text, ("mcpServers", "mempalace"), 3)) == {"mcpServers": {"b": 2, "mempalace": 3}}
