"""Notes in Markdown: vaults of Obsidian, and projects of basic-memory. The readers of `import` cut and date them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from mempalace_mcp.core.errors import NotFound
from mempalace_mcp.palace.chunking import fenced_blocks
from mempalace_mcp.palace.importers import Document, FoundFile, SkippedFile, SkippedLines, discover, read_real
from mempalace_mcp.palace.importers.properties import read_properties
from mempalace_mcp.palace.migration.items import FactItem, Item, LeftOut, Options, TextItem
from mempalace_mcp.palace.migration.values import read_json, read_tags

_SETTINGS = ".obsidian"
_ORDINARY = ("no text", "hidden", "not a kind of file that is read", "cache or dependencies")
_DRAWING = ".excalidraw.md"
_NOTES_LOOKED_AT = 50
_HEAD = 4096
_LONGEST_NOTE = 2 * 1024 * 1024


class Obsidian:
    """A vault: a folder with Obsidian's settings. Links between notes stay in the texts."""

    name = "obsidian"
    title = "Obsidian"
    has_unique_ids = False

    def places(self, options: Options) -> Iterator[Path]:
        """The vaults that Obsidian itself lists."""
        if options.home is None:
            return
        for folder in (".config/obsidian", "Library/Application Support/obsidian", "AppData/Roaming/obsidian"):
            vaults = _json_of(options.home / folder / "obsidian.json").get("vaults")
            for vault in vaults.values() if isinstance(vaults, dict) else ():
                if isinstance(vault, dict) and isinstance(vault.get("path"), str):
                    yield Path(vault["path"])

    def recognizes(self, path: Path) -> bool:
        """A folder with `.obsidian` in it."""
        return (path / _SETTINGS).is_dir()

    def read(self, path: Path, options: Options) -> Iterator[Item]:
        """The notes, long ones in several drawers."""
        for relative, documents in _notes(path, options):
            for document in documents:
                yield document if isinstance(document, LeftOut) else _drawer(path, document, relative, options)


class BasicMemory:
    """A project of basic-memory: a folder of notes that have permalinks. Relations become facts."""

    name = "basic-memory"
    title = "basic-memory"
    has_unique_ids = False

    def places(self, options: Options) -> Iterator[Path]:
        """The projects that its settings name."""
        if options.home is None:
            return
        folder = options.environment.get("BASIC_MEMORY_CONFIG_DIR")
        settings = _json_of((Path(folder) if folder else options.home / ".basic-memory") / "config.json")
        projects = settings.get("projects")
        for project in projects.values() if isinstance(projects, dict) else ():
            named = project.get("path") if isinstance(project, dict) else project
            if isinstance(named, str) and named:
                yield Path(named).expanduser()

    def recognizes(self, path: Path) -> bool:
        """A folder one of whose first notes has a permalink."""
        try:
            notes = islice(path.rglob("*.md"), _NOTES_LOOKED_AT) if path.is_dir() else ()
            return any("permalink" in _properties(_beginning(note)) for note in notes)
        except OSError:
            return False

    def read(self, path: Path, options: Options) -> Iterator[Item]:
        """The notes, each followed by its relations."""
        seen: set[str] = set()
        for relative, documents in _notes(path, options):
            content = _beginning(path / relative, _LONGEST_NOTE)
            properties = _properties(content)
            permalink = properties.get("permalink", "")
            key = relative if not permalink or permalink in seen else permalink
            seen.add(key)
            first: str | None = None
            for document in documents:
                if isinstance(document, LeftOut):
                    yield document
                    continue
                told = {name: value for name, value in properties.items() if name not in ("tags",)}
                drawer = _drawer(path, document, key, options, {**told, "tags": read_tags(properties.get("tags"))})
                first = first or drawer.id
                yield drawer
            if first is not None:
                title = properties.get("title") or Path(relative).stem
                yield from _relations(content, title, key, first)


