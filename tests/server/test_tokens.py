"""Tokens: their table, the file of earlier versions, and what a server makes of both."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mempalace_mcp.core.call_context import Deadline, Principal
from mempalace_mcp.core.errors import Busy, ConfigurationError, Conflict, NotFound, PalaceError, StorageError
from mempalace_mcp.server.auth import Authenticator, digest_of, new_token
from mempalace_mcp.storage.sqlite.database import Database
from mempalace_mcp.storage.tokens import Token, TokenStore, validate_token
from mempalace_mcp.storage.tokens_file import FILE, TAKEN_OVER, take_over
from tests.storage.support import fresh_database

DIGEST = "0" * 64
STORE = TokenStore()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with fresh_database(tmp_path / "palace") as database:
        yield database


@pytest.fixture
def other(database: Database) -> Iterator[Database]:
    """As another process has the palace open."""
    with fresh_database(database.directory) as other:
        yield other


@pytest.fixture
def file(database: Database) -> Path:
    return database.directory / FILE


def write(file: Path, content: str) -> None:
    """As an editor does that keeps the file private."""
    draft = file.with_suffix(".draft")
    draft.write_text(content, encoding="utf-8")
    draft.chmod(0o600)
    draft.replace(file)


def table(name: str, secret: str, more: str = "") -> str:
    """A token as earlier versions have written it."""
    return f'[{name}]\nsha256 = "{digest_of(secret).hex()}"\nscope = "write"\n{more}\n'


def add(database: Database, name: str, secret: str, scope: str = "write", wings: tuple[str, ...] = ()) -> Token:
    token = validate_token(name, digest_of(secret), scope, wings)
    database.write(lambda tx: STORE.add(tx, token), Deadline())
    return token


def revoke(database: Database, name: str) -> None:
    database.write(lambda tx: STORE.revoke(tx, name), Deadline())


def stored(database: Database) -> tuple[Token, ...]:
    with database.read() as connection:
        return STORE.load(connection).tokens


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
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read_again(database: Database, given: list[tuple[str, bytes, str, list[str]]]) -> None:
    tokens = [validate_token(*each) for each in given]
    database.write(STORE.clear, Deadline())
    for token in tokens:
        database.write(lambda tx, token=token: STORE.add(tx, token), Deadline())  # type: ignore[misc]
    assert stored(database) == tuple(tokens)


def test_a_token_is_limited_to_wings_by_their_keys() -> None:
    token = validate_token("cook", digest_of("x"), "read", ["Küche", "Notes", "NOTES"])
    assert token.principal == Principal("cook", writes=False, wings=("küche", "notes"))
    assert validate_token("all", digest_of("x"), "write", []).principal == Principal("all")


def test_a_name_is_taken_until_it_is_revoked(database: Database) -> None:
    add(database, "laptop", "first")
    with pytest.raises(Conflict):
        add(database, "laptop", "second")
    revoke(database, "laptop")
    with pytest.raises(NotFound):
        revoke(database, "laptop")
    assert stored(database) == ()
    third = add(database, "laptop", "third")
    assert stored(database) == (third,)


def test_of_a_token_the_palace_holds_no_more_than_its_digest(database: Database) -> None:
    secret = new_token()
    add(database, "laptop", secret)
    assert secret.encode() not in b"".join(path.read_bytes() for path in database.directory.glob("palace.db*"))
    revoke(database, "laptop")
    database.checkpoint()
    assert digest_of(secret) not in database.path.read_bytes()


def test_what_changes_tokens_is_no_change_of_texts(database: Database) -> None:
    def seq() -> int:
        with database.read() as connection:
            return int(connection.execute("SELECT seq FROM state").fetchone()[0])

    before = seq()
    add(database, "laptop", "x")
    assert seq() == before


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
def test_a_wrong_file_refuses_with_the_line_and_the_remedy(
    database: Database, file: Path, content: str, line: str, problem: str
) -> None:
    write(file, content)
    with pytest.raises(ConfigurationError) as caught:
        Authenticator(database)
    assert str(file) in caught.value.message
    assert line in caught.value.message
    assert problem in caught.value.message
    assert "token new" in (caught.value.hint or "")
    assert file.read_text() == content
    assert stored(database) == ()


@pytest.mark.skipif(os.name == "nt", reason="other permissions")
@pytest.mark.parametrize("mode", [0o644, 0o620, 0o604])
def test_a_file_that_others_may_open_refuses(database: Database, file: Path, mode: int) -> None:
    write(file, table("laptop", "x"))
    file.chmod(mode)
    with pytest.raises(ConfigurationError, match="open to other users") as caught:
        Authenticator(database)
    assert caught.value.hint == f"Run: chmod 600 {file}"


def test_what_is_no_file_of_its_own_refuses(database: Database, file: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "other.toml"
    write(elsewhere, table("laptop", "x"))
    file.symlink_to(elsewhere)
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        Authenticator(database)
    file.unlink()
    os.mkfifo(file, 0o600)
    with pytest.raises(ConfigurationError, match="not a regular file"):
        Authenticator(database)


def test_without_tokens_nobody_is_asked(database: Database) -> None:
    authenticator = Authenticator(database)
    assert not authenticator.guarding
    assert not authenticator


def test_a_file_without_tokens_would_lock_everybody_out(database: Database, file: Path) -> None:
    write(file, "")
    with pytest.raises(ConfigurationError, match="holds no token"):
        Authenticator(database)
    assert Authenticator(database, "own token").guarding


def test_where_the_last_token_was_revoked_nobody_comes_in_until_all_are_forgotten(database: Database) -> None:
    add(database, "laptop", "x")
    revoke(database, "laptop")
    with pytest.raises(ConfigurationError, match="last token") as caught:
        Authenticator(database)
    assert "revoke --all" in str(caught.value.hint)
    assert Authenticator(database, "own token").guarding
    database.write(STORE.clear, Deadline())
    assert not Authenticator(database).guarding


def test_the_token_of_the_environment_reaches_everything(database: Database) -> None:
    authenticator = Authenticator(database, "own token")
    assert authenticator.guarding
    assert authenticator.principal_of("own token") == Principal("$PALACE_TOKEN")
    assert authenticator.principal_of("own token ") is None
    assert authenticator.principal_of("\ud800") is None


def test_no_token_of_the_palace_passes_for_the_one_of_the_environment(database: Database) -> None:
    add(database, "PALACE_TOKEN", "other", "read", ("kitchen",))
    authenticator = Authenticator(database, "own token")
    own, other = authenticator.principal_of("own token"), authenticator.principal_of("other")
    assert own is not None
    assert other is not None
    assert own.name != other.name, "sessions and idempotency keys belong to names"


def test_the_file_of_an_earlier_version_is_taken_over_once(database: Database, file: Path) -> None:
    content = table("laptop", "first") + table("cook", "second", 'wings = ["Kitchen"]')
    write(file, content)
    authenticator = Authenticator(database)
    assert authenticator.guarding
    assert authenticator.problem is None
    assert authenticator.principal_of("first") == Principal("laptop")
    assert authenticator.principal_of("second") == Principal("cook", wings=("kitchen",))
    kept = file.with_name(TAKEN_OVER)
    assert (file.exists(), kept.read_text(), stat.S_IMODE(kept.stat().st_mode)) == (False, content, 0o600)
    revoke(database, "laptop")
    assert Authenticator(database).principal_of("first") is None


def test_what_was_revoked_does_not_come_back_with_the_file(
    database: Database, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As when the process died before the file was renamed, or somebody puts it back."""
    content = table("laptop", "first") + table("desk", "second")
    write(file, content)
    take_over(database.directory, database, STORE)
    revoke(database, "laptop")
    before = stored(database)
    assert [token.name for token in before] == ["desk"]
    caplog.clear()
    write(file, content + table("new", "third"))
    take_over(database.directory, database, STORE)
    assert stored(database) == (*before, validate_token("new", digest_of("third"), "write", []))
    assert [record.getMessage() for record in caplog.records if "laptop" in record.getMessage()]
    assert len(caplog.records) == 1, "desk is the same"


