"""The palace: everything an agent can do with it, over any transport or from the command line.

Synchronous and thread-safe. Arguments arrive as callers wrote them and are verified here; answers are typed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from mempalace_mcp.core import text
from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.clock import Calendar
from mempalace_mcp.core.errors import InvalidArgument, NotFound
from mempalace_mcp.core.model import (
    CheckpointItem,
    CheckpointReport,
    Completion,
    Deletion,
    DiaryEntry,
    Drawer,
    DrawerFilter,
    DrawerVersion,
    Filed,
    Found,
    NewDrawer,
    NewFact,
    Page,
    Priority,
    Restoration,
    Room,
    Span,
    Taxonomy,
    Wing,
)
from mempalace_mcp.core.text import MAX_NAME_BYTES
from mempalace_mcp.palace import arguments, chunking
from mempalace_mcp.palace.arguments import MAX_ITEMS, ChangeArguments, FilingArguments, FilterArguments, ImportOptions
from mempalace_mcp.palace.chunk_embedder import ChunkEmbedder
from mempalace_mcp.palace.facts import FactOperations
from mempalace_mcp.palace.navigation import NavigationOperations, no_room, no_wing
from mempalace_mcp.palace.search import SearchOperations
from mempalace_mcp.palace.stores import Stores
from mempalace_mcp.palace.tunnels import TunnelOperations
from mempalace_mcp.palace.wake_up import WakeUpOperations
from mempalace_mcp.storage import foreign_ids
from mempalace_mcp.storage.connection import Connection
from mempalace_mcp.storage.drawers import unknown_drawer
from mempalace_mcp.storage.queries import ALL, Names
from mempalace_mcp.storage.transactions import Transaction, Work

if TYPE_CHECKING:
    from mempalace_mcp.palace.import_report import ImportStep

T = TypeVar("T")

INTERACTIVE_ITEMS = 16
SAMPLE = 5
COMPLETIONS = 100
"""The most names that a completion proposes."""

Chunked = tuple[NewDrawer, Sequence[Span]]


class DrawerOperations:
    """Filing, reading, changing, deleting and restoring drawers."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def add_drawer(
        self,
        wing: str,
        room: str,
        content: str,
        *,
        added_by: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        deadline: Deadline | None = None,
        **provenance: Unpack[FilingArguments],
    ) -> Filed:
        """File a text verbatim. A live drawer with the same text, room, source and time is returned instead, unless
        another one has taken its place."""
        drawer = arguments.read_drawer(
            self._stores.calendar, wing, room, content, added_by=added_by, metadata=metadata, **provenance
        )
        return self.file([drawer], deadline)[0]

    def file(self, drawers: Sequence[NewDrawer], deadline: Deadline | None = None) -> list[Filed]:
        """File verified drawers in one transaction."""
        chunked = [_chunked(drawer) for drawer in drawers]
        store = self._stores.drawers
        filed = self._stores.writer.write(
            lambda tx: [store.file(tx, drawer, spans) for drawer, spans in chunked], deadline or Deadline()
        )
        if any(each.created for each in filed):
            self._stores.filed()
        return filed

    def update_drawer(
        self,
        drawer_id: str,
        *,
        content: str | None = None,
        wing: str | None = None,
        room: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        deadline: Deadline | None = None,
        **provenance: Unpack[ChangeArguments],
    ) -> Drawer:
        """Change a live drawer. It keeps its id, and its earlier state becomes a version."""
        known = arguments.read_id(drawer_id)
        changes = arguments.read_changes(self._stores.calendar, content, wing, room, metadata, **provenance)
        spans = None if changes.content is None else chunking.split(changes.content)
        store = self._stores.drawers
        drawer = self._stores.writer.write(lambda tx: store.update(tx, known, changes, spans), deadline or Deadline())
        self._stores.filed()
        return drawer

    def delete_drawers(
        self,
        *,
        drawer_ids: Sequence[str] | None = None,
        dry_run: bool | None = None,
        deadline: Deadline | None = None,
        **filters: Unpack[FilterArguments],
    ) -> Deletion:
        """Move drawers to the trash: by ids (at once unless `dry_run`), or by filters (only if `dry_run` is False)."""
        chosen = arguments.read_choice(self._stores.calendar, drawer_ids, **filters)
        if isinstance(chosen, DrawerFilter):
            return self._delete_by_filter(chosen, dry_run is not False, deadline or Deadline())
        return self._delete_by_ids(chosen, bool(dry_run), deadline or Deadline())

    def restore_drawers(self, drawer_ids: Sequence[str], *, deadline: Deadline | None = None) -> Restoration:
        """Bring drawers back from the trash."""
        wanted = arguments.read_ids(drawer_ids)
        store = self._stores.drawers
        restored = self._stores.writer.write(lambda tx: store.restore(tx, wanted), deadline or Deadline())
        self._stores.filed()
        return Restoration(restored, [each for each in wanted if each not in set(restored)])

    def get_drawers(self, drawer_ids: Sequence[str]) -> Found:
        """Live drawers by id, in the order asked, verbatim; also by the id that a drawer had in another memory."""
        with self._stores.reader.read() as connection:
            wanted = arguments.read_ids(self._present_ids(connection, drawer_ids))
            drawers = self._stores.drawers.get(connection, wanted)
        found = {drawer.drawer_id for drawer in drawers}
        return Found(drawers, [each for each in wanted if each not in found])

    def read_drawer(self, drawer_id: str) -> Drawer:
        """One live drawer; also by the id that it had in another memory.

        Raises:
            InvalidArgument: there are several ids in it.
            NotFound: no live drawer has that id.
        """
        with self._stores.reader.read() as connection:
            known, *others = self._present_ids(connection, [drawer_id])
            if others:
                raise InvalidArgument(
                    "drawer_id holds several ids", argument="drawer_id", hint="get_drawers reads several drawers."
                )
            drawers = self._stores.drawers.get(connection, [arguments.read_id(known)])
        if not drawers:
            raise unknown_drawer(known)
        return drawers[0]

    def _present_ids(self, connection: Connection, drawer_ids: Sequence[str]) -> list[str]:
        """The ids with those of this palace for old ones. One that leads to no drawer of the caller stays as it is."""
        listed = {each: arguments.split_ids(each) for each in drawer_ids if arguments.is_foreign_id(each)}
        if not listed:
            return list(drawer_ids)
        known = foreign_ids.find_drawers(connection, [*listed, *(part for parts in listed.values() for part in parts)])
        found = {each.drawer_id for each in self._stores.drawers.get(connection, list(known.values()))}
        live = {old: id for old, id in known.items() if id in found}
        wanted: list[str] = []
        for each in drawer_ids:
            # an old id may hold blanks or commas itself
            parts = [each] if each in live else listed.get(each) or [each]
            ids = [live.get(part, part) for part in parts]
            wanted += [each] if any(map(arguments.is_foreign_id, ids)) else ids
        return wanted

    def versions(self, drawer_id: str) -> list[DrawerVersion]:
        """The states of a drawer before each of its updates, oldest first."""
        known = arguments.read_id(drawer_id)
        with self._stores.reader.read() as connection:
            return self._stores.drawers.versions(connection, known)

    def list_drawers(
        self, *, limit: int = 20, cursor: str | None = None, **filters: Unpack[FilterArguments]
    ) -> Page[Drawer]:
        """Live drawers, newest first."""
        chosen = arguments.read_filter(self._stores.calendar, **filters)
        arguments.read_limit(limit)
        with self._stores.reader.read() as connection:
            return self._stores.drawers.page(connection, chosen, limit, arguments.present(cursor))

    def _delete_by_ids(self, drawer_ids: Sequence[str], dry_run: bool, deadline: Deadline) -> Deletion:
        store = self._stores.drawers

        def look(connection: Connection) -> Deletion:
            live = store.get(connection, drawer_ids)
            found = {drawer.drawer_id for drawer in live}
            missing = [each for each in drawer_ids if each not in found]
            return Deletion(len(live), 0, True, missing, live[:SAMPLE])

        return self._delete(look, lambda tx: store.delete(tx, drawer_ids), dry_run, deadline)

    def _delete_by_filter(self, chosen: DrawerFilter, dry_run: bool, deadline: Deadline) -> Deletion:
        store = self._stores.drawers

        def look(connection: Connection) -> Deletion:
            sample = store.page(connection, chosen, SAMPLE, None)
            return Deletion(sample.total, 0, True, (), sample.items, chosen.since, chosen.before)

        return self._delete(
            look, lambda tx: store.delete(tx, store.matching(tx.connection, chosen, ALL)), dry_run, deadline
        )

    def _delete(
        self,
        look: Callable[[Connection], Deletion],
        delete: Work[list[str]],
        dry_run: bool,
        deadline: Deadline,
    ) -> Deletion:
        """Find the drawers to delete and, unless it is a dry run, delete them in the same transaction."""

        def work(tx: Transaction) -> Deletion:
            seen = look(tx.connection)
            return replace(seen, deleted=len(delete(tx)), dry_run=False)

        if not dry_run:
            return self._stores.writer.write(work, deadline)
        with self._stores.reader.read() as connection:
            return look(connection)


