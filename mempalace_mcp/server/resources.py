"""The palace as resources: a drawer is a text; a room or a wing is a listing in JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from mempalace_mcp.core.clock import format_instant
from mempalace_mcp.core.model import Drawer, Room, Wing
from mempalace_mcp.core.text import excerpt
from mempalace_mcp.server.services import Services
from mempalace_mcp.server.subscriptions import DRAWER_TEMPLATE, ROOM_TEMPLATE, WING_TEMPLATE, read_uri, write_uri
from mempalace_mcp.server.tools.answers import Json, format_drawer, format_preview, present, to_json
from mempalace_mcp.server.tools.overview import largest

PAGE = 50
PROVENANCE = "mempalace/drawer"
"""The key in `_meta` of a drawer's data beside its text."""

_JSON = "application/json"
_PLAIN = "text/plain"
_MARKDOWN = "text/markdown"
_MARKDOWN_SUFFIXES = (".md", ".markdown")


@dataclass(frozen=True, slots=True)
class Template:
    """A URI template, and its variables."""

    name: str
    title: str
    description: str
    uri: str
    variables: tuple[str, ...]
    mime_type: str | None = None

    def format(self) -> Json:
        """The template as `resources/templates/list` lists it."""
        template = {"name": self.name, "title": self.title, "description": self.description, "uriTemplate": self.uri}
        return present({**template, "mimeType": self.mime_type})


TEMPLATES = (
    Template(
        name="wing",
        title="Wing",
        description="The rooms of a wing and how many drawers each has.",
        uri=WING_TEMPLATE,
        variables=("wing",),
        mime_type=_JSON,
    ),
    Template(
        name="room",
        title="Room",
        description="The newest drawers of a room, each with the beginning of its text.",
        uri=ROOM_TEMPLATE,
        variables=("wing", "room"),
        mime_type=_JSON,
    ),
    Template(
        name="drawer",
        title="Drawer",
        description="A text, verbatim, with its provenance in _meta.",
        uri=DRAWER_TEMPLATE,
        variables=("wing", "room", "drawer"),
    ),
)


def list_resources(services: Services, params: Json) -> Json:
    """A page of the drawers, newest first.

    Raises:
        InvalidArgument: the cursor names no page.
    """
    page = services.tool_context.palace.list_drawers(limit=PAGE, cursor=params.get("cursor"))
    return present({"resources": [_format_drawer(drawer) for drawer in page.items], "nextCursor": page.next_cursor})


def list_templates() -> Json:
    """The URI templates of wings, rooms and drawers."""
    return {"resourceTemplates": [template.format() for template in TEMPLATES]}


def read_resource(services: Services, params: Json) -> Json:
    """The contents of the resource with that `uri`.

    Raises:
        InvalidArgument: it is no URI of a palace.
        NotFound: there is no such resource.
    """
    return {"contents": [_contents(services.tool_context.palace, params["uri"])]}


def drawer_uri(drawer: Drawer) -> str:
    """The URI of a drawer in its present wing and room."""
    return write_uri(drawer.wing, drawer.room, drawer.drawer_id)


def provenance(drawer: Drawer) -> Json:
    """The `_meta` of a drawer: all of its data beside its text."""
    return {PROVENANCE: {key: value for key, value in format_drawer(drawer).items() if key != "content"}}


def media_type(drawer: Drawer) -> str:
    """Markdown if the drawer comes from a file with such a suffix, else plain text."""
    suffix = PurePath(drawer.source_file or "").suffix.lower()
    return _MARKDOWN if suffix in _MARKDOWN_SUFFIXES else _PLAIN


def _format_drawer(drawer: Drawer) -> Json:
    return {
        "uri": drawer_uri(drawer),
        "name": drawer.drawer_id,
        "title": excerpt(drawer.content.strip().partition("\n")[0]),
        "description": f"{drawer.wing} / {drawer.room}",
        "mimeType": media_type(drawer),
        "size": len(drawer.content.encode()),
        "annotations": {"lastModified": format_instant(drawer.updated_at)},
    }


def _contents(palace: Any, uri: str) -> Json:
    place = read_uri(uri)
    if place.room is None:
        return _listing(uri, _format_wing(palace.get_wing(place.wing)))
    if place.drawer is None:
        return _listing(uri, _format_room(palace.get_room(place.wing, place.room)))
    drawer = palace.get_drawer(place.wing, place.room, place.drawer)
    return {"uri": uri, "mimeType": media_type(drawer), "text": drawer.content, "_meta": provenance(drawer)}


def _listing(uri: str, content: Json) -> Json:
    return {"uri": uri, "mimeType": _JSON, "text": to_json(content)}


def _format_wing(wing: Wing) -> Json:
    rooms = [
        {"room": room.room, "drawers": room.drawers, "uri": write_uri(room.wing, room.room)}
        for room in largest(wing.rooms)
    ]
    return {"wing": wing.name, "drawers": wing.drawers, "rooms": rooms, "truncated": len(rooms) < len(wing.rooms)}


def _format_room(room: Room) -> Json:
    newest = [{"uri": drawer_uri(drawer), **format_preview(drawer)} for drawer in room.drawers.items]
    return {"wing": room.wing, "room": room.name, "drawers": room.drawers.total, "newest": newest}
