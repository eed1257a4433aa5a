"""Importing files and folders."""

from pathlib import Path
from typing import Annotated, TypedDict, cast

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from mempalace_mcp.palace.arguments import MAX_LIMIT
from mempalace_mcp.server.tools.answers import Json
from mempalace_mcp.server.tools.schema import UNUSABLE
from mempalace_mcp.server.tools.tool import Effect, ToolCall, tool


def _verify_absolute(path: str) -> str:
    if not Path(path).is_absolute():
        raise PydanticCustomError(
            UNUSABLE, "is not an absolute path, and the server does not know your working directory"
        )
    return path


AbsolutePath = Annotated[str, AfterValidator(_verify_absolute)]


class ImportPathAnswer(TypedDict):
    """Numbers of drawers by outcome, of those `elsewhere` than in the given wing, of files `skipped` by reason.

    `problems` are the first ones. `complete` is false if the time of the call ran out; a further call goes on. `masked`
    are secrets.
    """

    files: int
    filed: int
    updated: int
    moved: int
    restored: int
    unchanged: int
    kept: int
    folded: int
    removed: int
    missing: int
    in_trash: int
    waiting: int
    characters: int
    masked: int
    elsewhere: Json
    skipped: Json
    problems: list[Json]
    seconds: float
    complete: bool


@tool(
    "File the texts of files, folders or transcripts on the server's disk. Returns what was filed.",
    title="Import files",
    effect=Effect.WRITE,
)
def import_path(
    call: ToolCall,
    paths: Annotated[list[AbsolutePath], Field(min_length=1, max_length=MAX_LIMIT, description="Files or folders")],
    wing: str | None = None,
    dry_run: bool = False,
) -> ImportPathAnswer:
    summary = call.context.import_paths(paths, wing=wing, dry_run=dry_run, deadline=call.deadline)
    return cast(ImportPathAnswer, summary)
