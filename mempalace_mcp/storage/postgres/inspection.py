"""What can be known of the server of a palace, without opening the palace."""

from __future__ import annotations

import psycopg

from mempalace_mcp.core.palace_url import PalaceUrl
from mempalace_mcp.storage.postgres.connection import connect
from mempalace_mcp.storage.postgres.failures import explain


def is_there(url: PalaceUrl) -> bool:
    """Is there a palace at the address?

    Raises:
        PalaceError: the server cannot be asked.
    """
    try:
        connection = connect(url)
    except psycopg.Error as error:
        raise explain(error, url) from error
    try:
        row = connection.execute("SELECT to_regclass(?) IS NOT NULL", (f"{url.schema}.schema_steps",)).fetchone()
        return bool(row and row[0])
    finally:
        connection.close()
