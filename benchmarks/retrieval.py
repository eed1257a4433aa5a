"""Recall of the search, in this process: `python -m benchmarks.retrieval FILE --cache FOLDER`.

Takes a file in the LoCoMo format (`benchmarks/conversations.py`) and asks its questions under three protocols:

    sessions   each session is a drawer; a question is asked in the wing of its conversation
    pooled     the same drawers; a question is asked in all conversations at once
    turns      each turn is a drawer, with its session as the source; a question is asked in its wing

    implicit   72 questions of the project's own that share no word with their answers (`benchmarks/implicit.py`), asked
               in everything at once: their texts, the project's documents, and the sessions

Filled palaces and the vectors of questions are kept in the cache, so that a variant of the ranking takes seconds. The
search is the palace's own. Three measures of the first k drawers are told: R@k, the mean share of a question's evidence
among them; hit@k, how often any of it is; all@k, how often all of it is. Intervals are of 95 %, by a paired bootstrap
over the questions.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy is imported, as in the server

import argparse
import hashlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.conversations import Conversation, Text, read_conversations
from benchmarks.implicit import read_implicit
from benchmarks.recall_plot import draw
from benchmarks.remembered import RememberingModel, remembering
from mempalace_mcp.core.config import load_settings
from mempalace_mcp.embedding.background import BackgroundEmbedder
from mempalace_mcp.palace.chunk_embedder import ChunkEmbedder
from mempalace_mcp.palace.palace import Palace
from mempalace_mcp.palace.ranking import Weights
from mempalace_mcp.runtime.app import App, open_app

CUTOFFS = (1, 5, 10)
RESAMPLES = 2000
AT_ONCE = 50
"""Drawers that are filed in one transaction."""

Shares = NDArray[np.float64]

BASE = Weights()

_FORMER = Weights(match=0.0, possible=0.0, least_scale=8.0, frequent=1.0, power=1.0, part=0.0)
_SHARE = replace(_FORMER, possible=1.0, least_scale=0.0)
_TELLING = replace(_SHARE, frequent=0.5)
_SQUARED = replace(_TELLING, power=2.0)

VARIANTS: dict[str, Weights] = {
    "words and meaning": _FORMER,
    "+ words as a share": _SHARE,
    "+ frequent words left out": _TELLING,
    "+ words squared": _SQUARED,
    "+ what is said around": replace(_SQUARED, part=0.5),
    "+ token match": BASE,
}
"""The rankings that are compared, by name; the first is the one that the others are compared with."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """What is filed as drawers, in a palace of which name, and whether all conversations are searched at once."""

    name: str
    palace: str
    turns: bool = False
    pooled: bool = False

    def texts(self, conversation: Conversation) -> Sequence[Text]:
        """The texts that are filed of a conversation."""
        return conversation.turns if self.turns else conversation.sessions


IMPLICIT = Protocol("implicit", "implicit", pooled=True)
PROTOCOLS = (
    Protocol("sessions", "sessions"),
    Protocol("pooled", "sessions", pooled=True),
    Protocol("turns", "turns", turns=True),
    IMPLICIT,
)


@dataclass(frozen=True, slots=True)
class Results:
    """For each question the share of its evidence at the cutoffs, its conversation, and processor seconds."""

    shares: Shares
    conversations: Sequence[str]
    seconds: float

    def of(self, conversation: str) -> Shares:
        """The shares of one conversation's questions."""
        return self.shares[[name == conversation for name in self.conversations]]


def fill(app: App, protocol: Protocol, conversations: Sequence[Conversation]) -> None:
    """File the texts of the conversations, and wait for their vectors."""
    for conversation in conversations:
        texts = protocol.texts(conversation)
        for first in range(0, len(texts), AT_ONCE):
            app.palace.checkpoint(
                [
                    {
                        "wing": conversation.name,
                        "room": protocol.palace,
                        "content": text.content,
                        "source_file": text.session or None,
                        "metadata": {"name": text.name},
                    }
                    for text in texts[first : first + AT_ONCE]
                ]
            )
    app.wait_until_indexed()


@contextmanager
def filled(cache: Path, protocol: Protocol, conversations: Sequence[Conversation]) -> Iterator[App]:
    """An app on the palace of a protocol, which is filled first if it is not in the cache."""
    folder = cache / protocol.palace
    done = folder / "filled"
    with open_app(load_settings({}, str(folder))) as app:
        if not done.exists():
            app.start()
            app.embedder.wait()
            fill(app, protocol, conversations)
            done.touch()
        yield app


