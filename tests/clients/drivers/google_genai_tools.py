"""google-genai's converter: tools as Gemini gets them. The session is one of the official Python SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import python_sdk_1
from driving import Json, drive
from google.genai._mcp_utils import mcp_to_gemini_tool  # the only way that is not a call to its maker


def declared(schema: Any) -> Any:
    """A converted schema, or that which it holds, as JSON Schema."""
    return schema.model_dump(exclude_none=True) if hasattr(schema, "model_dump") else schema


class Client(python_sdk_1.Client):
    """A session whose tools are converted."""

    async def tools(self) -> Json:
        found = {}
        for tool in (await self.session.list_tools()).tools:
            (function,) = mcp_to_gemini_tool(tool).function_declarations
            found[function.name] = declared(function.parameters or function.parameters_json_schema)
        return found


@asynccontextmanager
async def connect(where: Json) -> AsyncIterator[Client]:
    """A session after its handshake."""
    async with python_sdk_1.connect(where) as client:
        yield Client(client.session)


if __name__ == "__main__":
    drive(connect)
