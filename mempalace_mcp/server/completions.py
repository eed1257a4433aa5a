"""Completions of arguments of prompts and of variables of resource templates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from mcp_types import CompleteRequestParams, PromptReference

from mempalace_mcp.core.errors import NotFound
from mempalace_mcp.core.model import Completion
from mempalace_mcp.server.prompts import find_prompt
from mempalace_mcp.server.resources import TEMPLATES
from mempalace_mcp.server.services import Services
from mempalace_mcp.server.tools.answers import Json
from mempalace_mcp.server.tools.schema import readable

Complete = Callable[[Any, str, Mapping[str, str]], Completion]
"""Asks the palace for names, given what was begun and the other arguments."""

_NOTHING = Completion((), 0)
_COMPLETIONS: Mapping[str, Complete] = MappingProxyType(
    {
        "wing": lambda palace, begun, others: palace.complete_wing(begun),
        "room": lambda palace, begun, others: palace.complete_room(begun, wing=others.get("wing")),
        "agent_name": lambda palace, begun, others: palace.complete_agent(begun),
        "entity": lambda palace, begun, others: palace.complete_entity(begun),
    }
)
"""By the name of the argument or variable; the others cannot be guessed."""


def complete(services: Services, params: CompleteRequestParams) -> Json:
    """At most 100 names: those that begin so, then those that hold it, without regard to case.

    Raises:
        NotFound: there is no such prompt, template or argument.
        PalaceError: the palace refuses what was begun.
    """
    argument, others = params.argument, (params.context and params.context.arguments) or {}
    known = _arguments(services, params)
    if argument.name not in known:
        raise NotFound(
            f"there is no argument {readable(argument.name)}",
            argument="argument.name",
            hint=f"Known: {', '.join(known)}.",
        )
    complete_name = _COMPLETIONS.get(argument.name)
    palace = services.tool_context.palace
    names = complete_name(palace, argument.value, others) if complete_name else _NOTHING
    shown = list(names.values)
    return {"completion": {"values": shown, "total": names.total, "hasMore": names.total > len(shown)}}


def _arguments(services: Services, params: CompleteRequestParams) -> tuple[str, ...]:
    """The arguments of the prompt or template in question."""
    if isinstance(params.ref, PromptReference):
        return tuple(find_prompt(services.tools.names, params.ref.name).arguments.model_fields)
    for template in TEMPLATES:
        if template.uri == params.ref.uri:
            return template.variables
    raise NotFound(
        f"there is no resource template {readable(params.ref.uri)}",
        argument="ref.uri",
        hint=f"There are {', '.join(template.uri for template in TEMPLATES)}.",
    )
