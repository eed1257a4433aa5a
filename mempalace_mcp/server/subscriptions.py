"""Subscriptions to resources and streams of changes.

Addresses of the palace: `palace://wing`, `palace://wing/room`, `palace://wing/room/drawer`.

Each part is percent-encoded as RFC 6570 expands a simple variable: every byte of its UTF-8 but the unreserved ones of
RFC 3986. So any name survives, whatever it holds, and the templates below are exact.

Who wants to hear of which changes: subscriptions of sessions, and the streams that later revisions listen on.

What has changed and is not told yet is a subset of what is followed, so it stays bounded however little a client reads:
changes of the same thing become one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import anyio

from mempalace_mcp.core.call_context import Principal
from mempalace_mcp.core.errors import Busy, Forbidden, InvalidArgument
from mempalace_mcp.core.ids import DRAWER, is_id
from mempalace_mcp.core.model import Changes
from mempalace_mcp.core.text import read_name
from mempalace_mcp.runtime.feed import ChangeFeed

SCHEME = "palace://"
WING_TEMPLATE = "palace://{wing}"
ROOM_TEMPLATE = "palace://{wing}/{room}"
DRAWER_TEMPLATE = "palace://{wing}/{room}/{drawer}"

MAX_URI_CHARACTERS = 8192
_PARTS = 3
_ENCODED = re.compile(r"(?:[^%?#]|%[0-9A-Fa-f]{2})+")
_DOTS = (".", "..")


@dataclass(frozen=True, slots=True)
class ResourceAddress:
    """What an URI names, decoded: a wing, a room of it, or a drawer in that."""

    wing: str
    room: str | None = None
    drawer: str | None = None


def write_uri(wing: str, room: str | None = None, drawer: str | None = None) -> str:
    """The URI of a wing, a room or a drawer."""
    return SCHEME + "/".join(_encode(part) for part in (wing, room, drawer) if part is not None)


def read_uri(uri: str) -> ResourceAddress:
    """What the URI names; whether there is such a thing is another question.

    Raises:
        InvalidArgument: it names nothing that could be in a palace.
    """
    if len(uri) > MAX_URI_CHARACTERS:
        raise _refusal(f"has {len(uri):,} characters; the limit is {MAX_URI_CHARACTERS:,}")
    if uri[: len(SCHEME)].lower() != SCHEME:
        raise _refusal("does not begin with palace://")
    parts = uri[len(SCHEME) :].split("/")
    if len(parts) > _PARTS:
        raise _refusal("has more than three parts; a slash in a name is written %2F")
    return ResourceAddress(*map(_decode, parts))


def _encode(name: str) -> str:
    """A name of dots alone gets a space behind it, which names are trimmed of: clients that normalize URIs would take
    it for a step up or down, even percent-encoded."""
    return quote(f"{name} " if name in _DOTS else name, safe="")


def _decode(part: str) -> str:
    if not _ENCODED.fullmatch(part):
        raise _refusal("has an empty part, a stray ?, # or %")
    try:
        return unquote_to_bytes(part.encode("utf-8")).decode("utf-8")
    except UnicodeError:
        raise _refusal("is not UTF-8") from None


def _refusal(problem: str) -> InvalidArgument:
    return InvalidArgument(
        f"the URI {problem}",
        argument="uri",
        hint=f"Use {WING_TEMPLATE}, {ROOM_TEMPLATE} or {DRAWER_TEMPLATE}, each part percent-encoded.",
    )


MAX_FOLLOWED = 100
"""Resources that one session, or one stream, follows."""

MAX_STREAMS = 8
"""Streams that one session listens on."""

RESOURCES = "resources"
UPDATED = "notifications/resources/updated"

Place = tuple[str, str | None, str | None]
"""The keys of wing and room and the id of a drawer; None where all of them are meant."""

News = tuple[str, dict[str, Any]]
"""The method of a notification, and its parameters."""


class Subscriber:
    """Follows some resources, and some lists (of `resources`, `tools`, `prompts`), as far as `wings` reach.

    With `once` a list is followed until its change is told: whoever wants to hear of the next one, lists again.
    """

    def __init__(
        self, lists: Collection[str] = (), wings: Collection[str] | None = None, *, once: bool = False
    ) -> None:
        self.lists = set(lists)
        self._wings = wings
        self._once = once
        self._places: dict[str, Place] = {}
        self._changed: dict[str, None] = {}
        self._changed_lists: set[str] = set()
        self._feed: ChangeFeed | None = None
        self._closed = False
        self._stirred = anyio.Event()

    @property
    def drawer_ids(self) -> Collection[str]:
        """The drawers it follows."""
        return [drawer for _, _, drawer in self._places.values() if drawer is not None]

    @property
    def uris(self) -> Sequence[str]:
        """The resources it follows, as the client wrote them."""
        return list(self._places)

    def follow(self, uri: str) -> None:
        """Follow the resource, whether there is one yet or not.

        Raises:
            InvalidArgument: it is no resource of a palace, or one too many.
            Forbidden: its wing is beyond the caller's reach.
        """
        place = _read_place(uri)
        if self._wings is not None and place[0] not in self._wings:
            raise Forbidden("your token does not reach that wing", argument="uri", hint="Follow what it reaches.")
        if uri not in self._places and len(self._places) >= MAX_FOLLOWED:
            raise InvalidArgument(
                f"{MAX_FOLLOWED} resources are followed already",
                argument="uri",
                hint="Unsubscribe from some, or subscribe to their room or wing instead.",
            )
        self._places[uri] = place

    def forget(self, uri: str) -> None:
        """Follow it no more."""
        self._places.pop(uri, None)
        self._changed.pop(uri, None)
        self.rest()

    async def join(self, feed: ChangeFeed, *, again: bool = False) -> None:
        """Hear of changes from now on. With `again` it listened to an earlier process, and nobody knows what changed
        while there was none: it hears at once that anything may have.

        Raises:
            PalaceError: the palace cannot be read.
        """
        if self._feed is None:
            await feed.join(self)
            self._feed = feed
        if self._closed:  # meanwhile
            feed.leave(self)
        if again:
            self.hear(None)

    def rest(self) -> None:
        """Hear of nothing while nothing is followed."""
        if self._feed is not None and not self._places and not self.lists:
            self._feed.leave(self)
            self._feed = None

    def hear(self, changes: Changes | None) -> None:
        """Note what concerns this follower; None means that anything may have changed."""
        self._changed.update((uri, None) for uri, place in self._places.items() if _concerns(changes, place))
        if changes is None:
            self._changed_lists |= self.lists
        elif any(self._wings is None or wing in self._wings for wing, _ in changes.places):
            self._changed_lists |= self.lists & {RESOURCES}
        if self._changed or self._changed_lists:
            self._stirred.set()

    async def news(self) -> list[News] | None:
        """What has changed since this was asked last, once something has; None when it is closed."""
        while not self._closed and not self._changed and not self._changed_lists:
            self._stirred = anyio.Event()
            await self._stirred.wait()
        if self._closed:
            return None
        lists, uris = sorted(self._changed_lists), list(self._changed)
        self._changed.clear()
        self._changed_lists.clear()
        if self._once:
            self.lists.difference_update(lists)
            self.rest()
        told: list[News] = [(f"notifications/{kind}/list_changed", {}) for kind in lists]
        return told + [(UPDATED, {"uri": uri}) for uri in uris]

    def close(self) -> None:
        """Hear nothing more, and end whoever waits for news."""
        self._closed = True
        self._stirred.set()
        if self._feed is not None:
            self._feed.leave(self)


class Subscriptions:
    """All that one session follows, or one door that knows no sessions: what was subscribed to, and open streams.

    `tell` begins to tell a session the news of its follower; without it there is nobody to be told.
    """

    def __init__(self, tell: Callable[[Subscriber], None] | None = None, max_streams: int = MAX_STREAMS) -> None:
        self._tell = tell
        self._max_streams = max_streams
        self._follower: Subscriber | None = None
        self._streams: set[Subscriber] = set()

    def follower(self, access: Principal) -> Subscriber | None:
        """What the session follows, empty at first; None if this is no session."""
        if self._follower is None and self._tell is not None:
            self._follower = Subscriber(wings=access.wings, once=True)
            self._tell(self._follower)
        return self._follower

    def add(self, stream: Subscriber) -> None:
        """Note a stream that is open until it is closed.

        Raises:
            Busy: there are too many.
        """
        if len(self._streams) >= self._max_streams:
            raise Busy(f"{self._max_streams} streams are open already", hint="Close one, or listen for more on one.")
        self._streams.add(stream)

    def discard(self, stream: Subscriber) -> None:
        """The stream has ended."""
        stream.close()
        self._streams.discard(stream)

    def end_streams(self) -> None:
        """Let every stream end in an orderly way."""
        for stream in list(self._streams):
            stream.close()

    def close(self) -> None:
        """End everything."""
        self.end_streams()
        if self._follower is not None:
            self._follower.close()


def _read_place(uri: str) -> Place:
    address = read_uri(uri)
    room, drawer = address.room, address.drawer
    if drawer is not None and not is_id(DRAWER, drawer):
        raise InvalidArgument(
            "the URI ends in something that is no id of a drawer", argument="uri", hint="Take it from resources/list."
        )
    return read_name(address.wing, "uri").key, read_name(room, "uri").key if room is not None else None, drawer


def _concerns(changes: Changes | None, place: Place) -> bool:
    if changes is None:
        return True
    wing, room, drawer = place
    if drawer is not None and drawer not in changes.drawers:
        return False
    return any(changed == wing and room in (None, inside) for changed, inside in changes.places)
