"""Progress never goes back: a request sent again reports from its beginning, and the client must not see that."""

from __future__ import annotations

from mempalace_mcp.process.journal import parse

_METHOD = "notifications/progress"
_MAX_TOKENS = 256


class Progress:
    """The last value of each token, of the latest ones."""

    def __init__(self) -> None:
        self._last: dict[object, float] = {}

    def is_news(self, line: bytes) -> bool:
        """Is the daemon's message to be passed on? True for everything but progress not above the last."""
        if _METHOD.encode() not in line:
            return True
        message = parse(line)
        parameters = message.get("params")
        if message.get("method") != _METHOD or not isinstance(parameters, dict):
            return True
        token, value = parameters.get("progressToken"), parameters.get("progress")
        if not isinstance(token, (str, int)) or not isinstance(value, (int, float)):
            return True
        last = self._last.pop((type(token), token), None)
        self._last[type(token), token] = value if last is None else max(last, value)
        if len(self._last) > _MAX_TOKENS:
            del self._last[next(iter(self._last))]
        return last is None or value > last
