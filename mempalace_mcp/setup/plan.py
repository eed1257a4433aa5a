"""What setting up would change: a step for the server and one for the hooks of each client. Nothing is written here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from mempalace_mcp.core.place import DEFAULT_PALACE
from mempalace_mcp.setup.clients import NAME, Client, Launch, Place, found_places, launch_of, settings_file
from mempalace_mcp.setup.files import read_settings
from mempalace_mcp.setup.formats import MISSING, KeyPath, SettingsFault, existing, format_of, lookup, put
from mempalace_mcp.setup.histories import History, histories
from mempalace_mcp.setup.hooks import HOOKS, Hook, hook_within, is_hook_of
from mempalace_mcp.setup.journal import Put, Record
from mempalace_mcp.setup.machine import Machine
from mempalace_mcp.setup.plugins import Plugin, plugin_of


class State(StrEnum):
    """What is to be done about a step, or why nothing is."""

    ADD = "add"
    UPDATE = "update"
    THERE = "there"
    OTHER = "other"
    PLUGIN = "plugin"
    FAULT = "fault"


CHANGES = (State.ADD, State.UPDATE)
SERVER = "server"
HOOK = "hooks"


@dataclass(frozen=True, slots=True)
class Step:
    """One change of one file. `wanted` is what should stand there; `command` the client's own way to add a server."""

    client: str
    kind: str
    file: Path
    state: State
    wanted: tuple[Hook, ...] = ()
    command: Launch = ()
    note: str = ""

    @property
    def is_change(self) -> bool:
        """Is there something to do?"""
        return self.state in CHANGES


