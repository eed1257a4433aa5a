"""Write docs/tools.md from the tools themselves: arguments with their bounds, and what is answered."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mempalace_mcp.server.tools.registry import ListedTool, build_tools

DESTINATION = Path(__file__).parents[1] / "docs" / "tools.md"
HEAD = """\
# Tools

Made by `python scripts/document_tools.py` from the tools' own definitions. **Bold** arguments are required; an empty
string for an optional one means absent; unknown arguments are refused.

Dates are `2026-05-08`, `2026-05`, `2026`, `today`, `yesterday`, `tomorrow`, `now`, or ISO 8601 with a time
(`2026-05-08T14:30:00Z`). What has no offset is of the palace's zone, the setting `PALACE_TIMEZONE`. A day, month or
year means its beginning where something begins and its end where something ends. Answers show instants in UTC.

`since` and `before` also take words, in English, German, French and Spanish: `last week`, `3 days ago`, `2 hours ago`,
`Monday`, `March 2024`, `May 3`, `Q2 2025`, `the end of last month`, `letzte Woche`, `ayer`. They mean the instant at
which that begins, in `since` as in `before`; weeks begin on Monday, and without a year it is the latest that has begun.
`5/8/2024` is refused, since it is two days.

`search` reads such times in the question, too, with distances (`two days before 3 May`), ranges (`between May 3 and
June 5`) and holidays. Drawers of that time, or of the weeks after it, come earlier; none is left out. Their time is
`occurred_at`, else the date in their first line, else when they were filed. A question that asks for nothing but a time
(`what did we do last week`) is answered with the drawers of that time, newest first. `now` says as of when. With words
as `latest`, `current` or `now` the newer ones of what fits about equally well come first. `mode` `semantic` and
`keyword` take no notice of any of this.

A drawer can take the place of others: `supersedes` when it is filed, `superseded_by` when one of the others is updated
(`none` takes it back). The others keep their text, are found, listed and read as before, and show `superseded_by`, the
id of the newest that is live. In `search` they count half, and their successor as much as they would: it comes first
even if it shares no word with the question. In the trash a drawer takes nobody's place. A text that is filed once more
after it was superseded is a new drawer. A token that is limited to wings sees only successors within them.

Arguments are taken as clients send them. What was turned into text on the way is what it says: `"5"` and `5.0` are 5,
`"false"` is false, a list or an object may be its JSON, one string a list of one (several ids in it, apart by commas or
white space, are so many), `"Hybrid"` is `hybrid`. `null`, an empty list, `{}` for an object with fields, and 0 where
counting begins at 1 mean absent, so the default counts. Where the argument is text, any text is that text. What has no
single meaning is refused.

Answers are bounded. Tokens are estimated rather too high: no text in any language measured had more than 1.2 times the
estimate with any of five tokenizers, and English has two thirds. `get_drawers` shows at most `max_tokens`; then
`next_offset` leads on, each part has the `characters` of its whole and the `offset` where it begins, and the parts one
after the other are the texts, verbatim. `diary_read` shows as many whole entries as 8,000 tokens hold, then
`next_cursor`; a longer entry is cut, has the `characters` of the whole, and is read by its id. `get_taxonomy` shows the
500 largest rooms, and says so; a page of `list_drawers` ends at 20,000 tokens. A passage in `search` has the
`characters` of its drawer, and its `offset` there if it is a part.

Every answer is `structuredContent` and the same JSON as text; all fields that may be there are in the tool's
`outputSchema`, `error` among them, and none is required. Every refusal is an error result (`isError`):

    {"error": {"code": "invalid_argument", "message": "...", "argument": "items[2].content",
               "hint": "what to do", "retryable": false}}

Whoever may have to repeat a write without knowing whether it was done gives it a key of 1 to 128 characters, new for
each call (a UUID), the same for its repetition. For a day the write is done once and the repetition gets the first
answer, a refusal included; another call under the key is a `conflict`. Tools that only read take no notice of it, nor
does `import_path`, which files nothing twice.

    {"method": "tools/call", "params": {"name": "diary_write", "arguments": {...},
                                        "_meta": {"idempotencyKey": "6f1c9a52-..."}}}
