"""`search` and `status`: what a person asks the palace without an agent."""

from __future__ import annotations

import json
from typing import Any

from mempalace_mcp.cli import show
from mempalace_mcp.core.config import Settings
from mempalace_mcp.core.deadline import COMMAND_SECONDS, Deadline
from mempalace_mcp.core.errors import Busy, Forbidden
from mempalace_mcp.process import control
from mempalace_mcp.protocol.tools.table import build_tools
from mempalace_mcp.runtime.app import App, open_app
from mempalace_mcp.runtime.context import AppContext
from mempalace_mcp.runtime.reasons import Status

MODEL_SECONDS = 30.0


def search(settings: Settings, query: str, mode: str, as_json: bool, **filters: Any) -> str:
    """Search once, as the tool does; waits for the model so that meaning takes part."""
    arguments = {"query": query, "mode": mode} | {key: value for key, value in filters.items() if value is not None}
    with open_app(settings) as app:
        app.embedder.start()
        app.embedder.wait(MODEL_SECONDS)
        answer = build_tools().call(AppContext(app), "search", arguments, Deadline(COMMAND_SECONDS))
    return json.dumps(answer, ensure_ascii=False) if as_json else found(answer)


def found(answer: dict[str, Any]) -> str:
    """Hits as a person reads them."""
    if not answer["results"]:
        return "Nothing found."
    told = [_hit(rank, hit) for rank, hit in enumerate(answer["results"], 1)]
    if answer["degraded"]:
        told.append(f"Note: {answer['degraded']}.")
    if answer["pending"]:
        told.append(f"Note: {show.count(answer['pending'], 'passage')} yet to be embedded; searched by words alone.")
    return "\n\n".join(told)


def status(settings: Settings, as_json: bool) -> str:
    """What the palace holds, and how the process that serves it fares; only without one, how this process does."""
    with open_app(settings) as app:
        told = _seen_by(_daemon(settings), app.status())
        return json.dumps(told, ensure_ascii=False) if as_json else _status(app, told)


def _seen_by(daemon: dict[str, Any] | None, own: dict[str, Any]) -> dict[str, Any]:
    """Sizes are ours, they are on the disk; the rest is the daemon's, as far as it tells."""
    if daemon is None or "error" in daemon:
        if daemon is not None:  # nobody knows how the sessions fare that it serves
            own = {**own, "status": _worse(own["status"]), "reasons": [_of_silence(daemon), *own["reasons"]]}
        return {**own, "daemon": daemon, "reported_by": {"pid": own["process"]["pid"], "daemon": False}}
    seen = dict(daemon.pop("view", ()))
    zone = {"timezone": seen.pop("timezone")} if "timezone" in seen else {}
    if not seen:  # an older version
        health = daemon["health"]
        reasons = [f"{reason['code']}: {reason['message']}. {reason['remedy']}" for reason in health["reasons"]]
        process = {"pid": daemon["pid"], "uptime_seconds": daemon["uptime_seconds"]}
        seen = {"status": health["status"], "reasons": reasons, "version": daemon["version"], "process": process}
    reported = {"pid": daemon["pid"], "daemon": True}
    return {**own, **seen, "palace": own["palace"] | zone, "daemon": daemon, "reported_by": reported}


def _worse(status: str) -> str:
    return Status.DEGRADED.value if status == Status.OK else status


def _of_silence(daemon: dict[str, Any]) -> str:
    return f"daemon_silent: {daemon['error']}. {daemon['hint'] or ''}".rstrip()


def _status(app: App, told: dict[str, Any]) -> str:
    palace, index = told["palace"], told["index"]
    wings, rooms = show.count(palace["wings"], "wing"), show.count(palace["rooms"], "room")
    lines = [
        f"palace    {palace['path']}",
        f"drawers   {palace['drawers']:,} in {wings} and {rooms}",
        f"facts     {palace['facts']:,} about {show.count(palace['entities'], 'entity', 'entities')}",
        f"pending   {show.count(palace['pending'], 'passage')} to embed",
        f"files     {show.size(palace['database_bytes'])} and {show.size(palace['wal_bytes'] or 0)} of write-ahead log",
        f"index     {index['mode']}",
        f"model     {palace['model'] or 'none yet'}",
        f"zone      {palace['timezone']}",
        f"daemon    {_serving(told['daemon'])}",
        f"health    {told['status']}, {_witness(told)}"
        + "".join(f"\n          {reason}" for reason in told["reasons"]),
    ]
    counts = [(room.wing, room.room, room.drawers) for room in app.palace.get_taxonomy().rooms]
    return "\n".join(lines) + (f"\n\n{show.table(('wing', 'room', 'drawers'), counts)}" if counts else "")


def _daemon(settings: Settings) -> dict[str, Any] | None:
    """The process behind the palace's sessions, if there is one that answers."""
    try:
        return control.describe(settings.palace)
    except (Busy, Forbidden) as error:
        return {"error": error.message, "hint": error.hint}


def _witness(told: dict[str, Any]) -> str:
    """Who says so."""
    reporter = told["reported_by"]
    return f"as process {reporter['pid']} says, {'the daemon' if reporter['daemon'] else 'this command'}"


def _serving(daemon: dict[str, Any] | None) -> str:
    if daemon is None:
        return "none is running"
    if "error" in daemon:
        return str(daemon["error"])
    lasted = show.duration(daemon["uptime_seconds"])
    return f"process {daemon['pid']}, version {daemon['version']}, {len(daemon['sessions'])} sessions, for {lasted}"


def _hit(rank: int, hit: dict[str, Any]) -> str:
    when = (hit.get("occurred_at") or hit["created_at"])[:10]
    source = f" · {hit['source_file']}" if hit.get("source_file") else ""
    head = f"{rank}. {hit['wing']} / {hit['room']} · {when}{source} · score {hit['score']:.2f} · {hit['drawer_id']}"
    return f"{show.harmless(head)}\n{show.passage(hit['passage'])}"
