"""Compare what a client told with what the server said on the wire."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.clients.catalogue import Client, Way
from tests.clients.jobs import FACT, QUESTION, RESOURCE, TEXT, Json, Reference
from tests.clients.running import Report

STEPS = {
    "tools": "tools listed",
    "answers": "answers whole",
    "refusals": "refusals read",
    "resources": "resources",
    "prompts": "prompts",
    "after": "server killed",
}
"""The steps, and what a table calls them."""


@dataclass(slots=True)
class Verdict:
    """What came of each step of a client over a way, in a word or two, and what nobody expected of it."""

    cells: dict[str, str] = field(default_factory=dict)
    surprises: list[str] = field(default_factory=list)


def judge(client: Client, way: Way, report: Report, reference: Reference) -> Verdict:
    """Every step, held against what is expected of the client."""
    verdict = Verdict()
    for step in STEPS:
        faults = list(_faults(step, report, reference))
        limit = client.limit(way, step)
        lacking = step in report.absent
        where = f"{client.name} over {way.name}, {step}"
        if lacking is not (step in client.lacks):
            verdict.surprises.append(f"{where}: the catalogue is wrong about whether the client has it")
        if lacking:
            verdict.cells[step] = "–"
        elif faults and limit:
            verdict.cells[step] = "limit"
        elif faults:
            verdict.cells[step] = "**fails**"
            verdict.surprises += [f"{where}: {fault}" for fault in faults]
        else:
            verdict.cells[step] = _words(step, report)
            if limit:
                verdict.surprises.append(f"{where}: it is no limit of the client any more")
    return verdict


def _words(step: str, report: Report) -> str:
    return "not at once" if step == "after" and report.values["after"]["failures"] else "yes"


def _faults(step: str, report: Report, reference: Reference) -> Iterator[str]:
    """What is wrong with a step."""
    if step in report.absent:
        return
    if step not in report.values:
        yield report.failures.get(step) or report.failures.get("connect") or report.failures.get("end", "not told")
        return
    yield from _JUDGES[step](report.values[step], reference)


def _tools(found: Mapping[str, Json], reference: Reference) -> Iterator[str]:
    for name in sorted(reference.tools.keys() ^ found.keys()):
        yield f"{name} is {'missing' if name in reference.tools else 'not ours'}"
    for name in reference.tools.keys() & found.keys():
        wanted, shown = outline(reference.tools[name]), outline(found[name])
        if wanted != shown:
            yield f"the arguments of {name} are shown as {shown}, not as {wanted}"


def outline(schema: Any, definitions: Mapping[str, Any] | None = None) -> Any:
    """The names of a schema's properties, at all depths."""
    if not isinstance(schema, dict):
        return {}
    definitions = schema.get("$defs", definitions) or {}
    if "$ref" in schema:
        return outline(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    for choice in schema.get("anyOf") or ():
        if found := outline(choice, definitions):
            return found
    if schema.get("items"):
        return outline(schema["items"], definitions)
    return {name: outline(each, definitions) for name, each in (schema.get("properties") or {}).items()}


def _answers(found: Mapping[str, Json], reference: Reference) -> Iterator[str]:
    for tool, keys in reference.keys.items():
        if missing := sorted(keys - found[tool].keys()):
            yield f"the answer of {tool} has lost {', '.join(missing)}"
    if not any(TEXT in json.dumps(found[tool]) for tool in ("search",)):
        yield "search does not show what was filed"
    if FACT["object"] not in json.dumps(found["kg_query"]):
        yield "kg_query does not show the fact"


def _refusals(found: Mapping[str, str], reference: Reference) -> Iterator[str]:
    for tool, words in reference.refusals.items():
        if not all(_says(found[tool], each) for each in words):
            yield f"the refusal of {tool} is read as {found[tool][:300]!r}"


def _says(text: str, words: str) -> bool:
    """Are the words in the text, as they are or as JSON writes them?"""
    return any(form in text for form in (words, json.dumps(words)[1:-1], json.dumps(json.dumps(words)[1:-1])[1:-1]))


def _resources(found: Json, reference: Reference) -> Iterator[str]:
    if not any(uri.startswith(f"{RESOURCE}/") and text == TEXT for uri, text in found["texts"].items()):
        yield f"what is listed reads {found['texts']}, without what was filed"
    if found["templates"] is not None and not any("{drawer}" in each for each in found["templates"]):
        yield f"the templates are {found['templates']}"
    if TEXT not in found["text"]:
        yield f"{RESOURCE} reads {found['text'][:300]!r}"


def _prompts(found: Json, reference: Reference) -> Iterator[str]:
    if found["listed"] is not None and (missing := sorted(reference.prompts.keys() - set(found["listed"]))):
        yield f"{', '.join(missing)} not listed"
    for name, why in found["failed"].items():
        yield f"{name}: {why}"
    for name, text in found["texts"].items():
        wanted = [*reference.prompts[name], *([TEXT, QUESTION] if name == "recall" else [])]
        if missing := [line for line in wanted if line not in text]:
            yield f"{name} reads {text[:200]!r}, without {missing[0]!r}"


def _after(found: Json, reference: Reference) -> Iterator[str]:
    if found["answer"] is None:
        yield f"{len(found['failures'])} calls failed after the server was killed: {found['failures'][-1]}"
    elif FACT["object"] not in json.dumps(found["answer"]):
        yield f"the server came back without the fact: {found['answer']}"


_JUDGES: Mapping[str, Callable[[Any, Reference], Iterator[str]]] = {
    "tools": _tools,
    "answers": _answers,
    "refusals": _refusals,
    "resources": _resources,
    "prompts": _prompts,
    "after": _after,
}
