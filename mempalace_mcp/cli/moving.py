"""Moves a palace to another embedding model while sessions work with it: `mempalace-mcp reindex --model minilm`."""

from __future__ import annotations

import json
import time

from mempalace_mcp.cli import output
from mempalace_mcp.cli.output import Interrupts, Progress
from mempalace_mcp.core.call_context import COMMAND_SECONDS, Deadline
from mempalace_mcp.core.config import Settings
from mempalace_mcp.core.errors import StorageError, StorageFull
from mempalace_mcp.core.model import ModelStamp
from mempalace_mcp.embedding.models import MODELS, model_of
from mempalace_mcp.runtime.app import App, open_app
from mempalace_mcp.runtime.health import Limits
from mempalace_mcp.storage.model_moves import MoveProgress, begin_move, move_progress

LOOK_SECONDS = 0.5
BYTES_A_NUMBER = 4
OVERHEAD = 1.5
"""A vector, its row and its entry in the index of chunks, as a multiple of the vector's numbers."""


def move_model(settings: Settings, name: str, as_json: bool) -> str:
    """Embed every text with a model, and let its vectors answer when they are complete.

    The process that embeds for the palace does it: its daemon, or this one. What is done is kept: after an interrupt
    the move goes on with the next process that embeds.

    Raises:
        StorageFull: there is no room for the new vectors.
        StorageError: they could not be stored.
    """
    stamp = MODELS[name].stamp
    with open_app(settings) as app, Interrupts() as interrupts:
        _verify_room(app, stamp)
        begun = app.stores.writer.write(lambda tx: begin_move(tx, stamp), Deadline(COMMAND_SECONDS))
        if begun:
            app.embedder.start()
            app.indexer.start()
            _wait(app, interrupts, show_progress=not as_json)
        with app.database.read() as connection:
            present = app.stores.drawers.model_stamp(connection)
    if as_json:
        return json.dumps({"model": _shown(present), "moved": begun and present == stamp})
    if not begun:
        return f"The palace has the model {_shown(present)} already, and stays with it."
    if present != stamp:
        return f"The move was ended by another command: the palace has the model {_shown(present)}."
    return f"The palace has moved to the model {_shown(present)}. Sessions use it from their next search on."


def _verify_room(app: App, stamp: ModelStamp) -> None:
    with app.database.read() as connection:
        (chunks,) = connection.execute("SELECT count(*) FROM vectors").fetchone()
    needed = round(chunks * stamp.dimension * BYTES_A_NUMBER * OVERHEAD)
    free = app.database.free_bytes()
    if free is not None and free < needed + Limits().free_bytes:
        raise StorageFull(
            f"the new vectors need {output.size(needed)}, and {output.size(free)} are left on the palace's disk",
            hint="Free some space and run the command again. The palace keeps the model it has.",
        )


def _wait(app: App, interrupts: Interrupts, *, show_progress: bool) -> None:
    """Show the progress until the move is done or ended, then wait until all is indexed."""
    with Progress("embedding", enabled=show_progress) as progress:
        while (move := _progress(app)) is not None:
            progress.show(move.done, move.total)
            interrupts.check()
            indexer = app.indexer.statistics()
            if indexer.failures >= Limits().indexer_failures:
                raise StorageError(
                    f"the move has stopped at {move.done:,} of {move.total:,} passages: {indexer.last_error}",
                    hint="The former vectors answer meanwhile. Run the command again: it goes on where it stopped.",
                )
            time.sleep(LOOK_SECONDS)
    with Progress("indexing", enabled=show_progress) as progress:
        app.wait_until_indexed(progress.show, interrupts.check)


def _progress(app: App) -> MoveProgress | None:
    with app.database.read() as connection:
        return move_progress(connection)


def _shown(stamp: ModelStamp | None) -> str | None:
    if stamp is None:
        return None
    model = model_of(stamp)
    return model.name if model else stamp.name
