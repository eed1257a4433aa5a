from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mempalace_mcp.server.jsonrpc import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    MAX_DEPTH,
    MAX_VALUES,
    PARSE_ERROR,
    Message,
    Refusal,
    read_message,
)
from mempalace_mcp.server.lines import EDGE_BYTES, Overlong

CALL = b'{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":"echo","arguments":%s}}'


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def refused(data: bytes | Overlong) -> Refusal:
    result = read_message(data)
    assert isinstance(result, Refusal), result
    answer = json.loads(result.answer())
    assert answer["jsonrpc"] == "2.0"
    assert answer["error"]["code"] == result.code
    assert answer["error"]["message"]
    return result


def understood(data: bytes) -> Message:
    result = read_message(data)
    assert isinstance(result, Message), result
    return result


@pytest.mark.parametrize(
    ("data", "code", "request_id"),
    [
        (b"garbage", PARSE_ERROR, None),
        (b"{", PARSE_ERROR, None),
        (b'\xef\xbb\xbf{"jsonrpc":"2.0","id":3,"method":"ping"}', PARSE_ERROR, 3),
        (b'{"jsonrpc":"2.0","id":12', PARSE_ERROR, None),
        (b'{"jsonrpc":"2.0","id":12,"method":', PARSE_ERROR, 12),
        (b'{"jsonrpc":"2.0","id":"a\\"b","method":"x",}', PARSE_ERROR, 'a"b'),
        (b'{"params":{"id":1},"id": -7 , oops}', PARSE_ERROR, -7),
        (b'{"params":{"id":1}, oops}', PARSE_ERROR, None),
        (b'{"jsonrpc":"2.0","id":5,"method":"ping","params":{"a":' + nested(200_000) + b"}}", PARSE_ERROR, 5),
        (b"[" * 1_000_000, PARSE_ERROR, None),
        (b'["' + b"\\\\" * 200_000, PARSE_ERROR, None),
        (b'\\"' * 200_000 + b"[" * 200, PARSE_ERROR, None),
        (b"[" + b"[]," * 500_000, PARSE_ERROR, None),
        (b"[]", INVALID_REQUEST, None),
        (b'[1,{"jsonrpc":"2.0","method":"notifications/x"}]', INVALID_REQUEST, None),
        (b"1", INVALID_REQUEST, None),
        (b"null", INVALID_REQUEST, None),
        (b"{}", INVALID_REQUEST, None),
        (b'{"jsonrpc":"1.0","id":4,"method":"ping"}', INVALID_REQUEST, 4),
        (b'{"id":4,"method":"ping"}', INVALID_REQUEST, 4),
        (b'{"jsonrpc":"2.0","id":4}', INVALID_REQUEST, 4),
        (b'{"jsonrpc":"2.0","id":4,"method":7}', INVALID_REQUEST, 4),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', INVALID_REQUEST, 1.5),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', INVALID_REQUEST, None),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', INVALID_REQUEST, None),
        (b'{"jsonrpc":"2.0","id":[1],"method":"ping"}', INVALID_REQUEST, None),
        (b'{"jsonrpc":"2.0","id":18446744073709551616,"method":"ping"}', INVALID_REQUEST, None),
        (b'{"jsonrpc":"2.0","id":4,"method":"ping","params":[1]}', INVALID_PARAMS, 4),
        (b'{"jsonrpc":"2.0","id":4,"method":"ping","params":{"a":1e400}}', INVALID_REQUEST, 4),
        (b'{"jsonrpc":"2.0","id":4,"method":"ping","params":{"a":NaN}}', INVALID_REQUEST, 4),
        (b'{"jsonrpc":"2.0","id":4,"method":"p\\ud800"}', INVALID_REQUEST, 4),
        (b'{"jsonrpc":"2.0","id":"\\ud800","method":"ping"}', INVALID_REQUEST, "\ud800"),
        (b'{"jsonrpc":"2.0","id":4,"method":"\xff"}', INVALID_REQUEST, 4),
        (b'{"jsonrpc":"2.0","method":"notifications/x","params":{"a":1e400}}', INVALID_REQUEST, None),
        (b'{"jsonrpc":"2.0","id":4,"result":{"a":1e400}}', INVALID_REQUEST, None),
        (b'{"jsonrpc":"2.0","id":4,"result":null}', INVALID_REQUEST, None),
        (b'{"jsonrpc":"2.0","result":{}}', INVALID_REQUEST, None),
        (b'{"jsonrpc":"2.0","error":{"code":-1,"message":"no"}}', INVALID_REQUEST, None),
        (b'{"jsonrpc":"2.0","id":1.5,"result":{}}', INVALID_REQUEST, None),
        (b'{"jsonrpc":"2.0","id":4,"error":"no"}', INVALID_REQUEST, None),
        (b'{"jsonrpc":"2.0","id":4,"error":{"code":1.5,"message":"no"}}', INVALID_REQUEST, None),
        (
            b'{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"\\ud800","arguments":{}}}',
            INVALID_REQUEST,
            4,
        ),
    ],
)
def test_what_is_no_message_is_refused_with_the_id_that_can_be_told(data: bytes, code: int, request_id: Any) -> None:
    refusal = refused(data)
    assert (refusal.code, refusal.id) == (code, request_id)


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        (b'{"content":"a\\ud800b"}', "content"),
        (b'{"items":[{},{"content":"\\udfff"}]}', "items[1].content"),
        (b'{"limit":1e400}', "limit"),
        (b'{"limit":-1e999}', "limit"),
        (b'{"limit":NaN}', "limit"),
        (b'{"limit":-Infinity}', "limit"),
        (b'{"limit":9223372036854775808}', "limit"),
        (b'{"limit":' + b"9" * 5_000 + b"}", "limit"),
        (b'{"content":"\xff"}', "content"),
        (b'{"content":"\xed\xa0\x80"}', "content"),
        (b'{"\\ud800":1}', "arguments"),
        (b"[1]", "arguments"),
        (b"[]", "arguments"),
        (b"0", "arguments"),
        (b'"text"', "arguments"),
        (b"7", "arguments"),
        (b"true", "arguments"),
    ],
)
def test_arguments_at_fault_make_a_refused_tool_call(arguments: bytes, argument: str) -> None:
    message = understood(CALL % (b"9", arguments))
    assert message.fault is not None
    assert message.fault.argument == argument
    assert message.content["params"] == {"name": "echo", "arguments": {}}
    json.dumps(message.fault.as_dict(), ensure_ascii=False).encode()


