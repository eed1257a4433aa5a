"""The mistakes that would break the promises can still be made, and the tests that notice them are still there."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from scripts.break_promises import PROJECT, Breakage, read_breakages

PAGE = (PROJECT / "docs" / "promises.md").read_text(encoding="utf-8")
PROMISES = [f"P{number}" for number in range(1, 9)]
BREAKAGES = read_breakages()


def functions_of(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_promise_can_be_broken_in_several_ways() -> None:
    counted = Counter(breakage.promise for breakage in BREAKAGES)
    assert list(counted) == PROMISES
    assert min(counted.values()) >= 2


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: f"{breakage.promise} {breakage.mistake}")
def test_the_mistake_can_be_made_and_its_test_exists(breakage: Breakage) -> None:
    broken = breakage.broken((PROJECT / breakage.file).read_text(encoding="utf-8"))
    if breakage.file.endswith(".py"):
        compile(broken, breakage.file, "exec")
    file, _, name = breakage.test.partition("::")
    assert name in functions_of(PROJECT / file)


def test_the_page_tells_each_mistake_under_its_promise() -> None:
    sections = dict(zip(PROMISES, PAGE.split("\n## P")[1:], strict=True))
    for breakage in BREAKAGES:
        file, _, name = breakage.test.partition("::")
        assert f"| [{name}](../{file}) | {breakage.mistake} |" in sections[breakage.promise]
    assert PAGE.count("](../tests/") == len(BREAKAGES)


def test_a_passage_that_is_not_there_or_there_twice_is_told() -> None:
    breakage = Breakage("P0", "none", "file.py", "a = 1", "a = 2", "tests/test.py::test")
    assert breakage.broken("a = 1\n") == "a = 2\n"
    for source in ("b = 1", "a = 1\na = 1\n"):
        with pytest.raises(ValueError, match=r"file\.py"):
            breakage.broken(source)
