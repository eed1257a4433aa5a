from __future__ import annotations

import json
import threading

from hypothesis import given
from hypothesis import strategies as st

from mempalace_mcp.daemon.bridge import ProgressFilter
from mempalace_mcp.daemon.pending import ENTRY_BYTES, MAX_BYTES, PendingRequest, PendingRequests


def line(method: str, number: object = None, **params: object) -> bytes:
    message: dict[str, object] = {"jsonrpc": "2.0", "method": method, "params": params}
    return json.dumps(message if number is None else {**message, "id": number}).encode()


def sequences(pending: PendingRequests) -> list[int]:
    return [entry.sequence for entry in pending.in_flight()]


def send(pending: PendingRequests, *entries: PendingRequest) -> None:
    """All of them, or everything there is to send."""
    for entry in entries:
        pending.note_sent(entry)
    while not entries and pending.send_next(requests=True) is not None:
        pass


def test_what_is_settled_is_forgotten_and_the_rest_stays_in_order() -> None:
    pending = PendingRequests()
    for number in range(5):
        pending.add(line("tools/call", number))
    pending.settle(3)
    assert pending.settle(99) is None
    assert sequences(pending) == [1, 2, 4, 5]


def test_a_granted_handshake_is_told_the_next_daemon_under_numbers_of_its_own() -> None:
    pending = PendingRequests()
    for each in (line("initialize", "a"), line("notifications/initialized"), line("logging/setLevel", 1, level="info")):
        pending.settle(pending.add(each).sequence, b'{"result":{}}')
    waiting = pending.add(line("tools/call", 2))
    replayed = list(pending.replay())
    assert [entry.method for entry in replayed] == ["initialize", "notifications/initialized", "logging/setLevel"]
    assert all(entry.replayed and entry.sequence > waiting.sequence for entry in replayed)
    again = list(pending.replay())
    assert [entry.method for entry in again] == [entry.method for entry in replayed]
    assert sequences(pending) == [waiting.sequence, *(entry.sequence for entry in again)]


def test_what_was_refused_is_not_told_the_next_daemon() -> None:
    pending = PendingRequests()
    pending.settle(pending.add(line("initialize", 1)).sequence, b'{"error":{}}')
    assert not list(pending.replay())


def test_subscriptions_are_kept_until_they_end() -> None:
    pending = PendingRequests()
    for method, uri in (("subscribe", "a"), ("subscribe", "b"), ("unsubscribe", "a")):
        pending.settle(pending.add(line(f"resources/{method}", 1, uri=uri)).sequence, b'{"result":{}}')
    assert [entry.parameter("uri") for entry in pending.replay()] == ["b"]


def test_a_stream_stays_open_and_keeps_nobody_waiting() -> None:
    pending = PendingRequests()
    stream = pending.add(line("subscriptions/listen", "ear"))
    assert not stream.is_request
    assert pending.wait_until_empty(0)
    assert not pending.wait_until_needed(0)
    for _ in range(3):
        send(pending, stream)
        pending.requeue_after_death()
    assert (stream.deaths, stream.redelivered, stream.sent) == (0, True, False)
    assert sequences(pending) == [stream.sequence]
    pending.add(line("ping", 1))
    assert not pending.wait_until_empty(0)
    assert pending.wait_until_needed(0)


def test_what_is_repeated_is_marked_as_such() -> None:
    pending = PendingRequests()
    pending.settle(pending.add(line("resources/list", 1)).sequence, b'{"result":{}}')
    sent, waiting = pending.add(line("resources/subscribe", 2, uri="a")), pending.add(line("ping", 3))
    send(pending, sent)
    pending.requeue()
    assert (sent.redelivered, waiting.redelivered) == (True, False)
    assert [(entry.method, entry.redelivered) for entry in pending.replay()] == [("resources/list", True)]


def test_cancelled_requests_end_with_their_daemon_and_twins_of_another_type_do_not() -> None:
    pending = PendingRequests()
    text, number, long = (pending.add(each) for each in (line("tools/call", "7"), line("tools/call", 7), b""))
    long = pending.add(line("tools/call", "big", filler="x" * 100_000))
    send(pending)
    pending.add(line("notifications/cancelled", requestId=7))
    pending.add(line("notifications/cancelled", requestId="big"))
    pending.requeue_after_death()
    assert not number.sent
    assert long.cancelled
    assert sequences(pending) == [text.sequence, 3]
    assert text.deaths == 1


