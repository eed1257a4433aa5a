"""How fast files become searchable: `import` without the command line, in this process."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"

from mempalace_mcp.core.config import load_settings
from mempalace_mcp.palace.import_report import ImportSummary
from mempalace_mcp.runtime.app import App, open_app


def chunks(app: App) -> int:
    """Passages in the palace."""
    with app.database.read() as connection:
        return int(connection.execute("SELECT count(*) FROM chunks").fetchone()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path, help="files and folders to import")
    options = parser.parse_args()
    summary = ImportSummary()
    with tempfile.TemporaryDirectory() as scratch, open_app(load_settings({}, scratch)) as app:
        app.start()
        app.embedder.wait()
        started = time.perf_counter()
        for step in app.palace.import_paths(options.paths):
            summary.add(step)
        filed = time.perf_counter() - started
        app.wait_until_indexed()
        indexed = time.perf_counter() - started
        count = chunks(app)
    told = summary.as_dict(complete=True)
    print(f"{told['files']} files, {told['filed']} drawers, {told['characters']:,} characters, {count} passages")
    print(f"filed in {filed:.2f} s ({told['filed'] / filed:.0f} drawers/s), by words searchable from then on")
    print(f"embedded in {indexed:.2f} s ({count / indexed:.0f} passages/s)")


if __name__ == "__main__":
    main()