"""
MEANINGS = {
    "added_by": "who files it",
    "agent_name": "whose diary; compared without case",
    "as_of": "only facts that held then; a date means its end",
    "at": "when the change happened; now by default, a date means its end",
    "before": "only what happened, or was filed, earlier than this; dates and words as `last week` mean their start",
    "confidence": "how sure you are",
    "content": "the text, kept byte for byte; at most 1 MiB of UTF-8, no NUL",
    "cursor": "`next_cursor` of the page before",
    "depth": "how many hops from the entity",
    "direction": "facts where the entity is the subject, the object, or either",
    "drawer_id": "as given by search, list_drawers or add_drawer",
    "drawer_ids": "as given by search, list_drawers or add_drawer",
    "dry_run": "only tell what would be done",
    "ended": "when it ceased to hold; now by default, a date means its end",
    "entity": "a subject or object; compared without case, white space collapsed",
    "fact_id": "which one, where the same is said of several intervals; all that hold then by default",
    "known_at": "what the palace believed then; a date means its end",
    "items": "texts to file",
    "max_tokens": "bounds the answer; in `search` the passages",
    "now": "as of when the query, `since` and `before` mean times as `last week`; by default, now",
    "offset": "characters to pass over, of all contents asked for; `next_offset` of the part before",
    "metadata": "any JSON object up to 16 KiB",
    "mode": "rank by both, by meaning alone, or by words alone",
    "object": "what the fact says; compared exactly",
    "occurred_at": "when what the text tells happened; a date means its beginning",
    "query": "words or a question; at most 64 KiB",
    "retract": "it never was true: it is believed no longer, and `known_at` before still shows it",
    "room": "a topic within a wing; compared without case",
    "since": "only what happened, or was filed, from then on; dates and words as `last week` mean their start",
    "source_drawer_id": "the drawer that says so",
    "source_file": "where the text comes from",
    "superseded_by": "the id of the drawer that takes its place, or `none`: nothing does",
    "supersedes": "ids of drawers whose place it takes",
    "threshold": "least cosine of a similar one",
    "topic": "what a diary entry is about",
    "valid_from": "first instant at which it holds; a date means its beginning",
    "valid_to": "first instant at which it no longer holds; a date counts through its end",
    "wing": "a project, a person, a theme; compared without case",
}
BOUNDS = (("minimum", "from {}"), ("maximum", "to {}"), ("maxItems", "at most {}"))


def document() -> str:
    """The whole page."""
    core = {tool["name"] for tool in build_tools("core").definitions()}
    offers = build_tools("full").offers
    return HEAD + "".join(_section(offer, name in core) for name, offer in offers.items())


def _section(offer: ListedTool, is_core: bool) -> str:
    tool, schema = offer.definition, offer.tool.schema
    hints = [hint.removesuffix("Hint") for hint, given in tool["annotations"].items() if given is True]
    profile = "" if is_core else " · only with `--tools full`"
    lines = [f"\n## {tool['name']}\n", f"{tool['description']}\n", f"*{', '.join(hints) or 'writes'}{profile}*\n"]
    rows = list(_rows(schema, schema))
    if rows:
        lines += ["| argument | type | meaning |", "|---|---|---|", *rows, ""]
    answer = [key for key in tool["outputSchema"]["properties"] if key != "error"]
    lines.append(f"Answers with {', '.join(f'`{key}`' for key in answer)}.\n")
    return "\n".join(lines)


def _rows(schema: Mapping[str, Any], root: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name, given in schema.get("properties", {}).items():
        argument = _resolved(given, root)
        shown = f"`{path}{name}`"
        required = name in schema.get("required", ())
        yield f"| {f'**{shown}**' if required else shown} | {_kind(argument)} | {_meaning(name, argument)} |"
        items = _resolved(argument.get("items", {}), root)
        if "properties" in items:
            yield from _rows(items, root, f"{path}{name}[].")
        elif "properties" in argument:
            yield from _rows(argument, root, f"{path}{name}.")


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema, or the one that it refers to."""
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: Any = root
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return {**found, **{key: value for key, value in schema.items() if key != "$ref"}}


def _kind(argument: Mapping[str, Any]) -> str:
    if "enum" in argument:
        return " or ".join(f"`{value}`" for value in argument["enum"])
    return str(argument.get("type", "any"))


def _meaning(name: str, argument: Mapping[str, Any]) -> str:
    parts = [str(MEANINGS.get(name) or argument.get("description", ""))]
    bounds = [words.format(argument[key]) for key, words in BOUNDS if key in argument]
    parts += [" ".join(bounds)] if bounds else []
    parts += [f"default `{argument['default']}`"] if "default" in argument else []
    return "; ".join(filter(None, parts))


if __name__ == "__main__":
    DESTINATION.write_text(document(), encoding="utf-8")
    sys.stdout.write(f"wrote {DESTINATION.name}\n")
