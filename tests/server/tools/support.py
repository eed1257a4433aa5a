"""What the tests of the tools share: a client of a real palace, and a context that must not be touched."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.errors import PalaceError
from mempalace_mcp.runtime.app import App
from mempalace_mcp.runtime.context import AppContext
from mempalace_mcp.server.tools.registry import ToolTable, build_tools
from tests.palace.support import opened, seq_of

DRAWER = {"wing": "Kitchen", "room": "tea", "content": "Ada drinks Darjeeling in the morning."}
SHAPE_OF_REFUSALS = {"code", "message", "argument", "hint", "retryable"}
INDEXING_SECONDS = 30
LONGEST_REFUSAL = 2000


class Untouched:
    """A context for calls that must be refused before any work."""

    @property
    def palace(self) -> NoReturn:
        raise AssertionError("the palace was asked")

    def status(self) -> dict[str, Any]:
        raise AssertionError("the status was asked for")

    def reconnect(self) -> dict[str, Any]:
        raise AssertionError("the stores were reopened")

    def history(self, *, session: int | None, limit: int, cursor: str | None) -> dict[str, Any]:
        raise AssertionError("the history was asked for")

    def import_paths(
        self, paths: Sequence[str], *, wing: str | None, dry_run: bool, deadline: Deadline
    ) -> dict[str, Any]:
        raise AssertionError("files were read")


def refusal(table: ToolTable, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """How a call is refused before any work."""
    with pytest.raises(PalaceError) as caught:
        table.call(Untouched(), name, arguments, Deadline())
    return check_refusal(caught.value)


def check_refusal(error: PalaceError) -> dict[str, Any]:
    """The one shape of a refusal, after checking that it is one: short, fit for the wire, and says what to do."""
    shown = error.as_dict()
    assert set(shown) - {"retry_after"} == SHAPE_OF_REFUSALS
    assert len(json.dumps(shown, ensure_ascii=False, allow_nan=False).encode("utf-8")) < LONGEST_REFUSAL
    assert shown["message"]
    return shown


def strict_validator(schema: Mapping[str, Any]) -> Draft202012Validator:
    """Of answers and refusals: typed clients drop what is not declared, so there must be no such field."""
    return Draft202012Validator({**schema, "additionalProperties": False})


class Client:
    """Calls tools on a real palace and checks what every answer and every refusal has in common."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._table = build_tools("full")
        self._context = AppContext(app)
        self._validators = {
            definition["name"]: strict_validator(definition["outputSchema"]) for definition in self._table.definitions()
        }

    def call(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        """The answer, which must match the tool's output schema and be plain JSON."""
        answer = self._table.call(self._context, tool, arguments, Deadline())
        self._validators[tool].validate(answer)
        assert json.loads(json.dumps(answer, ensure_ascii=False, allow_nan=False).encode("utf-8")) == answer
        assert "error" not in answer
        assert answer.get("success") is not False
        return answer

    def refuse(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        """The refusal, which must have written nothing; what the indexer writes of its own accord is waited for."""
        if self.app.indexer.statistics().started:
            self.app.indexer.wait_until_idle(INDEXING_SECONDS)
        before = self.seq
        with pytest.raises(PalaceError) as caught:
            self._table.call(self._context, tool, arguments, Deadline())
        assert self.seq == before
        shown = check_refusal(caught.value)
        self._validators[tool].validate({"error": shown})
        return shown

    def attempt(self, tool: str, arguments: Mapping[str, Any]) -> None:
        """A call that may be answered or refused, and nothing else."""
        try:
            self.call(tool, **arguments)
        except PalaceError as error:
            check_refusal(error)

    def add(self, **changes: Any) -> str:
        """File a drawer and return its id."""
        return str(self.call("add_drawer", **{**DRAWER, **changes})["drawer_id"])

    def settle(self) -> None:
        """Wait until everything filed has its vector. A palace at work goes on writing, which a refusal must not."""
        self.app.wait_until_indexed()

    @property
    def seq(self) -> int:
        """The number of the last unit of work."""
        return seq_of(self.app)


@contextmanager
def open_client(directory: Path) -> Iterator[Client]:
    """A client of a palace in the directory, its model loaded."""
    with opened(directory, PALACE_INDEX="exact", PALACE_IMPORT_ROOTS=str(directory.parent)) as app:
        yield Client(app)
