"""The rules of arguments: texts as callers write them become verified values.

Every fault is an `InvalidArgument` that names the argument. An optional text that is empty means absent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NotRequired, TypedDict, Unpack

from mempalace_mcp.core import ids, text
from mempalace_mcp.core.clock import Calendar, Edge, Instant
from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.core.model import NOTHING, DrawerChanges, DrawerFilter, Metadata, NewDrawer, NewFact, Place
from mempalace_mcp.core.text import Name
from mempalace_mcp.palace import time_phrases
from mempalace_mcp.storage.rows import write_metadata

_BETWEEN_IDS = re.compile(r"[\s,;'\"\[\]]+")

MAX_METADATA_BYTES = 16 * 1024
MAX_IDS = 500
MAX_ITEMS = 500
MAX_LIMIT = 100
MAX_OBJECT_BYTES = 4 * 1024
MAX_SOURCE_BYTES = 4 * 1024


class ProvenanceArguments(TypedDict):
    """The arguments from which the fields of `Provenance` are read."""

    source_file: NotRequired[str | None]
    occurred_at: NotRequired[str | None]


class FilingArguments(ProvenanceArguments):
    """The arguments of a drawer to file that say how it stands to others."""

    supersedes: NotRequired[Sequence[str] | None]


class ChangeArguments(ProvenanceArguments):
    """The same of an update. `none` takes it back."""

    superseded_by: NotRequired[str | None]


class ImportOptions(TypedDict):
    """How files are imported; see `ImportOperations.import_paths`."""

    wing: NotRequired[str | None]
    dry_run: NotRequired[bool]
    include_tools: NotRequired[bool]
    turn_ended: NotRequired[bool]
    keep_secrets: NotRequired[bool]
    within: NotRequired[Sequence[Path] | None]


class FilterArguments(TypedDict):
    """The arguments from which a `DrawerFilter` is read."""

    wing: NotRequired[str | None]
    room: NotRequired[str | None]
    source_file: NotRequired[str | None]
    since: NotRequired[str | None]
    before: NotRequired[str | None]


def present(value: str | None) -> str | None:
    """The value; an empty one means absent."""
    return value or None


def read_optional_name(value: str | None, argument: str) -> Name | None:
    """The name of a wing, room, agent or topic, if there is one."""
    return text.read_name(value, argument) if value else None


def read_optional_key(value: str | None, argument: str) -> str | None:
    """The key by which such a name is compared."""
    name = read_optional_name(value, argument)
    return name.key if name else None


def read_optional_shown(value: str | None, argument: str) -> str | None:
    """Such a name as it is shown."""
    name = read_optional_name(value, argument)
    return name.shown if name else None


def read_limit(value: int, argument: str = "limit", most: int = MAX_LIMIT, least: int = 1) -> int:
    """A number of items, from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidArgument(
            f"{argument} must be a whole number from {least} to {most}, not {str(value)[:20]}",
            argument=argument,
            hint="Ask for fewer, and page with the cursor where there is one.",
        )
    return value


