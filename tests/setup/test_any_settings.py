"""Settings of any shape: setup changes them or says why not, never anything else, and undo restores them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mempalace_mcp.setup.changes import make
from mempalace_mcp.setup.formats import SettingsFault
from mempalace_mcp.setup.journal import Journal
from tests.setup.support import machine, planned, snapshot, undo, write

NAMES = ["mcpServers", "servers", "context_servers", "mcp", "hooks", "mempalace", "Stop", "stop", "SessionStart"]
NAMES += ["command", "args", "enabledPlugins", "plugins", "version", "matcher", "other"]
WORDS = ["mempalace-mcp", "mempalace-mcp hook claude-code", "/x/mempalace-mcp hook cursor", "other", ""]
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)
FILES = {
    "claude-code": [".claude.json", ".claude/settings.json", ".claude/plugins/installed_plugins.json"],
    "cursor": [".cursor/mcp.json", ".cursor/hooks.json"],
    "gemini": [".gemini/settings.json", ".gemini/extensions/x/gemini-extension.json"],
    "opencode": [".config/opencode/opencode.json"],
    "zed": [".config/zed/settings.json"],
    "goose": [".config/goose/config.yaml"],
    "vscode": [".config/Code/User/mcp.json", ".copilot/hooks/mempalace-vscode.json"],
}


@pytest.mark.parametrize("client", FILES)
@settings(max_examples=25)
@given(st.data())
def test_settings_of_any_shape_are_changed_and_restored(client: str, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        on = machine(Path(folder).resolve() / "home")
        for name in FILES[client]:
            write(on.home / name, json.dumps(data.draw(VALUES), indent=data.draw(st.sampled_from([None, 2, "\t"]))))
        before = snapshot(on.home)
        is_forced = data.draw(st.booleans())
        for plan in planned(on, client, force=is_forced):
            for step in plan.steps:
                make(on, step, Journal(on))  # what was planned can be done
        again = [step for plan in planned(on, client, force=is_forced) for step in plan.steps]
        assert not again
        assert all(each.outcome != "left" for each in undo(on))
        assert snapshot(on.home) == before


@pytest.mark.parametrize("client", FILES)
@settings(max_examples=25)
@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:/*\n\r\t #-a1\\', max_size=60).map(str.encode))
def test_what_is_no_settings_at_all_is_left_as_it_is(client: str, noise: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        on = machine(Path(folder).resolve() / "home")
        for name in FILES[client]:
            file = on.home / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(noise)
        before = snapshot(on.home)
        for plan in planned(on, client):
            for step in (plan.server, plan.hooks):
                if step is not None and step.state == "fault":
                    with pytest.raises(SettingsFault):
                        make(on, step, Journal(on))
        assert snapshot(on.home) == before
