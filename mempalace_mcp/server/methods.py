"""Methods of MCP that are answered without the SDK.

The lists that most clients ask for as soon as they are connected: resources, their templates, prompts.

What sessions are answered without the SDK, which takes half a second and 30 MB to import, and the way to it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Set
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import anyio.to_thread

from mempalace_mcp.core.call_context import Principal
from mempalace_mcp.core.errors import PalaceError
from mempalace_mcp.server.calls import Calls, Requests, encode, is_plain_meta, refusal
from mempalace_mcp.server.initialize import initialize_result, revision_for
from mempalace_mcp.server.prompts import list_prompts
from mempalace_mcp.server.request_context import RequestContext, subscriptions_of
from mempalace_mcp.server.resources import list_resources, list_templates
from mempalace_mcp.server.services import Services
from mempalace_mcp.server.subscriptions import RESOURCES
from mempalace_mcp.server.tools.answers import Json

if TYPE_CHECKING:
    from mempalace_mcp.server.sdk import PalaceServer

RESOURCES_LIST = "resources/list"
TEMPLATES_LIST = "resources/templates/list"
PROMPTS_LIST = "prompts/list"

_LISTS: Mapping[str, Callable[[Services, str | None], Json]] = MappingProxyType(
    {RESOURCES_LIST: list_resources, TEMPLATES_LIST: list_templates, PROMPTS_LIST: list_prompts}
)
"""By the method that asks for it: forms the page behind the cursor."""


class Lists:
    """Answers requests for them, with the SDK or without it."""

    def __init__(self, services: Services) -> None:
        self._requests = Requests(services)
        self._feed = services.feed

    def __contains__(self, method: str) -> bool:
        """True if the method asks for one of them."""
        return method in _LISTS

    async def answer(self, method: str, cursor: str | None, origin: RequestContext, *, followed: bool = True) -> bytes:
        """That page of the list in JSON. If it is `followed`, a session that has seen the list of resources hears when
        it is another one.

        Raises:
            PalaceError: it was refused, or failed.
        """
        form = _LISTS[method]
        before = self._follow if followed and method == RESOURCES_LIST else None
        return await self._requests.answer(origin, method, lambda services: form(services, cursor), before=before)

    async def _follow(self, origin: RequestContext) -> None:
        follower = subscriptions_of(origin).follower(origin.access)
        if follower is not None:
            follower.lists.add(RESOURCES)
            await follower.join(self._feed, again=origin.resent)


Inquire = Callable[[RequestContext], Awaitable[bytes]]
"""Forms the body of the answer to a request from there: its result or its error in JSON, with that key."""


class SessionServer(Protocol):
    """What stands behind a session."""

    calls: Calls

    def greet(self, offer: Mapping[str, Any] | None, *, tools_change: bool) -> bytes | None:
        """The result of a plain `initialize` in JSON, or None if there is more to it. `tools_change`: the client may
        be told that the list of tools has become another one."""
        ...

    def answer(self, method: str, params: Mapping[str, Any] | None, access: Principal) -> bytes | None:
        """The result of a plain request in JSON, or None if there is more to it."""
        ...

    def inquiry(self, method: str, params: Mapping[str, Any] | None) -> Inquire | None:
        """What answers a plain request that takes a while, other than a call; None if there is more to it."""
        ...

    async def sdk_server(self) -> PalaceServer:
        """The server of the SDK, for what is not plain."""
        ...


class MethodServer:
    """Serves any number of sessions."""

    def __init__(self, services: Services) -> None:
        self.calls = Calls(services)
        self._services = services
        self._lists = Lists(services)
        self._listing: bytes | None = None
        self._sdk_server: PalaceServer | None = None

    def greet(self, offer: Mapping[str, Any] | None, *, tools_change: bool) -> bytes | None:
        """The result of a plain `initialize` in JSON, or None if there is more to it. `tools_change`: the client may
        be told that the list of tools has become another one."""
        revision = revision_for(offer)
        if revision is None:
            return None
        return encode(initialize_result(revision, self._services.tools.instructions, tools_change=tools_change))

    def answer(self, method: str, params: Mapping[str, Any] | None, access: Principal) -> bytes | None:
        """The result of a plain request in JSON, or None if there is more to it."""
        if not _is_plain(params or {}, {"_meta"}):
            return None
        match method:
            case "ping":
                return b"{}"
            case "tools/list":
                return self._tools(access)
        return None

    def inquiry(self, method: str, params: Mapping[str, Any] | None) -> Inquire | None:
        """What answers a plain request that takes a while, other than a call; None if there is more to it."""
        given = params or {}
        cursor = given.get("cursor")
        if method not in self._lists or not _is_plain(given, {"_meta", "cursor"}) or not isinstance(cursor, str | None):
            return None
        return partial(self._list, method, cursor)

    async def sdk_server(self) -> PalaceServer:
        """The server of the SDK, which is imported when it is first needed: in a thread, for that takes long."""
        if self._sdk_server is None:
            # The executor could refuse, or keep it waiting behind slow calls, and with it all that is read after it.
            self._sdk_server = await anyio.to_thread.run_sync(_build_sdk_server, self._services, self.calls)
        return self._sdk_server

    async def _list(self, method: str, cursor: str | None, origin: RequestContext) -> bytes:
        try:
            return b'"result":' + await self._lists.answer(method, cursor, origin)
        except PalaceError as error:
            return b'"error":' + encode(refusal(error))

    def _tools(self, access: Principal) -> bytes:
        if not access.is_full:
            return _listing(self._services.granted(access))
        if self._listing is None:
            self._listing = _listing(self._services)
        return self._listing


def _build_sdk_server(services: Services, calls: Calls) -> PalaceServer:
    from mempalace_mcp.server.sdk import build_server

    return build_server(services, calls)


def _listing(services: Services) -> bytes:
    return encode({"tools": services.tools.definitions()})


def _is_plain(params: Mapping[str, Any], known: Set[str]) -> bool:
    """True if there are no other parameters, and nothing in `_meta` that only the SDK understands."""
    return params.keys() <= known and is_plain_meta(params.get("_meta", {}))
