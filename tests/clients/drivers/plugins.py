"""A program that has our plugin, without an account: one turn with a scripted model. Prints what the model was asked.

    python plugins.py claude-code "/mempalace:recall pump"

It is run by the Python of the suite, in the home directory into which the plugin was installed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import claude_code
import codex_cli
import gemini_cli
from driving import Failed
from scripted_model import ScriptedModel

claude_code.PREFIX = "mcp__plugin_mempalace_mempalace__"
CODEX = ("codex", "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox")


@dataclass(frozen=True)
class Program:
    """How it is started with a model at an address, and how that says that it is done."""

    model: Callable[[], ScriptedModel]
    command: Callable[[str], Sequence[str]]
    environment: Callable[[str], Mapping[str, str]]
    done: str


def codex_command(address: str) -> list[str]:
    """Settings come beside those that its file has from the plugin; hooks that nobody has approved yet are run."""
    settings = {
        "model": "scripted",
        "model_provider": "suite",
        "model_providers.suite.name": "suite",
        "model_providers.suite.base_url": f"{address}/v1",
        "model_providers.suite.wire_api": "responses",
    }
    options = [part for key, value in settings.items() for part in ("-c", f"{key}={json.dumps(value)}")]
    return [*CODEX, "--dangerously-bypass-hook-trust", *options]


PROGRAMS = {
    "claude-code": Program(
        claude_code.Model,
        lambda address: ("claude", "--print"),
        lambda address: {
            "ANTHROPIC_BASE_URL": address,
            "ANTHROPIC_API_KEY": "none",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "ENABLE_TOOL_SEARCH": "false",
            "MCP_CONNECTION_NONBLOCKING": "0",  # it would not wait for the servers of plugins
        },
        claude_code.written({"type": "text", "text": ""}, {"type": "text_delta", "text": "Done."}),
    ),
    "codex": Program(
        codex_cli.Model,
        codex_command,
        lambda address: {},
        codex_cli.written(
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Done."}]}
        ),
    ),
    "gemini": Program(
        gemini_cli.Model,
        lambda address: gemini_cli.COMMAND,
        lambda address: {
            "GEMINI_API_KEY": "none",
            "GOOGLE_GEMINI_BASE_URL": address,
            "GEMINI_CLI_TRUST_WORKSPACE": "true",
        },
        gemini_cli.written({"text": "Done."}),
    ),
}


def main() -> None:
    """Start it with the prompt; print its first request; let it end."""
    program, model = PROGRAMS[sys.argv[1]], PROGRAMS[sys.argv[1]].model()
    process = subprocess.Popen(
        [*program.command(model.address), sys.argv[2]],
        env={**os.environ, **program.environment(model.address)},
        stdout=sys.stderr,
        stdin=subprocess.DEVNULL,
    )
    print(json.dumps(model.turn(process)))
    while process.poll() is None:
        model.reply(program.done)
        try:
            model.turn(process)
        except Failed:
            break
    process.wait(60)


if __name__ == "__main__":
    main()
