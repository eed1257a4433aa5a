"""Try every foreign client of tests/clients/clients.toml against the real server, over every transport it has.

    python -m scripts.clients                      # all of them; Node.js comes from npm, into the folder of environments
    python -m scripts.clients --only fastmcp mcp-remote

Prints a table, and exits with 1 if a client found anything that clients.toml does not expect.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import mempalace_mcp
from tests.clients.catalogue import Catalogue, Client, Way
from tests.clients.environments import Environments, NotInstalled
from tests.clients.jobs import Reference
from tests.clients.judging import STEPS, Verdict, judge
from tests.clients.running import probe
from tests.clients.servers import OWN_PROGRAM

PAGE = Path(__file__).parents[1] / "docs" / "clients.md"
BEGIN, END = "<!-- results -->\n", "<!-- end of results -->\n"
Results = Mapping[tuple[str, str], Verdict]
"""By the id of the client and the name of the way."""


def table(catalogue: Catalogue, results: Results) -> Iterator[str]:
    """What was found, in Markdown."""
    yield f"| client | version | over | {' | '.join(STEPS.values())} |"
    yield "|---" * (len(STEPS) + 3) + "|"
    for (identifier, way), verdict in results.items():
        client = catalogue.clients[identifier]
        yield f"| {client.name} | {client.version} | {way} | {' | '.join(verdict.cells[step] for step in STEPS)} |"


def reasons(clients: Sequence[Client]) -> Iterator[str]:
    """Why what is expected to fail does, in Markdown."""
    for client in clients:
        for limit in client.limits:
            steps = ", ".join(STEPS[step] for step in limit.steps)
            yield f"- {client.name} over {' and '.join(limit.ways)}, {steps}: {limit.reason}"


def arguments(catalogue: Catalogue) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mempalace-mcp" / "clients"
    parser.add_argument("--only", nargs="+", choices=sorted(catalogue.clients), metavar="ID", help="only these clients")
    parser.add_argument("--environments", type=Path, default=cache, help="folder for what is installed (%(default)s)")
    parser.add_argument(
        "--server", type=shlex.split, default=OWN_PROGRAM, metavar="COMMAND", help="another mempalace-mcp to try"
    )
    parser.add_argument("--page", action="store_true", help="write the results into docs/clients.md")
    options = parser.parse_args()
    if options.page and (options.only or options.server != OWN_PROGRAM):
        parser.error("--page is for a run of all clients with the server of this checkout")
    return options


def examine(
    catalogue: Catalogue, environments: Environments, ways: Sequence[tuple[Client, Way]], program: Sequence[str]
) -> Results:
    """Run everything, and judge it."""
    reference = Reference.ask(program)
    results = {}
    for client, way in ways:
        report = probe(environments, catalogue, client, way, program)
        verdict = judge(client, way, report, reference)
        results[client.id, way.name] = verdict
        print(f"{client.name} over {way.name}: {verdict.cells}", file=sys.stderr)
        if verdict.surprises:
            print("   " + "\n   ".join(verdict.surprises), file=sys.stderr)
    return results


def main() -> None:
    """Install what is missing, try the clients, tell what came of it."""
    catalogue = Catalogue.read()
    options = arguments(catalogue)
    clients = [each for each in catalogue.clients.values() if not options.only or each.id in options.only]
    ways = [(client, way) for client in clients for way in client.ways]
    try:
        results = examine(catalogue, Environments(options.environments, catalogue), ways, options.server)
    except NotInstalled as error:
        sys.exit(str(error))
    today = datetime.now(UTC).date()
    head = f"mempalace-mcp {mempalace_mcp.__version__}, {today}."
    shown = "\n".join([head, "", *table(catalogue, results), "", *reasons(clients)]) + "\n"
    print(shown)
    if options.page:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{shown}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    surprises = [each for verdict in results.values() for each in verdict.surprises]
    sys.exit("\n".join(surprises) if surprises else 0)


if __name__ == "__main__":
    main()
