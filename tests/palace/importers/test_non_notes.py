"""What lies among notes and is none is left out of folders with its reason; given by name it is read, keys aside."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from random import Random

import pytest

from mempalace_mcp.palace.importers.non_notes import holds_credentials, is_private_key, reason_by_name
from tests.palace.importers.support import documents, found, reasons, skipped

DICE = Random(12)
LOCK, BACKUP = "a lock of an office program", "a backup of an editor"
CONFLICT, TEMPLATE = "a copy from a conflict between machines", "a template"


def key_block(kind: str, size: int = 900) -> str:
    digits = base64.encodebytes(DICE.randbytes(size)).decode()
    return f"-----BEGIN {kind}-----\n{digits}-----END {kind}-----\n"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("~$budget.md", LOCK),
        ("README~", BACKUP),
        ("diary.md~", BACKUP),
        ("#todo#", BACKUP),
        ("#todo.md#", BACKUP),
        ("todo.sync-conflict-20251107-081502-K7AB2CD.md", CONFLICT),
        ("todo (Mira's conflicted copy 2025-11-07).md", CONFLICT),
        ("todo (conflicted copy 2025-11-07 081502).md", CONFLICT),
        ("todo (Conflicted copy laptop 202511070815).md", CONFLICT),
        ("todo (Mira's conflicted copy 2025-11-07 (1)).md", CONFLICT),
        ("todo (Konfliktkopie von Mira 2025-11-07).md", CONFLICT),
        ("todo (Copie en conflit de Mira 2025-11-07).md", CONFLICT),
        ("todo (SFConflict mira@example.org 2025-11-07-08-15-02).md", CONFLICT),
        ("todo_conflict-20251107-081502.md", CONFLICT),
        ("todo_harbour_Nov-07-081502-2025_Conflict.md", CONFLICT),
        ("todo_REMOTE_4711.md", CONFLICT),
    ],
)
def test_a_file_that_a_program_left_behind_is_skipped_in_folders_only(tmp_path: Path, name: str, reason: str) -> None:
    path = write(tmp_path / name, "text")
    assert found(tmp_path) == []
    assert skipped(tmp_path) == {name: reason}
    assert found(path) == [name]
    assert documents(path)[0].content == "text"


@pytest.mark.parametrize(
    "name",
    [
        "todo (1).md", "todo 2.md", "todo - Copy.md", "on conflicted copies.md", "conflict 2025-11-07.md", "a~b.md",
        "# heading.md", "#tag.md", "$budget.md", "How to merge (a conflicted copy).md", "local_4711.md", "#",
    ],
)  # fmt: skip
def test_names_that_people_give_are_no_reason(name: str) -> None:
    assert reason_by_name(name) is None


KEYS = [
    *(key_block(f"{kind}PRIVATE KEY") for kind in ("OPENSSH ", "RSA ", "EC ", "ENCRYPTED ", "")),
    key_block("PGP PRIVATE KEY BLOCK"),
    "\n" + key_block("PRIVATE KEY").replace("\n", "\r\n"),
    key_block("CERTIFICATE", 9000) + key_block("PRIVATE KEY"),
    "Bag Attributes\n    friendlyName: mira\nKey Attributes: <No Attributes>\n" + key_block("PRIVATE KEY"),
    "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nComment: mira\n",
    "# created: 2025-11-07T08:15:02Z\n# public key: age1xyz\nAGE-SECRET-KEY-1QQQQ\n",
    "untrusted comment: minisign encrypted secret key\nRWRTY0Iy\n",
]


@pytest.mark.parametrize("text", KEYS, ids=lambda text: text[:24].strip())
@pytest.mark.parametrize("name", ["id_ed25519", "server.txt", "backup.md"])
def test_a_private_key_is_never_filed(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode())
    assert reasons(path) == ["a private key"]
    assert documents(path) == []
    if len(text) < 8000:
        assert skipped(tmp_path) == {name: "a private key"}


@pytest.mark.parametrize(
    "text",
    [
        "# How to renew it\n\n" + key_block("PRIVATE KEY"),
        key_block("CERTIFICATE") + "Valid until May.\n",
        key_block("PUBLIC KEY"),
        key_block("PGP SIGNED MESSAGE") + "mentions -----BEGIN PRIVATE KEY----- in passing",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMira mira@harbour\n",
    ],
)
def test_a_note_about_keys_is_no_key(tmp_path: Path, text: str) -> None:
    assert not is_private_key(text)
    assert found(write(tmp_path / "notes" / "keys", text).parent) == ["keys"]


CREDENTIALS = {
    "credentials": "[default]\naws_access_key_id = AKIAQWERTYUIOPASDFGH\naws_secret_access_key = abc/def+ghi\n",
    "netrc": "machine example.org\n  login mira\n  password s3cret\n",
    "logins": "# mine\nmachine a login b password c\n",
    "git-credentials": "https://mira:s3cret@example.org\nhttps://mira:other@example.com\n",
    "pgpass": "# host\ndb.example.org:5432:*:mira:s3cret\n",
    "htpasswd": "mira:$apr1$abc$defghijk\njonas:$2y$05$abcdefgh\n",
    "config": "apiVersion: v1\nkind: Config\nusers:\n- name: mira\n  user:\n    client-key-data: LS0tLS1\n",
    "env": "# production\nexport DB_HOST=db.example.org\nexport DB_PASSWORD='s3cret'\n",
    "secrets.txt": "API_KEY=abc123\nREGION=eu\n",
    "passwords.txt": "Site: example.org\nUser: mira\nPassword: s3cret\n",
    "npmrc": "registry=https://example.org/\n//example.org/:_authToken=abc\n",
    "pypirc": "[distutils]\nindex-servers = own\n\n[own]\nusername: mira\npassword: s3cret\n",
    "github": "ghp_abcdefghijklmnopqrstuvwxyz0123456789\n",
    "session": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtaXJhIn0.c2lnbmF0dXJl\n",
}


@pytest.mark.parametrize("name", CREDENTIALS)
def test_credentials_are_skipped_in_folders_by_what_they_hold(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, CREDENTIALS[name])
    assert found(tmp_path) == []
    assert skipped(tmp_path) == {name: "credentials"}
    assert documents(path)[0].said == CREDENTIALS[name]


@pytest.mark.parametrize(
    "text",
    [
        "The password for the boathouse hangs behind the door.\n",
        "Topic: secrets of the sea\nDate: 2025-11-07\n\nPassword: ask Mira, she knows it well.\n",
        "HOST=db.example.org\nPORT=5432\n",
        "PASSWORD=\nHOST=db\n",
        "FROM python:3.12\nENV TOKEN=abc\nRUN make\n",
        "all: build\n\tcc main.c\n",
        "1.4.2\n",
        "4d1f0b6f0c9a4a0e8a7b1d2c3e4f5a6b7c8d9e0f\n",
        "kind: Config\nprose that is no configuration\n",
        "",
        "# only a comment about the password\n",
    ],
)
def test_other_texts_are_no_credentials(text: str) -> None:
    assert not holds_credentials(text)


def test_a_note_in_markdown_may_be_about_credentials(tmp_path: Path) -> None:
    write(tmp_path / "setup.md", "API_KEY=abc123\n")
    assert found(tmp_path) == ["setup.md"]


@pytest.mark.parametrize(
    "text",
    [
        "---\ncreated: {{date}} {{time}}\ntags: [daily]\n---\n\n## Today\n",
        "---\ntitle: 'Minutes {{date:YYYY-MM-DD}}'\n---\ntext",
        "---\ntags: [x]\n---\n\n# {{title}}\n",
        "---\nday: <% tp.date.now() %>\n---\n",
        "<%*\nconst name = await tp.system.prompt('Name')\n-%>\n# text",
        "# {{ date }}\n\n- [ ] \n",
        '+++\ntitle = \'{{ replace .File.ContentBaseName "-" " " }}\'\ndate = {{ .Date }}\n+++\n',
        "Created: {{date}}\n\ntext",
    ],
)
def test_a_template_is_skipped_in_folders_by_its_placeholders(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "Daily.md", text)
    assert skipped(tmp_path) == {"Daily.md": TEMPLATE}
    assert found(tmp_path) == []
    assert documents(path)[0].content == text


@pytest.mark.parametrize(
    "text",
    [
        "# Templates\n\nWrite `{{date}}` and Obsidian fills it in.\n\n```\n# {{title}}\n```\n",
        "---\ntitle: Liquid\n---\nHello {{ page.title }}, {% include x %}\n",
        "---\nabout: how to write {{ x }}\n---\ntext",
    ],
)
def test_a_note_about_templates_is_no_template(tmp_path: Path, text: str) -> None:
    write(tmp_path / "note.md", text)
    assert found(tmp_path) == ["note.md"]


def test_the_templates_of_a_vault_are_where_its_settings_say(tmp_path: Path) -> None:
    settings: dict[str, object] = {
        "templates.json": {"folder": "Meta/Vorlagen"},
        "plugins/templater-obsidian/data.json": {"templates_folder": "/scripts/"},
        "daily-notes.json": {"folder": "Journal", "template": "Journal/Daily"},
        "plugins/periodic-notes/data.json": {"weekly": {"template": "Journal/Weekly.md"}, "version": 2},
        "zk-prefixer.json": "damaged",
        "core-plugins.json": ["templates"],
    }
    vault = tmp_path / "home" / "vault"
    for name, value in settings.items():
        write(vault / ".obsidian" / name, json.dumps(value))
    for name in ("Meta/Vorlagen/a.md", "meta/other.md", "scripts/b.md", "Journal/Daily.md", "Journal/weekly.md"):
        write(vault / name, "no placeholder in it")
    for name in ("Journal/2025-11-07.md", "Meta/scripts/c.md", "Daily.md"):
        write(vault / name, "text")
    (vault / "Meta" / "Vorlagen").rename(vault / "Meta" / "vorlagen")
    assert sorted(found(tmp_path)) == ["2025-11-07.md", "Daily.md", "c.md", "other.md"]
    left = {name: reason for name, reason in skipped(tmp_path).items() if reason == TEMPLATE}
    assert left == {"vorlagen": TEMPLATE, "scripts": TEMPLATE, "Daily.md": TEMPLATE, "weekly.md": TEMPLATE}
    assert found(vault / "scripts") == ["b.md"]


@pytest.mark.parametrize(
    "settings", ["", "[]", '{"folder": 7}', '{"folder": ""}', '{"folder": "/"}', "{" * 5000, "\xff"]
)
def test_settings_that_say_nothing_leave_nothing_out(tmp_path: Path, settings: str) -> None:
    write(tmp_path / ".obsidian" / "templates.json", settings)
    write(tmp_path / "a.md", "text")
    assert found(tmp_path) == ["a.md"]


def test_settings_behind_a_link_are_not_read(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "templates.json", '{"folder": "drafts"}')
    write(tmp_path / "vault" / "drafts" / "a.md", "text")
    (tmp_path / "vault" / ".obsidian").symlink_to(tmp_path / "elsewhere")
    assert found(tmp_path / "vault") == ["a.md"]


@pytest.mark.parametrize("text", ["\n" * 8192, " \n" * 4096, "a" * 8192, "a:" * 4096, "a " * 4096, "machine " * 1024])
def test_the_worst_beginnings_take_no_time(text: str) -> None:
    assert not holds_credentials(text)
    assert not is_private_key(text)
