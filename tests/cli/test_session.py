"""The options of a session."""

from __future__ import annotations

from typing import get_args

import pytest

from mempalace_mcp.cli.session import Options, is_ordinary
from mempalace_mcp.server.tools.registry import Profile, verify_prefix


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], (None, False, "core", False, "")),
        (["--palace", "p", "--tools=full"], ("p", False, "full", False, "")),
        (["--read-only", "--solo", "--tool-prefix", "x_"], (None, True, "core", True, "x_")),
        (["--palace="], ("", False, "core", False, "")),
    ],
)
def test_usual_options_are_read_quickly(arguments: list[str], expected: tuple[object, ...]) -> None:
    options = Options.read(arguments)
    assert options is not None
    assert (options.palace, options.solo, options.profile, options.read_only, options.prefix) == expected


@pytest.mark.parametrize("prefix", ["", "_", "mempalace_", "my-palace_2-", "x" * 32])
def test_an_ordinary_prefix_is_one_that_tools_can_have(prefix: str) -> None:
    assert is_ordinary(prefix)
    for profile in get_args(Profile):
        verify_prefix(prefix, profile)


@pytest.mark.parametrize("prefix", ["my palace.", "x" * 33, "é_", "a/b", "palace\n", "２_"])
def test_another_prefix_is_looked_at(prefix: str) -> None:
    assert not is_ordinary(prefix)


@pytest.mark.parametrize(
    "arguments", [["--tools", "all"], ["--palace"], ["--solo=1"], ["-x"], ["--palace", "--solo"], ["x"]]
)
def test_unusual_options_are_left_to_be_read_carefully(arguments: list[str]) -> None:
    assert Options.read(arguments) is None
