"""Let real clients work on a question, with the hooks that setup writes, and look what was filed.

    python -m scripts.try_hooks             # all of them
    python -m scripts.try_hooks codex       # some, by their ids

Needs npm; clients are installed as `scripts.clients` does it. A program on loopback stands in for the model. Each
client is asked twice: the first session must be filed, and what was filed must be in the context of the second one.
Prints the table of docs/hooks.md, and fails if a session is not filed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from mempalace_mcp.daemon.hook_reader import TAG
from tests.clients.catalogue import Catalogue, Client
from tests.clients.environments import Environment, Environments, cache_folder

PROGRAM = (sys.executable, "-m", "mempalace_mcp")
QUESTION = "Which key stops the crane of pier 7?"
ANSWER = "Hold the red key for nine seconds."
SECONDS = 180
SETTLE_SECONDS = 6.0
_USAGE = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}


@dataclass(frozen=True, slots=True)
class Trial:
    """A client: how it is asked, and what it needs to take the stand-in for its model. `reminds` says that it takes a
    text into the context of a session."""

    client: Client
    name: str
    command: Sequence[str]
    prepare: Callable[[Path, str], None]
    reminds: bool


def trials(catalogue: Catalogue) -> list[Trial]:
    """The clients that work without a login."""
    known = catalogue.clients
    opencode = Client("opencode", "OpenCode", "node", ["opencode-ai@1.18.33"], "MIT", ())
    codex = ("codex", "exec", "--dangerously-bypass-hook-trust", "--skip-git-repo-check", QUESTION)
    return [
        Trial(known["claude-code"], "claude-code", ("claude", "--print", QUESTION), lambda home, model: None, True),
        Trial(known["codex"], "codex", codex, _prepare_codex, True),
        Trial(known["gemini-cli"], "gemini", ("gemini", "--yolo", "-p", QUESTION), _prepare_gemini, True),
        Trial(opencode, "opencode", ("opencode", "run", QUESTION), _prepare_opencode, False),
    ]


def _prepare_codex(home: Path, model: str) -> None:
    file = home / ".codex" / "config.toml"
    provider = f'[model_providers.suite]\nname = "suite"\nbase_url = "{model}/v1"\nwire_api = "responses"\n'
    file.write_text(f'model = "scripted"\nmodel_provider = "suite"\n{file.read_text()}\n{provider}', encoding="utf-8")


def _prepare_gemini(home: Path, model: str) -> None:
    del model
    _change(home / ".gemini" / "settings.json", {"security": {"auth": {"selectedType": "gemini-api-key"}}})


def _prepare_opencode(home: Path, model: str) -> None:
    options = {"baseURL": f"{model}/v1", "apiKey": "none"}
    suite = {"npm": "@ai-sdk/openai-compatible", "options": options, "models": {"scripted": {}}}
    settings = {"provider": {"suite": suite}, "model": "suite/scripted"}
    _change(home / ".config" / "opencode" / "opencode.json", settings)


def _change(file: Path, settings: Mapping[str, Any]) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **settings}), encoding="utf-8")


class Model:
    """Answers every request with the same sentence, in the protocol of its maker, and remembers what was asked."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.address = f"http://127.0.0.1:{server.server_address[1]}"
        self.requests: list[str] = []

    def answer(self, path: str, body: bytes) -> tuple[str, str]:
        """The kind of the answer, and the answer."""
        self.requests.append(body.decode("utf-8", "replace"))
        events = _events(path)
        if events is None:
            return "application/json", json.dumps({"content": [{"type": "text", "text": "Yes."}]})
        return "text/event-stream", "".join(f"{line}\n\n" for line in events)


def _events(path: str) -> list[str] | None:
    """An answer as a stream of events; None for what is asked beside the turns."""
    if "/messages" in path:
        return [f"event: {each['type']}\ndata: {json.dumps(each)}" for each in _anthropic()]
    if "/responses" in path:
        return [f"event: {each['type']}\ndata: {json.dumps(each)}" for each in _openai_responses()]
    if "streamGenerateContent" in path:
        parts = {"content": {"role": "model", "parts": [{"text": ANSWER}]}, "finishReason": "STOP", "index": 0}
        return [f"data: {json.dumps({'candidates': [parts]})}"]
    if "chat/completions" in path:
        deltas: list[tuple[dict[str, str], str | None]] = [
            ({"role": "assistant", "content": ANSWER}, None),
            ({}, "stop"),
        ]
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "scripted"}
        choices = [{**chunk, "choices": [{"index": 0, "delta": d, "finish_reason": end}]} for d, end in deltas]
        return [*(f"data: {json.dumps(each)}" for each in choices), "data: [DONE]"]
    return None


