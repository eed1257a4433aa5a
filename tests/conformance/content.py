"""What the fixture server has to offer: tools, resources and prompts, filled as the official suite expects."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    Prompt,
    PromptArgument,
    PromptMessage,
    Resource,
    ResourceTemplate,
    TextContent,
    TextResourceContents,
    Tool,
)

EMPTY = MappingProxyType({"type": "object", "properties": {}})
HEADER = MappingProxyType({"type": "string", "description": "Sent as a header, too", "x-mcp-header": "Region"})

RICH_SCHEMA = MappingProxyType(
    {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
            }
        },
        "properties": {
            "name": {"type": "string"},
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": {"type": "string"},
            "email": {"type": "string"},
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": False,
    }
)
"""Word for word what the scenario json-schema-2020-12 looks for."""


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _red_pixel() -> bytes:
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0\xff\0\0")
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _silence() -> bytes:
    form = struct.pack("<HHIIHH", 1, 1, 8000, 8000, 1, 8)
    return b"RIFF" + struct.pack("<I", 37) + b"WAVEfmt " + struct.pack("<I", 16) + form + b"data\1\0\0\0\x80"


PNG = base64.b64encode(_red_pixel()).decode()
WAV = base64.b64encode(_silence()).decode()


def text(told: str) -> TextContent:
    """A block of text."""
    return TextContent(text=told)


def picture() -> ImageContent:
    """A red pixel."""
    return ImageContent(data=PNG, mime_type="image/png")


def embedded(uri: str, mime_type: str, told: str) -> EmbeddedResource:
    """A resource within an answer."""
    return EmbeddedResource(resource=TextResourceContents(uri=uri, mime_type=mime_type, text=told))


@dataclass(frozen=True, slots=True)
class FixtureTool:
    """A tool that always answers the same."""

    name: str
    answers: Sequence[ContentBlock] = (TextContent(text="done"),)
    is_error: bool = False
    schema: Mapping[str, Any] = field(default_factory=lambda: EMPTY)

    def listed(self) -> Tool:
        """As `tools/list` shows it."""
        return Tool(name=self.name, description=f"The tool {self.name}.", input_schema=dict(self.schema))

    def result(self) -> CallToolResult:
        """What a call of it is answered with."""
        return CallToolResult(content=list(self.answers), is_error=self.is_error)


TOOLS = (
    FixtureTool("test_simple_text", (text("This is a simple text response for testing."),)),
    FixtureTool("test_image_content", (picture(),)),
    FixtureTool("test_audio_content", (AudioContent(data=WAV, mime_type="audio/wav"),)),
    FixtureTool(
        "test_embedded_resource",
        (embedded("test://embedded-resource", "text/plain", "This is an embedded resource content."),),
    ),
    FixtureTool(
        "test_multiple_content_types",
        (
            text("Multiple content types test:"),
            picture(),
            embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
        ),
    ),
    FixtureTool("test_error_handling", (text("This tool intentionally returns an error for testing"),), is_error=True),
    FixtureTool("test_tool_with_progress"),
    FixtureTool("test_missing_capability"),
    FixtureTool("test_streaming_elicitation"),
    FixtureTool("test_logging_tool"),
    FixtureTool("json_schema_2020_12_tool", schema=RICH_SCHEMA),
    FixtureTool("test_header", schema={"type": "object", "properties": {"region": dict(HEADER)}}),
)

RESOURCES: Mapping[str, TextResourceContents | BlobResourceContents] = MappingProxyType(
    {
        "test://static-text": TextResourceContents(
            uri="test://static-text",
            mime_type="text/plain",
            text="This is the content of the static text resource.",
        ),
        "test://static-binary": BlobResourceContents(uri="test://static-binary", mime_type="image/png", blob=PNG),
    }
)

LISTED_RESOURCES = [
    Resource(uri=uri, name=uri.removeprefix("test://"), description="A resource.", mime_type=contents.mime_type)
    for uri, contents in RESOURCES.items()
]

TEMPLATE = ResourceTemplate(
    uri_template="test://template/{id}/data", name="template", description="Any id.", mime_type="application/json"
)


def user(content: ContentBlock) -> PromptMessage:
    """A message of a prompt."""
    return PromptMessage(role="user", content=content)


@dataclass(frozen=True, slots=True)
class FixturePrompt:
    """A prompt, and how it is written."""

    name: str
    write: Callable[[Mapping[str, str]], Sequence[PromptMessage]]
    arguments: Sequence[str] = ()

    def listed(self) -> Prompt:
        """As `prompts/list` shows it."""
        arguments = [PromptArgument(name=name, description="Some text.", required=True) for name in self.arguments]
        return Prompt(name=self.name, description=f"The prompt {self.name}.", arguments=arguments)


def _with_arguments(given: Mapping[str, str]) -> Sequence[PromptMessage]:
    return [user(text(f"Prompt with arguments: arg1='{given['arg1']}', arg2='{given['arg2']}'"))]


def _with_resource(given: Mapping[str, str]) -> Sequence[PromptMessage]:
    resource = embedded(given["resourceUri"], "text/plain", "Embedded resource content for testing.")
    return [user(resource), user(text("Please process the embedded resource above."))]


PROMPTS = (
    FixturePrompt("test_simple_prompt", lambda given: [user(text("This is a simple prompt for testing."))]),
    FixturePrompt("test_prompt_with_arguments", _with_arguments, ("arg1", "arg2")),
    FixturePrompt("test_prompt_with_embedded_resource", _with_resource, ("resourceUri",)),
    FixturePrompt(
        "test_prompt_with_image", lambda given: [user(picture()), user(text("Please analyze the image above."))]
    ),
    FixturePrompt("test_input_required_result_prompt", lambda given: [user(text("A prompt with its context."))]),
)
