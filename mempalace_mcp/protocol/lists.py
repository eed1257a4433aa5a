"""The lists that most clients ask for as soon as they are connected: resources, their templates, prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from mempalace_mcp.protocol.origin import Origin, subscriptions_of
from mempalace_mcp.protocol.prompts import list_prompts
from mempalace_mcp.protocol.requests import Requests
from mempalace_mcp.protocol.resources import list_resources, list_templates
from mempalace_mcp.protocol.services import Services
from mempalace_mcp.protocol.subscriptions import RESOURCES
from mempalace_mcp.protocol.tools.answers import Json

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

    async def answer(self, method: str, cursor: str | None, origin: Origin, *, followed: bool = True) -> bytes:
        """That page of the list in JSON. If it is `followed`, a session that has seen the list of resources hears when
        it is another one.

        Raises:
            PalaceError: it was refused, or failed.
        """
        form = _LISTS[method]
        before = self._follow if followed and method == RESOURCES_LIST else None
        return await self._requests.answer(origin, method, lambda services: form(services, cursor), before=before)

    async def _follow(self, origin: Origin) -> None:
        follower = subscriptions_of(origin).follower(origin.access)
        if follower is not None:
            follower.lists.add(RESOURCES)
            await follower.join(self._feed, again=origin.resent)
