"""The palace as resources: drawers are texts, rooms and wings are listings of what is in them."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any

from mcp_types import (
    Annotations,
    ListResourcesResult,
    ListResourceTemplatesResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    TextResourceContents,
)

from mempalace_mcp.core.clock import show
from mempalace_mcp.core.model import Drawer, Room, Wing
from mempalace_mcp.core.text import excerpt
from mempalace_mcp.protocol.requests import Before, Context, Requests, verify_no_cursor
from mempalace_mcp.protocol.services import Services
from mempalace_mcp.protocol.tools.answers import Json, drawer_preview, drawer_whole
from mempalace_mcp.protocol.uris import DRAWER_TEMPLATE, ROOM_TEMPLATE, WING_TEMPLATE, read_uri, write_uri

PAGE = 50
PROVENANCE = "mempalace/drawer"
"""The key in `_meta` of everything that is known of a drawer beside its text."""

_JSON = "application/json"
_PLAIN = "text/plain"
_MARKDOWN = "text/markdown"
_MARKDOWN_SUFFIXES = (".md", ".markdown")

TEMPLATES = (
    ResourceTemplate(
        name="wing",
        title="Wing",
        uri_template=WING_TEMPLATE,
        description="The rooms of a wing and how many drawers each has.",
        mime_type=_JSON,
    ),
    ResourceTemplate(
        name="room",
        title="Room",
        uri_template=ROOM_TEMPLATE,
        description="The newest drawers of a room, each with the beginning of its text.",
        mime_type=_JSON,
    ),
    ResourceTemplate(
        name="drawer",
        title="Drawer",
        uri_template=DRAWER_TEMPLATE,
        description="A text, verbatim, with its provenance in _meta.",
    ),
)


class Resources:
    """What `resources/...` answers."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    async def list(
        self, context: Context, params: PaginatedRequestParams | None, before: Before | None = None
    ) -> ListResourcesResult:
        """Drawers, newest first, a page of them."""
        cursor = params.cursor if params else None

        def work(services: Services) -> ListResourcesResult:
            page = services.tool_context.palace.list_drawers(limit=PAGE, cursor=cursor)
            return ListResourcesResult(
                resources=[_listed(drawer) for drawer in page.items], next_cursor=page.next_cursor
            )

        return await self._requests.answer(context, "resources/list", work, before=before)

    async def templates(self, context: Context, params: PaginatedRequestParams | None) -> ListResourceTemplatesResult:
        """The addresses of everything."""
        cursor = params.cursor if params else None

        def work(services: Services) -> ListResourceTemplatesResult:
            verify_no_cursor(cursor, "templates")
            return ListResourceTemplatesResult(resource_templates=list(TEMPLATES))

        return await self._requests.answer(context, "resources/templates/list", work)

    async def read(self, context: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
        """What is at the address."""

        def work(services: Services) -> ReadResourceResult:
            return ReadResourceResult(contents=[_contents(services.tool_context.palace, params.uri)])

        return await self._requests.answer(context, "resources/read", work, uri=params.uri)


def drawer_uri(drawer: Drawer) -> str:
    """Where a drawer stands now."""
    return write_uri(drawer.wing, drawer.room, drawer.drawer_id)


def provenance(drawer: Drawer) -> Json:
    """All that is known of a drawer beside its text, as `_meta`."""
    return {PROVENANCE: {key: value for key, value in drawer_whole(drawer).items() if key != "content"}}


def media_type(drawer: Drawer) -> str:
    """Markdown if it comes from such a file; plain text otherwise, for nothing is known about it."""
    suffix = PurePath(drawer.source_file or "").suffix.lower()
    return _MARKDOWN if suffix in _MARKDOWN_SUFFIXES else _PLAIN


def _listed(drawer: Drawer) -> Resource:
    return Resource(
        uri=drawer_uri(drawer),
        name=drawer.drawer_id,
        title=excerpt(drawer.content.strip().partition("\n")[0]),
        description=f"{drawer.wing} / {drawer.room}",
        mime_type=media_type(drawer),
        size=len(drawer.content.encode()),
        annotations=Annotations(last_modified=show(drawer.updated_at)),
    )


def _contents(palace: Any, uri: str) -> TextResourceContents:
    place = read_uri(uri)
    if place.room is None:
        return _listing(uri, _wing_shown(palace.get_wing(place.wing)))
    if place.drawer is None:
        return _listing(uri, _room_shown(palace.get_room(place.wing, place.room)))
    drawer = palace.get_drawer(place.wing, place.room, place.drawer)
    return TextResourceContents(uri=uri, mime_type=media_type(drawer), text=drawer.content, _meta=provenance(drawer))


def _listing(uri: str, content: Json) -> TextResourceContents:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return TextResourceContents(uri=uri, mime_type=_JSON, text=text)


def _wing_shown(wing: Wing) -> Json:
    rooms = [
        {"room": room.room, "drawers": room.drawers, "uri": write_uri(room.wing, room.room)} for room in wing.rooms
    ]
    return {"wing": wing.name, "drawers": wing.drawers, "rooms": rooms}


def _room_shown(room: Room) -> Json:
    newest = [{"uri": drawer_uri(drawer), **drawer_preview(drawer)} for drawer in room.drawers.items]
    return {"wing": room.wing, "room": room.name, "drawers": room.drawers.total, "newest": newest}
