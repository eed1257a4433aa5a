"""The machine that is set up, as values: its kind of system and its environment. Tests give others than this one's."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mempalace_mcp.core import platform

PROGRAM = "mempalace-mcp"


@dataclass(frozen=True, slots=True)
class Machine:
    """Where programs are and where they keep their settings. `system` is `linux`, `macos` or `windows`."""

    system: str
    environment: Mapping[str, str]

    @classmethod
    def this(cls) -> Machine:
        """The machine of this process."""
        return cls(platform.SYSTEM, os.environ)

    @property
    def home(self) -> Path:
        """The user's home directory."""
        home = self.environment.get("USERPROFILE" if self.system == "windows" else "HOME")
        return Path(home) if home else Path.home()

    def path(self, template: str) -> Path:
        """A path out of a table: `~` and the names of folders in braces, see `folders`, are replaced."""
        path = template.format_map(self.folders())
        return Path(f"{self.home}{path[1:]}" if path.startswith("~") else path)

    def folders(self) -> dict[str, str]:
        """The folders in which programs keep their settings, as their own variables say.

        `config` is that of programs for the terminal, `apps` that of programs with a window.
        """
        config = self._of("XDG_CONFIG_HOME", self.home / ".config")
        roaming = self._of("APPDATA", self.home / "AppData" / "Roaming")
        apps = {"windows": roaming, "macos": str(self.home / "Library" / "Application Support")}
        claude = self.environment.get("CLAUDE_CONFIG_DIR", "")
        opencode = self._of("OPENCODE_CONFIG_DIR", Path(config) / "opencode")
        return {
            "config": config,
            "apps": apps.get(self.system, config),
            "local": self._of("LOCALAPPDATA", self.home / "AppData" / "Local"),
            "claude": claude or str(self.home / ".claude"),
            "claude_json": str(Path(claude or self.home) / ".claude.json"),
            "codex": self._of("CODEX_HOME", self.home / ".codex"),
            "gemini": str(Path(self._of("GEMINI_CLI_HOME", self.home)) / ".gemini"),
            "copilot": self._of("COPILOT_HOME", self.home / ".copilot"),
            "opencode": opencode,
            "opencode_json": self._of("OPENCODE_CONFIG", _present(Path(opencode), "opencode.json", "opencode.jsonc")),
            "goose": str(
                Path(roaming) / "Block" / "goose" / "config" if self.system == "windows" else f"{config}/goose"
            ),
            "zed": {"windows": f"{roaming}/Zed", "macos": "~/.config/zed"}.get(self.system, f"{config}/zed"),
            "lmstudio": str(self._lmstudio()),
        }

    def which(self, program: str) -> str | None:
        """The absolute path of a program on the path of this machine, None if it is not there."""
        found = shutil.which(program, path=self.environment.get("PATH", ""))
        return None if found is None else os.path.abspath(found)  # noqa: PTH100 - links stay: they outlive upgrades

    def own_command(self) -> tuple[str, ...]:
        """The command that starts this program, for programs that do not have the shell's path."""
        found = self.which(PROGRAM)
        return (found,) if found else (sys.executable, "-m", "mempalace_mcp")

    def _of(self, variable: str, default: Path) -> str:
        return self.environment.get(variable, "").strip() or str(default)

    def _lmstudio(self) -> Path:
        """LM Studio writes into a file of the home directory which folder is its own."""
        try:
            pointed = (self.home / ".lmstudio-home-pointer").read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            pointed = ""
        older = self.home / ".cache" / "lm-studio"
        if pointed:
            return Path(pointed)
        return older if older.is_dir() else self.home / ".lmstudio"


def _present(folder: Path, *names: str) -> Path:
    """The first of the files that is there, else the first."""
    return next((folder / name for name in names if (folder / name).exists()), folder / names[0])
