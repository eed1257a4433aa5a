"""Settings: tuning falls back with a warning, identity refuses."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mempalace_mcp.core.config import SETTINGS, Settings, load_settings
from mempalace_mcp.core.errors import ConfigurationError
from mempalace_mcp.core.place import DEFAULT_PALACE, palace_of


def test_defaults_are_those_of_the_table() -> None:
    settings = load_settings({})
    assert settings == Settings(palace=Path(DEFAULT_PALACE).expanduser().resolve())
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
    with pytest.raises(ValueError, match="must be a path"):
        palace_of(environment, "")
    assert palace_of(environment) == str(tmp_path.resolve())
    assert palace_of({"PALACE_PATH": ""}) == str(load_settings({"PALACE_PATH": ""}).palace)


def test_the_command_line_wins_and_one_palace_has_one_path(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real")
    settings = load_settings({"PALACE_PATH": "/elsewhere"}, str(link))
    assert settings.palace == (tmp_path / "real").resolve()
