"""Break every promise on purpose and see a test notice: `python -m scripts.break_promises [P1 P5 ...]`.

The mistakes are those of `breakages.toml`. First their tests must pass on the project as it is. Then each mistake is
made alone, in a copy of the project in a temporary directory, and its test must fail there. All take a few minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

PROJECT = Path(__file__).parents[1]
TABLE = PROJECT / "scripts" / "breakages.toml"
LONGEST_SECONDS = 150.0
"""A test that does not end in that time has not noticed anything."""


@dataclass(frozen=True, slots=True)
class Breakage:
    """A mistake that breaks a promise: in `file`, below the project, `old` becomes `new`; `test` must notice."""

    promise: str
    mistake: str
    file: str
    old: str
    new: str
    test: str

    def broken(self, source: str) -> str:
        """The source with the mistake.

        Raises:
            ValueError: the passage is not there exactly once.
        """
        if source.count(self.old) != 1:
            raise ValueError(f"{self.file} holds {source.count(self.old)} times, not once: {self.old}")
        return source.replace(self.old, self.new)

    def make(self, project: Path) -> None:
        """Make the mistake in a project."""
        file = project / self.file
        file.write_text(self.broken(file.read_text(encoding="utf-8")), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Run:
    """What tests came to; `told` is what pytest printed."""

    code: int
    told: str
    seconds: float

    @property
    def reason(self) -> str:
        """The line that says why a test failed, or the last of all."""
        lines = self.told.splitlines()
        reasons = [line for line in lines if line.startswith("E  ")] or [line for line in lines if "Error" in line][-1:]
        return next(iter(reasons or lines[-1:]), "").removeprefix("E").strip(" |")

    @property
    def is_skipped(self) -> bool:
        """Were all tests skipped, because they need what this machine or account does not have?"""
        return self.code == pytest.ExitCode.OK and " passed" not in self.told.splitlines()[-1]


def read_breakages(table: Path = TABLE) -> list[Breakage]:
    """All of them, promise by promise."""
    promises = tomllib.loads(table.read_text(encoding="utf-8"))
    return [Breakage(promise, **each) for promise, breakages in promises.items() for each in breakages]


def main(promises: Sequence[str]) -> int:
    """Break these promises, or all; the exit code is 0 if every mistake was noticed that can be tried here."""
    breakages = read_breakages()
    unknown = set(promises) - {each.promise for each in breakages}
    if unknown:
        print(f"there is no promise {', '.join(sorted(unknown))}")
        return 2
    chosen = [each for each in breakages if not promises or each.promise in promises]
    with TemporaryDirectory(prefix="promises") as directory:
        whole = Path(directory, "whole")
        _copy(PROJECT, whole)
        if not _is_sound(whole, chosen):
            return 1
        tried = [_is_noticed(each, whole, Path(directory, "broken")) for each in chosen]
    print(f"{tried.count(True)} of {len(chosen)} mistakes were noticed, {tried.count(None)} cannot be tried here")
    return 1 if False in tried else 0


def _is_sound(whole: Path, breakages: Sequence[Breakage]) -> bool:
    """Do the tests pass without the mistakes?"""
    run = _test(whole, dict.fromkeys(each.test for each in breakages))
    sound = run.code == pytest.ExitCode.OK
    print(f"without a mistake: {run.told.splitlines()[-1]}" if sound else run.told, flush=True)
    return sound


def _is_noticed(breakage: Breakage, whole: Path, broken: Path) -> bool | None:
    """Does its test fail? None if it is skipped here."""
    _copy(whole, broken)
    breakage.make(broken)
    run = _test(broken, [breakage.test], LONGEST_SECONDS)
    shutil.rmtree(broken)
    noticed = None if run.is_skipped else run.code == pytest.ExitCode.TESTS_FAILED
    verdict = {True: "noticed", False: "NOT NOTICED", None: "cannot be tried here"}[noticed]
    print(f"{breakage.promise} {verdict} in {run.seconds:.0f} s: {breakage.mistake}\n   {run.reason[:160]}", flush=True)
    return noticed


def _copy(project: Path, destination: Path) -> None:
    """Nothing that is hidden is needed. Compiled files come along: they know which source they are of."""
    shutil.copytree(project, destination, ignore=shutil.ignore_patterns(".*"))


def _test(project: Path, tests: Iterable[str], longest: float | None = None) -> Run:
    command = [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(project)}
    began = time.monotonic()
    try:
        ended = subprocess.run(
            command, cwd=project, env=environment, capture_output=True, encoding="utf-8", timeout=longest
        )
    except subprocess.TimeoutExpired:
        return Run(-1, "the test does not end", time.monotonic() - began)
    return Run(ended.returncode, ended.stdout or ended.stderr, time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
