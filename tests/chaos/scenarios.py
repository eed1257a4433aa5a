"""What agents do: each story yields a call and is sent the answer, which it compares with what it knows."""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.chaos.ledger import DrawerState, Ledger

Answer = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """Of a tool."""

    tool: str
    arguments: Mapping[str, Any]


Story = Generator[Call, Answer, None]

MATTERS = ("the harbour crane", "a leaking cistern", "the night train", "bread without yeast", "an old telescope")


def endless(ledger: Ledger, name: str, dice: random.Random) -> Iterator[Story]:
    """One story after the other for the agent of that name."""
    number = 0
    while True:
        number += 1
        told = f"{name}x{number}"
        kind = dice.random()
        if kind < 0.5:
            yield drawer_story(ledger, told, dice)
        elif kind < 0.75:
            yield fact_story(ledger, told, dice)
        elif kind < 0.85:
            yield diary_story(ledger, name, told)
        else:
            yield reading_story(ledger, dice)


def call(tool: str, **arguments: Any) -> Call:
    """A call, spelled as a function's."""
    return Call(tool, arguments)


def drawer_story(ledger: Ledger, word: str, dice: random.Random) -> Story:
    """File a drawer, change it, delete it, bring it back: any beginning of that, in this order."""
    text = f"{word}: notes about {dice.choice(MATTERS)}. " + "All of it matters. " * dice.choice((0, 0, 0, 0, 2, 40))
    answer = yield call("add_drawer", wing=f"wing {dice.randint(1, 3)}", room="chaos", content=text)
    assert answer["created"], f"{word} was there already"
    drawer_id: str = answer["drawer_id"]
    ledger.file(drawer_id, state := DrawerState(text))
    for version in range(2, dice.choice((2, 2, 3, 4))):
        changed = f"{text} {word} in its version {version}."
        answer = yield call("update_drawer", drawer_id=drawer_id, content=changed)
        assert answer["version"] == version, f"{word} was changed more or less than once: {answer}"
        ledger.file(drawer_id, state := DrawerState(changed, version))
    if dice.random() < 0.4:
        answer = yield call("delete_drawers", drawer_ids=[drawer_id])
        assert (answer["deleted"], answer["missing"]) == (1, []), f"{word}: {answer}"
        ledger.file(drawer_id, state := DrawerState(state.content, state.version, live=False))
        if dice.random() < 0.5:
            answer = yield call("restore_drawers", drawer_ids=[drawer_id])
            assert answer["restored"] == [drawer_id], f"{word}: {answer}"
            ledger.file(drawer_id, DrawerState(state.content, state.version))
    ledger.settled.append(drawer_id)


def fact_story(ledger: Ledger, subject: str, dice: random.Random) -> Story:
    """Record a fact, replace it by others, end the last one: any beginning of that."""
    objects = [f"{subject} at first"]
    answer = yield call("kg_add", subject=subject, predicate="is", object=objects[0])
    assert answer["created"], f"{subject} was there already"
    ledger.believe(subject, objects, current=True)
    for number in range(dice.randint(0, 3)):
        following = f"{subject} as of {number}"
        yield call("kg_supersede", subject=subject, predicate="is", old_object=objects[-1], new_object=following)
        objects.append(following)
        ledger.believe(subject, objects, current=True)
    if dice.random() < 0.5:
        yield call("kg_invalidate", subject=subject, predicate="is", object=objects[-1])
        ledger.believe(subject, objects, current=False)
    ledger.known.append(subject)


def diary_story(ledger: Ledger, name: str, word: str) -> Story:
    """Write an entry: two calls with the same words would make two of them."""
    text = f"{word}: dear diary"
    answer = yield call("diary_write", agent_name=name, entry=text)
    ledger.file(answer["drawer_id"], DrawerState(text))
    ledger.settled.append(answer["drawer_id"])


def reading_story(ledger: Ledger, dice: random.Random) -> Story:
    """Look for what somebody has filed, by its id, its words and its subject: it must be there."""
    if ledger.settled:
        drawer_id = dice.choice(ledger.settled)
        state = ledger.drawers[drawer_id]
        answer = yield call("get_drawers", drawer_ids=[drawer_id])
        told = [(drawer["content"], drawer["version"]) for drawer in answer["drawers"]]
        assert told == ([(state.content, state.version)] if state.live else []), f"{state}: {answer}"
        word = state.content.partition(":")[0]
        answer = yield call("search", query=word, limit=20)
        assert (drawer_id in [hit["drawer_id"] for hit in answer["results"]]) is state.live, f"{state}: {answer}"
    if ledger.known:
        subject = dice.choice(ledger.known)
        answer = yield call("kg_query", entity=subject)
        verify_facts(ledger, subject, [(fact["object"], fact["current"]) for fact in answer["facts"]])


def verify_facts(ledger: Ledger, subject: str, told: list[tuple[str, bool]]) -> None:
    """Are these the facts that were acknowledged, each once?"""
    objects, current = ledger.facts[subject]
    expected = [(each, False) for each in objects[:-1]] + [(objects[-1], current)]
    assert sorted(told) == sorted(expected), f"{subject} is {told}, but was acknowledged as {expected}"
