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
from typing import TYPE_CHECKING, Any

from mempalace_mcp.core import place
from mempalace_mcp.core.clock import MACHINE, UTC_ZONE, Zone, read_zone
from mempalace_mcp.core.errors import ConfigurationError
from mempalace_mcp.core.place import DEFAULT_PALACE, Place

if TYPE_CHECKING:
    from mempalace_mcp.core.palace_url import PalaceUrl

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Setting:
    """One variable of the environment: what it means, its default, how it is read, whether a wrong value refuses.

    A `secret` one is never shown, not even when it is wrong. Without `read` it says where the palace is, see
    `core.place`.
    """

    variable: str
    field: str
    meaning: str
    default: Any
    read: Callable[[str], Any] | None
    strict: bool = False
    alias: str | None = None
    secret: bool = False


MINILM = "minilm"
MULTILINGUAL = "multilingual"
"""The names of the bundled embedding models."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment and the command line have decided for this process.

    `palace` is the palace's directory. Of a palace on a server, at `url`, it is this machine's own, with nothing of the
    palace in it. `url_file` is the file that gave the address.
    """

    palace: Path
    url: PalaceUrl | None = None
    url_file: Path | None = None
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

    @property
    def shown(self) -> str:
        """The palace as people are shown it."""
        return str(self.url or self.palace)


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


NONE = "none"
"""How to say that there is nothing, where that is the default."""

SHORTEST_TOKEN = 32
LONGEST_TOKEN = 512
_TOKEN = re.compile(rf"[A-Za-z0-9._~+/=-]{{{SHORTEST_TOKEN},{LONGEST_TOKEN}}}")

_HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,253}[A-Za-z0-9])?|\[[0-9a-fA-F:.]{2,45}\]")
_LIKE_AN_ADDRESS = re.compile(r"[0-9.]+|\[.*")

SETTINGS: tuple[Setting, ...] = (
    Setting(place.VARIABLE, "palace", "directory of the palace", DEFAULT_PALACE, None, strict=True),
    Setting(
        place.URL_VARIABLE,
        "url",
        "the palace in PostgreSQL, instead of a directory: `postgresql://user@host/database?schema=name`",
        NONE,
        None,
        strict=True,
        secret=True,
    ),
    Setting(
        place.URL_FILE_VARIABLE,
        "url_file",
        "a file with that address, so that no password stands in the environment",
        NONE,
        None,
        strict=True,
    ),
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
    found = _place_of(environment, palace)
    values = {each.field: _value(each, each.read, environment) for each in SETTINGS if each.read is not None}
    url_file = Path(found.url_file) if found.url_file else None
    return Settings(palace=Path(found.directory), url=found.url, url_file=url_file, **values)


def _place_of(environment: Mapping[str, str], palace: str | None) -> Place:
    try:
        return place.place_of(environment, palace)
    except place.WrongPlace as error:
        raise _wrong(error.name, error.shown, error) from error


def _value(setting: Setting, read: Callable[[str], Any], environment: Mapping[str, str]) -> Any:
    variable = setting.variable
    if setting.alias and not environment.get(variable):
        variable = setting.alias
    text = environment.get(variable, "").strip()
    if not text:
        return read(setting.default)
    try:
        return read(text)
    except (ValueError, OverflowError, OSError, RuntimeError) as error:
        if setting.strict:
            raise _wrong(variable, "" if setting.secret else f"={text!r}", error) from error
        logger.warning("%s=%r is ignored (%s); using %s", variable, text, error, setting.default)
        return read(setting.default)


def _wrong(name: str, shown: str, error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"{name}{shown} is wrong: {error}", argument=name, hint=f"Correct {name} and start again."
    )
