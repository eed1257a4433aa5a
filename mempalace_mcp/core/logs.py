"""The log: what happened and where, never what somebody's text said."""

from __future__ import annotations

import logging
import traceback
from types import TracebackType

PACKAGE = "mempalace_mcp"
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

_ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class DiscreetFormatter(logging.Formatter):
    """Shows where an exception came from and its type, not its message: that may quote an argument or a drawer."""

    def formatException(self, ei: _ExceptionInfo) -> str:  # noqa: N802 - the library's name
        """The calls that led to the exception and to those before it, each with its type."""
        told: list[str] = []
        error = ei[1]
        while error is not None:
            told.insert(0, "".join(traceback.format_tb(error.__traceback__)) + _kind(error))
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "Traceback, without messages:\n" + "\nand then\n".join(told)


def configure_logging(level: str) -> None:
    """Log to stderr at that level, and what libraries say from warnings on: their other lines quote messages.

    Called before the MCP SDK is imported, which else installs handlers of its own.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(DiscreetFormatter(_FORMAT))
    logging.basicConfig(level=max(logging.getLevelNamesMapping()[level], logging.WARNING), handlers=[handler])
    logging.getLogger(PACKAGE).setLevel(level)


def _kind(error: BaseException) -> str:
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    if isinstance(error, OSError) and error.strerror:
        return f"{name}: {error.strerror}"
    if isinstance(error, BaseExceptionGroup):
        return f"{name} of {', '.join(_kind(each) for each in error.exceptions)}"
    return name
