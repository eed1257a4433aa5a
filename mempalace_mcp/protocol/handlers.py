"""The SDK's handlers of lists, resources, prompts and completions: its models of what other modules say in JSON."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CompleteRequestParams,
    CompleteResult,
    GetPromptRequestParams,
    GetPromptResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from mempalace_mcp.core.errors import InvalidArgument, NotFound, PalaceError
from mempalace_mcp.protocol.completions import complete
from mempalace_mcp.protocol.lists import PROMPTS_LIST, RESOURCES_LIST, TEMPLATES_LIST, Lists
from mempalace_mcp.protocol.origin import Origin
from mempalace_mcp.protocol.prompts import get_prompt
from mempalace_mcp.protocol.requests import Requests, Work, refusal
from mempalace_mcp.protocol.resources import read_resource
from mempalace_mcp.protocol.services import Services

RESOURCE_NOT_FOUND = -32002
"""Until 2025-11-25; later revisions say INVALID_PARAMS."""

Context = ServerRequestContext[Any, Any]
Page = PaginatedRequestParams | None


class Handlers:
    """One for each method."""

    def __init__(self, services: Services) -> None:
        self._requests = Requests(services)
        self._lists = Lists(services)

    async def list_resources(self, context: Context, params: Page) -> ListResourcesResult:
        return ListResourcesResult.model_validate_json(await self._list(context, RESOURCES_LIST, params))

    async def list_templates(self, context: Context, params: Page) -> ListResourceTemplatesResult:
        return ListResourceTemplatesResult.model_validate_json(await self._list(context, TEMPLATES_LIST, params))

    async def list_prompts(self, context: Context, params: Page) -> ListPromptsResult:
        return ListPromptsResult.model_validate_json(await self._list(context, PROMPTS_LIST, params))

    async def read_resource(self, context: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
        work = partial(read_resource, uri=params.uri)
        return ReadResourceResult.model_validate_json(
            await self._answer(context, "resources/read", work, uri=params.uri)
        )

    async def get_prompt(self, context: Context, params: GetPromptRequestParams) -> GetPromptResult:
        work = partial(get_prompt, name=params.name, arguments=params.arguments or {})
        return GetPromptResult.model_validate_json(await self._answer(context, "prompts/get", work))

    async def complete(self, context: Context, params: CompleteRequestParams) -> CompleteResult:
        work = partial(complete, params=params)
        return CompleteResult.model_validate_json(await self._answer(context, "completion/complete", work))

    async def _list(self, context: Context, method: str, params: Page) -> bytes:
        origin, cursor = Origin.of_request(context.request), params.cursor if params else None
        followed = context.protocol_version not in MODERN_PROTOCOL_VERSIONS
        async with origin.pacing():
            with refusing(context):
                return await self._lists.answer(method, cursor, origin, followed=followed)

    async def _answer(self, context: Context, method: str, work: Work, uri: str | None = None) -> bytes:
        origin = Origin.of_request(context.request)
        async with origin.pacing():
            with refusing(context, uri):
                return await self._requests.answer(origin, method, work)


@contextmanager
def refusing(context: Context, uri: str | None = None) -> Iterator[None]:
    """Turn refusals into errors of the revision that was agreed on. `uri` is the resource that was asked for: what is
    wrong with it means that there is none.

    Raises:
        MCPError: something was refused within the block.
    """
    try:
        yield
    except PalaceError as error:
        told = refusal(error)
        if uri is None or not isinstance(error, InvalidArgument | NotFound):
            raise MCPError(**told) from None
        code = INVALID_PARAMS if context.protocol_version in MODERN_PROTOCOL_VERSIONS else RESOURCE_NOT_FOUND
        message, data = f"Resource not found: {error.message}", {"uri": uri, **told["data"]}
        raise MCPError(code=code, message=message, data=data) from None
