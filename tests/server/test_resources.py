"""The palace as resources, as a client sees them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mempalace_mcp.core.call_context import Principal
from mempalace_mcp.runtime.activity import Outcome
from mempalace_mcp.server.resources import PAGE, PROVENANCE
from mempalace_mcp.server.subscriptions import write_uri
from tests.server.clients import HANDSHAKE_REVISIONS, modern, request
from tests.server.stream import palace_session, served

WING, ROOM = "Straße / 100 %", "日本 ..?#"
TEXT = "  A text\nkept byte for byte: ä 🌍\t\r\n"


async def test_a_drawer_is_read_verbatim_with_its_provenance(tmp_path: Path) -> None:
    async with palace_session(tmp_path) as wire:
        filed = wire.palace.add_drawer(
            WING, ROOM, TEXT, source_file="/notes/a.MD", occurred_at="2026-05-08", metadata={"k": [1]}
        )
        uri = write_uri(WING, ROOM, filed.drawer_id)
        [contents] = (await wire.result("resources/read", uri=uri))["contents"]
        assert (contents["uri"], contents["text"], contents["mimeType"]) == (uri, TEXT, "text/markdown")
        known = contents["_meta"][PROVENANCE]
        assert (known["wing"], known["room"], known["source_file"], known["metadata"], known["version"]) == (
            WING,
            ROOM,
            "/notes/a.MD",
            {"k": [1]},
            1,
        )
        assert known["occurred_at"].startswith("2026-05-08")
        assert "content" not in known


async def test_rooms_and_wings_list_what_is_in_them(tmp_path: Path) -> None:
    async with palace_session(tmp_path) as wire:
        ids = [wire.palace.add_drawer(WING, ROOM, f"text {number}").drawer_id for number in range(3)]
        wire.palace.add_drawer(WING, "other", "text")
        [contents] = (await wire.result("resources/read", uri=write_uri(WING.upper(), ROOM)))["contents"]
        assert contents["mimeType"] == "application/json"
        room = json.loads(contents["text"])
        assert (room["wing"], room["room"], room["drawers"]) == (WING, ROOM, 3)
        assert [drawer["drawer_id"] for drawer in room["newest"]] == ids[::-1]
        for drawer in room["newest"]:
            assert (await wire.result("resources/read", uri=drawer["uri"]))["contents"][0]["text"] == drawer["preview"]
        wing = json.loads((await wire.result("resources/read", uri=write_uri(WING)))["contents"][0]["text"])
        assert (wing["wing"], wing["drawers"]) == (WING, 4)
        assert {room["room"]: room["drawers"] for room in wing["rooms"]} == {ROOM: 3, "other": 1}
        assert wing["rooms"][1]["uri"] == write_uri(WING, ROOM)


async def test_drawers_are_listed_newest_first_page_by_page(tmp_path: Path) -> None:
    async with palace_session(tmp_path) as wire:
        items = [{"wing": "w", "room": "r", "content": f"Title {number}\nand more"} for number in range(PAGE + 3)]
        ids = [item.id for item in wire.palace.checkpoint(items).drawers]
        first = await wire.result("resources/list")
        second = await wire.result("resources/list", cursor=first["nextCursor"])
        assert (len(first["resources"]), len(second["resources"]), second.get("nextCursor")) == (PAGE, 3, None)
        listed = [*first["resources"], *second["resources"]]
        assert [resource["name"] for resource in listed] == ids[::-1]
        newest = listed[0]
        assert (newest["title"], newest["description"]) == (f"Title {PAGE + 2}", "w / r")
        assert (newest["mimeType"], newest["size"]) == ("text/plain", len(items[-1]["content"]))
        assert newest["annotations"]["lastModified"]
        read = await wire.result("resources/read", uri=newest["uri"])
        assert read["contents"][0]["text"] == items[-1]["content"]
        error = await wire.error("resources/list", cursor="bad")
        assert (error["code"], error["data"]["argument"]) == (-32602, "cursor")


async def test_templates_name_every_kind_of_place(tmp_path: Path) -> None:
    async with palace_session(tmp_path) as wire:
        templates = (await wire.result("resources/templates/list"))["resourceTemplates"]
        assert [template["uriTemplate"] for template in templates] == [
            "palace://{wing}",
            "palace://{wing}/{room}",
            "palace://{wing}/{room}/{drawer}",
        ]
        page = (Path(__file__).parents[2] / "docs" / "resources.md").read_text(encoding="utf-8")
        assert all(f"`{template['uriTemplate']}`" in page for template in templates)
        assert (await wire.error("resources/templates/list", cursor="x"))["code"] == -32602


MISSING = ("palace://nowhere", "palace://w/nowhere", "palace://w/r/d_0", "file:///etc/passwd", "")


async def test_what_is_not_there_is_named_as_the_revision_wants_it(tmp_path: Path) -> None:
    async with palace_session(tmp_path) as wire:
        wire.palace.add_drawer("w", "r", "text")
        for uri in MISSING:
            error = await wire.error("resources/read", uri=uri)
            assert (error["code"], error["data"]["uri"]) == (-32002, uri)
            assert error["data"]["hint"]
    async with palace_session(tmp_path, greeted=False) as wire:
        for uri in MISSING:
            error = (await wire.ask(modern(request(1, "resources/read", uri=uri))))["error"]
            assert (error["code"], error["data"]["uri"]) == (-32602, uri)


async def test_every_revision_reads_them(tmp_path: Path) -> None:
    async with palace_session(tmp_path, greeted=False) as wire:
        uri = write_uri("w", "r", wire.palace.add_drawer("w", "r", "text").drawer_id)
        for revision in HANDSHAKE_REVISIONS:
            async with served(wire.services) as session:
                capabilities = (await session.greet(revision))["result"]["capabilities"]
                assert {"tools", "resources", "prompts"} <= set(capabilities)
                assert (await session.result("resources/read", uri=uri))["contents"][0]["text"] == "text"
                assert (await session.result("resources/list"))["resources"][0]["uri"] == uri
                assert (await session.error("resources/read", uri="palace://no"))["code"] == -32002


async def test_the_last_revision_reads_them_too(tmp_path: Path) -> None:
    async with palace_session(tmp_path, greeted=False) as wire:
        drawer = wire.palace.add_drawer("w", "r", "text").drawer_id
        uri = write_uri("w", "r", drawer)
        result = (await wire.ask(modern(request(1, "resources/read", uri=uri))))["result"]
        assert (result["contents"][0]["text"], result["resultType"]) == ("text", "complete")
        assert result["contents"][0]["_meta"][PROVENANCE]["drawer_id"] == drawer


async def test_a_caller_limited_to_wings_finds_no_other(tmp_path: Path) -> None:
    async with palace_session(tmp_path, access=Principal(wings=("mine",))) as wire:
        mine = wire.palace.add_drawer("Mine", "r", "my text").drawer_id
        other = wire.palace.add_drawer("Other", "r", "their text").drawer_id
        listed = (await wire.result("resources/list"))["resources"]
        assert [resource["name"] for resource in listed] == [mine]
        for uri in (
            "palace://Other",
            "palace://Other/r",
            write_uri("Other", "r", other),
            write_uri("Mine", "r", other),
        ):
            assert (await wire.error("resources/read", uri=uri))["code"] == -32002
        assert (await wire.result("resources/read", uri=write_uri("mine", "r", mine)))["contents"][0][
            "text"
        ] == "my text"


async def test_they_are_counted_by_method_and_a_mistake_of_ours_shows_no_more_than_its_kind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with palace_session(tmp_path) as wire:
        wire.palace.add_drawer("w", "r", "text")
        await wire.result("resources/read", uri="palace://w")
        await wire.error("resources/read", uri="palace://secret name")
        wire.app.database.close()
        error = await wire.error("resources/list")
        assert error["code"] == -32603
        records = list(wire.activity.history)
        assert [(record.tool, record.outcome) for record in records] == [
            ("resources/read", Outcome.OK),
            ("resources/read", Outcome.REFUSED),
            ("resources/list", Outcome.REFUSED),
        ]
        assert records[0].bytes_out > 50


async def test_what_is_too_large_to_be_answered_is_refused_with_a_remedy(tmp_path: Path) -> None:
    async with palace_session(tmp_path) as wire:
        drawer = wire.palace.add_drawer("w", "r", "\x01" * (1024 * 1024)).drawer_id
        error = await wire.error("resources/read", uri=write_uri("w", "r", drawer))
        assert "limit" in error["message"]
        assert error["data"]["hint"]


async def test_a_wing_of_many_rooms_lists_the_largest_and_says_so(tmp_path: Path) -> None:
    async with palace_session(tmp_path) as wire:
        for start in (0, 300):
            rooms = range(start, start + 300)
            wire.palace.checkpoint([{"wing": "W", "room": f"room {room}", "content": "A page."} for room in rooms])
        wire.palace.add_drawer("W", "room 599", "Another page.")
        text = (await wire.result("resources/read", uri="palace://W"))["contents"][0]["text"]
        shown = json.loads(text)
        assert (shown["drawers"], len(shown["rooms"]), shown["truncated"]) == (601, 500, True)
        assert "room 599" in [room["room"] for room in shown["rooms"]]
