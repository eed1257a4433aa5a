"""A palace is named once: by a path, by the address of a server, or by a file that holds that address."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from mempalace_mcp.core.config import load_settings
from mempalace_mcp.core.errors import ConfigurationError
from mempalace_mcp.core.place import Place, has_room_for_daemon, place_of

SECRET = "correct-horse"
ADDRESS = f"postgresql://anna:{SECRET}@db.example:5433/memories?schema=team_a&sslmode=require"
SHOWN = "postgresql://db.example:5433/memories?schema=team_a"


def file_with(folder: Path, text: str) -> str:
    file = folder / "address"
    file.write_text(text, encoding="utf-8")
    return str(file)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


def ways(folder: Path) -> list[tuple[dict[str, str], str | None]]:
    """Every way to name the palace."""
    file = file_with(folder, f"{ADDRESS}\n")
    return [
        ({"PALACE_URL": f" {ADDRESS} "}, None),
        ({"PALACE_URL_FILE": file}, None),
        ({"PALACE_PATH": file}, None),
        ({}, ADDRESS),
        ({"PALACE_PATH": "/elsewhere"}, ADDRESS),
        ({"PALACE_URL": "postgresql://other/db"}, file),
    ]


def test_every_way_leads_to_the_same_palace_and_shows_no_secret(tmp_path: Path, home: Path) -> None:
    found = [load_settings(environment, option) for environment, option in ways(tmp_path)]
    assert {settings.palace for settings in found} == {found[0].palace}
    assert found[0].palace.parent == home / ".mempalace-mcp" / "servers"
    for settings in found:
        assert settings.url is not None
        assert settings.shown == SHOWN
        assert SECRET not in repr(settings)
        assert settings.url.text == ADDRESS
    assert [settings.url_file is not None for settings in found] == [False, True, True, False, False, True]


def test_other_palaces_on_the_server_have_other_directories() -> None:
    addresses = (ADDRESS, ADDRESS.replace("team_a", "team_b"), ADDRESS.replace("memories", "others"))
    assert len({place_of({}, address).directory for address in addresses}) == 3
    assert place_of({}, ADDRESS).directory == place_of({}, ADDRESS.replace(SECRET, "another")).directory


@pytest.mark.parametrize(
    "given",
    [
        {"PALACE_PATH": "/p", "PALACE_URL": ADDRESS},
        {"PALACE_PATH": "/p", "PALACE_URL_FILE": "/f"},
        {"PALACE_URL": ADDRESS, "PALACE_URL_FILE": "/f"},
    ],
)
def test_two_variables_that_name_palaces_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(given)
    assert all(variable in caught.value.message for variable in given)
    assert SECRET not in str(caught.value.as_dict())
    assert load_settings(given, ADDRESS).shown == SHOWN
    empty = dict.fromkeys(given, " ")
    assert load_settings({**empty, "PALACE_URL": ADDRESS}).shown == SHOWN


@pytest.mark.parametrize(
    "address",
    [
        f"mysql://anna:{SECRET}@db/memories",
        f"anna:{SECRET}@db/memories",
        f"postgresql://anna:{SECRET}@db/memories?schema=public",
        f"postgresql://anna:{SECRET}@db/memories?schema=A-B",
        f"postgresql://anna:{SECRET}@db:port/memories",
        f"postgresql://anna:{SECRET}#@db/memories",
        f"postgresql+asyncpg://anna:{SECRET}@db/memories",
    ],
)
def test_a_wrong_address_is_refused_and_not_shown(address: str, tmp_path: Path) -> None:
    ways: list[tuple[dict[str, str], str | None, str]] = [
        ({"PALACE_URL": address}, None, "PALACE_URL"),
        ({"PALACE_URL_FILE": file_with(tmp_path, address)}, None, "PALACE_URL_FILE"),
    ]
    if "://" in address:
        ways += [({}, address, "--palace"), ({"PALACE_PATH": address}, None, "PALACE_PATH")]
    for environment, option, name in ways:
        with pytest.raises(ConfigurationError) as caught:
            load_settings(environment, option)
        assert caught.value.argument == name
        assert SECRET not in str(caught.value.as_dict())


@pytest.mark.parametrize("content", ["", "\n \n", f"{ADDRESS}\n{ADDRESS}\n", "\udcff"])
def test_a_file_without_one_address_is_refused(content: str, tmp_path: Path) -> None:
    file = tmp_path / "address"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    for path in (file, tmp_path, tmp_path / "missing"):
        with pytest.raises(ConfigurationError, match="PALACE_URL_FILE"):
            load_settings({"PALACE_URL_FILE": str(path)})


def test_the_address_in_a_variable_for_paths_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="belongs into PALACE_URL") as caught:
        load_settings({"PALACE_PATH": ADDRESS})
    assert SECRET not in str(caught.value.as_dict())


def test_a_folder_that_looks_like_an_address_is_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a:" / "b"
    folder.mkdir(parents=True)
    assert place_of({}, f"{tmp_path}/a://b").directory == str(folder.resolve())


def test_children_find_the_palace_without_a_word_on_their_command_line(tmp_path: Path) -> None:
    for environment, option in ways(tmp_path):
        place = place_of(environment, option)
        place.name_for_children(environment)
        again = place_of(environment)
        assert (again.directory, again.url) == (place.directory, place.url)
    untouched = {"PALACE_PATH": "/p"}
    place_of(untouched).name_for_children(untouched)
    assert untouched == {"PALACE_PATH": "/p"}


def test_the_directory_is_made_for_its_user_alone(home: Path) -> None:
    place = place_of({}, ADDRESS)
    assert has_room_for_daemon(place)
    assert stat.S_IMODE(Path(place.directory).stat().st_mode) == 0o700


def test_a_machine_without_a_home_can_serve_sessions_without_a_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    place = place_of({}, ADDRESS)
    assert Path(place.directory).is_absolute()
    in_the_way = Place("/dev/null/servers/x", place.url)
    assert not has_room_for_daemon(in_the_way)