def ask(palace: Palace, protocol: Protocol, conversations: Sequence[Conversation]) -> Results:
    """Ask every question."""
    shares: list[list[float]] = []
    names: list[str] = []
    started = time.process_time()
    for conversation in conversations:
        wing = None if protocol.pooled else conversation.name
        for question in conversation.questions:
            names.append(conversation.name)
            gold = {(conversation.name, name) for name in (question.turns if protocol.turns else question.sessions)}
            hits = palace.search(question.text, wing=wing, limit=max(CUTOFFS)).hits
            found = [(hit.drawer.wing, hit.drawer.metadata["name"]) for hit in hits]
            shares.append([len(gold.intersection(found[:cutoff])) / len(gold) for cutoff in CUTOFFS])
    return Results(np.array(shares), names, time.process_time() - started)


def interval(differences: NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval of a mean of paired differences, by bootstrap."""
    picks = np.random.default_rng(0).integers(0, len(differences), (RESAMPLES, len(differences)))
    low, high = np.percentile(differences[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def percent(values: Sequence[float] | Shares) -> str:
    """Numbers in percent, with one digit."""
    return " / ".join(f"{100 * value:.1f}" for value in values)


def report(name: str, results: Results, base: Results | None) -> Iterator[str]:
    """The lines about one variant."""
    shares = results.shares
    cost = 1000 * results.seconds / len(shares)
    yield (
        f"  {name:34} R@k {percent(shares.mean(axis=0))}   hit@k {percent((shares > 0).mean(axis=0))}"
        f"   all@k {percent((shares == 1).mean(axis=0))}   {cost:.2f} ms"
    )
    if base is not None and base is not results:
        differences = shares - base.shares
        told = (
            f"{100 * column.mean():+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
            for column in differences.T
            for low, high in [interval(column)]
        )
        yield f"  {'':34} {'  '.join(told)}"


def by_conversation(results: Results) -> Iterator[str]:
    """A line for each conversation."""
    for name in dict.fromkeys(results.conversations):
        shares = results.of(name)
        yield f"    {name:32} {len(shares):4} questions  R@k {percent(shares.mean(axis=0))}"


def palace_with(app: App, model: RememberingModel, weights: Weights) -> Palace:
    """The palace of an app, with remembered questions, ranked by these weights."""
    embedder = BackgroundEmbedder(lambda: model)
    embedder.start()
    embedder.wait()
    stores = replace(app.stores, embedder=embedder, weights=weights)
    return Palace(stores, ChunkEmbedder(stores))


def compare(
    cache: Path, protocol: Protocol, everything: Sequence[Conversation], numbers: set[int], variants: Sequence[str]
) -> dict[str, Results]:
    """Ask under one protocol with each variant, and print what was found."""
    asked = [each for number, each in enumerate(everything) if not numbers or number in numbers]
    results: dict[str, Results] = {}
    with filled(cache, protocol, everything) as app, remembering(cache / "questions.pickle") as model:
        for name in variants:
            palace = palace_with(app, model, VARIANTS[name])
            ask(palace, protocol, [replace(each, questions=each.questions[:20]) for each in asked])  # warm
            results[name] = ask(palace, protocol, asked)
            if len(results) == 1:
                print(f"{protocol.name}: {len(results[name].shares)} questions; cutoffs {CUTOFFS}")
            for line in report(name, results[name], next(iter(results.values()))):
                print(line, flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--cache", type=Path, help="keep filled palaces and vectors in this folder")
    parser.add_argument("--conversations", default="", help="ask only those of these numbers, for example 0,1")
    parser.add_argument("--protocols", default=",".join(each.name for each in PROTOCOLS))
    parser.add_argument("--variants", default=next(iter(VARIANTS)), help=f"or all: {', '.join(VARIANTS)}")
    parser.add_argument("--plot", type=Path, help="draw the recall of the variants into this file, as SVG")
    parser.add_argument("--each", action="store_true", help="tell the recall of each conversation too")
    options = parser.parse_args()
    numbers = {int(number) for number in options.conversations.split(",") if number}
    variants = list(VARIANTS) if options.variants == "all" else options.variants.split(",")
    protocols = [each for each in PROTOCOLS if each.name in options.protocols.split(",")]
    digest = hashlib.sha256(options.file.read_bytes()).hexdigest()[:12]
    everything = read_conversations(options.file)
    with tempfile.TemporaryDirectory() as scratch:
        cache = (options.cache or Path(scratch)) / digest
        cache.mkdir(parents=True, exist_ok=True)
        panels: dict[str, dict[str, list[float]]] = {}
        for protocol in protocols:
            texts, asked = everything, numbers
            if protocol is IMPLICIT:
                texts, asked = [*everything, read_implicit()], {len(everything)}
            results = compare(cache, protocol, texts, asked, variants)
            panels[protocol.name] = {
                name: [100 * share for share in each.shares.mean(axis=0)] for name, each in results.items()
            }
            if options.each:
                print("\n".join(by_conversation(results[variants[-1]])))
        if options.plot:
            options.plot.write_text(draw(panels, CUTOFFS), encoding="utf-8")


if __name__ == "__main__":
    main()
