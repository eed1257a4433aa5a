"""How well drawers fit the time that a question asks for: the time it names, or the present. Pure.

What is told of a day is mostly filed on that day or in the weeks after it. Measured with `benchmarks/retrieval.py`. The
words of the time stay part of the question: without them its vector finds less.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from mempalace_mcp.core.clock import DAY, Instant, Zone
from mempalace_mcp.core.model import DrawerFilter
from mempalace_mcp.palace.ranking import Candidate, Ranked
from mempalace_mcp.palace.time_phrases import NO_TIMES, Period, Times, read_day, read_times
from mempalace_mcp.palace.time_words import LATEST

SHORTEST_TAIL, LONGEST_TAIL = 21 * DAY, 31 * DAY
"""The time after a period in which it is still told of: as long as the period itself, within these bounds."""
WEIGHT = 0.15
"""What a drawer's score gains by the time that the question names among other things; from 0.1 to 0.2 recall is alike.
Tokens of a date in the question meet those of other dates half way: less is outweighed by them."""
WHOLE_WEIGHT = 4.0
"""The same for a drawer of the time, if the question names nothing else: more than any match by words."""
MOST_WINDOWS = 4
"""Of a question that names more times, the indexes propose chunks of the first ones alone."""
LINE_CHARACTERS = 160
NEAR = 0.9
"""The share of the best score that is relevant enough to be preferred for being new."""
NEWEST_WEIGHT = 0.1
"""What the newest of these gains, if the question asks for how things are now."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a question says of time. `latest` if it asks for how things are now."""

    times: Times = NO_TIMES
    latest: bool = False

    @classmethod
    def read(cls, query: str, now: Instant, zone: Zone) -> Asked:
        """What a question says that is asked now and there."""
        return cls(read_times(query, now, zone), bool(LATEST.search(query)))

    @property
    def cares(self) -> bool:
        """Does the question ask for any time?"""
        return bool(self.times.periods) or self.latest

    def windows(self, filter: DrawerFilter) -> Iterator[tuple[Instant, Instant]]:
        """The times, as far as a filter lets them be, in which drawers gain anything; the likely ones alone."""
        likely = (period for period in self.times.periods if period.share == 1)
        for period in islice(likely, MOST_WINDOWS):
            since = max(period.start - period.slack, period.start if filter.since is None else filter.since)
            end = period.stop + period.slack + (0 if self.times.are_all else _tail(period))
            before = end if filter.before is None else min(end, filter.before)
            if since < before:
                yield since, before

    def weigh(self, candidate: Candidate, when: Instant) -> Candidate:
        """The candidate with what it gains for being of that time."""
        fit = closeness(when, self.times.periods)
        if self.times.are_all and any(_holds(period, when) for period in self.times.periods):
            # Nothing is asked for but the time: what else the words resemble is chance.
            return Candidate(candidate.chunk, candidate.drawer, when, 0.0, None, timely=WHOLE_WEIGHT * fit)
        return replace(candidate, when=when, timely=WEIGHT * fit)

    def order(self, ranked: list[Ranked]) -> list[Ranked]:
        """The drawers again, the newer ones of the relevant ones preferred if the question asks for these."""
        if not self.latest or not ranked:
            return ranked
        near = [each for each in ranked if each.score >= NEAR * ranked[0].score]
        ages = {when: age for age, when in enumerate(sorted({each.when for each in near}))}
        gain = NEWEST_WEIGHT / max(1, len(ages) - 1)
        preferred = [replace(each, score=each.score + gain * ages[each.when]) for each in near]
        return sorted(preferred, key=lambda each: (-each.score, -each.when)) + ranked[len(near) :]


NOTHING_ASKED = Asked()


def closeness(when: Instant, periods: Sequence[Period]) -> float:
    """How well an instant fits the best of some periods: 1 within, falling to 0 in the weeks after."""
    return max((period.share * _falling(when, period) for period in periods), default=0.0)


def _tail(period: Period) -> Instant:
    return min(max(period.stop - period.start, SHORTEST_TAIL), LONGEST_TAIL)


def _holds(period: Period, when: Instant) -> bool:
    return period.start - period.slack <= when < period.stop + period.slack


def _falling(when: Instant, period: Period) -> float:
    if when < period.start - period.slack:
        return 0.0
    return max(0.0, 1.0 - max(0, when - period.stop - period.slack) / _tail(period))


def day_in_beginning(content: str, zone: Zone) -> Instant | None:
    """The day that the first line of a text names, as in `Date: 8 May 2023` or `# 2024-03-05`."""
    line = next((line for line in content.splitlines() if line.strip()), "")
    return read_day(line[:LINE_CHARACTERS], zone)