def _notes(folder: Path, options: Options) -> Iterator[tuple[str, list[Document | LeftOut]]]:
    """The notes below a folder by their path in it, each with its drawers to be and what is left out of it."""
    if not folder.is_dir():
        raise NotFound(f"there is no folder {folder}", hint="Name the folder of the notes.")
    root = folder.resolve()
    for found in discover([root]):
        if isinstance(found, SkippedFile):
            yield "", [LeftOut(found.path, found.reason, is_derived=found.reason in _ORDINARY)]
        elif found.path.name.lower().endswith(_DRAWING):
            yield "", [LeftOut(str(found.path), "a drawing", is_derived=True)]
        else:
            yield _relative(found, root), list(_documents(found, root, options))


def _relative(found: FoundFile, root: Path) -> str:
    """The path within the folder, as one and the same on every system."""
    return unicodedata.normalize("NFC", found.path.relative_to(root).as_posix())


def _documents(found: FoundFile, root: Path, options: Options) -> Iterator[Document | LeftOut]:
    for entry in read_real(found.path, root, options.zone):
        if isinstance(entry, Document):
            yield entry
        elif isinstance(entry, SkippedLines):  # a date that is not understood; the note itself comes
            yield LeftOut(entry.path, f"filed without its date: {entry.reason}", is_derived=True)
        else:
            yield LeftOut(entry.path, entry.reason, is_derived=entry.reason in _ORDINARY)


def _drawer(
    folder: Path, document: Document, key: str, options: Options, metadata: dict[str, Any] | None = None
) -> TextItem:
    return TextItem(
        id=f"{key}#{document.key}" if document.key else key,
        wing=options.wing or folder.resolve().name,
        room=document.room,
        content=document.content,
        occurred_at=document.occurred_at,
        source_file=document.source_file,
        metadata={**(metadata or {}), **document.metadata},
    )


_LINK = re.compile(r"\[\[([^\[\]]+)\]\]")
_TYPED = re.compile(r"""^\s*[-*+]\s+(?:"([^"]+)"|'([^']+)'|(\S+))\s+\[\[([^\[\]]+)\]\]\s*(?:\(.*\)\s*)?$""")
_TASK = re.compile(r"^\[.?\]$")


def _relations(content: str, title: str, key: str, source: str) -> Iterator[FactItem]:
    """A list item of a type and a link is a relation of that type; any other link is one of the type `links_to`.
    Blocks of code hold none."""
    seen: set[tuple[str, str]] = set()
    for line in _outside_code(content):
        typed = _TYPED.match(line)
        relation = next((group for group in typed.groups()[:3] if group), "") if typed else ""
        if typed and not _TASK.match(relation):
            found = [(relation, typed[4])]
        else:
            found = [("links_to", target) for target in _LINK.findall(line)]
        for kind, written in found:
            target = written.partition("|")[0].partition("#")[0].strip()
            if target and (kind, target) not in seen:
                seen.add((kind, target))
                yield FactItem(f"relation:{key}:{kind}:{target}", title, kind, target, source_id=source)


def _outside_code(content: str) -> Iterator[str]:
    position = 0
    for block in fenced_blocks(content):
        yield from content[position : block.start].splitlines()
        position = block.stop
    yield from content[position:].splitlines()


def _properties(content: str) -> dict[str, str]:
    """The front matter of a note, as written but for quotes; the first of a name counts."""
    found: dict[str, str] = {}
    for each in read_properties(content) if content.startswith("---") else ():
        found.setdefault(each.key.lower(), each.value.strip().strip("\"'"))
    return found


def _beginning(file: Path, size: int = _HEAD) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(size).decode("utf-8", "replace").removeprefix("\ufeff")
    except OSError:
        return ""


def _json_of(file: Path) -> dict[str, Any]:
    try:
        return read_json(file.read_bytes(), dict)  # type: ignore[no-any-return]
    except OSError:
        return {}
