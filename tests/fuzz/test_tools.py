"""Whatever a tool is given, it answers or refuses by name, and nothing that was ever acknowledged is lost."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempalace_mcp.core.errors import PalaceError
from mempalace_mcp.runtime.app import App
from mempalace_mcp.server.tools.registry import FULL
from mempalace_mcp.server.tools.schema import input_schema
from tests.fuzz.arguments import some_arguments
from tests.fuzz.support import SEEDS, examples, promptly
from tests.palace.support import opened
from tests.server.tools.support import Client, check_refusal

BLAMELESS = {"invalid_argument", "not_found", "conflict"}
"""With these a call may be refused in a palace that is well."""

SCHEMAS = {tool.name: input_schema(tool.arguments) for tool in FULL}
TOOLS = sorted(SCHEMAS)
GIVEN_OUT = {"drawer_id": "drawer_id", "next_cursor": "cursor", "subject": "entity", "wing": "wing", "room": "room"}
"""Values of answers, and the arguments that take them."""

TABLES = ("drawers", "versions", "facts", "diary", "entities", "predicates", "wings", "rooms")


class Witness:
    """Calls tools on a palace of its own and remembers what they acknowledged."""

    def __init__(self, app: App, folder: Path) -> None:
        self._app = app
        self._client = Client(app)
        self._contents: set[str] = set()
        self.known: dict[str, deque[str]] = {
            "paths": deque([str(folder), "/nowhere", "relative", "~nobody", "x" * 5000])
        }

    def attempt(self, tool: str, arguments: Any) -> bool:
        """Was it answered? If not, it was refused as it should be, and nothing has changed."""
        before = self.counts()
        answer = self._call(tool, arguments)
        after = self.counts()
        if isinstance(answer, PalaceError):
            check_refusal(answer)
            assert answer.code in BLAMELESS, (tool, arguments, answer)
            assert answer.argument, (tool, arguments, answer)
            assert after == before, (tool, arguments)
            return False
        assert all(after[table] >= before[table] for table in TABLES), (tool, arguments, before, after)
        self._note(tool, arguments, answer)
        return True

    def _call(self, tool: str, arguments: Any) -> dict[str, Any] | PalaceError:
        with promptly():
            try:
                return self._client.call(tool, **arguments)
            except PalaceError as error:
                return error

    def counts(self) -> dict[str, int]:
        """Rows that are never deleted, however much is moved to the trash."""
        columns = ", ".join(f"(SELECT count(*) FROM {table})" for table in TABLES)
        with self._app.database.read() as connection:
            return dict(zip(TABLES, connection.execute(f"SELECT {columns}").fetchone(), strict=True))

    def verify(self) -> None:
        """Every text that was acknowledged is there still, as the latest version or as an earlier one."""
        with self._app.database.read() as connection:
            rows = connection.execute("SELECT content FROM drawers UNION SELECT content FROM versions").fetchall()
            assert self._contents <= {row[0] for row in rows}
        assert self._app.database.integrity() == []

    def _note(self, tool: str, arguments: Any, answer: dict[str, Any]) -> None:
        match tool:
            case "add_drawer" | "update_drawer" if arguments.get("content"):
                self._contents.add(arguments["content"])
                [drawer] = self._client.call("get_drawers", drawer_ids=[answer["drawer_id"]])["drawers"]
                assert drawer["content"] == arguments["content"]
            case "checkpoint":
                self._contents.update(item["content"] for item in arguments.get("items", ()))
            case "diary_write":
                self._contents.add(arguments["entry"])
        self._learn(answer)

    def _learn(self, value: Any) -> None:
        """Remember what later calls may ask for."""
        if isinstance(value, list):
            for item in value[:3]:
                self._learn(item)
        elif isinstance(value, dict):
            for name, item in value.items():
                if isinstance(item, str) and name in GIVEN_OUT:
                    self._remember(GIVEN_OUT[name], item)
                self._learn(item)

    def _remember(self, argument: str, value: str) -> None:
        names = (argument, "drawer_ids", "source_drawer_id") if argument == "drawer_id" else (argument,)
        for name in names:
            self.known.setdefault(name, deque(maxlen=20)).append(value)


@pytest.fixture(scope="module")
def witness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Witness]:
    """A palace for all examples; in the end it holds everything."""
    directory = tmp_path_factory.mktemp("tools")
    (directory / "notes").mkdir()
    (directory / "notes" / "tea.md").write_text("# Tea\n\nDarjeeling, three minutes.\n", encoding="utf-8")
    with opened(directory / "palace", PALACE_INDEX="exact", PALACE_IMPORT_ROOTS=str(directory)) as app:
        witness = Witness(app, directory / "notes")
        yield witness
        witness.verify()


@examples(60)
@given(SEEDS, st.lists(st.sampled_from(TOOLS), min_size=1, max_size=8))
def test_every_call_is_answered_or_refused_by_name(
    witness: Witness, tally: Counter[str], seed: int, tools: list[str]
) -> None:
    dice = Random(seed)
    for tool in tools:
        arguments = some_arguments(dice, SCHEMAS[tool], witness.known)
        if tool == "import_path" and isinstance(arguments.get("paths"), list):
            arguments["paths"] = [path for path in arguments["paths"] if path in witness.known["paths"]]
        tally["calls answered" if witness.attempt(tool, arguments) else "calls refused"] += 1
