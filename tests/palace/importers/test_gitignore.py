"""No pattern takes long, however it is written."""

from __future__ import annotations

import pytest

from mempalace_mcp.palace.importers.gitignore import read_patterns


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a" * 40 + "b", "a" * 240),
        ("**/a*" * 20 + "/b", "a/" * 1000 + "c"),
        ("x/" + "*/**/" * 600 + "b", "x/" + "a/" * 1000 + "c"),
        ("[!b]*" * 1000 + "/x", "c/" * 1000),
        ("**/*a*a*a*a*a*a*b", "/".join(["a" * 200] * 20)),
        ("a/**/" * 300 + "c", "a/" * 1000 + "b"),
    ],
)
def test_no_pattern_takes_for_ever(pattern: str, path: str) -> None:
    (compiled,) = read_patterns(pattern.encode())
    assert not compiled.matches(path.encode(), path.encode(), is_folder=False)
