"""Completions of arguments of prompts and of variables of resource templates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from mempalace_mcp.core.errors import NotFound
from mempalace_mcp.core.model import Completion
from mempalace_mcp.server.prompts import find_prompt
from mempalace_mcp.server.resources import TEMPLATES
from mempalace_mcp.server.services import Services
from mempalace_mcp.server.tools.answers import Json
from mempalace_mcp.server.tools.schema import readable

Complete = Callable[[Any, str, Mapping[str, str]], Completion]
"""Completes a value of the palace, given the other arguments."""

_NOTHING = Completion((), 0)
_COMPLETIONS: Mapping[str, Complete] = MappingProxyType(
    {
        "wing": lambda palace, value, others: palace.complete_wing(value),
        "room": lambda palace, value, others: palace.complete_room(value, wing=others.get("wing")),
        "agent_name": lambda palace, value, others: palace.complete_agent(value),
        "entity": lambda palace, value, others: palace.complete_entity(value),
    }
)
"""By the name of the argument or variable; others have no completions."""


def complete(services: Services, params: Json) -> Json:
    """At most 100 names: first those that begin with the value, then those that contain it, in any case.

    Raises:
        NotFound: there is no such prompt, template or argument.
        PalaceError: the palace refuses the value.
    """
    name, value = params["argument"]["name"], params["argument"]["value"]
    others = (params.get("context") or {}).get("arguments") or {}
    declared = _arguments(services, params["ref"])
    if name not in declared:
        raise NotFound(
            f"there is no argument {readable(name)}", argument="argument.name", hint=f"Known: {', '.join(declared)}."
        )
    complete_name = _COMPLETIONS.get(name)
    names = complete_name(services.tool_context.palace, value, others) if complete_name else _NOTHING
    values = list(names.values)
    return {"completion": {"values": values, "total": names.total, "hasMore": names.total > len(values)}}


def _arguments(services: Services, reference: Json) -> tuple[str, ...]:
    """The arguments of a prompt, or the variables of a resource template."""
    if reference["type"] == "ref/prompt":
        return tuple(find_prompt(services.tools.names, reference["name"]).arguments.model_fields)
    for template in TEMPLATES:
        if template.uri == reference["uri"]:
            return template.variables
    raise NotFound(
        f"there is no resource template {readable(reference['uri'])}",
        argument="ref.uri",
        hint=f"There are {', '.join(template.uri for template in TEMPLATES)}.",
    )
