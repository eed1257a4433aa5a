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


def sequences(journal: PendingRequests) -> list[int]:
    return [entry.sequence for entry in journal.in_flight()]


def send(journal: PendingRequests, *entries: PendingRequest) -> None:
    """All of them, or everything there is to send."""
    for entry in entries:
        journal.note_sent(entry)
    while not entries and journal.send_next(ask=True) is not None:
        pass


def test_what_is_settled_is_forgotten_and_the_rest_stays_in_order() -> None:
    journal = PendingRequests()
    for number in range(5):
        journal.add(line("tools/call", number))
    journal.settle(3)
    assert journal.settle(99) is None
    assert sequences(journal) == [1, 2, 4, 5]


def test_a_granted_handshake_is_told_the_next_daemon_under_numbers_of_its_own() -> None:
    journal = PendingRequests()
    for each in (line("initialize", "a"), line("notifications/initialized"), line("logging/setLevel", 1, level="info")):
        journal.settle(journal.add(each).sequence, b'{"result":{}}')
    waiting = journal.add(line("tools/call", 2))
    replayed = list(journal.replay())
    assert [entry.method for entry in replayed] == ["initialize", "notifications/initialized", "logging/setLevel"]
    assert all(entry.own and entry.sequence > waiting.sequence for entry in replayed)
    again = list(journal.replay())
    assert [entry.method for entry in again] == [entry.method for entry in replayed]
    assert sequences(journal) == [waiting.sequence, *(entry.sequence for entry in again)]


def test_what_was_refused_is_not_told_the_next_daemon() -> None:
    journal = PendingRequests()
    journal.settle(journal.add(line("initialize", 1)).sequence, b'{"error":{}}')
    assert not list(journal.replay())


def test_subscriptions_are_kept_until_they_end() -> None:
    journal = PendingRequests()
    for method, uri in (("subscribe", "a"), ("subscribe", "b"), ("unsubscribe", "a")):
        journal.settle(journal.add(line(f"resources/{method}", 1, uri=uri)).sequence, b'{"result":{}}')
    assert [entry.parameter("uri") for entry in journal.replay()] == ["b"]


def test_a_stream_stays_open_and_keeps_nobody_waiting() -> None:
    journal = PendingRequests()
    stream = journal.add(line("subscriptions/listen", "ear"))
    assert not stream.is_request
    assert journal.wait_until_empty(0)
    assert not journal.wait_until_needed(0)
    for _ in range(3):
        send(journal, stream)
        journal.lost()
    assert (stream.deaths, stream.again, stream.sent) == (0, True, False)
    assert sequences(journal) == [stream.sequence]
    journal.add(line("ping", 1))
    assert not journal.wait_until_empty(0)
    assert journal.wait_until_needed(0)


def test_what_is_repeated_is_marked_as_such() -> None:
    journal = PendingRequests()
    journal.settle(journal.add(line("resources/list", 1)).sequence, b'{"result":{}}')
    sent, waiting = journal.add(line("resources/subscribe", 2, uri="a")), journal.add(line("ping", 3))
    send(journal, sent)
    journal.unsent()
    assert (sent.again, waiting.again) == (True, False)
    assert [(entry.method, entry.again) for entry in journal.replay()] == [("resources/list", True)]


def test_cancelled_requests_end_with_their_daemon_and_twins_of_another_type_do_not() -> None:
    journal = PendingRequests()
    text, number, long = (journal.add(each) for each in (line("tools/call", "7"), line("tools/call", 7), b""))
    long = journal.add(line("tools/call", "big", filler="x" * 100_000))
    send(journal)
    journal.add(line("notifications/cancelled", requestId=7))
    journal.add(line("notifications/cancelled", requestId="big"))
    journal.lost()
    assert not number.sent
    assert long.cancelled
    assert sequences(journal) == [text.sequence, 3]
    assert text.deaths == 1


