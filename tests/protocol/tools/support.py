"""What the tests of the tools share: a context that must not be touched, and refusals as a client sees them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import pytest

from mempalace_mcp.core.deadline import Deadline
from mempalace_mcp.core.errors import PalaceError
from mempalace_mcp.protocol.tools.table import ToolTable


class Untouched:
    """A context for calls that must be refused before any work."""

    @property
    def palace(self) -> NoReturn:
        raise AssertionError("the palace was asked")

    def status(self) -> dict[str, Any]:
        raise AssertionError("the status was asked for")

    def reconnect(self) -> dict[str, Any]:
        raise AssertionError("the stores were reopened")

    def import_paths(
        self, paths: Sequence[str], *, wing: str | None, dry_run: bool, deadline: Deadline
    ) -> dict[str, Any]:
        raise AssertionError("files were read")


def refusal(table: ToolTable, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The one shape in which a call is refused before any work; it must be fit for the wire."""
    with pytest.raises(PalaceError) as caught:
        table.call(Untouched(), name, arguments, Deadline())
    shown = caught.value.as_dict()
    assert len(json.dumps(shown, ensure_ascii=False).encode("utf-8")) < 2000
    return shown
