"""`doctor`: what is wrong with a palace, what to do about it, and with `--fix` the part of that which is safe."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from mempalace_mcp.cli import show
from mempalace_mcp.cli.diagnosis.daemon import examine_daemon, patient_of
from mempalace_mcp.cli.diagnosis.files import examine_files
from mempalace_mcp.cli.diagnosis.finding import Examination, Finding
from mempalace_mcp.cli.diagnosis.truth import examine_truth
from mempalace_mcp.cli.diagnosis.vectors import examine_vectors
from mempalace_mcp.core.config import Settings
from mempalace_mcp.core.errors import PalaceError

EXAMINATIONS: tuple[Examination, ...] = (examine_files, examine_truth, examine_vectors, examine_daemon)


@dataclass(frozen=True, slots=True)
class Treated:
    """A finding and what was done: `mended` tells how, `failed` why not; neither if nothing was tried."""

    finding: Finding
    mended: str | None = None
    failed: str | None = None


def doctor(settings: Settings, fix: bool, as_json: bool) -> tuple[str, bool]:
    """What to tell, and whether the palace is well now."""
    treated = [_treat(finding) if fix else Treated(finding) for finding in _examine(settings)]
    well = all(each.mended is not None for each in treated)
    if as_json:
        told = {"palace": str(settings.palace), "well": well, "sqlite": sqlite3.sqlite_version}
        return json.dumps(told | {"findings": [_as_json(each) for each in treated]}, ensure_ascii=False), well
    verdict = f"{settings.palace} is well." if well else f"{settings.palace} needs you."
    return "\n\n".join([*map(_as_text, treated), verdict]), well


def _examine(settings: Settings) -> Iterator[Finding]:
    """Everything, each code once: what the daemon says as well is what we have seen."""
    patient, seen = patient_of(settings), set[str]()
    for examine in EXAMINATIONS:
        for finding in examine(patient):
            if finding.code not in seen:
                seen.add(finding.code)
                yield finding


def _treat(finding: Finding) -> Treated:
    if finding.repair is None:
        return Treated(finding)
    try:
        return Treated(finding, mended=finding.repair())
    except PalaceError as error:
        return Treated(finding, failed=error.message)
    except OSError as error:
        return Treated(finding, failed=str(error))


def _as_json(treated: Treated) -> dict[str, str | None]:
    finding = treated.finding
    told = {"code": finding.code, "message": finding.message, "remedy": finding.remedy}
    return {**told, "mended": treated.mended, "failed": treated.failed}


def _as_text(treated: Treated) -> str:
    finding = treated.finding
    lines = [f"{finding.code}: {show.harmless(finding.message)}"]
    if treated.failed is not None:
        lines.append(f"could not be mended: {show.harmless(treated.failed)}")
    lines.append(finding.remedy if treated.mended is None else f"mended: {show.harmless(treated.mended)}")
    return f"\n{show.INDENT}".join(lines)