class DiaryOperations:
    """Writing and reading the diaries of agents."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def diary_write(
        self,
        agent_name: str,
        entry: str,
        *,
        topic: str = "general",
        wing: str | None = None,
        deadline: Deadline | None = None,
    ) -> DiaryEntry:
        """Add an entry to an agent's diary; it is also a drawer."""
        write = self._diary_work(agent_name, entry, topic, wing)
        written = self._stores.writer.write(write, deadline or Deadline())
        self._stores.filed()
        return written

    def diary_read(
        self, agent_name: str, *, last_n: int = 10, topic: str | None = None, cursor: str | None = None
    ) -> Page[DiaryEntry]:
        """An agent's diary, newest first."""
        agent = text.read_name(agent_name, "agent_name")
        arguments.read_limit(last_n, "last_n")
        subject = arguments.read_optional_shown(topic, "topic")
        with self._stores.reader.read() as connection:
            return self._stores.diary.page(connection, agent.key, subject, last_n, arguments.present(cursor))

    def _diary_work(
        self, agent_name: str, entry: str, topic: str = "general", wing: str | None = None
    ) -> Callable[[Transaction], DiaryEntry]:
        agent = text.read_name(agent_name, "agent_name")
        place = arguments.read_optional_name(wing, "wing")
        subject = text.read_name(topic or "general", "topic").shown
        text.verify_content(entry, "entry")
        spans = chunking.split(entry)
        return lambda tx: self._stores.diary.write(tx, agent, entry, subject, place, spans)


