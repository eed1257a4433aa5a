"""Texts that are too long for one answer, part by part: together the parts are the texts, verbatim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.core.model import Drawer
from mempalace_mcp.palace.tokens import estimate_tokens, fitting
from mempalace_mcp.protocol.tools.answers import Json, drawer_whole, to_json

MIN_TOKENS = 100
MAX_TOKENS = 100_000
TOKENS = 8000
"""Of an answer unless more is asked for: Claude Code warns from 10,000 on, and takes 25,000."""

LISTING_TOKENS = 20_000
"""Of a page of a listing, which is as long as was asked for unless it would be too long for clients."""
BESIDE = 60
"""What the rest of an answer costs."""
LEAST = 30
"""Tokens of a text in an answer that metadata have filled."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one answer shows of some drawers; `next_offset` is where the following one begins, None at the end.

    Offsets count characters of the contents, as if they were written one after the other.
    """

    drawers: Sequence[Json]
    next_offset: int | None


def part_of(drawers: Sequence[Drawer], offset: int, max_tokens: int) -> Part:
    """As much as fits from the offset on, and at least a character.

    Raises:
        InvalidArgument: the contents end before the offset.
    """
    total = sum(len(drawer.content) for drawer in drawers)
    if drawers and offset >= total:
        raise InvalidArgument(
            f"offset is {offset:,}, and these drawers have {total:,} characters",
            argument="offset",
            hint="Give the next_offset of the part before, with the same drawer_ids.",
        )
    shown: list[Json] = []
    room, begin = max_tokens - BESIDE, 0
    for drawer in drawers:
        start, begin = max(0, offset - begin), begin + len(drawer.content)
        if begin <= offset:
            continue
        part = _shown(drawer, start, room, may_wait=bool(shown), whole_page=max_tokens - BESIDE)
        if part is None:
            return Part(shown, begin - len(drawer.content))
        shown.append(part)
        stop = start + len(part["content"])
        if stop < len(drawer.content):
            return Part(shown, begin - len(drawer.content) + stop)
        room -= estimate_tokens(to_json(part))
    return Part(shown, None)


def _shown(drawer: Drawer, start: int, room: int, *, may_wait: bool, whole_page: int) -> Json | None:
    """A drawer from that character on, as far as there is room; None if the next answer has more room for it."""
    whole = {**drawer_whole(drawer), "characters": len(drawer.content)}
    if start == 0 and estimate_tokens(to_json(whole)) <= room:
        return whole
    if may_wait and estimate_tokens(to_json(whole)) <= whole_page:
        return None
    # Metadata may be long: it is told once, with the first part.
    known = whole if start == 0 else {key: whole[key] for key in ("drawer_id", "version", "characters")}
    head = {**known, "offset": start, "content": ""}
    left = room - estimate_tokens(to_json(head))
    if may_wait and left <= 0:
        return None
    rest = drawer.content[start:]
    return {**head, "content": rest[: max(1, fitting_as_json(rest, max(left, LEAST)))]}


def count_fitting(entries: Sequence[Json], tokens: int) -> int:
    """How many entries from the first on fit in an answer of so many tokens; at least one, if there are any."""
    written = to_json(entries)
    # No byte is estimated at more than two tokens, and bytes are counted much faster.
    if 2 * len(written.encode()) <= tokens or estimate_tokens(written) <= tokens:
        return len(entries)
    costs = accumulate(estimate_tokens(to_json(entry)) for entry in entries)
    return max(1, sum(cost <= tokens for cost in costs))


def fitting_as_json(written: str, tokens: int) -> int:
    """How many characters from the beginning cost no more than that when they are written as JSON."""
    room = float(tokens)
    length = fitting(written, room)
    while length and (cost := estimate_tokens(to_json(written[:length]))) > tokens:
        room *= min(tokens / cost, 0.98)
        length = fitting(written, room)
    return length
