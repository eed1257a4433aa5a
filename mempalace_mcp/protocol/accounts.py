"""To which account of this machine the other end of a loopback connection belongs, as far as the system tells.

Linux answers that from its table of sockets (sock_diag(7)): one question by both addresses, whatever the number of
connections. Other systems have no such question.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import struct
from pathlib import Path

Address = tuple[str, int]

_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST = 1
_HEAD = struct.Struct("=IHHII")
_QUESTION = struct.Struct("=BBBBI")
_PORTS = struct.Struct("!HH")
_ANY_INTERFACE_ANY_COOKIE = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
_ANSWER = struct.Struct("=BBBB48x12xII")
"""Family, state, timer, retransmissions; addresses; expiry and queues; account and inode."""

_LIVING_STATES = frozenset({1, 4, 5, 8})
"""Established, or closed by one side. One that is just being opened may be somebody else's, who got the same port;
one that is over, and one without an inode, has lost its owner and shows account 0."""

_ALL_ACCOUNTS = ["0", "0", "4294967295"]
_PATIENCE_SECONDS = 1.0


def belongs_to_us(client: Address, server: Address) -> bool:
    """True if the client's end of a connection that is open is a socket of the account that this process runs as.

    Root is another account, too, unless this is root: what connects as root is more often a proxy than a person.
    """
    return account_of(client, server) == os.geteuid() if hasattr(os, "geteuid") else False


def account_of(client: Address, server: Address) -> int | None:
    """The account, or None if the connection is not one of loopback, is over, or the system does not tell."""
    near, far = _plain(client[0]), _plain(server[0])
    if near is None or far is None or near.version != far.version or not hasattr(socket, "AF_NETLINK"):
        return None
    family = socket.AF_INET if near.version == 4 else socket.AF_INET6
    addresses = near.packed.ljust(16, b"\0") + far.packed.ljust(16, b"\0")
    question = _QUESTION.pack(family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + _PORTS.pack(client[1], server[1])
    answer = _ask(question + addresses + _ANY_INTERFACE_ANY_COOKIE)
    if answer is None:
        return None
    _, state, _, _, account, inode = _ANSWER.unpack_from(answer, _HEAD.size)
    return int(account) if state in _LIVING_STATES and inode else None


def can_tell() -> bool:
    """Does the system tell? Not within a namespace of accounts, where strangers may look like one of its own."""
    try:
        mapped = Path("/proc/self/uid_map").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return False
    return mapped == _ALL_ACCOUNTS and any(map(_tells_of, ("127.0.0.1", "::1")))


def _tells_of(host: str) -> bool:
    """Is our own connection to ourselves known as ours?"""
    with contextlib.ExitStack() as opened:
        try:
            listener = opened.enter_context(
                socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
            )
            client = opened.enter_context(socket.create_connection(listener.getsockname()[:2], _PATIENCE_SECONDS))
            return belongs_to_us(client.getsockname()[:2], client.getpeername()[:2])
        except OSError:
            return False


def _ask(question: bytes) -> bytes | None:
    """What the kernel answers; None if it does not know the socket, or is not to be asked."""
    message = _HEAD.pack(_HEAD.size + len(question), _SOCK_DIAG_BY_FAMILY, _REQUEST, 1, 0) + question
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
            kernel.settimeout(_PATIENCE_SECONDS)
            kernel.send(message)
            answer = kernel.recv(4096)
    except OSError:
        return None
    _, kind, *_ = _HEAD.unpack_from(answer)
    return answer if kind == _SOCK_DIAG_BY_FAMILY and len(answer) >= _HEAD.size + _ANSWER.size else None


def _plain(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address, an IPv4 one as such however it is written; None if it is none of loopback."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address if address.is_loopback else None
