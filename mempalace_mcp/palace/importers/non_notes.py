"""Files among notes that are none: locks, backups, conflict copies, templates, credentials, keys.

Locks, backups and conflict copies are recognized by their names, all others by their contents.
"""

from __future__ import annotations

import codecs
import os
import re
from pathlib import Path

from mempalace_mcp.palace.importers import files
from mempalace_mcp.palace.importers.properties import has_placeholder

LOCK = "a lock of an office program"
BACKUP = "a backup of an editor"
CONFLICT = "a copy from a conflict between machines"
TEMPLATE = "a template"
CREDENTIALS = "credentials"
PRIVATE_KEY = "a private key"

_BEGINNING = 8_192
_WITHOUT_PROSE = frozenset({"", ".txt"})
"""Endings of files that are not notes for sure."""

_CONFLICTS = re.compile(
    r"\.sync-conflict-\d{8}-\d{6}|_conflict-\d{8}-\d{6}|_conflict\.\w+$|_(?:backup|base|local|remote)_\d+\.\w+$"
    r"|[(\[](?:[^()\[\]]{0,80}\b)?(?:conflicted copy|case conflict|sfconflict|konfliktkopie|in konflikt stehende kopie"
    r"|copie en conflit|copia en conflicto|copia in conflitto|cópia em conflito|conflict on)\b[^()\[\]]{0,80}\d{4}",
)
"""Of Syncthing, Nextcloud, Synology and Git; of Dropbox, Obsidian, ownCloud, Seafile and Unison with their dates."""

_KEY_BLOCK = re.compile(r"^-----BEGIN (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----", re.MULTILINE)
_KEY_OPENINGS = ("-----BEGIN ", "Bag Attributes")
_OTHER_KEYS = (
    "PuTTY-User-Key-File-",
    "untrusted comment: minisign encrypted secret key",
    "untrusted comment: signify secret key",
)
_AGE_KEY = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\r?\n){0,20}AGE-SECRET-KEY-1")

_COMMENT = re.compile(r"\s*(?:[#;]|//\s)")
_SECTION = re.compile(r"\s*\[[^\]\n]{1,100}\]\s*$")
_SETTING = re.compile(
    r"\s*(?:export\s+)?(?:([\w./:@-][\w ./:@-]{0,99}?)\s*=|([\w./@-][\w ./@-]{0,99}?)\s*:)\s*(\S*)\s*$"
)
_SECRET_NAME = re.compile(
    r"secret|password|passwd|passphrase|passwort|(?:^|[_\W])pass$|api[_ -]?key|(?:access|private|auth)[_ -]?key"
    r"|(?:^|[_\W]|auth)token\b|_token|credential",
    re.IGNORECASE,
)
_LOGINS = (
    re.compile(r"https?://[^\s:@/]+:[^\s@]+@\S+"),
    re.compile(r"[^\s:]+:(?:\d+|\*):[^\s:]+:[^\s:]+:\S+"),
    re.compile(r"[^\s:]+:(?:\$(?:apr1|2[aby]|5|6|y)\$|\{SHA\})\S+"),
)
"""Whole lines of `.git-credentials`, `.pgpass` and `htpasswd`."""

_NETRC = re.compile(r"^[ \t]*(?:machine\s+\S+|default)\s+login\s+\S+\s+password\s+\S+", re.MULTILINE)
_KUBECONFIG = re.compile(r"^kind:\s*Config\s*$", re.MULTILINE)
_KUBE_SECRET = re.compile(r"^[ \t]+(?:client-key-data|token|password):\s*\S", re.MULTILINE)
_TOKEN = re.compile(
    r"(?:gh[opusr]_|github_pat_|glpat-|sk-|[sr]k_live_|xox[abeoprs]-|A[KS]IA|AIza|hv[sb]\.|npm_|pypi-|dop_v1_|SG\.|ya29\."
    r"|eyJ[\w-]+\.eyJ)[\w.~+/=-]{12,}"
)
"""One of the usual services, alone in its file."""


def reason_by_name(name: str) -> str | None:
    """The reason why a file with this name is no note; None if the name gives none."""
    folded = name.casefold()
    if folded.startswith("~$") or (folded.startswith(".~lock.") and folded.endswith("#")):
        return LOCK
    if folded.endswith("~") or (len(folded) > 2 and folded.startswith("#") and folded.endswith("#")):
        return BACKUP
    return CONFLICT if _CONFLICTS.search(folded) else None


def reason_by_beginning(path: Path) -> str | None:
    """The reason why a file is no note, from its beginning; None if there is none.

    A file that cannot be read has none: the error is reported when it is read.
    """
    try:
        descriptor = files.open_regular_file(path)
        try:
            data = os.read(descriptor, _BEGINNING)
        finally:
            os.close(descriptor)
    except OSError:
        return None
    if len(data) == _BEGINNING:
        data = data[: data.rfind(b"\n") + 1] or data  # without the line that is cut
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    text = data.decode(encoding, "replace")
    if is_private_key(text):
        return PRIVATE_KEY
    if path.suffix.lower() in _WITHOUT_PROSE and holds_credentials(text):
        return CREDENTIALS
    return TEMPLATE if ("{{" in text or "<%" in text) and has_placeholder(text) else None


def is_private_key(text: str) -> bool:
    """Is the text a private key, alone or with its certificates? A note that holds one is none."""
    begins = text[:_BEGINNING].lstrip()
    if begins.startswith(_KEY_OPENINGS):
        return _KEY_BLOCK.search(text) is not None
    return begins.startswith(_OTHER_KEYS) or _AGE_KEY.match(begins) is not None


def holds_credentials(text: str) -> bool:
    """Is the text what programs log in with: settings with a secret among them, logins, or one token?"""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not _COMMENT.match(line)]
    if not lines:
        return False
    if len(lines) == 1 and _TOKEN.fullmatch(lines[0]):
        return True
    if any(all(login.fullmatch(line) for line in lines) for login in _LOGINS):
        return True
    if _NETRC.search(text) or (_KUBECONFIG.search(text) and _KUBE_SECRET.search(text)):
        return True
    settings = [_SETTING.match(line) for line in lines if not _SECTION.match(line)]
    return all(settings) and any(map(_is_secret, filter(None, settings)))


def _is_secret(setting: re.Match[str]) -> bool:
    name, other_name, value = setting.groups()
    return bool(value) and _SECRET_NAME.search(name or other_name) is not None
