"""Run the official conformance suite, and by option the Inspector, against the real server and against the fixtures.

    npm install node@22 @modelcontextprotocol/conformance@0.2.0-alpha.12    # in a directory of its own
    python -m scripts.conformance --node node_modules/.bin/node --suite node_modules/@modelcontextprotocol/conformance

Prints a table, and exits with 1 if anything but what tests/conformance/expected.toml expects was found.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
EXPECTED = ROOT / "tests" / "conformance" / "expected.toml"
PAGE = ROOT / "docs" / "conformance.md"
BEGIN, END = "<!-- results -->\n", "<!-- end of results -->\n"
REVISIONS = ("2025-11-25", "2026-07-28")
SERVERS = ("palace", "fixtures")
OLDEST_NODE = 22
RESULTS = re.compile(r"server-(.+)-\d{4}-\d\d-\d\dT[\d-]+Z")


@dataclass(frozen=True, slots=True)
class Expected:
    """Why some scenarios, or single checks of them, fail."""

    reason: str
    servers: Sequence[str]
    revision: str
    entries: Sequence[str]


@dataclass(frozen=True, slots=True)
class Expectations:
    """What is known beforehand."""

    for_fixtures: frozenset[str]
    failures: Sequence[Expected]

    @classmethod
    def read(cls) -> Expectations:
        """From the file."""
        told = tomllib.loads(EXPECTED.read_text(encoding="utf-8"))
        return cls(frozenset(told["for_fixtures"]), [Expected(**each) for each in told["expected"]])

    def of(self, server: str, revision: str) -> set[str]:
        """What is expected to fail there."""
        applying = [each for each in self.failures if server in each.servers and each.revision == revision]
        return {entry for each in applying for entry in each.entries}


@dataclass(slots=True)
class Verdict:
    """What came of one scenario, in a few words, and what nobody expected of it."""

    words: str
    surprises: list[str] = field(default_factory=list)


Results = dict[str, dict[tuple[str, str], Verdict]]
"""By scenario, then by revision and server."""


def judge(scenario: str, checks: Sequence[Mapping[str, Any]], expected: set[str]) -> Verdict:
    """Compare what was found with what is expected."""
    failed = {check["id"] for check in checks if check["status"] == "FAILURE"}
    passed = [check for check in checks if check["status"] == "SUCCESS" and not check["id"].startswith("wire-schema")]
    excused = failed if scenario in expected else {each for each in failed if f"{scenario}:{each}" in expected}
    surprises = [f"{scenario}:{each} fails" for each in sorted(failed - excused)]
    if scenario in expected and not failed:
        surprises.append(f"{scenario} does not fail any more")
    for each in expected:
        name, _, check = each.partition(":")
        if check and name == scenario and check not in failed:
            surprises.append(f"{each} does not fail any more")
    counts = {"passed": len(passed), "expected": len(excused), "**failed**": len(failed - excused)}
    told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return Verdict(told or "not applicable", surprises)


def run_suite(suite: Sequence[str], url: str, revision: str) -> dict[str, list[dict[str, Any]]]:
    """The checks of every scenario that the revision lists."""
    with tempfile.TemporaryDirectory() as output:
        finished = subprocess.run(
            [*suite, "server", "--url", url, "--output-dir", output, "--requirements", revision],
            capture_output=True,
            text=True,
            check=False,
        )
        found = {}
        for directory in Path(output).iterdir():
            named = RESULTS.fullmatch(directory.name)
            if named is None:
                sys.exit(f"the suite wrote {directory.name}, which is no result known here")
            found[named[1]] = json.loads((directory / "checks.json").read_text(encoding="utf-8"))
    if not found:
        sys.exit(f"the suite found nothing:\n{finished.stdout}{finished.stderr}")
    return found


@contextmanager
def running(*command: str) -> Iterator[str]:
    """A process that ends with the block; the line it prints when it is ready."""
    process = subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    with process.stdout:
        try:
            yield process.stdout.readline()
        finally:
            process.terminate()
            process.wait(20)


@contextmanager
def palace() -> Iterator[tuple[str, Path]]:
    """The real server with a drawer in it; its address, and the directory of its palace."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "palace"
        with running(
            "mempalace_mcp", "serve", "--palace", str(path), "--port", "0", "--tools", "full", "--json"
        ) as line:
            address: str = json.loads(line)["address"]
            file_drawer(f"{address}/mcp")
            yield address, path