def test_a_request_that_is_cancelled_before_it_was_sent_is_never_sent() -> None:
    journal = PendingRequests()
    sent, unsent = journal.add(line("tools/call", 1)), journal.add(line("tools/call", 2))
    send(journal, sent)
    for number in (1, 2):
        journal.settle(journal.add(line("notifications/cancelled", requestId=number)).sequence)
    assert sequences(journal) == [sent.sequence]
    assert sent.cancelled
    assert journal.settle(unsent.sequence) is None
    journal.settle(sent.sequence)
    for number in (3, 4, 5):  # their bytes would fill it
        journal.add(line("tools/call", number, filler="x" * (MAX_BYTES // 2)))
        journal.settle(journal.add(line("notifications/cancelled", requestId=number)).sequence)
    assert journal.wait_until_empty(0)


def test_only_what_was_sent_has_died() -> None:
    journal = PendingRequests()
    sent, waiting = journal.add(line("ping", 1)), journal.add(line("ping", 2))
    send(journal, sent)
    sent.alone = True
    journal.lost()
    assert (sent.deaths, sent.deaths_alone, waiting.deaths) == (1, 1, 0)
    assert not sent.sent
    send(journal, sent)
    journal.unsent()
    assert (sent.deaths, sent.deaths_alone) == (1, 1)


def test_a_full_journal_makes_the_client_wait() -> None:
    journal = PendingRequests()
    long = line("ping", 1, filler="x" * (MAX_BYTES // 2 - ENTRY_BYTES))
    for _ in range(2):
        journal.add(long)
    waiting = threading.Thread(target=journal.add, args=(line("ping", "late"),))
    waiting.start()
    assert sequences(journal) == [1, 2]
    own = journal.add(line("ping", "own"), own=True)
    for sequence in (1, own.sequence):
        journal.settle(sequence)
    waiting.join(10)
    assert sequences(journal) == [2, 4]
    assert not journal.wait_until_empty(0)


def test_many_short_messages_fill_it_too() -> None:
    journal = PendingRequests()
    for _ in range(MAX_BYTES // ENTRY_BYTES):
        journal.add(b"")
    waiting = threading.Thread(target=journal.add, args=(b"",), daemon=True)
    waiting.start()
    assert len(journal.in_flight()) == MAX_BYTES // ENTRY_BYTES
    journal.settle(1)
    waiting.join(10)
    assert not waiting.is_alive()


def test_what_is_no_request_overtakes_requests_that_wait_and_the_handshake_does_not() -> None:
    journal = PendingRequests()
    first = line("ping", 1), line("notifications/initialized"), line("notifications/roots/list_changed")
    for each in (*first, line("ping", 2), line("subscriptions/listen", 3)):
        journal.add(each)
    assert [entry.sequence for _ in range(3) if (entry := journal.send_next(ask=False))] == [3, 5]
    assert [entry.sequence for _ in range(4) if (entry := journal.send_next(ask=True))] == [1, 2, 4]
    assert journal.outstanding == 2
    journal.unsent()
    assert journal.outstanding == 0
    assert [entry.sequence for _ in range(6) if (entry := journal.send_next(ask=True))] == [1, 2, 3, 4, 5]
    for sequence in range(1, 6):
        journal.settle(sequence)
    assert (journal.outstanding, journal.is_empty) == (0, True)


def test_it_waits_as_long_as_something_happens() -> None:
    journal = PendingRequests()
    for number in range(3):
        journal.add(line("ping", number))
    assert not journal.wait_while_it_empties(0)
    emptied: list[bool] = []
    waiting = threading.Thread(target=lambda: emptied.append(journal.wait_while_it_empties(60)))
    waiting.start()
    for sequence in range(1, 4):
        journal.settle(sequence)
    waiting.join(10)
    assert emptied == [True]


@given(st.binary(max_size=60) | st.just(b"[" * 100_000) | st.just(b"[" * 50_000))
def test_nothing_a_client_sends_breaks_it(data: bytes) -> None:
    journal = PendingRequests()
    entry = journal.add(data)
    assert isinstance(entry.is_request, bool)
    journal.add(line("notifications/cancelled", requestId=1))
    journal.settle(entry.sequence, data)
    journal.lost()


def progress(token: object, value: float) -> bytes:
    return line("notifications/progress", progressToken=token, progress=value)


def test_progress_only_goes_forward() -> None:
    news = ProgressFilter()
    seen = [news.is_news(progress("a", value)) for value in (0.1, 0.5, 0.1, 0.5, 0.6)]
    assert seen == [True, True, False, False, True]
    assert news.is_news(progress("b", 0.1))
    assert news.is_news(progress(1, 0.2))
    assert news.is_news(progress("1", 0.1))
    assert news.is_news(line("notifications/tools/list_changed"))
    assert news.is_news(b'"notifications/progress" is not JSON of that kind')


def test_progress_of_many_tokens_is_forgotten() -> None:
    news = ProgressFilter()
    assert all(news.is_news(progress(token, 0.5)) for token in range(1000))
    assert news.is_news(progress(0, 0.1))
    assert not news.is_news(progress(999, 0.1))
