"""The mistakes that would break the promises can still be made, and the tests that notice them are still there."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from scripts.break_promises import PROJECT, Breakage, Run, read_breakages

PAGE = (PROJECT / "docs" / "promises.md").read_text(encoding="utf-8")
PROMISES = [f"P{number}" for number in range(1, 11)]
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


def test_no_mistake_is_merely_an_unknown_name(tmp_path: Path) -> None:
    """Such a one would be noticed by any test."""
    for number, breakage in enumerate(BREAKAGES):
        if breakage.file.endswith(".py"):
            broken = breakage.broken((PROJECT / breakage.file).read_text(encoding="utf-8"))
            (tmp_path / f"{number} {Path(breakage.file).name}").write_text(broken, encoding="utf-8")
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select", "F821", str(tmp_path)]
    checked = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=30)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_page_tells_each_mistake_under_its_promise() -> None:
    sections = dict(zip(PROMISES, PAGE.split("\n## P")[1:], strict=True))
    for breakage in BREAKAGES:
        file, _, name = breakage.test.partition("::")
        assert f"| [{name}](../{file}) | {breakage.mistake} |" in sections[breakage.promise]
    assert PAGE.count("](../tests/") == len(BREAKAGES)


def test_the_page_names_files_of_tests_that_are_there() -> None:
    there = {file.name for file in (PROJECT / "tests").rglob("test_*.py")}
    assert set(re.findall(r"\btest_\w+\.py", PAGE)) <= there


def test_a_passage_that_is_not_there_or_there_twice_is_told() -> None:
    breakage = Breakage("P0", "none", "file.py", "a = 1", "a = 2", "tests/test.py::test")
    assert breakage.broken("a = 1\n") == "a = 2\n"
    for source in ("b = 1", "a = 1\na = 1\n"):
        with pytest.raises(ValueError, match=r"file\.py"):
            breakage.broken(source)


def test_a_test_that_cannot_run_here_has_neither_noticed_nor_missed_anything() -> None:
    assert Run(0, "s\n1 skipped in 0.01s", 1.0).is_skipped
    for run in (Run(0, "s.\n1 passed, 1 skipped in 0.01s", 1.0), Run(1, "F\n1 failed in 0.01s", 1.0)):
        assert not run.is_skipped