def test_as_long_as_a_file_is_not_taken_over_a_token_is_asked_for(
    database: Database, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(file, "[oops\n")
    authenticator = Authenticator(database, "own token")
    assert "line 1" in caplog.text
    assert "line 1" in str(authenticator.problem)
    add(database, "laptop", "first")
    authenticator.refresh()
    assert authenticator.principal_of("first") == Principal("laptop")
    file.unlink()
    authenticator.refresh()
    assert authenticator.problem is None


def test_a_file_that_appears_is_a_problem_and_opens_nothing(
    database: Database, other: Database, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authenticator = Authenticator(database)
    assert not authenticator.guarding
    write(file, table("laptop", "first"))
    for _ in range(3):
        authenticator.refresh()
        assert authenticator.guarding
        assert authenticator.principal_of("first") is None
    assert str(file) in str(authenticator.problem)
    assert len(caplog.records) == 1, "logged once"
    take_over(other.directory, other, STORE)
    authenticator.refresh()
    assert authenticator.principal_of("first") == Principal("laptop")
    assert authenticator.problem is None


def test_no_change_of_another_process_escapes_however_quick(database: Database, other: Database) -> None:
    authenticator = Authenticator(database)
    assert not authenticator.guarding
    for number in range(100):
        add(other, f"t{number}", str(number), "read")
        authenticator.refresh()
        assert authenticator.guarding
        assert authenticator.principal_of(str(number)) == Principal(f"t{number}", writes=False)
        revoke(other, f"t{number}")
        authenticator.refresh()
        assert authenticator.principal_of(str(number)) is None
        if number % 10 == 0:
            other.checkpoint()
    other.write(STORE.clear, Deadline())
    authenticator.refresh()
    assert authenticator.guarding, "as long as the process lives"


def test_tokens_that_cannot_be_read_count_as_they_were_read_last(
    database: Database, other: Database, caplog: pytest.LogCaptureFixture
) -> None:
    add(database, "laptop", "first")
    authenticator = Authenticator(database)
    other.write(lambda tx: tx.connection.execute("PRAGMA user_version = 999").rowcount, Deadline())
    for _ in range(3):
        authenticator.refresh()
        assert authenticator.principal_of("first") == Principal("laptop")
    assert "999" in str(authenticator.problem)
    assert len(caplog.records) == 1, "logged once"


def test_a_palace_that_can_only_be_read_checks_tokens(
    database: Database, other: Database, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(other, "laptop", "first")
    other.close()
    database.close()
    monkeypatch.setattr("mempalace_mcp.storage.sqlite.opening.os.access", lambda path, mode: False)
    with fresh_database(database.directory) as reading:
        assert not reading.statistics().writable
        authenticator = Authenticator(reading)
        assert authenticator.principal_of("first") == Principal("laptop")
        write(file, table("desk", "second"))
        authenticator = Authenticator(reading)
        assert authenticator.problem is not None
        assert authenticator.principal_of("first") == Principal("laptop")
        with pytest.raises(StorageError):
            take_over(reading.directory, reading, STORE)
        assert file.exists()


def test_a_palace_that_is_opened_anew_is_followed(database: Database, other: Database) -> None:
    authenticator = Authenticator(database)
    database.reopen()
    add(other, "laptop", "first")
    authenticator.refresh()
    assert authenticator.principal_of("first") == Principal("laptop")


def test_what_holds_the_database_makes_nobody_wait(database: Database, other: Database) -> None:
    add(database, "laptop", "first")
    authenticator = Authenticator(database)
    (timeout,) = read_now(database, "PRAGMA busy_timeout")
    assert timeout == 0
    other.close()
    database.close()
    authenticator.refresh()
    assert authenticator.principal_of("first") == Principal("laptop")
    assert "closed" in str(authenticator.problem)


def test_while_the_files_are_opened_anew_nobody_knows(database: Database) -> None:
    authenticator = Authenticator(database)
    assert database._opened is not None
    database._opened.readers.close()
    with pytest.raises(Busy):
        authenticator.refresh()


def read_now(database: Database, sql: str) -> tuple[int, ...]:
    read = database.read_if_changed(None, lambda connection: connection.execute(sql).fetchone())
    assert read is not None
    row: tuple[int, ...] = read[1]
    return row


@pytest.mark.parametrize("name", ["", "a b", "ä", "x" * 65, "a.b", "a\n"])
def test_names_are_plain(name: str) -> None:
    with pytest.raises(PalaceError) as caught:
        validate_token(name, digest_of("x"), "read", [])
    assert caught.value.argument == "name"