def test_a_request_that_is_cancelled_before_it_was_sent_is_never_sent() -> None:
    pending = PendingRequests()
    sent, requeue = pending.add(line("tools/call", 1)), pending.add(line("tools/call", 2))
    send(pending, sent)
    for number in (1, 2):
        pending.settle(pending.add(line("notifications/cancelled", requestId=number)).sequence)
    assert sequences(pending) == [sent.sequence]
    assert sent.cancelled
    assert pending.settle(requeue.sequence) is None
    pending.settle(sent.sequence)
    for number in (3, 4, 5):  # their bytes would fill it
        pending.add(line("tools/call", number, filler="x" * (MAX_BYTES // 2)))
        pending.settle(pending.add(line("notifications/cancelled", requestId=number)).sequence)
    assert pending.wait_until_empty(0)


def test_only_what_was_sent_has_died() -> None:
    pending = PendingRequests()
    sent, waiting = pending.add(line("ping", 1)), pending.add(line("ping", 2))
    send(pending, sent)
    sent.running_alone = True
    pending.requeue_after_death()
    assert (sent.deaths, sent.deaths_alone, waiting.deaths) == (1, 1, 0)
    assert not sent.sent
    send(pending, sent)
    pending.requeue()
    assert (sent.deaths, sent.deaths_alone) == (1, 1)


def test_a_full_queue_makes_the_client_wait() -> None:
    pending = PendingRequests()
    long = line("ping", 1, filler="x" * (MAX_BYTES // 2 - ENTRY_BYTES))
    for _ in range(2):
        pending.add(long)
    waiting = threading.Thread(target=pending.add, args=(line("ping", "late"),))
    waiting.start()
    assert sequences(pending) == [1, 2]
    own = pending.add(line("ping", "replayed"), replayed=True)
    for sequence in (1, own.sequence):
        pending.settle(sequence)
    waiting.join(10)
    assert sequences(pending) == [2, 4]
    assert not pending.wait_until_empty(0)


def test_many_short_messages_fill_it_too() -> None:
    pending = PendingRequests()
    for _ in range(MAX_BYTES // ENTRY_BYTES):
        pending.add(b"")
    waiting = threading.Thread(target=pending.add, args=(b"",), daemon=True)
    waiting.start()
    assert len(pending.in_flight()) == MAX_BYTES // ENTRY_BYTES
    pending.settle(1)
    waiting.join(10)
    assert not waiting.is_alive()


def test_what_is_no_request_overtakes_requests_that_wait_and_the_handshake_does_not() -> None:
    pending = PendingRequests()
    first = line("ping", 1), line("notifications/initialized"), line("notifications/roots/list_changed")
    for each in (*first, line("ping", 2), line("subscriptions/listen", 3)):
        pending.add(each)
    assert [entry.sequence for _ in range(3) if (entry := pending.send_next(requests=False))] == [3, 5]
    assert [entry.sequence for _ in range(4) if (entry := pending.send_next(requests=True))] == [1, 2, 4]
    assert pending.outstanding == 2
    pending.requeue()
    assert pending.outstanding == 0
    assert [entry.sequence for _ in range(6) if (entry := pending.send_next(requests=True))] == [1, 2, 3, 4, 5]
    for sequence in range(1, 6):
        pending.settle(sequence)
    assert (pending.outstanding, pending.is_empty) == (0, True)


def test_it_waits_as_long_as_something_happens() -> None:
    pending = PendingRequests()
    for number in range(3):
        pending.add(line("ping", number))
    assert not pending.drain(0)
    emptied: list[bool] = []
    waiting = threading.Thread(target=lambda: emptied.append(pending.drain(60)))
    waiting.start()
    for sequence in range(1, 4):
        pending.settle(sequence)
    waiting.join(10)
    assert emptied == [True]


@given(st.binary(max_size=60) | st.just(b"[" * 100_000) | st.just(b"[" * 50_000))
def test_nothing_a_client_sends_breaks_it(data: bytes) -> None:
    pending = PendingRequests()
    entry = pending.add(data)
    assert isinstance(entry.is_request, bool)
    pending.add(line("notifications/cancelled", requestId=1))
    pending.settle(entry.sequence, data)
    pending.requeue_after_death()


def progress(token: object, value: float) -> bytes:
    return line("notifications/progress", progressToken=token, progress=value)


def test_progress_only_goes_forward() -> None:
    progress_filter = ProgressFilter()
    seen = [progress_filter.passes(progress("a", value)) for value in (0.1, 0.5, 0.1, 0.5, 0.6)]
    assert seen == [True, True, False, False, True]
    assert progress_filter.passes(progress("b", 0.1))
    assert progress_filter.passes(progress(1, 0.2))
    assert progress_filter.passes(progress("1", 0.1))
    assert progress_filter.passes(line("notifications/tools/list_changed"))
    assert progress_filter.passes(b'"notifications/progress" is not JSON of that kind')


def test_progress_of_many_tokens_is_forgotten() -> None:
    progress_filter = ProgressFilter()
    assert all(progress_filter.passes(progress(token, 0.5)) for token in range(1000))
    assert progress_filter.passes(progress(0, 0.1))
    assert not progress_filter.passes(progress(999, 0.1))
