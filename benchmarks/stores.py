"""Words in SQLite and in PostgreSQL side by side: do they rank alike, and how long do they take?

Texts are made up by Zipf's law, or are the turns of LoCoMo (`--conversations PATH`). A palace that is there already is
used as it is, and grows to the sizes asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import accumulate, islice
from pathlib import Path
from statistics import median, quantiles
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"

from mempalace_mcp.core.call_context import Deadline
from mempalace_mcp.core.model import DrawerFilter, NewDrawer, Place, Span
from mempalace_mcp.core.palace_url import read_url
from mempalace_mcp.core.text import read_name
from mempalace_mcp.storage.database import PalaceDatabase
from mempalace_mcp.storage.drawers import DrawerStore
from mempalace_mcp.storage.lexical import Lexicon
from mempalace_mcp.storage.postgres.database import PostgresDatabase
from mempalace_mcp.storage.postgres.words import PostgresWords
from mempalace_mcp.storage.sqlite.database import Database
from mempalace_mcp.storage.sqlite.fulltext import FullTextTable
from mempalace_mcp.storage.word_table import WordTable

EVERYTHING = DrawerFilter()
LIMIT, TOP = 50, 10
BATCH = 64
VOCABULARY = 60_000
LENGTH = 70
WINGS = ("Work", "Home", "Sea")


class Store:
    """A palace in one of the databases."""

    def __init__(self, name: str, database: PalaceDatabase, table: WordTable) -> None:
        self.name = name
        self.database = database
        self.lexicon = Lexicon(table)
        self.drawers = DrawerStore(self.lexicon)

    def count(self) -> int:
        """Drawers in it."""
        with self.database.read() as connection:
            return int(connection.execute("SELECT count(*) FROM drawers").fetchone()[0])

    def file(self, texts: Sequence[tuple[str, str]]) -> None:
        """File texts, each with its wing."""

        def work(tx: Any) -> None:
            for wing, text in texts:
                place = Place(read_name(wing, "wing"), read_name("Notes", "room"))
                self.drawers.file(tx, NewDrawer(place, text), [Span(0, len(text))])

        self.database.write(work, Deadline(600))

    def keep_tokens(self) -> None:
        """What the background does."""
        table, last = self.lexicon.table, 0
        with closing(table.new_tokenizer()) as tokenizer:
            while True:
                with self.database.read() as connection:
                    window = table.texts_after(connection, last, 1000)
                if not window:
                    return
                last = window[-1][0]
                texts = {chunk: text for chunk, text in window if text is not None}
                stems = tokenizer.stems(list(texts.values()))
                self.database.write(lambda tx, t=texts, s=stems: table.keep_tokens(tx, t, s), Deadline(600))  # type: ignore[misc]

    def hits(self, query: str, filter: DrawerFilter) -> list[int]:
        """The best chunks."""
        with self.database.read() as connection:
            return [hit.chunk for hit in self.lexicon.search(connection, query, LIMIT, filter)]

    def weigh(self, query: str, filter: DrawerFilter) -> None:
        """What a search asks of the words."""
        with self.database.read() as connection:
            self.lexicon.weigh(connection, query, LIMIT, filter)


def made_up() -> Iterator[tuple[str, str]]:
    """Endless notes: words by Zipf's law, and one identifier of its own in each."""
    chooser = random.Random(1)
    syllables = [a + b for a in "bdfghklmnprstvz" for b in "aeiou"]
    words = ["".join(chooser.choices(syllables, k=chooser.randint(2, 4))) for _ in range(VOCABULARY)]
    weights = list(accumulate(1 / (rank + 2.7) for rank in range(VOCABULARY)))
    number = 0
    while True:
        said = " ".join(chooser.choices(words, cum_weights=weights, k=chooser.randint(LENGTH // 2, 3 * LENGTH // 2)))
        yield WINGS[number % 40 // 20 if number % 40 else 2], f"{said} zq-{number:07d}"
        number += 1


def turns(path: Path) -> Iterator[tuple[str, str]]:
    """The turns of conversations, each conversation in a wing."""
    for place, each in enumerate(json.loads(path.read_text("utf-8"))):
        for name, said in each["conversation"].items():
            for turn in said if name.startswith("session_") and isinstance(said, list) else ():
                yield f"c{place}", f"{turn['speaker']}: {turn['text']}"


def kinds(texts: Sequence[tuple[str, str]], count: int) -> dict[str, list[str]]:
    """Queries of each kind."""
    chooser = random.Random(2)
    known: dict[str, int] = {}
    for _, text in texts[:20_000]:
        for word in set(text.split()[:-1]):
            known[word] = known.get(word, 0) + 1
    common = sorted(known, key=known.__getitem__, reverse=True)[:60]
    rare = [word for word, held in known.items() if held <= 3] or list(known)

    def words(size: int) -> str:
        said = chooser.choice(texts)[1].split()[:-1]
        return " ".join(chooser.sample(said, min(size, len(said))))

    makers: dict[str, Callable[[], str]] = {
        "ten words": lambda: words(10),
        "three words": lambda: words(3),
        "common words": lambda: " ".join(chooser.sample(common, 3)),
        "identifier": lambda: f"where is {chooser.choice(texts)[1].split()[-1]}?",
        "rare word": lambda: chooser.choice(rare),
    }
    return {kind: [make() for _ in range(count)] for kind, make in makers.items()}


def compare(stores: Sequence[Store], queries: Sequence[str], filter: DrawerFilter) -> str:
    """The share of queries with the same best hits in the same order, at 10 and at 50."""
    one, other = ([store.hits(query, filter) for query in queries] for store in stores)
    pairs = list(zip(one, other, strict=True))
    return " ".join(f"{sum(a[:top] == b[:top] for a, b in pairs)}/{len(pairs)} alike@{top}" for top in (TOP, LIMIT))


def measure(stores: Sequence[Store], queries: Sequence[str], filter: DrawerFilter) -> str:
    """Milliseconds of each store, taken in turn; the queries are new to it, their words may not be."""
    taken: dict[str, list[float]] = {store.name: [] for store in stores}
    used = dict.fromkeys(taken, 0.0)
    for query in queries:
        for store in stores:
            started, processor = time.perf_counter(), time.process_time()
            store.weigh(query, filter)
            taken[store.name].append(1000 * (time.perf_counter() - started))
            used[store.name] += 1000 * (time.process_time() - processor) / len(queries)
    return "   ".join(
        f"{name} p50 {median(each):6.1f} p95 {quantiles(each, n=20)[-1]:6.1f} cpu {used[name]:5.1f}"
        for name, each in taken.items()
    )


def grow(store: Store, source: Iterator[tuple[str, str]], size: int) -> None:
    """File texts until there are so many."""
    there = store.count()
    new = list(islice(source, there, size))
    started, processor = time.perf_counter(), time.process_time()
    for first in range(0, len(new), BATCH):
        store.file(new[first : first + BATCH])
    if new:
        spent, used = time.perf_counter() - started, time.process_time() - processor
        print(f"{store.name}: {1000 * spent / len(new):.2f} ms a drawer, {1000 * used / len(new):.2f} of it here")
    store.keep_tokens()


def report_size(store: Store) -> None:
    """Megabytes of all tables, and of the words."""
    total = store.database.statistics().database_bytes or 0
    print(f"{store.name}: {total / 1e6:.0f} MB", end="; ")
    if isinstance(store.database, PostgresDatabase):
        with store.database.read() as connection:
            for table in ("passages", "words"):
                (sizes,) = connection.execute(
                    "SELECT pg_table_size(?::regclass), pg_indexes_size(?::regclass)", (table, table)
                ).fetchall()
                print(f"{table} {sizes[0] / 1e6:.0f} MB, indexes {sizes[1] / 1e6:.0f} MB", end="; ")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="of a palace in PostgreSQL that may be filled")
    parser.add_argument("--directory", type=Path, required=True, help="of a palace in SQLite that may be filled")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--conversations", type=Path, help="file of LoCoMo to take texts and questions from")
    parser.add_argument("--first", type=int, help="ask the questions of so many conversations only")
    parser.add_argument("--queries", type=int, default=40)
    options = parser.parse_args()
    table = PostgresWords()
    postgres = Store("PostgreSQL", PostgresDatabase(read_url(options.url), options.directory), table)
    stores = (Store("SQLite", Database(options.directory), FullTextTable()), postgres)
    if options.conversations:
        for store in stores:
            grow(store, turns(options.conversations), 1_000_000)
        asked = json.loads(options.conversations.read_text("utf-8"))[: options.first]
        for place, each in enumerate(asked):
            questions = [str(question["question"]) for question in each["qa"]]
            for filter in (EVERYTHING, DrawerFilter(wing=f"c{place}")):
                print(f"{filter.wing or 'everything'}: {compare(stores, questions, filter)}")
                print(f"  {measure(stores, questions, filter)}")
    else:
        for size in options.sizes:
            for store in stores:
                grow(store, made_up(), size)
                report_size(store)
            for kind, queries in kinds(list(islice(made_up(), size)), options.queries).items():
                for filter in (EVERYTHING, DrawerFilter(wing="sea")):
                    print(f"{size:7} {kind:12} {filter.wing or '':4} {measure(stores, queries, filter)}")
                    print(f"        {compare(stores, queries, filter)}")
    for store in stores:
        store.lexicon.close()
        store.database.close()


if __name__ == "__main__":
    main()
