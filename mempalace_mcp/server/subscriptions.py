"""The URIs of a palace, and subscriptions to them: `palace://wing`, `palace://wing/room`, `palace://wing/room/drawer`.

Each part of a URI is percent-encoded as RFC 6570 expands a simple variable: all bytes of its UTF-8 but the unreserved
characters of RFC 3986. Any name can be encoded, and the URI templates are exact.

Pending events are bounded, however little a client reads: several changes of one resource are one event.
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
    """A decoded URI: of a wing, of a room in it, or of a drawer in that."""

    wing: str
    room: str | None = None
    drawer: str | None = None


def write_uri(wing: str, room: str | None = None, drawer: str | None = None) -> str:
    """The URI of a wing, a room or a drawer."""
    return SCHEME + "/".join(_encode(part) for part in (wing, room, drawer) if part is not None)


def read_uri(uri: str) -> ResourceAddress:
    """Decode a URI, whether the resource exists or not.

    Raises:
        InvalidArgument: no resource of a palace can have it.
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
    # Clients that normalize URIs would resolve "." and "..", even percent-encoded; names are trimmed of the space.
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
"""Resources to which one session or one stream subscribes."""

MAX_STREAMS = 8
"""Open streams of one session."""

RESOURCES = "resources"
UPDATED = "notifications/resources/updated"

Place = tuple[str, str | None, str | None]
"""The keys of a wing and a room and the id of a drawer; None means all of them."""

Event = tuple[str, dict[str, Any]]
"""A change to notify a client of: the method of the notification, and its parameters."""


class Subscriber:
    """Collects changes of the resources it follows, and of lists (`resources`, `tools`, `prompts`), for one client.

    `wings` are the keys of all wings that the client may see; None means all. With `once` a list is followed until its
    first change: the client lists again to hear of the next one.
    """

    def __init__(
        self, lists: Collection[str] = (), wings: Collection[str] | None = None, *, once: bool = False
    ) -> None:
        self.lists = set(lists)
        self._wings = wings
        self._once = once
        self._places: dict[str, Place] = {}
        self._pending: dict[str, None] = {}
        self._pending_lists: set[str] = set()
        self._feed: ChangeFeed | None = None
        self._closed = False
        self._wakeup = anyio.Event()

    @property
    def drawer_ids(self) -> Collection[str]:
        """The drawers it follows."""
        return [drawer for _, _, drawer in self._places.values() if drawer is not None]

    @property
    def uris(self) -> Sequence[str]:
        """The resources it follows, as the client wrote them."""
        return list(self._places)

    def follow(self, uri: str) -> None:
        """Follow the resource, whether it exists or not.

        Raises:
            InvalidArgument: it is no resource of a palace, or one too many.
            Forbidden: the client may not see its wing.
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

    def unfollow(self, uri: str) -> None:
        """Follow the resource no more."""
        self._places.pop(uri, None)
        self._pending.pop(uri, None)
        self._leave_if_idle()

    async def join(self, feed: ChangeFeed, *, again: bool = False) -> None:
        """Collect changes from now on. With `again` the client was subscribed in an earlier process: since nobody
        knows which changes it missed, everything is pending at once.

        Raises:
            PalaceError: the palace cannot be read.
        """
        if self._feed is None:
            await feed.join(self)
            self._feed = feed
        if self._closed:  # meanwhile
            feed.leave(self)
        if again:
            self.notify(None)

    def notify(self, changes: Changes | None) -> None:
        """Collect the changes that concern this subscriber; None means that anything may have changed."""
        self._pending.update((uri, None) for uri, place in self._places.items() if _concerns(changes, place))
        if changes is None:
            self._pending_lists |= self.lists
        elif any(self._wings is None or wing in self._wings for wing, _ in changes.places):
            self._pending_lists |= self.lists & {RESOURCES}
        if self._pending or self._pending_lists:
            self._wakeup.set()

    async def next_events(self) -> list[Event] | None:
        """All pending events, once there is one; None when the subscriber is closed."""
        while not self._closed and not self._pending and not self._pending_lists:
            self._wakeup = anyio.Event()
            await self._wakeup.wait()
        if self._closed:
            return None
        lists, uris = sorted(self._pending_lists), list(self._pending)
        self._pending.clear()
        self._pending_lists.clear()
        if self._once:
            self.lists.difference_update(lists)
            self._leave_if_idle()
        of_lists: list[Event] = [(f"notifications/{kind}/list_changed", {}) for kind in lists]
        return of_lists + [(UPDATED, {"uri": uri}) for uri in uris]

    def close(self) -> None:
        """Collect nothing more, and end `next_events`."""
        self._closed = True
        self._wakeup.set()
        if self._feed is not None:
            self._feed.leave(self)

    def _leave_if_idle(self) -> None:
        if self._feed is not None and not self._places and not self.lists:
            self._feed.leave(self)
            self._feed = None


class Subscriptions:
    """The subscriber of one session, and its open streams; a transport without sessions has streams only.

    `start` begins to notify a session of the events of its subscriber; a transport without sessions has none.
    """

    def __init__(self, start: Callable[[Subscriber], None] | None = None, max_streams: int = MAX_STREAMS) -> None:
        self._start = start
        self._max_streams = max_streams
        self._subscriber: Subscriber | None = None
        self._streams: set[Subscriber] = set()

    def subscriber(self, access: Principal) -> Subscriber | None:
        """The session's subscriber, which follows nothing at first; None if there is no session."""
        if self._subscriber is None and self._start is not None:
            self._subscriber = Subscriber(wings=access.wings, once=True)
            self._start(self._subscriber)
        return self._subscriber

    def add(self, stream: Subscriber) -> None:
        """Keep an open stream until it is discarded.

        Raises:
            Busy: there are too many.
        """
        if len(self._streams) >= self._max_streams:
            raise Busy(f"{self._max_streams} streams are open already", hint="Close one, or listen for more on one.")
        self._streams.add(stream)

    def discard(self, stream: Subscriber) -> None:
        """Close the stream."""
        stream.close()
        self._streams.discard(stream)

    def end_streams(self) -> None:
        """Let every open stream end with its result."""
        for stream in list(self._streams):
            stream.close()

    def close(self) -> None:
        """End everything."""
        self.end_streams()
        if self._subscriber is not None:
            self._subscriber.close()


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
