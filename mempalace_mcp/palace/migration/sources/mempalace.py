"""MemPalace 3.x: drawers and diaries in Chroma's SQLite file, its knowledge graph, its tunnels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mempalace_mcp.core.clock import Zone
from mempalace_mcp.core.errors import InvalidArgument, PalaceError
from mempalace_mcp.core.foreign_database import ForeignDatabase, is_database, open_foreign
from mempalace_mcp.palace.migration.items import Entry, FactItem, Item, LeftOut, Options, TextItem
from mempalace_mcp.palace.migration.sources import chroma, mempalace_graph
from mempalace_mcp.palace.migration.sources.chroma import Collection, Piece
from mempalace_mcp.palace.migration.sources.pieces import joined
from mempalace_mcp.palace.migration.values import read_json, read_time, text_of

_DATABASE = "chroma.sqlite3"
_GRAPH = "knowledge_graph.sqlite3"
_SETTINGS = "config.json"
_TUNNELS = "tunnels.json"
_COLLECTION = "mempalace_drawers"
_CLOSETS = "closets"
_OTHER_BACKEND = "sqlite_exact.sqlite3"
_OURS = "palace.db"

_VARIABLES = ("MEMPALACE_PALACE_PATH", "MEMPALACE_PALACE", "MEMPAL_PALACE_PATH")
_TIMES = ("authored_at", "content_date", "filed_at", "date", "last_modified")
_ENTRY_TIMES = ("filed_at", "date")
"""The keys of a time, the most telling first. An entry has been written when it was filed; its `date` is the day."""

_NOT_KEPT = frozenset({"wing", "room", "source_file", "added_by", "chunk_index", "parent_drawer_id", "parent_entry_id"})
"""Metadata that says nothing once the drawer is whole and in its place."""


class MemPalace:
    """Palaces of MemPalace 3.x that are kept in Chroma, its default."""

    name = "mempalace"
    title = "MemPalace 3.x"
    has_unique_ids = True

    def places(self, options: Options) -> Iterator[Path]:
        """The palace that its settings name, and the one in each of its configuration folders."""
        yield from _named_palaces(options)
        for folder in _configurations(options):
            yield _palace_of(folder)

    def recognizes(self, path: Path) -> bool:
        """A folder with Chroma's database, or of the settings that name one; or that database itself."""
        return _database_of(path) is not None or _has_other_backend(path)

    def read(self, path: Path, options: Options) -> Iterator[Item]:
        """Drawers and entries, then facts, then tunnels."""
        file = _database_of(path)
        if file is None and _has_other_backend(path):
            hint = "Let MemPalace export it (mempalace.exporter), and file the texts by `mempalace-mcp import`."
            raise InvalidArgument(f"{path} is kept by another backend than Chroma", argument="SOURCE", hint=hint)
        if file is None:
            raise InvalidArgument(f"{path} is no palace of MemPalace", hint="Name the folder of chroma.sqlite3.")
        folder = file.parent.resolve()
        failure: PalaceError | None = None
        try:
            with open_foreign(file, options.scratch) as database:
                yield from _read_collections(database, folder, options)
        except PalaceError as error:
            failure = error  # facts and tunnels are in other files, and come all the same
        beside = _folders_beside(folder, options)
        graphs = [each / _GRAPH for each in beside if (each / _GRAPH).is_file()]
        yield from mempalace_graph.read_graphs(graphs, options)
        for each in beside:
            yield from _read_tunnels(each / _TUNNELS, options.zone)
        for each in beside[1:]:
            yield from _read_identity(each / "identity.txt")
        if (folder / _OTHER_BACKEND).is_file():
            yield LeftOut(str(folder / _OTHER_BACKEND), "kept by another backend than Chroma: export it with mempalace")
        if failure is not None:
            raise failure


def _database_of(path: Path) -> Path | None:
    """Chroma's database of a palace, unless it is the index of a palace of this program."""
    named = [_palace_of(path) / _DATABASE] if (path / _SETTINGS).is_file() else []
    for file in (path, path / _DATABASE, path / "palace" / _DATABASE, *named):
        if file.name == _DATABASE and is_database(file) and not (file.parent.parent / _OURS).is_file():
            return file
    return None


def _has_other_backend(path: Path) -> bool:
    return (path / _OTHER_BACKEND).is_file()


def _configurations(options: Options) -> list[Path]:
    """The folders in which the program keeps its settings, if there."""
    environment, home = options.environment, options.home
    named = [Path(environment["MEMPALACE_CONFIG_DIR"])] if environment.get("MEMPALACE_CONFIG_DIR") else []
    if home is not None:
        base = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
        named += [home / ".mempalace", base / "mempalace", home / ".config" / "mempalace"]
    return list(dict.fromkeys(folder for folder in named if folder.is_dir()))


def _palace_of(configuration: Path) -> Path:
    """The palace that belongs to a folder of settings."""
    path = _settings(configuration).get("palace_path")
    return Path(path).expanduser() if isinstance(path, str) and path else configuration / "palace"


def _settings(folder: Path) -> Mapping[str, Any]:
    try:
        settings: Mapping[str, Any] = read_json((folder / _SETTINGS).read_bytes(), dict)
    except OSError:
        return {}
    return settings


def _named_palaces(options: Options) -> list[Path]:
    """The palace that the environment names, if it does."""
    return [Path(options.environment[name]).expanduser() for name in _VARIABLES if options.environment.get(name)]


