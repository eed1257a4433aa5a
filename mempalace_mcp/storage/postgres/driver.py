"""What speaks with PostgreSQL is an extra, which may not be installed."""

from __future__ import annotations

from mempalace_mcp.core.errors import ConfigurationError
from mempalace_mcp.core.palace_url import PalaceUrl
from mempalace_mcp.core.place import URL_VARIABLE


def verify_driver(url: PalaceUrl) -> None:
    """Return if it can be imported.

    Raises:
        ConfigurationError: it is not installed, or misses a library.
    """
    try:
        import psycopg  # noqa: F401 - it is only tried
    except ImportError as error:
        raise ConfigurationError(
            f"{url} is in PostgreSQL, and what speaks with it is not installed ({str(error).splitlines()[0]})",
            argument=URL_VARIABLE,
            hint='Install it: pip install "mempalace-mcp[postgres]".',
        ) from error
