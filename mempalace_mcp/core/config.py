"""Settings from the environment, in one table. Tuning settings that are wrong warn and fall back; the others refuse."""

from __future__ import annotations

import ipaddress
import logging
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mempalace_mcp.core import place
from mempalace_mcp.core.clock import MACHINE, UTC_ZONE, Zone, read_zone
from mempalace_mcp.core.errors import ConfigurationError
from mempalace_mcp.core.place import DEFAULT_PALACE

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Setting:
    """One variable of the environment: what it means, its default, how it is read, whether a wrong value refuses.

    A `secret` one is never shown, not even when it is wrong.
    """

    variable: str
    field: str
    meaning: str
    default: Any
    read: Callable[[str], Any]
    strict: bool = False
    alias: str | None = None
    secret: bool = False


MINILM = "minilm"
MULTILINGUAL = "multilingual"
"""The names of the bundled embedding models."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment and the command line have decided for this process."""

    palace: Path
    model: str = MINILM
    index: str = "chroma"
    stat_cooldown: float = 5.0
    history_limit: int = 1000
    trash_days: float = 30.0
    idle_seconds: float = 300.0
    log_level: str = "WARNING"
    import_roots: tuple[Path, ...] = ()
    zone: Zone = UTC_ZONE
    host: str = "127.0.0.1"
    port: int = 8765
    allowed_hosts: tuple[str, ...] = ()
    hooks: str = "remind"
    token: str | None = field(default=None, repr=False)


_LARGEST = 1_000_000


def _positive_integer(text: str) -> int:
    value = int(text)
    if not 1 <= value <= _LARGEST:
        raise ValueError(f"must be a whole number from 1 to {_LARGEST}")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or value < 0:
        raise ValueError("must be a number of seconds, not negative")
    return value


def _days(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or not 0 <= value <= 36_500:
        raise ValueError("must be a number of days from 0 to 36500")
    return value


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        lowered = text.strip().lower()
        if lowered not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return lowered

    return read


def _log_level(text: str) -> str:
    return _one_of("debug", "info", "warning", "error")(text).upper()


def _folders(text: str) -> tuple[Path, ...]:
    if text == NONE:
        return ()
    folders = [Path(place.expand(part)) for part in text.split(os.pathsep) if part]
    if not all(folder.is_absolute() for folder in folders):
        raise ValueError(f"must be absolute paths with {os.pathsep} between them")
    return tuple(folders)


def _host(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        if _HOST_NAME.fullmatch(text) and not _LIKE_AN_ADDRESS.fullmatch(text):
            return text
    raise ValueError("must be the address of this machine at which to listen, or its name")


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 <= int(text) <= 65_535:
        raise ValueError("must be a whole number from 0 to 65535")
    return int(text)


def _host_names(text: str) -> tuple[str, ...]:
    if text == NONE:
        return ()
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names or not all(_HOST_NAME.fullmatch(name) for name in names):
        raise ValueError("must be names of hosts with commas between them, without scheme and port")
    return names


def _token(text: str) -> str | None:
    if text == NONE:
        return None
    if not _TOKEN.fullmatch(text):
        raise ValueError(
            f"must have {SHORTEST_TOKEN} to {LONGEST_TOKEN} characters out of letters, digits and - . _ ~ + / ="
        )
    return text


def _palace(text: str) -> Path:
    return Path(place.resolve(text))


NONE = "none"
"""How to say that there is nothing, where that is the default."""

SHORTEST_TOKEN = 32
LONGEST_TOKEN = 512
_TOKEN = re.compile(rf"[A-Za-z0-9._~+/=-]{{{SHORTEST_TOKEN},{LONGEST_TOKEN}}}")

_HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,253}[A-Za-z0-9])?|\[[0-9a-fA-F:.]{2,45}\]")
_LIKE_AN_ADDRESS = re.compile(r"[0-9.]+|\[.*")

