from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempalace_mcp.core.call_context import Principal
from mempalace_mcp.core.errors import ConfigurationError, PalaceError
from mempalace_mcp.server.auth import (
    FILE,
    FileChange,
    Token,
    TokenStore,
    Watch,
    digest_of,
    new_token,
    read_token,
    read_tokens,
    write_tokens,
)

DIGEST = "0" * 64


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / FILE


def write(file: Path, content: str) -> None:
    """As an editor does that keeps the file private."""
    draft = file.with_suffix(".draft")
    draft.write_text(content, encoding="utf-8")
    draft.chmod(0o600)
    draft.replace(file)


def known(*secrets: str, scope: str = "write", wings: tuple[str, ...] = ()) -> list[Token]:
    return [read_token(f"t{number}", digest_of(secret), scope, wings) for number, secret in enumerate(secrets)]


def test_tokens_are_long_and_never_the_same() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert min(map(len, tokens)) >= 43


@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
            st.binary(min_size=32, max_size=32),
            st.sampled_from(["read", "write"]),
            st.lists(st.text('aäß"\\#[] =😀', max_size=9).filter(str.strip), max_size=3),
        ),
        max_size=4,
        unique_by=lambda token: token[0],
    )
)
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, given: list[tuple[str, bytes, str, list[str]]]
) -> None:
    tokens = [read_token(*each) for each in given]
    file = tmp_path_factory.getbasetemp() / FILE
    write_tokens(file, tokens)
    assert read_tokens(file) == tuple(tokens)
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_token_is_limited_to_wings_by_their_keys() -> None:
    token = read_token("cook", digest_of("x"), "read", ["Küche", "Notes", "NOTES"])
    assert token.access == Principal("cook", writes=False, wings=("küche", "notes"))
    assert read_token("all", digest_of("x"), "write", []).access == Principal("all")


@pytest.mark.parametrize(
    ("content", "line", "problem"),
    [
        ("[a\n", "line 1", "no TOML"),
        (f'[a]\nscope = "read"\nsha256 = "{DIGEST}"\n[b]\nscope = "read"\n', "line 4", "sha256"),
        (f'[a]\nsha256 = "{DIGEST}"\nscope = "admin"\n', "line 3", "'admin'"),
        (f'[a]\n\n# note\nsha256 = "{DIGEST[1:]}"\nscope = "read"\n', "line 4", "64 hexadecimal"),
        (f'[a]\nsha256 = "{DIGEST}"\nscope = "read"\nwings = []\n', "line 4", "wings"),
        (f'[a]\nsha256 = "{DIGEST}"\nscope = "read"\nwings = ["a\\u0001"]\n', "line 4", "control character"),
        (f'[a]\nsha256 = "{DIGEST}"\nscope = "read"\nuntil = 3\n', "line 4", "until is unknown"),
        (f'["a b"]\nsha256 = "{DIGEST}"\nscope = "read"\n', "line 1", "'a b'"),
        ("a = 1\n", "line 1", "table"),
        ("a=" + "[" * 5000, "", "no TOML"),
    ],
)
def test_a_wrong_file_refuses_with_the_line_and_the_remedy(file: Path, content: str, line: str, problem: str) -> None:
    write(file, content)
    with pytest.raises(ConfigurationError) as caught:
        TokenStore(file)
    assert str(file) in caught.value.message
    assert line in caught.value.message
    assert problem in caught.value.message
    assert "token new" in (caught.value.hint or "")


@pytest.mark.skipif(os.name == "nt", reason="other permissions")
@pytest.mark.parametrize("mode", [0o644, 0o620, 0o604])
def test_a_file_that_others_may_open_refuses(file: Path, mode: int) -> None:
    write_tokens(file, known("x"))
    file.chmod(mode)
    with pytest.raises(ConfigurationError, match="open to other users") as caught:
        TokenStore(file)
    assert caught.value.hint == f"Run: chmod 600 {file}"