@dataclass(frozen=True, slots=True)
class ClientPlan:
    """What is to be done for a client, or for one of its variants."""

    client: Client
    place: Place
    server: Step
    hooks: Step | None

    @property
    def name(self) -> str:
        """The client's name, with the variant's."""
        return f"{self.client.name} {self.place.variant}".rstrip()

    @property
    def steps(self) -> list[Step]:
        """The changes, in their order."""
        return [step for step in (self.server, self.hooks) if step is not None and step.is_change]


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asked for: which clients, and what to leave out."""

    clients: tuple[str, ...] = ()
    hooks: bool = True
    imports: bool = True
    force: bool = False


@dataclass(frozen=True, slots=True)
class Planner:
    """Looks at a machine. `palace` is named in the commands if it is not the usual one."""

    machine: Machine
    palace: Path
    records: tuple[Record, ...] = ()
    imports: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    wish: Wish = field(default_factory=Wish)

    def plan(self) -> list[ClientPlan]:
        """What is to be done for each client that is there, or was asked for."""
        plans: list[ClientPlan] = []
        for client, place in found_places(self.machine, self.wish.clients):
            is_first = all(plan.client is not client for plan in plans)
            server = self._server(client, place)
            plans.append(
                ClientPlan(
                    client,
                    place,
                    server,
                    self._hooks(client) if is_first and self.wish.hooks else None,
                )
            )
        return plans

    @property
    def launch(self) -> Launch:
        """The command that clients start a session with."""
        return (*self.machine.own_command(), *self._palace_option)

    @property
    def _palace_option(self) -> Launch:
        usual = os.path.realpath(self.machine.path(DEFAULT_PALACE))
        return () if str(self.palace) == usual else ("--palace", str(self.palace))

    def histories(self) -> list[History]:
        """The histories in which something was written since setup imported them last into this palace."""
        found = histories(self.machine) if self.wish.imports else []
        return [history for history in found if self._is_wanted(history) and not self._is_known(history)]

    def _is_wanted(self, history: History) -> bool:
        return not self.wish.clients or any(map(history.is_of, self.wish.clients))

    def _is_known(self, history: History) -> bool:
        known = self.imports.get(history.agent, {})
        return known.get("palace") == str(self.palace) and history.last.isoformat() <= str(known.get("until"))

    def _server(self, client: Client, place: Place) -> Step:
        file = settings_file(self.machine, place)
        wanted = (Hook(client.path, client.entry(self.launch), is_element=False),)
        step = Step(client.id, SERVER, file, State.ADD, wanted, self._command(client, place))
        try:
            read = read_settings(file)
            data = format_of(file).read(read.text)
            entry = lookup(data, client.path)
            plugin = plugin_of(self.machine, client.id)
            if entry is MISSING:
                return self._missing(step, lookup(data, client.path[:-1]), plugin, read.text)
            if self._is_same(entry):
                twice = f"{plugin.name} starts it too: remove one of them" if plugin else _disabled(entry)
                return _with(step, State.THERE, twice)
            if self.wish.force or self._is_recorded(file, client.path, entry):
                put(format_of(file), read.text, client.path, wanted[0].value)
                return _with(step, State.UPDATE, "")
        except SettingsFault as fault:
            return _with(step, State.FAULT, _told(fault))
        started = (launch_of(entry) or ("something else",))[0]
        return _with(step, State.OTHER, f"another {NAME} is there and stays: {started} (--force replaces it)")

    def _missing(self, step: Step, servers: Any, plugin: Plugin | None, text: str) -> Step:
        """There is no entry of our name: is there a reason not to add one?"""
        if plugin and not self.wish.force:
            return _with(step, State.PLUGIN, f"{plugin.name} starts it already; an entry would start a second one")
        same = next((name for name, entry in _pairs(servers) if self._is_same(entry)), None)
        if same is not None:
            return _with(step, State.THERE, f"named {same}")
        put(format_of(step.file), text, step.wanted[0].path, step.wanted[0].value)
        return step

    def _command(self, client: Client, place: Place) -> Launch:
        program = self.machine.which(place.program) if place.program and client.adding else None
        return (program, *client.adding(self.launch)) if program and client.adding else ()

    def _is_same(self, entry: Any) -> bool:
        """Does the entry start our program with our arguments, by whatever path?"""
        found, ours = launch_of(entry), self.launch
        if found == ours or not found or found[1:] != ours[1:]:
            return found == ours
        program = self.machine.which(found[0])
        return program is not None and os.path.realpath(program) == os.path.realpath(ours[0])

    def _is_recorded(self, file: Path, path: KeyPath, value: Any) -> bool:
        """Did an earlier setup put it there?"""
        puts = [each for record in self.records if record.file == str(file) for each in record.puts]
        return any(each.path == path and each.value == value for each in puts)

    def _hooks(self, client: Client) -> Step | None:
        if client.id not in HOOKS:
            return None
        settings = HOOKS[client.id]
        file = self.machine.path(settings.file)
        launch = (*self.machine.own_command(), "hook", client.id, *self._palace_option)
        wanted = tuple(settings.hooks(self.machine, launch))
        step = Step(client.id, HOOK, file, State.ADD, wanted, note=settings.note)
        plugin = plugin_of(self.machine, client.id)
        if plugin and plugin.has_hooks:
            return _with(step, State.PLUGIN, "")
        try:
            text = read_settings(file).text
            _, puts = edited(file, text, step)
            is_off = bool(settings.switch) and lookup(format_of(file).read(text), settings.switch) is True
        except SettingsFault as fault:
            return _with(step, State.FAULT, _told(fault))
        off = f"{settings.switch[0]} keeps all hooks from running" if is_off else ""
        if not puts:
            return _with(step, State.THERE, off)
        state = State.ADD if all(each.previous is MISSING for each in puts) else State.UPDATE
        return _with(step, state, off or settings.note)


def edited(file: Path, text: str, step: Step) -> tuple[str, list[Put]]:
    """The text with all that a step wants, and what was put there; nothing if it is all there already.

    Raises:
        SettingsFault: the text is not valid, or something else stands on the way.
    """
    format, puts = format_of(file), []
    for hook in step.wanted:
        data = format.read(text)
        path = _path_for(data, hook, step)
        if path is None:
            continue
        previous = lookup(data, path) if data is not None else MISSING
        puts.append(Put(path, hook.value, len(existing(data, path)), previous))
        text = put(format, text, path, hook.value)
    return text, puts


def _path_for(data: Any, hook: Hook, step: Step) -> KeyPath | None:
    """Where the value is to be put; None if it is there, or something that serves as well."""
    there = lookup(data, hook.path) if data is not None else MISSING
    if hook.is_element:
        elements = there if isinstance(there, list) else []
        if hook.value in elements:
            return None
        ours = next((place for place, each in enumerate(elements) if is_hook_of(each, step.client)), None)
        if ours is None:
            return (*hook.path, len(elements))
        # Somebody has put commands of others beside ours: then it is theirs to keep.
        return (*hook.path, ours) if hook_within(elements[ours], step.client) == () else None
    if there is MISSING or step.kind == SERVER:
        return None if there == hook.value else hook.path
    if not hook.path and there != hook.value:
        if not is_hook_of(there, step.client):
            raise SettingsFault("another file of this name is there", hint="Rename it, then try again.")
        return hook.path
    return None


def _pairs(servers: Any) -> Iterator[tuple[str, Any]]:
    return iter(servers.items() if isinstance(servers, dict) else ())


def _disabled(entry: dict[str, Any]) -> str:
    is_off = entry.get("disabled") is True or entry.get("enabled") is False
    return "it is switched off in the client" if is_off else ""


def _with(step: Step, state: State, note: str) -> Step:
    return Step(
        step.client, step.kind, step.file, state, step.wanted, () if state is State.UPDATE else step.command, note
    )


def _told(fault: SettingsFault) -> str:
    return f"{fault.message}. {fault.hint}" if fault.hint else fault.message
