"""Filing whole files and folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypedDict

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.palace.arguments import MAX_LIMIT
from mempalace_mcp.server.tools.answers import Json
from mempalace_mcp.server.tools.schema import UNUSABLE, Arguments
from mempalace_mcp.server.tools.tool import Effect, Tool, ToolContext


def _verify_absolute(path: str) -> str:
    if not Path(path).is_absolute():
        raise PydanticCustomError(
            UNUSABLE, "is not an absolute path, and the server does not know your working directory"
        )
    return path


AbsolutePath = Annotated[str, AfterValidator(_verify_absolute)]


class ImportPathArguments(Arguments):
    """Which files or folders, and where to."""

    paths: Annotated[list[AbsolutePath], Field(min_length=1, max_length=MAX_LIMIT, description="Files or folders")]
    wing: str | None = None
    dry_run: bool = False


class ImportPathAnswer(TypedDict):
    """What the importers report: drawers by what was done, how many stand `elsewhere` than in the wing asked for, what
    was `skipped` and why, and the first `problems`.

    `complete` is false if the time of the call ran out; calling again goes on.
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
    characters: int
    elsewhere: Json
    skipped: Json
    problems: list[Json]
    seconds: float
    complete: bool


def import_path(context: ToolContext, arguments: ImportPathArguments, deadline: Deadline) -> dict[str, Any]:
    return context.import_paths(arguments.paths, wing=arguments.wing, dry_run=arguments.dry_run, deadline=deadline)


IMPORT_PATH = Tool(
    name="import_path",
    title="Import files",
    description="File the texts of files, folders or transcripts on the server's disk. Returns what was filed.",
    arguments=ImportPathArguments,
    answer=ImportPathAnswer,
    run=import_path,
    effect=Effect.WRITE,
)
