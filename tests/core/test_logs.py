from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mempalace_mcp.core.logs import DiscreetFormatter

SECRET = "zebra"


def logged(error: BaseException) -> str:
    """What the log says of an exception that was raised."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(DiscreetFormatter("%(levelname)s %(message)s"))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    try:
        raise error
    except BaseException:
        logger.exception("it failed")
    return stream.getvalue()


def test_the_place_and_the_type_of_an_error_are_logged_and_not_its_message() -> None:
    told = logged(ValueError(SECRET))
    assert "ERROR it failed" in told
    assert "test_logs.py" in told
    assert "ValueError" in told
    assert SECRET not in told


def test_what_the_system_says_is_logged_without_the_name_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=SECRET) as caught:
        (tmp_path / SECRET).open(encoding="utf-8")
    told = logged(caught.value)
    assert "No such file or directory" in told
    assert SECRET not in told.replace(str(tmp_path), "")


def test_causes_come_first_and_groups_name_their_parts() -> None:
    def fail() -> None:
        try:
            int(SECRET)
        except ValueError as error:
            raise ExceptionGroup(SECRET, [KeyError(SECRET), TypeError(SECRET)]) from error

    with pytest.raises(ExceptionGroup) as caught:
        fail()
    told = logged(caught.value)
    assert told.index("ValueError") < told.index("and then") < told.index("ExceptionGroup of KeyError, TypeError")
    assert SECRET not in told


def test_libraries_are_heard_from_warnings_on() -> None:
    script = (
        "import logging; from mempalace_mcp.core.logs import configure_logging; configure_logging('DEBUG');"
        "logging.getLogger('mcp').info('theirs'); logging.getLogger('mcp').warning('their warning');"
        "logging.getLogger('mempalace_mcp.x').debug('ours')"
    )
    done = subprocess.run((sys.executable, "-c", script), capture_output=True, text=True, env=os.environ, timeout=30)
    assert "their warning" in done.stderr
    assert "ours" in done.stderr
    assert "theirs" not in done.stderr