class PlaceOperations:
    """Wings, rooms, the drawers in them, and the completion of names."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def get_taxonomy(self, *, wing: str | None = None) -> Taxonomy:
        """Wings and rooms with their live drawers."""
        key = arguments.read_optional_key(wing, "wing")
        with self._stores.reader.read() as connection:
            rooms = self._stores.drawers.taxonomy(connection, key)
        return Taxonomy(rooms, sum(room.drawers for room in rooms))

    def get_wing(self, wing: str) -> Wing:
        """A wing and its rooms; also one whose drawers are all gone."""
        asked = text.read_name(wing, "wing")
        with self._stores.reader.read() as connection:
            found = self._stores.drawers.find_wing(connection, asked.key)
            if found is None:
                raise no_wing(asked)
            rooms = self._stores.drawers.taxonomy(connection, asked.key)
        return Wing(found.shown, rooms, sum(room.drawers for room in rooms))

    def get_room(self, wing: str, room: str, *, limit: int = arguments.MAX_LIMIT) -> Room:
        """A room and its newest drawers."""
        asked, inside = text.read_name(wing, "wing"), text.read_name(room, "room")
        arguments.read_limit(limit)
        with self._stores.reader.read() as connection:
            found = self._stores.drawers.find_room(connection, asked.key, inside.key)
            if found is None:
                raise no_room(asked, inside)
            place = DrawerFilter(wing=asked.key, room=inside.key)
            page = self._stores.drawers.page(connection, place, limit, None)
        return Room(found.wing.shown, found.room.shown, page)

    def get_drawer(self, wing: str, room: str, drawer_id: str) -> Drawer:
        """A live drawer that stands in that room."""
        place = text.read_name(wing, "wing").key, text.read_name(room, "room").key
        known = arguments.read_id(drawer_id)
        with self._stores.reader.read() as connection:
            for drawer in self._stores.drawers.get(connection, [known]):
                if (text.name_key(drawer.wing), text.name_key(drawer.room)) == place:
                    return drawer
        raise NotFound(
            f"no drawer {drawer_id} stands in that room",
            argument="drawer_id",
            hint="It was deleted or moved, or never was there; search and list_drawers tell where drawers stand.",
        )

    def complete_wing(self, begun: str) -> Completion:
        """Wings whose names begin like this, then wings whose names contain it."""
        with self._stores.reader.read() as connection:
            return self._names().wings(connection, _read_beginning(begun), COMPLETIONS)

    def complete_room(self, begun: str, *, wing: str | None = None) -> Completion:
        """Rooms whose names begin like this, then rooms whose names contain it; of one wing or of all."""
        inside = arguments.read_optional_key(wing, "wing")
        with self._stores.reader.read() as connection:
            return self._names().rooms(connection, _read_beginning(begun), COMPLETIONS, inside)

    def complete_agent(self, begun: str) -> Completion:
        """Agents with a diary whose names begin like this, then those whose names contain it."""
        with self._stores.reader.read() as connection:
            return self._names().agents(connection, _read_beginning(begun), COMPLETIONS)

    def complete_entity(self, begun: str) -> Completion:
        """Entities of facts whose names begin like this, then those whose names contain it."""
        with self._stores.reader.read() as connection:
            return self._names().entities(connection, _read_beginning(begun), COMPLETIONS)

    def _names(self) -> Names:
        return Names(self._stores.within)


class Palace(
    DrawerOperations,
    DiaryOperations,
    PlaceOperations,
    NavigationOperations,
    TunnelOperations,
    SearchOperations,
    FactOperations,
    WakeUpOperations,
):
    """One palace: all operations, on shared stores.

    Every method raises a `PalaceError` if it refuses the call, and then nothing was changed. An optional text that is
    empty means absent. `deadline` limits all waiting of a write.
    """

    def __init__(self, stores: Stores, chunk_embedder: ChunkEmbedder) -> None:
        SearchOperations.__init__(self, stores, chunk_embedder)  # the only part that keeps more than the stores

    def import_paths(self, paths: Sequence[Path], **options: Unpack[ImportOptions]) -> Iterator[ImportStep]:
        """File what the paths hold, step by step, as `ImportOperations.import_paths` says."""
        # Imported at the first use: the readers of all formats are a tenth of the start of a process.
        from mempalace_mcp.palace.importing import ImportOperations

        return ImportOperations(self._stores).import_paths(paths, **options)

    def checkpoint(
        self,
        items: Sequence[Mapping[str, Any]] = (),
        *,
        facts: Sequence[Mapping[str, Any]] = (),
        diary: Mapping[str, Any] | None = None,
        added_by: str | None = None,
        deadline: Deadline | None = None,
    ) -> CheckpointReport:
        """Store drawers, facts and a diary entry in one transaction, all or nothing.

        An error names its argument as in `items[2].content`.
        """
        if not items and not facts and not diary:
            raise InvalidArgument("there is nothing to store", argument="items", hint="Give items, facts or diary.")
        stores = self._stores
        drawers = _read_items(stores.calendar, items, arguments.read_optional_shown(added_by, "added_by"))
        new_facts = _read_facts(stores.calendar, facts)
        with _part("diary"):
            write_diary = self._diary_work(**diary) if diary else None

        def work(tx: Transaction) -> CheckpointReport:
            filed = [_in_part(f"items[{n}]", stores.drawers.file, tx, *each) for n, each in enumerate(drawers)]
            added = [_in_part(f"facts[{n}]", stores.graph.add, tx, fact) for n, fact in enumerate(new_facts)]
            return CheckpointReport(
                drawers=[CheckpointItem(each.drawer_id, each.created, each.near_duplicate_of) for each in filed],
                facts=[CheckpointItem(each.fact.fact_id, each.created) for each in added],
                diary=write_diary(tx) if write_diary else None,
            )

        report = stores.writer.write(work, deadline or Deadline())
        stores.filed()
        return report


def _chunked(drawer: NewDrawer) -> Chunked:
    return drawer, chunking.split(drawer.content)


def _read_items(calendar: Calendar, items: Sequence[Mapping[str, Any]], added_by: str | None) -> list[Chunked]:
    _verify_count(items, "items")
    priority = Priority.INTERACTIVE if len(items) <= INTERACTIVE_ITEMS else Priority.BULK
    drawers = []
    for position, item in enumerate(items):
        with _part(f"items[{position}]"):
            drawer = arguments.read_drawer(calendar, **item)
        drawers.append(_chunked(replace(drawer, added_by=drawer.added_by or added_by, priority=priority)))
    return drawers


def _read_facts(calendar: Calendar, facts: Sequence[Mapping[str, Any]]) -> list[NewFact]:
    _verify_count(facts, "facts")
    read = []
    for position, fact in enumerate(facts):
        with _part(f"facts[{position}]"):
            read.append(arguments.read_fact(calendar, **fact))
    return read


def _verify_count(items: Sequence[object], argument: str) -> None:
    if len(items) > MAX_ITEMS:
        raise InvalidArgument(
            f"{argument} holds {len(items)}; the limit is {MAX_ITEMS}",
            argument=argument,
            hint="Send several checkpoints.",
        )


def _in_part(name: str, step: Callable[..., T], *values: Any) -> T:
    with _part(name):
        return step(*values)


@contextmanager
def _part(name: str) -> Iterator[None]:
    """Let errors of one part of a checkpoint name that part, as in `items[2].content`."""
    try:
        yield
    except (InvalidArgument, NotFound) as error:
        argument = f"{name}.{error.argument}" if error.argument else name
        raise type(error)(f"{name}: {error.message}", argument=argument, hint=error.hint) from error


def _read_beginning(begun: str) -> str:
    return text.verify_text(begun, "value", MAX_NAME_BYTES)