SETTINGS: tuple[Setting, ...] = (
    Setting(place.VARIABLE, "palace", "directory of the palace", DEFAULT_PALACE, _palace, strict=True),
    Setting(
        "PALACE_MODEL",
        "model",
        "the embedding model of a new palace: `minilm` for English, `multilingual` for sixteen languages",
        MINILM,
        _one_of(MINILM, MULTILINGUAL),
        strict=True,
    ),
    Setting(
        "PALACE_INDEX",
        "index",
        "`chroma`: vector index of large palaces in Chroma; `exact`: never",
        "chroma",
        _one_of("chroma", "exact"),
    ),
    Setting(
        "PALACE_STAT_COOLDOWN",
        "stat_cooldown",
        "seconds between looks for foreign writes to the Chroma directory",
        "5",
        _seconds,
    ),
    Setting(
        "PALACE_HISTORY_LIMIT",
        "history_limit",
        "calls remembered per session",
        "1000",
        _positive_integer,
        alias="AGENT_HISTORY_LIMIT",
    ),
    Setting("PALACE_TRASH_DAYS", "trash_days", "days until a deleted drawer is gone for good", "30", _days),
    Setting(
        "PALACE_IDLE_SECONDS",
        "idle_seconds",
        "seconds without sessions after which the process behind them leaves",
        "300",
        _seconds,
    ),
    Setting(
        "PALACE_TIMEZONE",
        "zone",
        "zone of dates without one: a name as `Europe/Berlin`, `UTC`, an offset as `+02:00`, or `machine`",
        MACHINE,
        read_zone,
        alias="TZ",
    ),
    Setting(
        "PALACE_LOG_LEVEL",
        "log_level",
        "`debug`, `info`, `warning` or `error`; the log goes to stderr",
        "warning",
        _log_level,
    ),
    Setting(
        "PALACE_IMPORT_ROOTS",
        "import_roots",
        "folders from which the tool `import_path` may read, with `:` between them",
        NONE,
        _folders,
        strict=True,
    ),
    Setting(
        "PALACE_HOOKS",
        "hooks",
        "`remind`: hooks file conversations and begin sessions with what is known; `file`: they only file; `off`",
        "remind",
        _one_of("remind", "file", "off"),
    ),
    Setting(
        "PALACE_HOST",
        "host",
        "the address at which `serve` listens; others than this machine's own need a token",
        "127.0.0.1",
        _host,
        strict=True,
    ),
    Setting("PALACE_PORT", "port", "the port at which `serve` listens; 0 picks a free one", "8765", _port, strict=True),
    Setting(
        "PALACE_ALLOWED_HOSTS",
        "allowed_hosts",
        "other names by which clients call `serve`, with `,` between them",
        NONE,
        _host_names,
        strict=True,
    ),
    Setting(
        "PALACE_TOKEN",
        "token",
        "a token for HTTP, beside those of `mempalace-mcp token`",
        NONE,
        _token,
        strict=True,
        secret=True,
    ),
)


def load_settings(environment: Mapping[str, str], palace: str | None = None) -> Settings:
    """Read every setting; `palace`, from the command line, wins over the environment.

    Raises:
        ConfigurationError: a setting that identifies or protects the palace is wrong.
    """
    given = {} if palace is None else {"palace": _strict_value("--palace", _palace, palace, f"={palace!r}")}
    values = {each.field: _value(each, environment) for each in SETTINGS if each.field not in given}
    return Settings(**values, **given)


def _value(setting: Setting, environment: Mapping[str, str]) -> Any:
    variable = setting.variable
    if setting.alias and not environment.get(variable):
        variable = setting.alias
    text = environment.get(variable, "").strip()
    if not text and not setting.strict:
        return setting.read(setting.default)
    if not text:  # the default place is in the home directory, and there may be none
        return _strict_value(variable, setting.read, setting.default, f"={setting.default!r}, the default,")
    if setting.strict:
        return _strict_value(variable, setting.read, text, "" if setting.secret else f"={text!r}")
    try:
        return setting.read(text)
    except (ValueError, OverflowError) as error:
        logger.warning("%s=%r is ignored (%s); using %s", variable, text, error, setting.default)
        return setting.read(setting.default)


def _strict_value(name: str, read: Callable[[str], Any], text: str, shown: str) -> Any:
    try:
        return read(text)
    except (ValueError, OSError, RuntimeError) as error:
        raise ConfigurationError(
            f"{name}{shown} is wrong: {error}", argument=name, hint=f"Correct {name} and start again."
        ) from error