def _anthropic() -> list[dict[str, Any]]:
    message = {"id": "m", "type": "message", "role": "assistant", "model": "scripted", "content": [], "usage": _USAGE}
    ended = {"delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 1}}
    return [
        {"type": "message_start", "message": {**message, "stop_reason": None, "stop_sequence": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": ANSWER}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", **ended},
        {"type": "message_stop"},
    ]


def _openai_responses() -> list[dict[str, Any]]:
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": ANSWER}]}
    return [
        {"type": "response.created", "response": {"id": "r"}},
        {"type": "response.output_item.done", "output_index": 0, "item": said},
        {"type": "response.completed", "response": {"id": "r", "usage": _USAGE}},
    ]


@contextmanager
def stand_in() -> Iterator[Model]:
    """A model that listens on loopback for the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            kind, text = model.answer(self.path, self.rfile.read(int(self.headers["Content-Length"] or 0)))
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *of: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    model = Model(server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield model
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def run(command: Sequence[str], home: Path, environment: Environment, model: Model) -> str:
    """What a program prints, in a project below that home directory.

    Raises:
        subprocess.CalledProcessError: it fails.
    """
    project = home / "harbour"
    project.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "CLAUDE", "CODEX"))}
    own = {"HOME": str(home), "PWD": str(project), "PALACE_IDLE_SECONDS": "30"}
    models = {"ANTHROPIC_BASE_URL": model.address, "ANTHROPIC_API_KEY": "none"}
    models |= {"GOOGLE_GEMINI_BASE_URL": model.address, "GEMINI_API_KEY": "none", "GEMINI_CLI_TRUST_WORKSPACE": "true"}
    finished = subprocess.run(
        command,
        cwd=project,
        env={**kept, **environment.variables, **models, **own},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=SECONDS,
        check=True,
    )
    return finished.stdout


def try_client(trial: Trial, environment: Environment) -> tuple[list[str], int, bool]:
    """The events that were heard, how many exchanges were filed, and whether the second session was reminded."""
    with tempfile.TemporaryDirectory(prefix="hooks", ignore_cleanup_errors=True) as folder, stand_in() as model:
        home = Path(folder).resolve()
        run([*PROGRAM, "setup", "--yes", "--client", trial.name, "--no-import"], home, environment, model)
        trial.prepare(home, model.address)
        for _ in range(2):
            model.requests.clear()
            run(trial.command, home, environment, model)
            time.sleep(SETTLE_SECONDS)  # a daemon reads a transcript a moment after its hook
        events = json.loads(run([*PROGRAM, "hook", "status", "--json"], home, environment, model))["events"]
        drawers = json.loads(run([*PROGRAM, "search", "--json", QUESTION], home, environment, model))["results"]
        run([*PROGRAM, "daemon", "stop"], home, environment, model)
        filed = sum(ANSWER in drawer["passage"] for drawer in drawers)
        return sorted({event["event"] for event in events}), filed, any(TAG in each for each in model.requests)


def main() -> int:
    """Try them; the exit code."""
    catalogue = Catalogue.read()
    environments = Environments(cache_folder(), catalogue)
    wanted, failures = sys.argv[1:], 0
    print(
        "| client | version | events heard | of two sessions filed | the second one reminded |\n|---|---|---|---|---|"
    )
    for trial in trials(catalogue):
        if wanted and trial.name not in wanted:
            continue
        events, filed, reminded = try_client(trial, environments.of(trial.client))
        told = ("yes" if reminded else "no") if trial.reminds else "it takes no text"
        print(f"| {trial.client.name} | {trial.client.version} | {', '.join(events)} | {filed} | {told} |", flush=True)
        failures += filed != 2 or (trial.reminds and not reminded)
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