def file_drawer(url: str) -> None:
    """So that there is a resource to list and to read."""
    arguments = {"wing": "conformance", "room": "suite", "content": "A text to read."}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "add_drawer", "arguments": arguments}}
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(call).encode(), headers)) as answer:
        if json.load(answer)["result"]["isError"]:
            sys.exit("the server does not file a drawer")


def examine(suite: Sequence[str], addresses: Mapping[str, str], expectations: Expectations) -> Results:
    """Run everything, and judge it."""
    results: Results = {}
    for revision in REVISIONS:
        for server in SERVERS:
            expected = expectations.of(server, revision)
            found = run_suite(suite, f"{addresses[server]}/mcp", revision)
            for scenario, checks in found.items():
                told_nothing = server == "palace" and scenario in expectations.for_fixtures
                verdict = Verdict("for fixtures") if told_nothing else judge(scenario, checks, expected)
                results.setdefault(scenario, {})[revision, server] = verdict
    return results


def table(results: Results) -> Iterator[str]:
    """The results in Markdown."""
    columns = [(revision, server) for revision in REVISIONS for server in SERVERS]
    yield f"| scenario | {' | '.join(f'{revision}, {server}' for revision, server in columns)} |"
    yield "|---" * (len(columns) + 1) + "|"
    for scenario in sorted(results):
        cells = [results[scenario].get(column, Verdict("")).words for column in columns]
        yield f"| `{scenario}` | {' | '.join(cells)} |"


def reasons(expectations: Expectations) -> Iterator[str]:
    """Why what is expected to fail does, in Markdown."""
    for each in expectations.failures:
        entries = ", ".join(f"`{entry}`" for entry in each.entries)
        yield f"- {each.revision}, {' and '.join(each.servers)}: {entries}. {each.reason}"


def inspect(inspector: Sequence[str], address: str, path: Path) -> Iterator[str]:
    """List the tools with the Inspector and call one, over every transport; what went wrong."""
    ways = {
        "http": [f"{address}/mcp", "--transport", "http"],
        "sse": [f"{address}/sse", "--transport", "sse"],
        "stdio": ["--", sys.executable, "-m", "mempalace_mcp", "--palace", str(path)],
    }
    requests = {
        "tools/list": (["--method", "tools/list"], '"name": "search"'),
        "tools/call": (["--method", "tools/call", "--tool-name", "kg_stats"], '"isError": false'),
    }
    for way, target in ways.items():
        for method, (options, proof) in requests.items():
            command = [*inspector, "--cli", *options, *target]
            finished = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
            if finished.returncode or proof not in finished.stdout:
                yield f"the Inspector over {way}, {method}: {finished.stderr.strip() or finished.stdout.strip()}"
            else:
                print(f"The Inspector over {way}, {method}: ok")


def program(node: str, package: Path) -> tuple[list[str], str]:
    """How the only program of an npm package is started, and the package's version."""
    told = json.loads((package / "package.json").read_text(encoding="utf-8"))
    return [node, str(package / next(iter(told["bin"].values())))], told["version"]


def verify_node(node: str) -> None:
    """Return if this Node.js is new enough; exit otherwise."""
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        sys.exit(f"Node.js is {version.strip()}; the suite needs {OLDEST_NODE}: npm install node@{OLDEST_NODE} has one")


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--node", default="node", help=f"Node.js {OLDEST_NODE} or newer")
    parser.add_argument("--suite", type=Path, required=True, help="folder of @modelcontextprotocol/conformance")
    parser.add_argument("--inspector", type=Path, help="folder of @modelcontextprotocol/inspector: use it, too")
    parser.add_argument("--page", action="store_true", help="write the results into docs/conformance.md")
    return parser.parse_args()


def main() -> None:
    """Start the servers, run the suite, tell what came of it."""
    options = arguments()
    verify_node(options.node)
    suite, version = program(options.node, options.suite)
    expectations = Expectations.read()
    with palace() as (address, path), running("tests.conformance.fixture_server") as port:
        results = examine(suite, {"palace": address, "fixtures": f"http://127.0.0.1:{port.strip()}"}, expectations)
        surprises = [surprise for row in results.values() for each in row.values() for surprise in each.surprises]
        if options.inspector:
            surprises += inspect(program(options.node, options.inspector)[0], address, path)
    shown = f"Conformance suite {version}.\n\n" + "\n".join([*table(results), "", *reasons(expectations)]) + "\n"
    print(shown)
    if options.page:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{shown}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    sys.exit("\n".join(surprises) if surprises else 0)


if __name__ == "__main__":
    main()
