"""Try every foreign client of tests/clients/clients.toml against the real server, over every transport it has.

    python -m scripts.clients                      # all of them; uv and npm install what is missing
    python -m scripts.clients --only fastmcp mcp-remote

Prints tables, and exits with 1 if a client found anything that clients.toml does not expect.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import mempalace_mcp
from tests.clients import snippets
from tests.clients.catalogue import Catalogue, Client, Way
from tests.clients.environments import Environments, NotInstalled, cache_folder
from tests.clients.jobs import Reference
from tests.clients.judging import STEPS, Verdict, judge
from tests.clients.running import probe
from tests.clients.servers import OWN_PROGRAM

BEGIN, END = "<!-- results -->\n", "<!-- end of results -->\n"


@dataclass(frozen=True, slots=True)
class Results:
    """By the client and the way; and what is wrong with the snippet of a client."""

    verdicts: Mapping[tuple[str, str], Verdict]
    snippets: Mapping[str, str | None]

    def surprises(self) -> list[str]:
        """All that nobody expected."""
        found = [each for verdict in self.verdicts.values() for each in verdict.surprises]
        return found + [f"the snippet of {client}: {fault}" for client, fault in self.snippets.items() if fault]


def table(catalogue: Catalogue, results: Results) -> Iterator[str]:
    """What was found, in Markdown."""
    yield f"| client | version | over | {' | '.join(STEPS.values())} |"
    yield "|---" * (len(STEPS) + 3) + "|"
    for (identifier, way), verdict in results.verdicts.items():
        client = catalogue.clients[identifier]
        yield f"| {client.name} | {client.version} | {way} | {' | '.join(verdict.cells[step] for step in STEPS)} |"
    yield ""
    yield "| snippet below | version | run |"
    yield "|---|---|---|"
    for identifier, fault in results.snippets.items():
        client = catalogue.clients[identifier]
        yield f"| {client.name} | {client.version} | {'**fails**' if fault else 'works'} |"


def reasons(clients: Sequence[Client]) -> Iterator[str]:
    """Why what is expected to fail does, in Markdown."""
    for client in clients:
        for limit in client.limits:
            steps = ", ".join(STEPS[step] for step in limit.steps)
            yield f"- {client.name} {client.version} over {' and '.join(limit.ways)}, {steps}: {limit.reason}"


def arguments(catalogue: Catalogue) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=sorted(catalogue.clients), metavar="ID", help="only these clients")
    parser.add_argument("--jobs", type=int, default=2, help="how many clients run at once (%(default)s)")
    parser.add_argument(
        "--environments", type=Path, default=cache_folder(), metavar="FOLDER", help="what is installed (%(default)s)"
    )
    parser.add_argument(
        "--server", type=shlex.split, default=OWN_PROGRAM, metavar="COMMAND", help="another mempalace-mcp to try"
    )
    parser.add_argument("--page", action="store_true", help="write the results into docs/clients.md")
    options = parser.parse_args()
    if options.page and (options.only or options.server != OWN_PROGRAM):
        parser.error("--page is for a run of all clients with the server of this checkout")
    return options


def examine(catalogue: Catalogue, clients: Sequence[Client], options: argparse.Namespace) -> Results:
    """Run everything, and judge it."""
    environments, reference = Environments(options.environments, catalogue), Reference.ask(options.server)

    def over(client: Client, way: Way) -> Verdict:
        report = probe(environments, catalogue, client, way, options.server)
        verdict = judge(client, way, report, reference)
        print("\n   ".join([f"{client.name} over {way.name}", *verdict.surprises]), file=sys.stderr)
        return verdict

    def shown(snippet: snippets.Snippet) -> str | None:
        return snippets.run(environments, catalogue, snippet, options.server)

    with ThreadPoolExecutor(options.jobs) as pool:
        probed = {(client.id, way.name): pool.submit(over, client, way) for client in clients for way in client.ways}
        chosen = {client.id for client in clients}
        run = {each.client: pool.submit(shown, each) for each in snippets.read_snippets() if each.client in chosen}
        return Results(
            {each: future.result() for each, future in probed.items()},
            {each: future.result() for each, future in run.items()},
        )


def main() -> None:
    """Install what is missing, try the clients, tell what came of it."""
    catalogue = Catalogue.read()
    options = arguments(catalogue)
    clients = [each for each in catalogue.clients.values() if not options.only or each.id in options.only]
    try:
        results = examine(catalogue, clients, options)
    except NotInstalled as error:
        sys.exit(str(error))
    head = f"mempalace-mcp {mempalace_mcp.__version__}, {datetime.now(UTC).date()}."
    shown = "\n".join([head, "", *table(catalogue, results), "", *reasons(clients)]) + "\n"
    print(shown)
    if options.page:
        before, _, rest = snippets.PAGE.read_text(encoding="utf-8").partition(BEGIN)
        text = f"{before}{BEGIN}\n{shown}\n{END}{rest.partition(END)[2]}"
        snippets.PAGE.write_text(text, encoding="utf-8")
    surprises = results.surprises()
    sys.exit(f"{len(surprises)} surprises:\n" + "\n".join(surprises) if surprises else 0)


if __name__ == "__main__":
    main()
