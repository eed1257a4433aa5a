"""Refusals of the bridge have the shape of the server's."""

from __future__ import annotations

import json

from mempalace_mcp.daemon.refusals import crash_loop, refuse


def test_refusals_have_the_shape_of_the_server() -> None:
    error = crash_loop("/palace")
    called = json.loads(refuse(b'{"jsonrpc":"2.0","id":"7","method":"tools/call","params":{"name":"x"}}', error) or b"")
    assert called["id"] == "7"
    assert called["result"]["isError"] is True
    assert called["result"]["structuredContent"] == json.loads(called["result"]["content"][0]["text"])
    assert set(called["result"]["structuredContent"]["error"]) >= {"code", "message", "argument", "hint", "retryable"}
    pinged = json.loads(refuse(b'{"jsonrpc":"2.0","id":7,"method":"ping"}', error) or b"")
    assert (pinged["id"], pinged["error"]["data"]["code"]) == (7, "busy")
    assert json.loads(refuse(b"garbage", error) or b"")["error"]["code"] == -32700
    assert refuse(b'{"jsonrpc":"2.0","method":"notifications/initialized"}', error) is None
