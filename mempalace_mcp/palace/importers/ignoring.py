"""What `.gitignore` files leave out."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from mempalace_mcp.palace.importers.bytestream import printable, read_text
from mempalace_mcp.palace.importers.document import SkippedFile, Source

NAME = ".gitignore"

_MOST_WILDCARDS = 3  # matching backtracks: with each more the worst case grows a hundredfold


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """The rules of one folder, and those of the folders around it, which it overrules."""

    folder: str
    patterns: GitIgnoreSpec
    outer: IgnoreRules | None

    def ignores(self, path: str, *, is_folder: bool) -> bool:
        """Is this path, below the folder, left out? What is below an ignored folder is not asked about."""
        rules: IgnoreRules | None = self
        while rules is not None:
            relative = os.path.relpath(path, rules.folder)
            verdict = rules.patterns.check_file(f"{relative}/" if is_folder else relative).include
            if verdict is not None:
                return verdict
            rules = rules.outer
        return False


def read_ignore_rules(folder: Path, outer: IgnoreRules | None) -> tuple[IgnoreRules | None, SkippedFile | None]:
    """The rules that hold in a folder: its own, if it has a `.gitignore`, before the outer ones; and what is wrong."""
    source = Source(folder / NAME, room="")
    try:
        text = read_text(source)
    except FileNotFoundError:
        return outer, None
    except OSError as error:
        return outer, SkippedFile(printable(source.name), f"unreadable: {error.strerror}")
    if isinstance(text, SkippedFile):
        return outer, None if text.reason == "no text" else text
    lines = [line.removesuffix("\r") for line in text.content.split("\n")]
    simple = [line for line in lines if _wildcards(line) <= _MOST_WILDCARDS]
    problem = None if len(simple) == len(lines) else source.skipped("patterns with too many wildcards are not heeded")
    return IgnoreRules(str(folder), _compile(simple), outer), problem


def _wildcards(pattern: str) -> int:
    return sum(1 if part == "**" else part.count("*") for part in pattern.split("/") if not pattern.startswith("#"))


def _compile(lines: list[str]) -> GitIgnoreSpec:
    """The patterns of all lines that are patterns; as in Git, others match nothing."""
    patterns: list[GitIgnoreSpecPattern] = []
    for line in lines:
        try:
            patterns += GitIgnoreSpec.from_lines([line]).patterns
        except (ValueError, re.error):
            continue
    return GitIgnoreSpec(patterns)
