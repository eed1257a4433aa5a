"""The foreign clients as `clients.toml` lists them: what is installed, who drives it, over which ways, the limits."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
FILE = FOLDER / "clients.toml"
TRANSPORTS = ("stdio", "http", "sse")


@dataclass(frozen=True, slots=True)
class Way:
    """How a client reaches the server.

    `client` is the transport that the driver speaks, `server` the one that our server speaks. They differ where a proxy
    stands between them: its `command` is what a client over stdio starts, or else listens at a port for clients that
    ask for `path`.
    """

    client: str
    server: str
    command: Sequence[str] = ()
    path: str = ""

    @property
    def name(self) -> str:
        """As the tables call it."""
        return self.client if self.client == self.server else f"{self.client} to {self.server}"


@dataclass(frozen=True, slots=True)
class Limit:
    """A step that fails for a reason that is the client's own."""

    reason: str
    steps: Sequence[str]
    ways: Sequence[str]


@dataclass(frozen=True, slots=True)
class Client:
    """A program or library that nobody of this project wrote.

    `install` are the packages of PyPI (`python`) or npm (`node`), the first one being the client itself. The steps in
    `lacks` are those that it does not know, such as prompts; `setup` is a command that completes what was installed. A
    proxy has no driver of its own: `through` names the
    client that is used at its other end.
    """

    id: str
    name: str
    kind: str
    install: Sequence[str]
    licence: str
    ways: Sequence[Way]
    driver: str = ""
    through: str = ""
    lacks: Sequence[str] = ()
    setup: Sequence[str] = ()
    limits: Sequence[Limit] = ()

    @property
    def version(self) -> str:
        """Of the client itself."""
        return self.install[0].rpartition("==" if self.kind == "python" else "@")[2]

    def limit(self, way: Way, step: str) -> Limit | None:
        """Why this step is expected to fail, if it is."""
        return next((each for each in self.limits if step in each.steps and way.name in each.ways), None)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All clients, and the Node.js that runs those of npm."""

    node: str
    clients: Mapping[str, Client]

    @classmethod
    def read(cls) -> Catalogue:
        """From the file."""
        told = tomllib.loads(FILE.read_text(encoding="utf-8"))
        clients = [_client(each) for each in told["client"]]
        return cls(told["node"], {client.id: client for client in clients})

    def driven_by(self, client: Client) -> Client:
        """The client whose driver is used: itself, or the one at the other end of a proxy."""
        return self.clients[client.through] if client.through else client


def _client(told: dict[str, object]) -> Client:
    ways = [Way(each, each) if isinstance(each, str) else Way(**each) for each in told.pop("ways")]  # type: ignore[attr-defined]
    limits = [_limit(each, ways) for each in told.pop("limit", [])]  # type: ignore[attr-defined]
    return Client(**told, ways=ways, limits=limits)  # type: ignore[arg-type]


def _limit(told: dict[str, object], ways: Sequence[Way]) -> Limit:
    return Limit(**{"ways": [way.name for way in ways], **told})  # type: ignore[arg-type]
