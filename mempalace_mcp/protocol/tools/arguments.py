"""The base of all argument models, and the bounded types they are made of.

Types, counts and sizes are checked here. What a name, a date or a text may hold is the palace's to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from mempalace_mcp.core.text import MAX_CONTENT_BYTES, MAX_QUERY_BYTES
from mempalace_mcp.palace.arguments import MAX_IDS, MAX_LIMIT

MAX_METADATA_DEPTH = 8

UNKNOWN_ARGUMENT = "unknown_argument"
UNUSABLE = "unusable"
"""Types of the faults found here; their message completes a sentence that begins with the argument's path."""

SHOWN_CHARACTERS = 60


def readable(name: object) -> str:
    """A name of the caller's making, short and fit for UTF-8."""
    return str(name)[:SHOWN_CHARACTERS].encode("utf-8", "backslashreplace").decode()


class Arguments(BaseModel):
    """What a tool is called with: strict types, nothing unknown, and an empty optional argument is an absent one."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        fields = cls.model_fields
        unknown = [name for name in given if name not in fields]
        if unknown:
            raise PydanticCustomError(
                UNKNOWN_ARGUMENT, "is not known", {"name": readable(unknown[0]), "others": len(unknown) - 1}
            )
        return {
            name: value
            for name, value in given.items()
            if fields[name].is_required() or (value is not None and value != "")
        }

    def given(self) -> dict[str, Any]:
        """The arguments that have a value, by name."""
        return self.model_dump(exclude_none=True)


class NoArguments(Arguments):
    """For a tool that takes none."""


def _verify_depth(metadata: dict[str, Any]) -> dict[str, Any]:
    level: list[Any] = [metadata]
    for _ in range(MAX_METADATA_DEPTH):
        level = [child for container in level for child in _children(container)]
    if level:
        raise PydanticCustomError(UNUSABLE, f"is nested more than {MAX_METADATA_DEPTH} levels deep")
    return metadata


def _children(container: Any) -> list[Any]:
    """The containers directly inside a container."""
    values = container.values() if isinstance(container, dict) else container
    return [value for value in values if isinstance(value, dict | list)]


Content = Annotated[str, Field(max_length=MAX_CONTENT_BYTES)]
Query = Annotated[str, Field(max_length=MAX_QUERY_BYTES)]
DrawerId = Annotated[str, Field(max_length=64)]
Cursor = Annotated[str, Field(description="The next_cursor")]
Ids = Annotated[list[str], Field(max_length=MAX_IDS)]
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT)]
Share = Annotated[float, Field(ge=0, le=1)]
Metadata = Annotated[dict[str, Any], AfterValidator(_verify_depth)]
