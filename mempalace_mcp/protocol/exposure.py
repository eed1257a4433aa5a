"""How far the HTTP doors can be reached: where they listen, by which names, and whether the way there is encrypted."""

from __future__ import annotations

import ipaddress
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from mempalace_mcp.core.errors import ConfigurationError

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
ANYWHERE = frozenset({"", "0.0.0.0", "::"})
"""Where to listen to be reached at every address of the machine."""

_NAME = r"[a-z0-9](?:[a-z0-9._-]{0,253}[a-z0-9])?|\[[0-9a-f:.]{2,45}\]"
_AUTHORITY = re.compile(rf"({_NAME})(?::\d{{1,5}})?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Certificate:
    """The files of a certificate, with those it rests on, and of its key; both in PEM."""

    file: Path
    key: Path

    def verify(self) -> None:
        """Return if a server can use them.

        Raises:
            ConfigurationError: one cannot be read, or they do not belong together.
        """
        for option, file in (("--certificate", self.file), ("--key", self.key)):
            try:
                file.open("rb").close()
            except OSError as error:
                raise _wrong(f"{file} cannot be read: {error.strerror}", option) from error
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.file, self.key, _refuse_to_ask)
        except ssl.SSLError as error:
            reason = (error.reason or "unreadable").lower().replace("_", " ")
            raise _wrong(f"{self.file} and {self.key} are no certificate and its key: {reason}", "--key") from error


@dataclass(frozen=True, slots=True)
class Exposure:
    """`host` is the address to listen at; `names` are those by which clients may call it beside its own.

    An IPv6 address among the names is in brackets.
    """

    host: str = "127.0.0.1"
    names: frozenset[str] = frozenset()
    certificate: Certificate | None = None

    @classmethod
    def read(cls, host: str, names: tuple[str, ...], certificate: Path | None, key: Path | None) -> Exposure:
        """What the command line asks for.

        Raises:
            ConfigurationError: a name is none, or the certificate or its key is missing or wrong.
        """
        for name in names:
            if not re.fullmatch(_NAME, name, re.IGNORECASE):
                raise ConfigurationError(
                    f"--allowed-host {name[:80]!r} is no name of a host",
                    argument="--allowed-host",
                    hint="Give the name alone, as palace.example, without scheme and port.",
                )
        if (certificate is None) is not (key is None):
            missing = "--key" if key is None else "--certificate"
            raise ConfigurationError(f"{missing} is missing", argument=missing, hint="Give both, or none.")
        pair = None if certificate is None or key is None else Certificate(certificate, key)
        if pair is not None:
            pair.verify()
        return cls(host, frozenset(name.lower() for name in names), pair)

    @property
    def is_local(self) -> bool:
        """Can programs of this machine alone reach it?"""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def is_open(self) -> bool:
        """Do tokens and texts travel over a network unencrypted?"""
        return not self.is_local and self.certificate is None

    @property
    def shown_host(self) -> str:
        """The address as URLs have it."""
        return f"[{self.host}]" if ":" in self.host else self.host

    def url(self, port: int) -> str:
        """Where it listens."""
        return f"{'http' if self.certificate is None else 'https'}://{self.shown_host}:{port}"

    def is_named(self, authority: str) -> bool:
        """Is this, with or without a port, a name of this server?"""
        found = _AUTHORITY.fullmatch(authority)
        return found is not None and found[1].lower() in LOOPBACK_NAMES | self.names | {self.shown_host.lower()}

    def is_called(self, authority: str) -> bool:
        """May a client call the server so? Where it listens everywhere also by any address, for no name can be rebound
        to make a browser send one."""
        if self.is_named(authority):
            return True
        found = _AUTHORITY.fullmatch(authority)
        return found is not None and self.host in ANYWHERE and _is_address(found[1])


def host_name(authority: str) -> str | None:
    """The name in the header Host, without its port; None if it can be none."""
    found = _AUTHORITY.fullmatch(authority)
    return None if found is None else found[1].lower()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _refuse_to_ask() -> NoReturn:
    raise _wrong("the key is encrypted, and nobody is there to be asked for its password", "--key")


def _wrong(problem: str, argument: str) -> ConfigurationError:
    return ConfigurationError(problem, argument=argument, hint="Give the PEM files of a certificate and of its key.")
