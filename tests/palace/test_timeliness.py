"""Questions that name a time, or ask for how things are now: what they find, and in which order."""

from __future__ import annotations

from pathlib import Path

import pytest

from mempalace_mcp.core import clock
from mempalace_mcp.core.clock import DAY, UTC_ZONE
from mempalace_mcp.core.errors import InvalidArgument
from mempalace_mcp.core.model import DrawerFilter, SearchMode
from mempalace_mcp.palace.palace import Palace
from mempalace_mcp.palace.ranking import Ranked
from mempalace_mcp.palace.time_phrases import Period
from mempalace_mcp.palace.timeliness import Asked, closeness, day_in_beginning
from tests.palace.support import opened

pytestmark = pytest.mark.usefixtures("each_store")


def found(palace: Palace, query: str, **options: object) -> list[str]:
    return [hit.drawer.content for hit in palace.search(query, **options).hits]  # type: ignore[arg-type]


def test_closeness_is_one_within_and_falls_in_the_weeks_after() -> None:
    day, month = Period(0, DAY), Period(0, 31 * DAY)
    assert closeness(0, [day]) == closeness(DAY - 1, [day]) == closeness(30 * DAY, [month]) == 1
    assert closeness(-1, [day]) == closeness(23 * DAY, [day]) == closeness(63 * DAY, [month]) == 0
    assert 0.45 < closeness(11 * DAY, [day]) < 0.55 > closeness(47 * DAY, [month]) > 0.45
    fits = [closeness(n * DAY, [day]) for n in range(30)]
    assert fits == sorted(fits, reverse=True)
    assert closeness(-2 * DAY, [Period(0, DAY, slack=3 * DAY)]) == 1
    assert closeness(0, [Period(0, DAY, share=0.5), Period(5 * DAY, 6 * DAY)]) == 0.5
    assert closeness(0, []) == 0


@pytest.mark.parametrize(
    ("content", "day"),
    [
        ("Date: 1:56 pm on 8 May, 2023\nAda: hello", "2023-05-08"),
        ("# 2024-03-05\n\nStandup", "2024-03-05"),
        ("\n\n[2024-03-05 10:00] deploy", "2024-03-05"),
        ("Session 3, Monday, March 5th 2024", "2024-03-05"),
        ("Protokoll vom 5. März 2024", "2024-03-05"),
        ("Notes\n2024-03-05", None),
        ("Release 5/8/2024", None),
        ("Meeting in March", None),
        ("", None),
    ],
)
def test_first_lines_may_name_the_day(content: str, day: str | None) -> None:
    instant = day_in_beginning(content, UTC_ZONE)
    assert instant == (None if day is None else clock.parse(day, "day"))