def read_share(value: float, argument: str, hint: str) -> float:
    """A number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidArgument(
            f"{argument} must be a number from 0 to 1, not {str(value)[:20]}", argument=argument, hint=hint
        )
    return value


def read_query(query: str) -> str:
    """A query: not empty, at most 64 KiB."""
    text.verify_text(query, "query", text.MAX_QUERY_BYTES)
    if not query.strip():
        raise InvalidArgument("query is empty", argument="query", hint="Say in words what you look for.")
    return query


def read_ids(values: Sequence[str], argument: str = "drawer_ids") -> list[str]:
    """The ids of drawers, each once, in the given order. One text may list several."""
    listed = [each for value in values for each in _listed_ids(value)]
    if not listed or len(listed) > MAX_IDS:
        raise InvalidArgument(
            f"{argument} must hold 1 to {MAX_IDS} ids, not {len(listed)}",
            argument=argument,
            hint="Send several calls for more.",
        )
    return list(dict.fromkeys(read_id(value, f"{argument}[{position}]") for position, value in enumerate(listed)))


def _listed_ids(text: str) -> list[str]:
    """The ids that a text lists, separated by commas or white space; the text itself if it lists none."""
    found = split_ids(text)
    return found if found and all(ids.is_id(ids.DRAWER, each) for each in found) else [text]


def split_ids(text: str) -> list[str]:
    """What stands between commas, white space, quotes and brackets; not much more than may be asked for at once."""
    return [each for each in _BETWEEN_IDS.split(text, MAX_IDS + 1) if each]


def is_foreign_id(value: str) -> bool:
    """May this be the id of another memory? It is none of this palace, nor a list of these."""
    found = _listed_ids(value)
    return 0 < len(value) <= MAX_SOURCE_BYTES and found == [value] and not ids.is_id(ids.DRAWER, value)


def read_id(value: str, argument: str = "drawer_id") -> str:
    """The id of a drawer, without blanks, quotes or brackets around it."""
    found, *others = _listed_ids(value)
    if others or not ids.is_id(ids.DRAWER, found):
        raise InvalidArgument(
            f"{argument} is not an id of a drawer: {value[:40]!r}",
            argument=argument,
            hint="Use drawer_id as search, list_drawers or add_drawer gave it.",
        )
    return found


def read_instant(calendar: Calendar, value: str | None, argument: str, edge: Edge = Edge.START) -> Instant | None:
    """An optional date or time."""
    given = present(value)
    return None if given is None else calendar.read(given, argument, edge)


def read_time(calendar: Calendar, value: str | None, argument: str) -> Instant | None:
    """An optional date or time, also in words as `last week`, which mean the instant at which they begin.

    Raises:
        InvalidArgument: it is neither, or a day and a month in either order.
    """
    given = present(value)
    try:
        return read_instant(calendar, given, argument)
    except InvalidArgument as refusal:
        hint = f"{refusal.hint} Words as last week, 3 days ago, Monday, March 2024 or May 3 will do, too."
        try:
            period = time_phrases.read_period(given or "", calendar.now(), calendar.zone)
        except ValueError as fault:
            raise InvalidArgument(f"{argument} {fault}: {given!r}", argument=argument, hint=hint) from None
        if period is None:
            raise InvalidArgument(refusal.message, argument=argument, hint=hint) from None
        return period.start


def read_filter(
    calendar: Calendar,
    wing: str | None = None,
    room: str | None = None,
    source_file: str | None = None,
    since: str | None = None,
    before: str | None = None,
) -> DrawerFilter:
    """A filter of drawers; an absent argument does not restrict. Dates, and words as `last week`, are the instant at
    which they begin, in `since` as in `before`.

    Raises:
        InvalidArgument: an argument breaks a rule, or `before` is not later than `since`.
    """
    earliest, latest = read_time(calendar, since, "since"), read_time(calendar, before, "before")
    if earliest is not None and latest is not None and latest <= earliest:
        raise InvalidArgument(
            "before is not later than since, so nothing can match",
            argument="before",
            hint="since is inclusive; before is exclusive, and as a date the instant at which that begins.",
        )
    return DrawerFilter(
        wing=read_optional_key(wing, "wing"),
        room=read_optional_key(room, "room"),
        source_file=read_source(source_file),
        since=earliest,
        before=latest,
        asked=(present(since), present(before)),
    )


def read_choice(
    calendar: Calendar, drawer_ids: Sequence[str] | None, **filters: Unpack[FilterArguments]
) -> DrawerFilter | list[str]:
    """Drawers to change: by ids, or by a filter that leaves some out.

    Raises:
        InvalidArgument: an argument breaks a rule, or both or neither are given.
    """
    chosen = read_filter(calendar, **filters)
    if (drawer_ids is None) is chosen.is_empty:
        raise InvalidArgument(
            "give either drawer_ids or at least one filter, not both",
            argument="drawer_ids",
            hint="Filters are wing, room, source_file, since and before.",
        )
    return chosen if drawer_ids is None else read_ids(drawer_ids)


def read_source(value: str | None) -> str | None:
    """The source of a text: a path, an address, any label of at most 4 KiB."""
    given = present(value)
    return None if given is None else text.verify_text(given, "source_file", MAX_SOURCE_BYTES)


def read_metadata(value: Mapping[str, Any] | None) -> Metadata:
    """A JSON object of at most 16 KiB."""
    if not value:
        return {}
    text.verify_text(write_metadata(value), "metadata", MAX_METADATA_BYTES)
    return value


def _read_provenance(
    calendar: Calendar, source_file: str | None = None, occurred_at: str | None = None
) -> dict[str, Any]:
    """The fields of `Provenance`, by name."""
    return {
        "source_file": read_source(source_file),
        "occurred_at": read_instant(calendar, occurred_at, "occurred_at"),
    }


def read_drawer(
    calendar: Calendar,
    wing: str,
    room: str,
    content: str,
    added_by: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    supersedes: Sequence[str] | None = None,
    **provenance: Unpack[ProvenanceArguments],
) -> NewDrawer:
    """A text to file."""
    return NewDrawer(
        place=Place(text.read_name(wing, "wing"), text.read_name(room, "room")),
        content=text.verify_content(content),
        added_by=read_optional_shown(added_by, "added_by"),
        metadata=read_metadata(metadata),
        supersedes=tuple(read_ids(supersedes, "supersedes")) if supersedes else (),
        **_read_provenance(calendar, **provenance),
    )


def read_changes(
    calendar: Calendar,
    content: str | None = None,
    wing: str | None = None,
    room: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    superseded_by: str | None = None,
    **provenance: Unpack[ProvenanceArguments],
) -> DrawerChanges:
    """An update of a drawer.

    Raises:
        InvalidArgument: an argument breaks a rule, or all are absent.
    """
    changes = DrawerChanges(
        content=text.verify_content(content) if content else None,
        wing=read_optional_name(wing, "wing"),
        room=read_optional_name(room, "room"),
        metadata=None if metadata is None else read_metadata(metadata),
        superseded_by=_read_successor(superseded_by),
        **_read_provenance(calendar, **provenance),
    )
    if changes == DrawerChanges():
        changeable = [field.name for field in fields(DrawerChanges)]
        raise InvalidArgument(
            "there is nothing to change",
            argument="content",
            hint=f"Give {', '.join(changeable[:-1])} or {changeable[-1]}.",
        )
    return changes


def _read_successor(value: str | None) -> str | None:
    """The id of a drawer, or `NOTHING` for `none`."""
    given = present(value)
    if given is None or given.strip().lower() == "none":
        return given and NOTHING
    return read_id(given, "superseded_by")


def read_fact(
    calendar: Calendar,
    subject: str,
    predicate: str,
    object: str,
    valid_from: str | None = None,
    valid_to: str | None = None,
    confidence: float | None = None,
    source_drawer_id: str | None = None,
) -> NewFact:
    """A fact to record. `valid_to` given as a date includes that day."""
    return NewFact(
        subject=text.read_entity(subject, "subject"),
        predicate=text.read_entity(predicate, "predicate"),
        object=read_object(object, "object"),
        valid_from=read_instant(calendar, valid_from, "valid_from"),
        valid_to=read_instant(calendar, valid_to, "valid_to", Edge.AFTER),
        confidence=None if confidence is None else float(confidence),
        source_drawer_id=read_id(source_drawer_id, "source_drawer_id") if source_drawer_id else None,
    )


def read_object(value: str, argument: str) -> str:
    """The object of a fact, kept exactly as written."""
    text.verify_text(value, argument, MAX_OBJECT_BYTES)
    if not value.strip():
        raise InvalidArgument(f"{argument} is empty", argument=argument, hint="Name what the fact is about.")
    return value
