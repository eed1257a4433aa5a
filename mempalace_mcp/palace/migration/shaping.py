"""Items of other memories as the palace can store them. Texts stay as they are; names and metadata are made to fit."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from mempalace_mcp.core import text
from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.core.model import NewDrawer, NewFact, Place, Priority
from mempalace_mcp.core.text import MAX_CONTENT_BYTES, MAX_NAME_CHARACTERS, Name, read_name
from mempalace_mcp.palace.arguments import MAX_METADATA_BYTES, MAX_SOURCE_BYTES, read_object
from mempalace_mcp.palace.chunking import between_characters
from mempalace_mcp.palace.migration.items import FactItem, TextItem
from mempalace_mcp.storage.rows import write_metadata

LONGEST_PART = MAX_CONTENT_BYTES // 4
"""Characters of a part: in UTF-8 none has more than four bytes."""

NO_NAME = "unnamed"
_UNFIT = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def mended(name: str, otherwise: str = NO_NAME) -> Name:
    """A name that the palace takes: without control characters and lone surrogates, at most 128 characters."""
    plain = unicodedata.normalize("NFC", _UNFIT.sub(" ", name.encode("utf-8", "replace").decode("utf-8"))).strip()
    return read_name(plain[:MAX_NAME_CHARACTERS].strip() or otherwise, "name")


def parts_of(item: TextItem) -> Iterator[TextItem]:
    """The item; in several parts, which one after the other are its text, if it is too long for one drawer."""
    if len(item.content) <= LONGEST_PART or len(item.content.encode("utf-8", "replace")) <= MAX_CONTENT_BYTES:
        yield item
        return
    start, number = 0, 0
    while start < len(item.content):
        stop = between_characters(item.content, start + LONGEST_PART)
        number += 1
        yield replace(
            item,
            id=item.id if number == 1 else f"{item.id}#{number}",
            content=item.content[start:stop],
            metadata={**item.metadata, "part": number},
            other_ids=item.other_ids if number == 1 else (),
        )
        start = stop


def new_drawer(item: TextItem, source: str) -> NewDrawer:
    """The item as the drawer to be.

    Raises:
        InvalidArgument: the text is empty, or holds what no text can hold.
    """
    wing, room = mended(item.wing), mended(item.room)
    told = {"migrated_from": source, "old_id": item.id}
    told |= {f"old_{name}": was for name, was, now in _names(item, wing, room) if was != now}
    origin = item.source_file
    return NewDrawer(
        place=Place(wing, room),
        content=text.verify_content(item.content),
        source_file=origin if origin and _fits(origin, MAX_SOURCE_BYTES) else None,
        added_by=mended(item.added_by).shown if item.added_by else None,
        occurred_at=item.occurred_at,
        metadata=_fitting(told, item.metadata),
        priority=Priority.BULK,
    )


def _names(item: TextItem, wing: Name, room: Name) -> list[tuple[str, str, str]]:
    return [("wing", item.wing, wing.shown), ("room", item.room, room.shown)]


def new_fact(item: FactItem) -> NewFact:
    """The item as the fact to be.

    Raises:
        InvalidArgument: a name breaks a rule, or the fact never holds.
    """
    confidence = item.confidence if item.confidence is not None and 0 <= item.confidence <= 1 else None
    return NewFact(
        subject=text.read_entity(item.subject, "subject"),
        predicate=text.read_entity(item.predicate, "predicate"),
        object=read_object(item.object, "object"),
        valid_from=item.valid_from,
        valid_to=item.valid_to,
        confidence=confidence,
        recorded_at=item.recorded_at,
    )


def _fits(value: str, size: int) -> bool:
    try:
        text.verify_text(value, "value", size)
    except InvalidArgument:
        return False
    return True


def _fitting(told: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What of the metadata can be stored, with what is told of the migration; the names of the rest are kept."""
    present = {key: value for key, value in metadata.items() if value not in (None, "")}
    if _is_storable({**told, **present}):
        return {**told, **present}
    kept: dict[str, Any] = {key: value for key, value in told.items() if _is_storable({key: value})}
    left_out: list[str] = []
    for key, value in present.items():
        if _is_storable({**kept, key: value, "left_out": [*left_out, key, "x" * 200]}):
            kept[key] = value
        else:
            left_out.append(key[:60])
    named = {**kept, "left_out": left_out}
    return named if left_out and _is_storable(named) else kept


def _is_storable(metadata: Mapping[str, Any]) -> bool:
    try:
        return _fits(write_metadata(metadata), MAX_METADATA_BYTES)
    except InvalidArgument:
        return False
