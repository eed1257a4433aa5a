"""What setup finds out about the server that it has entered: how many tools it offers, or what is wrong with it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mempalace_mcp.core.errors import ConfigurationError
from mempalace_mcp.server.tools.registry import CORE, FULL
from mempalace_mcp.setup import probe
from mempalace_mcp.setup.probe import count_tools


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


@pytest.mark.long
def test_the_tools_of_the_server_are_counted(tmp_path: Path) -> None:
    solo = (sys.executable, "-m", "mempalace_mcp", "--solo", "--palace", str(tmp_path / "palace"))
    assert count_tools((*solo, "--tools", "full")) == len(FULL)
    assert count_tools(solo) == len(CORE)


def test_messages_of_the_servers_own_are_passed_over() -> None:
    lines = ('{"method": "notifications/message"}', '{"id": 1, "result": {}}', '{"id": 2, "result": {"tools": [{}]}}')
    assert count_tools(python(f"print('''{chr(10).join(lines)}''')")) == 1


@pytest.mark.parametrize(
    ("launch", "told"),
    [
        (("/nowhere/at-all",), "/nowhere/at-all"),
        (python("import sys; sys.exit(3)"), "code 3: without a word"),
        (python("import sys; sys.exit('the palace is on fire')"), "code 1: the palace is on fire"),
        (python("print('Welcome!')"), "no answer of an MCP server: 'Welcome!'"),
        (python("print('[]')"), "no answer of an MCP server: '[]'"),
        (python("print('7')"), "no answer of an MCP server: '7'"),
        (python("import sys; sys.stdout.buffer.write(bytes(range(128, 256)))"), "no answer of an MCP server"),
        (python("""print('{"id": 1, "error": {"code": 1, "message": "no room"}}')"""), "it: no room"),
        (python("""print('{"id": 1, "error": "no room"}')"""), "no room"),
        (python("""print('{"id": 2, "result": {}}')"""), "no answer of an MCP server"),
        (python("""print('{"id": 2, "result": {"tools": 5}}')"""), '"tools": 5'),
        (python("import sys; sys.stdin.close()"), "code 0"),
    ],
    ids=[
        "missing",
        "code",
        "words",
        "text",
        "list",
        "number",
        "bytes",
        "refusal",
        "error",
        "result",
        "tools",
        "closed",
    ],
)
def test_whatever_is_wrong_with_a_server_is_told(launch: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigurationError, match="does not start as a client starts it") as refusal:
        count_tools(launch)
    assert told in refusal.value.message
    assert launch[0] in str(refusal.value.hint)


def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SECONDS", 0.2)
    with pytest.raises(ConfigurationError, match="no answer"):
        count_tools(python("import time; time.sleep(60)"))