@pytest.mark.parametrize(("params", "argument"), [(b"[]", "params"), (b"{}", "name"), (b'{"name":7}', "name")])
def test_a_tool_call_without_a_tool_is_refused_as_one(params: bytes, argument: str) -> None:
    message = understood(b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":%s}' % params)
    assert message.fault is not None
    assert message.fault.argument == argument


@pytest.mark.parametrize(
    "data",
    [
        CALL % (b"1", b'{"content":"\\ud83d\\ude00 \xc3\xa4 [[[ {{{"}'),
        CALL % (b'"a"', b"null"),
        CALL % (b"1", b'{"a":' + nested(MAX_DEPTH - 3) + b"}"),
        CALL % (b"1", b'{"a":"' + b"[" * 1000 + b'"}'),
        CALL % (b"1", b'{"a":[' + b"[]," * 1000 + b"1]}"),
        CALL % (b"1", b'{"a":9223372036854775807,"b":-9223372036854775808,"c":1.5e300,"d":0}'),
        b'{"jsonrpc":"2.0","id":1,"result":{}}',
        b'{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"no"}}',
        b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"what?"}}',
        b'{"jsonrpc":"2.0","method":"notifications/initialized"}',
        b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}',
        b' {"jsonrpc":"2.0","id":1,"method":"ping","params":null}\r',
    ],
)
def test_what_is_well_formed_arrives_as_it_was_sent(data: bytes) -> None:
    message = understood(data)
    assert message.fault is None
    assert message.content == json.loads(data)


