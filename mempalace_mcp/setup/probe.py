"""Starts the server as a client would, by the very words of its settings, and asks for its tools once."""

from __future__ import annotations

import asyncio
import os

from mcp import Client, StdioServerParameters

from mempalace_mcp.core.errors import ConfigurationError
from mempalace_mcp.setup.clients import Launch

SECONDS = 60


def count_tools(launch: Launch) -> int:
    """How many tools the server offers.

    Raises:
        ConfigurationError: it does not start, or does not answer.
    """
    try:
        return asyncio.run(_ask(launch))
    except Exception as error:  # whatever the client library finds wrong, the server is not to be used
        message = "no answer" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        hint = f"Try it in a shell: {launch[0]} --help"
        raise ConfigurationError(f"the server does not start as a client starts it: {message}", hint=hint) from error


async def _ask(launch: Launch) -> int:
    server = StdioServerParameters(command=launch[0], args=list(launch[1:]), env=dict(os.environ))
    async with asyncio.timeout(SECONDS), Client(server) as client:
        return len((await client.list_tools()).tools)
