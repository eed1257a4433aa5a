"""Projects that opt out: conversations in a folder that a `.palaceignore` of its project ignores are not filed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from mempalace_mcp.palace.importers.documents import Document, Problem, SkippedLines, Source
from mempalace_mcp.palace.importers.files import unstorable
from mempalace_mcp.palace.importers.ignore_rules import read_own_rules
from mempalace_mcp.palace.importers.naming import project_folder, repository_of

LEFT_OUT = "left out by the .palaceignore of its project"

_ANYTHING = "a conversation"
"""A name that no pattern means, unless it means every name."""


def is_left_out(folder: str) -> bool:
    """Does a `.palaceignore`, from the root of the project down to this folder, ignore the folder or all in it?"""
    if not os.path.isabs(folder) or unstorable(folder) is not None:  # noqa: PTH117 - the path of another system is not
        return False
    place = Path(os.path.realpath(folder))
    while not os.path.isdir(place) and place != place.parent:  # noqa: PTH112 - a path that is too long is no error
        place = place.parent
    repository = repository_of(str(place))
    if repository is not None and not place.is_relative_to(repository) and _ignores(Path(repository), Path(repository)):
        return True
    return _ignores(project_folder(place), place)


def _ignores(root: Path, folder: Path) -> bool:
    rules = None
    inner = root
    for name in ("", *folder.relative_to(root).parts):
        inner = inner / name
        if rules is not None and rules.ignores(str(inner), is_folder=True):
            return True
        rules, _ = read_own_rules(inner, rules)
    return rules is not None and rules.ignores(str(folder / _ANYTHING), is_folder=False) is not None


def without_left_out(entries: Iterable[Document | Problem], source: Source) -> Iterator[Document | Problem]:
    """The entries without the conversations of such projects, and at the end how many documents these are."""
    known: dict[str, bool] = {}
    count = 0
    for entry in entries:
        folder = entry.metadata.get("cwd") if isinstance(entry, Document) else None
        if isinstance(folder, str) and folder not in known:
            known[folder] = is_left_out(folder)
        if isinstance(folder, str) and known[folder]:
            count += 1
        else:
            yield entry
    if count:
        yield SkippedLines(source.name, LEFT_OUT, count, ())