def test_every_request_of_a_batch_is_refused() -> None:
    batch = b'[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","method":"x"},{"id":"7","method":"ping"}]'
    result = read_message(batch)
    assert isinstance(result, Refusal)
    answers = json.loads(result.answer())
    assert [answer["id"] for answer in answers] == [1, "7"]
    assert {answer["error"]["code"] for answer in answers} == {INVALID_REQUEST}


@pytest.mark.parametrize(("value", "values_inside"), [(b"[]", 1), (b"1", 1), (b'"a,["', 1), (b'{"b":{}}', 2)])
def test_more_values_than_anybody_needs_are_refused(value: bytes, values_inside: int) -> None:
    def message(count: int) -> bytes:
        return CALL % (b"1", b'{"a":[%s]}' % b",".join([value] * count))

    fitting = (MAX_VALUES - 20) // (1 + values_inside)
    assert understood(message(fitting)).fault is None
    assert f"{MAX_VALUES:,} values" in refused(message(2 * MAX_VALUES)).message
    assert refused(message(2 * MAX_VALUES)).id == 1


def test_a_long_text_counts_as_one_value() -> None:
    text = b"[{," * MAX_VALUES
    assert understood(CALL % (b"1", b'{"a":"%s"}' % text)).content["params"]["arguments"]["a"] == text.decode()


def test_one_level_too_deep_is_refused() -> None:
    assert refused(CALL % (b"1", b'{"a":' + nested(MAX_DEPTH - 2) + b"}")).id == 1


@pytest.mark.parametrize(
    ("head", "tail", "request_id"),
    [
        (b'{"jsonrpc":"2.0","id":8,"method":"x","params":{"a":"', b'xxx"}}', 8),
        (b'{"method":"x","params":{"a":"', b'xxx"},"jsonrpc":"2.0","id":"abc"}', "abc"),
        (b'{"method":"x","params":{"a":"', b'xxx"},"id":3,"jsonrpc":"2.0"} ', 3),
        (b'{"method":"x","params":{"a":"', b'xxx","id":3}}', None),
        (b'{"method":"x","params":{"a":"', b'xxx,\\"id\\":3}"}}', None),
        (b"x", b"x", None),
    ],
)
def test_a_message_too_long_is_answered_under_its_id(head: bytes, tail: bytes, request_id: Any) -> None:
    refusal = refused(Overlong(head + b"x" * (EDGE_BYTES - len(head)), b"x" * EDGE_BYTES + tail))
    assert (refusal.code, refusal.id) == (INVALID_REQUEST, request_id)


PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=5), children, max_size=4),
    max_leaves=12,
)


@PATIENT
@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4), st.booleans())
def test_any_well_formed_arguments_survive(arguments: dict[str, Any], ascii_only: bool) -> None:
    content = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": arguments}}
    message = understood(json.dumps(content, ensure_ascii=ascii_only).encode())
    assert message.fault is None
    assert message.content == content


@PATIENT
@given(st.binary(max_size=200))
def test_no_bytes_at_all_raise(data: bytes) -> None:
    read_message(data)


@PATIENT
@given(st.data())
def test_damage_behind_the_id_does_not_lose_it(data: st.DataObject) -> None:
    whole = CALL % (b"424242", b'{"text":"some text, {[ \\" and more"}')
    start = whole.index(b'"method"')
    position = data.draw(st.integers(start, len(whole) - 1))
    removed = data.draw(st.integers(0, 3))
    result = read_message(whole[:position] + data.draw(st.binary(max_size=3)) + whole[position + removed :])
    recovered = result.id if isinstance(result, Refusal) else result.content["id"]
    assert recovered == 424242