def test_what_is_no_file_of_its_own_refuses(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    write_tokens(other, known("x"))
    file.symlink_to(other)
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        TokenStore(file)
    file.unlink()
    os.mkfifo(file, 0o600)
    with pytest.raises(ConfigurationError, match="not a regular file"):
        TokenStore(file)


def test_without_tokens_nobody_is_asked(file: Path) -> None:
    keyring = TokenStore(file)
    assert not keyring.guarding
    assert not keyring


def test_a_file_without_tokens_would_lock_everybody_out(file: Path) -> None:
    write(file, "")
    with pytest.raises(ConfigurationError, match="holds no token"):
        TokenStore(file)
    assert TokenStore(file, "own token").guarding


def test_the_token_of_the_environment_reaches_everything(file: Path) -> None:
    keyring = TokenStore(file, "own token")
    assert keyring.guarding
    assert keyring.access_of("own token") == Principal("$PALACE_TOKEN")
    assert keyring.access_of("own token ") is None
    assert keyring.access_of("\ud800") is None


def test_no_token_of_the_file_passes_for_the_one_of_the_environment(file: Path) -> None:
    write_tokens(file, [read_token("PALACE_TOKEN", digest_of("other"), "read", ["kitchen"])])
    keyring = TokenStore(file, "own token")
    own, other = keyring.access_of("own token"), keyring.access_of("other")
    assert own is not None
    assert other is not None
    assert own.name != other.name, "sessions and idempotency keys belong to names"


def test_changes_are_followed(file: Path) -> None:
    keyring = TokenStore(file)
    write_tokens(file, known("first"))
    keyring.look()
    assert keyring.guarding
    assert keyring.access_of("first") == Principal("t0")
    write_tokens(file, known("second", scope="read"))
    keyring.look()
    assert keyring.access_of("first") is None
    assert keyring.access_of("second") == Principal("t0", writes=False)


def test_a_broken_change_keeps_the_last_good_tokens_and_is_told(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_tokens(file, known("first"))
    keyring = TokenStore(file)
    write(file, "[oops\n")
    for _ in range(3):
        keyring.look()
        assert keyring.access_of("first") == Principal("t0")
    assert keyring.problem is not None
    assert "line 1" in keyring.problem
    assert len(caplog.records) == 1, "told once"
    file.chmod(0o644)
    keyring.look()
    assert keyring.access_of("first") == Principal("t0")
    assert "open to other users" in keyring.problem
    write_tokens(file, known("second"))
    keyring.look()
    assert keyring.access_of("first") is None
    assert keyring.problem is None


def test_a_file_that_is_removed_takes_its_tokens_along_and_opens_nothing(file: Path) -> None:
    write_tokens(file, known("first"))
    keyring = TokenStore(file)
    file.unlink()
    keyring.look()
    assert keyring.access_of("first") is None
    assert keyring.guarding


@pytest.mark.parametrize("name", ["", "a b", "ä", "x" * 65, "a.b", "a\n"])
def test_names_are_plain(name: str) -> None:
    with pytest.raises(PalaceError) as caught:
        read_token(name, digest_of("x"), "read", [])
    assert caught.value.argument == "name"


@contextmanager
def watching(keyring: TokenStore) -> Iterator[Watch]:
    watch = Watch(keyring)
    try:
        yield watch
    finally:
        watch.close()


async def test_no_change_escapes_a_watch_however_quick(file: Path) -> None:
    keyring = TokenStore(file)
    with watching(keyring) as watch:
        await watch.look()
        assert not keyring.guarding
        for number in range(200):
            write_tokens(file, known(str(number)))
            await watch.look()
            assert keyring.access_of(str(number)) == Principal("t0")
            assert number == 0 or keyring.access_of(str(number - 1)) is None
        file.unlink()
        await watch.look()
        assert keyring.access_of("199") is None


async def test_a_file_edited_in_its_place_is_read_again(file: Path) -> None:
    write_tokens(file, known("first"))
    keyring = TokenStore(file)
    with watching(keyring) as watch:
        for secret in ("second", "third"):
            until_settled(file)
            await watch.look()
            file.write_text(file.read_text().replace(digest_of("first").hex(), digest_of(secret).hex()), "utf-8")
            await watch.look()
            assert keyring.access_of(secret) == Principal("t0")
            file.write_text(file.read_text().replace(digest_of(secret).hex(), digest_of("first").hex()), "utf-8")
            await watch.look()
            assert keyring.access_of(secret) is None
        file.chmod(0o644)
        await watch.look()
        assert "open to other users" in str(keyring.problem)


def until_settled(file: Path) -> None:
    """Return once a glance at the file is good for something."""
    while not (glance := FileChange(file)).shows_no_change():
        glance.close()
    glance.close()


@pytest.mark.parametrize("before", [False, True])
def test_a_glance_shows_every_kind_of_change(file: Path, before: bool) -> None:
    changes: dict[str, Callable[[], object]] = {
        "made or replaced": lambda: write_tokens(file, known("other")),
        "written": lambda: file.write_bytes(b"x" * file.stat().st_size),
        "closed to all": lambda: file.chmod(0o000),
        "removed": file.unlink,
        "moved with its folder": lambda: file.parent.rename(file.parent.with_name("elsewhere")),
    }
    if before:
        write_tokens(file, known("first"))
    for change in changes.values():
        until_settled(file)
        glance = FileChange(file)
        try:
            assert glance.shows_no_change()
            change()
            assert not glance.shows_no_change()
        finally:
            glance.close()


def test_without_a_folder_nothing_is_certain(tmp_path: Path) -> None:
    assert not FileChange(tmp_path / "nowhere" / FILE).shows_no_change()