def test_a_time_in_the_question_decides_between_texts_that_are_alike(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        for day in ("2024-02-14", "2024-05-14", "2024-08-14"):
            app.palace.add_drawer("w", "r", f"The pump was repaired, bill {day[5:7]}.", occurred_at=day)
        for day in ("14 November 2023", "14 November 2022"):
            app.palace.add_drawer("undated", "r", f"Date: {day}\nThe pump was repaired again.")
        app.wait_until_indexed()
        for question, bill in (
            ("When was the pump repaired in May 2024?", "05"),
            ("which pump repair was in august 2024", "08"),
            ("Wer hat im Februar 2024 die pump repaired?", "02"),
            ("pump repaired a week before 20 May 2024", "05"),
        ):
            assert bill in found(app.palace, question, wing="w")[0]
        for year in ("2022", "2023"):
            question = f"who repaired the pump in november {year}"
            assert year in found(app.palace, question, wing="undated")[0]
        assert "08" in found(app.palace, "who repaired the pump last month?", now="2024-09-20", wing="w")[0]
        assert "05" in found(app.palace, "who repaired the pump last month?", now="2024-06-01T08:00", wing="w")[0]


def test_a_question_for_a_time_alone_is_answered_with_the_drawers_of_that_time(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        of_the_day = ["Olives were bought.", "A chess evening with Tom.", "The roof leaks."]
        for hour, text in enumerate(of_the_day):
            app.palace.add_drawer("w", "r", text, occurred_at=f"2024-05-03T1{hour}:00")
        for number in range(150):
            app.palace.add_drawer(
                "w", "r", f"What did we do? We did {number} things on a day.", occurred_at="2024-07-01"
            )
        app.palace.add_drawer("other", "r", "A day elsewhere.", occurred_at="2024-05-03")
        app.wait_until_indexed()
        newest_first = of_the_day[::-1]
        for question in ("what did we do on 3 May 2024", "2024-05-03", "Was haben wir am 3. Mai 2024 gemacht?"):
            assert found(app.palace, question, wing="w")[:3] == newest_first
        assert found(app.palace, "what happened yesterday?", wing="w", now="2024-05-04")[:3] == newest_first
        assert found(app.palace, "yesterday", now="2024-05-04", since="2024-05-03T11:30")[0] == "The roof leaks."
        assert len(found(app.palace, "what did we do in July 2024", limit=100)) == 100


def test_drawers_of_the_time_are_found_among_many_that_resemble_the_question_more(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        for number in range(130):
            app.palace.add_drawer("w", "r", f"The deploy of service {number} failed.", occurred_at="2024-07-01")
        wanted = "A deploy went wrong; the certificate of the old proxy had expired in the night."
        app.palace.add_drawer("w", "r", wanted, occurred_at="2024-05-03")
        app.wait_until_indexed()
        assert wanted not in found(app.palace, "why did the deploy of the service fail", limit=50)
        assert wanted in found(app.palace, "why did the deploy of the service fail on 3 May 2024", limit=50)


def test_other_modes_look_at_words_or_meaning_alone(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        app.palace.add_drawer("w", "r", "The kiln is hot.", occurred_at="2024-05-03")
        app.wait_until_indexed()
        assert found(app.palace, "what happened on May 3", mode=SearchMode.KEYWORD, now="2024-06-01") == [
            "The kiln is hot."
        ]
        (hit,) = app.palace.search("kiln in May 2024", mode=SearchMode.SEMANTIC).hits
        assert hit.score == hit.semantic


def test_a_question_for_how_things_are_now_prefers_the_newest_of_what_is_alike(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        for year in ("2021", "2024", "2023"):
            app.palace.add_drawer("w", "r", f"The rent of the flat is {year[::-1]} euros.", occurred_at=year)
        app.palace.add_drawer("w", "r", "Trains leave at noon.", occurred_at="2025")
        app.wait_until_indexed()
        for question in (
            "what is the current rent of the flat",
            "rent of the flat now",
            "die aktuelle rent of the flat",
        ):
            assert "4202" in found(app.palace, question)[0]
        assert "noon" not in found(app.palace, "latest rent of the flat")[0]


def test_the_newer_ones_are_preferred_only_among_what_is_about_as_relevant() -> None:
    ranked = [Ranked(n, n, when, score, 0.0, None) for n, (when, score) in enumerate([(2, 0.8), (3, 0.78), (9, 0.5)])]
    for question, order in (("what is the latest rent", [1, 0, 2]), ("what is the rent", [0, 1, 2])):
        assert [each.drawer for each in Asked.read(question, 0, UTC_ZONE).order(ranked)] == order
    assert Asked(latest=True).order([]) == []


@pytest.mark.parametrize(
    ("question", "latest"),
    [
        ("What is the current plan?", True),
        ("which port do we use NOW", True),
        ("the most recent decision", True),
        ("Was ist der aktuelle Stand?", True),
        ("quelle est l'adresse actuelle", True),
        ("¿cuál es la última versión?", True),
        ("Now that it rained, what grew?", False),
        ("the currency of Peru", False),
        ("I know the actual cost", False),
        ("the last page", False),
    ],
)
def test_which_questions_ask_for_how_things_are_now(question: str, latest: bool) -> None:
    assert Asked.read(question, 0, UTC_ZONE).latest is latest


def test_the_windows_are_the_likely_times_within_the_filter_and_few() -> None:
    now = clock.parse("2024-06-01", "now")
    march, april = clock.parse("2024-03-01", "day"), clock.parse("2024-04-01", "day")
    asked = Asked.read("who repaired the pump in March?", now, UTC_ZONE)
    assert list(asked.windows(DrawerFilter())) == [(march, april + 31 * DAY)]
    assert list(asked.windows(DrawerFilter(since=april, before=april + DAY))) == [(april, april + DAY)]
    assert list(asked.windows(DrawerFilter(before=march))) == []
    (alone,) = Asked.read("what did we do in March?", now, UTC_ZONE).windows(DrawerFilter())
    assert alone == (march, april)
    many = "the pump on " + ", ".join(f"{day} March 2024" for day in range(1, 29))
    assert len(list(Asked.read(many, now, UTC_ZONE).windows(DrawerFilter()))) == 4


def test_without_a_time_in_the_question_nothing_is_different(tmp_path: Path) -> None:
    with opened(tmp_path) as app:
        for day, text in (("2024-05-03", "May planted beans."), ("2026-01-01", "Beans may be planted in rows.")):
            app.palace.add_drawer("w", "r", text, occurred_at=day)
        app.wait_until_indexed()
        question = "who planted beans, may I ask"
        plain, then = (app.palace.search(question, now=now).hits for now in (None, "2024-05-04"))
        assert [(hit.drawer.content, hit.score) for hit in plain] == [(hit.drawer.content, hit.score) for hit in then]
        named = app.palace.search(f"{question}, in May", now="2024-06-01").hits
        assert named[0].score != plain[0].score


@pytest.mark.parametrize("zone", ["+14:00", "-12:00", "Asia/Kathmandu"])
def test_filters_take_words(tmp_path: Path, zone: str) -> None:
    with opened(tmp_path, started=False, PALACE_TIMEZONE=zone) as app:
        palace, calendar = app.palace, clock.Calendar(clock.read_zone(zone))
        days = {back: calendar.show_day(clock.now() - back * DAY) for back in (0, 1, 4, 40)}
        for back, day in days.items():
            palace.add_drawer("w", "r", f"{back} days back", occurred_at=f"{day}T12:00")
        for since, before, left in (
            ("3 days ago", None, 2),
            ("5 days ago", None, 3),
            (None, "3 days ago", 2),
            ("5 days ago", "yesterday", 1),
            ("gestern", "today", 1),
            (days[4], "il y a 2 jours", 1),
            ("2 months ago", "3 weeks ago", 1),
        ):
            assert palace.list_drawers(since=since, before=before).total == left
            hits = palace.search("back", mode=SearchMode.KEYWORD, since=since, before=before).hits
            assert len(hits) == left
            assert palace.delete_drawers(since=since, before=before).matched == left


@pytest.mark.parametrize("words", ["soon", "a while ago", "32 May", "the harbour last week", "5/8/2024"])
@pytest.mark.parametrize("argument", ["since", "before"])
def test_what_is_not_understood_is_refused_by_name(tmp_path: Path, argument: str, words: str) -> None:
    with opened(tmp_path, started=False) as app:
        app.palace.add_drawer("w", "r", "kept")
        with pytest.raises(InvalidArgument, match=argument) as refusal:
            app.palace.delete_drawers(dry_run=False, **{argument: words})  # type: ignore[arg-type]
        assert refusal.value.argument == argument
        assert "last week" in str(refusal.value.hint)
        assert app.palace.list_drawers().total == 1
        with pytest.raises(InvalidArgument, match="now is not a date"):
            app.palace.search("kept", now=words)


@pytest.mark.parametrize(
    ("since", "before", "wanted"),
    [
        ("two days ago", None, ["29", "31"]),
        ("today", None, ["31"]),
        (None, "this week", []),
        ("last month", "today", ["29"]),
        ("now", None, []),
    ],
)
def test_words_in_filters_are_meant_as_of_the_same_moment_as_the_question(
    tmp_path: Path, since: str | None, before: str | None, wanted: list[str]
) -> None:
    # The clocks of Samoa went from the 29th of December 2011 to the 31st.
    with opened(tmp_path, PALACE_TIMEZONE="Pacific/Apia") as app:
        for day in ("2011-12-29", "2011-12-31"):
            app.palace.add_drawer("w", "r", f"The pump was mended on {day[-2:]}.", occurred_at=day)
        app.wait_until_indexed()
        hits = app.palace.search("pump", since=since, before=before, now="2011-12-31T12:00").hits
        found = sorted(hit.passage[-3:-1] for hit in hits)
        assert found == wanted
