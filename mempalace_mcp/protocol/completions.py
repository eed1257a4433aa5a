"""Names for what a person has begun to type into an argument of a prompt or a variable of a resource template."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from mcp_types import CompleteRequestParams, CompleteResult, Completion, PromptReference

from mempalace_mcp.core.errors import NotFound
from mempalace_mcp.core.model import Completion as Names
from mempalace_mcp.protocol.prompts import find_prompt
from mempalace_mcp.protocol.requests import Context, Requests
from mempalace_mcp.protocol.resources import TEMPLATES
from mempalace_mcp.protocol.services import Services
from mempalace_mcp.protocol.tools.arguments import readable

Complete = Callable[[Any, str, Mapping[str, str]], Names]
"""Asks the palace for names, given what was begun and the other arguments."""

_NOTHING = Names((), 0)
_COMPLETIONS: Mapping[str, Complete] = MappingProxyType(
    {
        "wing": lambda palace, begun, others: palace.complete_wing(begun),
        "room": lambda palace, begun, others: palace.complete_room(begun, wing=others.get("wing")),
        "agent_name": lambda palace, begun, others: palace.complete_agent(begun),
        "entity": lambda palace, begun, others: palace.complete_entity(begun),
    }
)
"""By the name of the argument or variable; the others cannot be guessed."""

_VARIABLES = MappingProxyType({"wing": ("wing",), "room": ("wing", "room"), "drawer": ("wing", "room", "drawer")})
"""Of each resource template, by its name."""


class Completions:
    """What `completion/complete` answers."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    async def complete(self, context: Context, params: CompleteRequestParams) -> CompleteResult:
        """At most 100 names: those that begin so, then those that hold it, without regard to case."""
        argument, others = params.argument, (params.context and params.context.arguments) or {}

        def work(services: Services) -> CompleteResult:
            known = _arguments(services, params)
            if argument.name not in known:
                raise NotFound(
                    f"there is no argument {readable(argument.name)}",
                    argument="argument.name",
                    hint=f"Known: {', '.join(known)}.",
                )
            complete = _COMPLETIONS.get(argument.name)
            palace = services.tool_context.palace
            names = complete(palace, argument.value, others) if complete else _NOTHING
            shown = list(names.values)
            return CompleteResult(
                completion=Completion(values=shown, total=names.total, has_more=names.total > len(shown))
            )

        return await self._requests.answer(context, "completion/complete", work)


def _arguments(services: Services, params: CompleteRequestParams) -> tuple[str, ...]:
    """The arguments of the prompt or template in question."""
    if isinstance(params.ref, PromptReference):
        return tuple(find_prompt(services.tools.names, params.ref.name).arguments.model_fields)
    for template in TEMPLATES:
        if template.uri_template == params.ref.uri:
            return _VARIABLES[template.name]
    raise NotFound(
        f"there is no resource template {readable(params.ref.uri)}",
        argument="ref.uri",
        hint=f"There are {', '.join(template.uri_template for template in TEMPLATES)}.",
    )
