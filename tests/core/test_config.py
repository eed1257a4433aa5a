"""Settings: tuning falls back with a warning, identity refuses."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from mempalace_mcp.core.clock import machine_zone
from mempalace_mcp.core.config import SETTINGS, Settings, load_settings
from mempalace_mcp.core.errors import ConfigurationError
from mempalace_mcp.core.place import DEFAULT_PALACE, expand, place_of


def test_defaults_are_those_of_the_table() -> None:
    settings = load_settings({})
    assert settings == Settings(palace=Path(DEFAULT_PALACE).expanduser().resolve(), zone=machine_zone())
    assert {setting.field for setting in SETTINGS} == set(Settings.__slots__)


@pytest.mark.parametrize(
    ("variable", "value", "field"),
    [
        ("PALACE_HISTORY_LIMIT", "0", "history_limit"),
        ("PALACE_HISTORY_LIMIT", "-5", "history_limit"),
        ("PALACE_HISTORY_LIMIT", "many", "history_limit"),
        ("PALACE_HISTORY_LIMIT", "10.5", "history_limit"),
        ("PALACE_HISTORY_LIMIT", "9" * 30, "history_limit"),
        ("AGENT_HISTORY_LIMIT", "0", "history_limit"),
        ("AGENT_HISTORY_LIMIT", "-1", "history_limit"),
        ("AGENT_HISTORY_LIMIT", "nan", "history_limit"),
        ("PALACE_STAT_COOLDOWN", "inf", "stat_cooldown"),
        ("PALACE_STAT_COOLDOWN", "-1", "stat_cooldown"),
        ("PALACE_TRASH_DAYS", "1e9", "trash_days"),
        ("PALACE_INDEX", "faiss", "index"),
        ("PALACE_LOG_LEVEL", "loud", "log_level"),
    ],
)
def test_wrong_tuning_warns_and_falls_back(
    variable: str, value: str, field: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        settings = load_settings({variable: value})
    assert getattr(settings, field) == getattr(load_settings({}), field)
    assert variable in caplog.text
    assert value in caplog.text


@pytest.mark.parametrize(
    ("environment", "field", "expected"),
    [
        ({"PALACE_HISTORY_LIMIT": "7"}, "history_limit", 7),
        ({"AGENT_HISTORY_LIMIT": "8"}, "history_limit", 8),
        ({"AGENT_HISTORY_LIMIT": "8", "PALACE_HISTORY_LIMIT": "7"}, "history_limit", 7),
        ({"PALACE_HISTORY_LIMIT": ""}, "history_limit", 1000),
        ({"PALACE_INDEX": "Exact"}, "index", "exact"),
        ({"PALACE_STAT_COOLDOWN": "0"}, "stat_cooldown", 0.0),
        ({"PALACE_LOG_LEVEL": "info"}, "log_level", "INFO"),
    ],
)
def test_right_values_are_taken(environment: dict[str, str], field: str, expected: object) -> None:
    assert getattr(load_settings(environment), field) == expected


def test_a_palace_that_is_a_file_refuses(tmp_path: Path) -> None:
    file = tmp_path / "palace"
    file.write_text("not a directory")
    with pytest.raises(ConfigurationError, match="PALACE_PATH") as caught:
        load_settings({"PALACE_PATH": str(file)})
    assert caught.value.hint
    with pytest.raises(ConfigurationError, match="--palace"):
        load_settings({}, str(file))


def test_an_empty_option_does_not_mean_the_default_palace(tmp_path: Path) -> None:
    environment = {"PALACE_PATH": str(tmp_path)}
    with pytest.raises(ConfigurationError, match="--palace=''"):
        load_settings(environment, "")
    for nothing in ("", " ", "\t"):
        with pytest.raises(ConfigurationError, match="must be a path"):
            load_settings({}, nothing)
    with pytest.raises(ValueError, match="must be a path"):
        place_of(environment, "")
    assert place_of(environment).directory == str(tmp_path.resolve())
    assert place_of({"PALACE_PATH": ""}).directory == str(load_settings({"PALACE_PATH": ""}).palace)


def test_the_command_line_wins_and_one_palace_has_one_path(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real")
    settings = load_settings({"PALACE_PATH": "/elsewhere"}, str(link))
    assert settings.palace == (tmp_path / "real").resolve()


UNEXPANDED = [
    ("${workspaceFolder}/palace", "${workspaceFolder}"),
    ("/data/${input:where}/palace", "${input:where}"),
    ("/data/${HOME", "${HOME"),
    ("$HOME/x", "$HOME"),
    ("sub/$env:APPDATA/x", "$env:APPDATA"),
    ("%APPDATA%\\x", "%APPDATA%"),
    ("%ProgramFiles(x86)%/x", "%ProgramFiles(x86)%"),
    ("{{ home }}/x", "{{ home }}"),
    ("/a/{env:HOME}/x", "{env:HOME}"),
    ("$(pwd)/x", "$(pwd)"),
    ("`pwd`/x", "`pwd`"),
    ("/project/~/palace", "~"),
    ("~nobody-of-this-name/x", "~nobody-of-this-name"),
]


@pytest.mark.parametrize(("path", "shown"), UNEXPANDED)
def test_a_path_with_a_variable_that_nobody_expanded_refuses(
    path: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for environment, option, name in (
        ({"PALACE_PATH": path}, None, "PALACE_PATH"),
        ({}, path, "--palace"),
        ({"PALACE_IMPORT_ROOTS": path}, None, "PALACE_IMPORT_ROOTS"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            load_settings(environment, option)
        assert caught.value.argument == name
        assert shown in caught.value.message
    with pytest.raises(ValueError, match=re.escape(shown)):
        place_of({}, path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["US$100", "100%", "a%b", "{curly}", "$", "~", "x~", "$1", "50% of $5"])
def test_other_signs_in_names_are_signs(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name != "~":
        assert place_of({}, str(path)).directory == str(path.resolve())
    assert expand("~/" + name.replace("~", "-")) == str(Path.home() / name.replace("~", "-"))


def test_a_folder_that_is_really_called_so_is_taken(tmp_path: Path) -> None:
    real = tmp_path / "${workspaceFolder}"
    path = str(real / "palace")
    with pytest.raises(ConfigurationError, match="called so"):
        load_settings({}, path)
    real.mkdir()
    assert load_settings({}, path).palace == Path(path).resolve()


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("PALACE_HOST", "0.0.0.0", "host", "0.0.0.0"),
        ("PALACE_HOST", "::", "host", "::"),
        ("PALACE_HOST", " localhost ", "host", "localhost"),
        ("PALACE_PORT", "0", "port", 0),
        ("PALACE_PORT", "65535", "port", 65_535),
        ("PALACE_ALLOWED_HOSTS", "palace.example, other,[::1]", "allowed_hosts", ("palace.example", "other", "[::1]")),
        ("PALACE_ALLOWED_HOSTS", "none", "allowed_hosts", ()),
    ],
)
def test_where_to_listen_can_be_said_in_the_environment(variable: str, text: str, field: str, value: object) -> None:
    assert getattr(load_settings({variable: text}), field) == value


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        *(("PALACE_HOST", text) for text in ("http://0.0.0.0", "0.0.0.0:8765", "1.2.3", "256.1.1.1", "a b", "*", "-x")),
        *(("PALACE_PORT", text) for text in ("-1", "65536", "http", "8765/tcp", "8 7", "9" * 5000, "٨٧")),
        *(("PALACE_ALLOWED_HOSTS", text) for text in ("https://a.example", "a.example:8765", "a b", ",", "*", "a,,-b")),
    ],
)
def test_a_wrong_place_to_listen_is_refused(variable: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=variable) as caught:
        load_settings({variable: text})
    assert caught.value.argument == variable


def test_a_home_that_nobody_knows_matters_only_where_the_palace_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(ConfigurationError, match="PALACE_PATH") as caught:
        load_settings({})
    assert caught.value.hint
    assert load_settings({}, "/given").palace == load_settings({"PALACE_PATH": "/given"}).palace