def _folders_beside(palace: Path, options: Options) -> list[Path]:
    """Where files of a palace lie: in it, beside it, and in the folders of settings that can be those of no other one.

    A server whose palace is named by the environment keeps its graph with the settings all the same.
    """
    is_named = any(each.resolve() == palace for each in _named_palaces(options))
    configurations = [
        each
        for each in _configurations(options)
        if is_named or (owned := _palace_of(each)).resolve() == palace or not (owned / _DATABASE).is_file()
    ]
    return list(dict.fromkeys([palace, palace.parent, *(each.resolve() for each in configurations)]))


def _read_collections(database: ForeignDatabase, folder: Path, options: Options) -> Iterator[Item]:
    if not chroma.is_chroma(database):
        raise InvalidArgument(f"{database.path} has no tables of Chroma", hint="It is empty, or of an unknown version.")
    names = {_COLLECTION, *(_settings(each).get("collection_name") for each in _folders_beside(folder, options))}
    for collection in chroma.collections(database):
        if collection.name in names:
            yield from _read_collection(database, collection, options)
            continue
        number = chroma.count(database, collection)
        if number and _CLOSETS in collection.name:
            reason = "closets: summaries that were computed from drawers"
            yield LeftOut(collection.name, reason, number, is_derived=True)
        elif number:
            yield LeftOut(collection.name, "of a collection that is none of drawers", number)


def _read_collection(database: ForeignDatabase, collection: Collection, options: Options) -> Iterator[Item]:
    for pieces in chroma.read_groups(database, collection):
        told = [piece for piece in pieces if not _is_mark(piece)]
        if len(told) < len(pieces):
            reason = "marks of the miner, which hold no text"
            yield LeftOut(pieces[0].id, reason, len(pieces) - len(told), is_derived=True)
        readable = [piece for piece in told if isinstance(piece.text, str) and piece.text.strip()]
        # A blank piece in the middle of a text is part of it.
        told = [piece for piece in told if isinstance(piece.text, str)] if readable else []
        if len(told) < len([piece for piece in pieces if not _is_mark(piece)]):
            yield LeftOut(pieces[0].id, "the record has no text")
        if told:
            yield from _drawers_of(told, options)


def _is_mark(piece: Piece) -> bool:
    return bool(piece.metadata.get("is_sentinel")) or piece.id.startswith(("_reg_", "sentinel_"))


def _drawers_of(pieces: Sequence[Piece], options: Options) -> Iterator[TextItem]:
    """The drawers that the pieces of one are: as a rule a single one."""
    group = chroma.group_of(pieces[0])
    is_mined = "\n" in group
    for number, (members, content) in enumerate(joined(pieces, overlapping=is_mined)):
        first = members[0]
        old_id = first.id if is_mined or number else group
        others = tuple(piece.id for piece in members if piece.id != old_id)
        yield _drawer(first.metadata, content, old_id, others, options)


def _drawer(fields: Mapping[str, Any], content: str, id: str, others: tuple[str, ...], options: Options) -> TextItem:
    is_entry = fields.get("type") == "diary_entry"
    times = ((key, read_time(fields.get(key), options.zone)) for key in (_ENTRY_TIMES if is_entry else _TIMES))
    key, instant = next((each for each in times if each[1] is not None), (None, None))
    agent = text_of(fields.get("agent")) or "unknown"
    return TextItem(
        id=id,
        wing=text_of(fields.get("wing")) or options.wing or "mempalace",
        room=text_of(fields.get("room")) or "general",
        content=content,
        occurred_at=instant,
        source_file=text_of(fields.get("source_file")) or None,
        added_by=agent if is_entry else text_of(fields.get("added_by")) or None,
        metadata={
            **{name: value for name, value in fields.items() if name not in _NOT_KEPT},
            **({"time_source": key} if key else {}),
        },
        other_ids=others,
        entry=Entry(agent, text_of(fields.get("topic")) or "general") if is_entry else None,
    )


def _read_tunnels(file: Path, zone: Zone) -> Iterator[Item]:
    """Each tunnel is a fact between two rooms, and what it says another one."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        yield LeftOut(str(file), f"tunnels cannot be read: {error.strerror}")
        return
    tunnels = read_json(content, list)
    if not tunnels and content.strip() not in (b"", b"[]"):
        yield LeftOut(str(file), "tunnels cannot be read: this is no JSON list")
    for number, tunnel in enumerate(tunnels):
        fields = tunnel if isinstance(tunnel, dict) else {}
        ends = [_place(fields.get(side)) for side in ("source", "target")]
        if None in ends:
            yield LeftOut(f"{file}, tunnel {number}", "a tunnel has no place at one of its ends")
            continue
        id = text_of(fields.get("id")) or f"{ends[0]} {ends[1]}"
        known = read_time(fields.get("created_at"), zone)
        source = read_json(fields.get("source"), dict).get("drawer_id")
        yield FactItem(
            id=f"tunnel:{id}",
            subject=str(ends[0]),
            predicate="has a tunnel to",
            object=str(ends[1]),
            recorded_at=known,
            source_id=text_of(source) or None,
            kind="tunnels",
        )
        if text_of(fields.get("label")).strip():
            between = f"{ends[0]} – {ends[1]}"
            said = FactItem(f"tunnel-label:{id}", between, "tunnel says", fields["label"], recorded_at=known)
            yield replace(said, kind="tunnel_labels")


def _place(end: object) -> str | None:
    fields = end if isinstance(end, dict) else {}
    wing, room = text_of(fields.get("wing")).strip(), text_of(fields.get("room")).strip()
    return f"{wing}/{room}" if wing and room else None


def _read_identity(file: Path) -> Iterator[Item]:
    """What the user has written about whom the palace belongs to."""
    try:
        content = file.read_text("utf-8", "replace")
    except OSError:
        return
    if content.strip():
        yield TextItem(str(file), "identity", "identity", content, source_file=str(file))
