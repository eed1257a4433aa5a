"""How a bridge and the daemon greet: one JSON line each way."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

PROTOCOL = 1
MAX_HELLO_BYTES = 64 * 1024

SESSION = "session"
STATUS = "status"
STOP = "stop"
TAKE_OVER = "take over"
PURPOSES = (SESSION, STATUS, STOP, TAKE_OVER)

PROFILES = ("core", "full")

_PREFIX = "PALACE_"
_ALIASES = ("AGENT_HISTORY_LIMIT", "TZ")
_OWN = ("PALACE_PATH", "PALACE_TOKEN")
_LONGEST_SETTING = 4096


class Hello:
    """Who connects to the daemon, and what for.

    `palace` is the identity of the directory; `settings` are the variables of the environment that concern palaces.
    """

    __slots__ = ("bridge", "palace", "pid", "prefix", "profile", "purpose", "read_only", "settings", "token", "version")

    def __init__(
        self,
        *,
        version: str,
        palace: tuple[int, int],
        bridge: str,
        pid: int,
        purpose: str = SESSION,
        profile: str = "core",
        prefix: str = "",
        read_only: bool = False,
        token: str = "",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.version = version
        self.palace = palace
        self.bridge = bridge
        self.pid = pid
        self.purpose = purpose
        self.profile = profile
        self.prefix = prefix
        self.read_only = read_only
        self.token = token
        self.settings = dict(settings or {})

    def encode(self) -> bytes:
        """As it is sent, newline included."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps({"protocol": PROTOCOL, **fields}).encode("ascii") + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> Hello:
        """Read one.

        Raises:
            ValueError: it is none, or of another protocol.
        """
        try:
            fields = json.loads(data)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        if not isinstance(fields, dict) or fields.pop("protocol", None) != PROTOCOL:
            raise ValueError("the protocol is another one")
        try:
            hello = cls(**{**fields, "palace": tuple(fields["palace"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"no hello: {str(error)[:200]}") from error
        if hello.purpose not in PURPOSES or hello.profile not in PROFILES or not hello._is_sound():
            raise ValueError("no hello of this protocol")
        return hello

    def _is_sound(self) -> bool:
        """Has every field the type it must have? What is no text that can be printed is nobody's name."""
        texts = (self.version, self.bridge, self.prefix, self.token)
        settings = (*self.settings, *self.settings.values())
        return (
            all(isinstance(text, str) and text.isprintable() for text in texts)
            and all(isinstance(text, str) for text in settings)
            and isinstance(self.pid, int)
        )


def identity_of(directory: str) -> tuple[int, int]:
    """What tells a directory from every other one on this machine, whatever its path.

    Raises:
        OSError: it is not there.
    """
    status = os.stat(directory)
    return status.st_dev, status.st_ino


def settings_of(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that concern palaces, but the path itself and the token, which is not for telling."""
    return {
        name: value[:_LONGEST_SETTING]
        for name, value in environment.items()
        if (name.startswith(_PREFIX) or name in _ALIASES) and name not in _OWN
    }


def is_newer(version: str, other: str) -> bool:
    """Is the first version strictly later than the second? Only the leading numbers count."""
    return _numbers(version) > _numbers(other)


def _numbers(version: str) -> tuple[int, ...]:
    numbers = []
    for part in version.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)
