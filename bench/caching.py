"""The workers' caches: is every repeat answered from one, and do four act as one of four times the size?"""

from __future__ import annotations

import itertools
import random
from collections import OrderedDict
from collections.abc import Iterable

from bench.client import Client
from bench.figures import Figure
from bench.programs import Server, gateway
from bench.run import Run, upload_sample
from bench.wrk import drive

WORKERS = 4
CACHE = 5000
ROWS = 20_000
EXPONENT = 1.1
LENGTH = 500_000  # more than any run gets through
REPEATS = 2000


def caching(run: Run) -> list[Figure]:
    """Repeats of 20 rows, then Zipf's law over 20,000 rows beside one LRU that sees the same sequence."""
    with gateway(run.directory, near=WORKERS, cache_size=CACHE) as server:
        upload_sample(server)
        run.say("caching: the same 20 rows again and again")
        repeated = _repeats_that_hit(server)
        before = _hits(server)
        sequence = zipf(run.seed())
        file = run.directory / "sequence.txt"
        file.write_text("\n".join(map(str, sequence)))
        run.say(f"caching: Zipf({EXPONENT}) over {ROWS:,} rows, {WORKERS} workers")
        load = drive(server, "sequence.lua", clients=32, seconds=2 * run.seconds, sequence=file)
        hits, rows = (now - then for now, then in zip(_hits(server), before, strict=True))
    ours, one = hits / rows, lru_hit_rate(sequence[:rows], WORKERS * CACHE)
    run.details["caching"] = {"load": load._asdict(), "rows": rows, "hit_rate": ours, "one_lru": one}
    return [
        Figure("repeats answered from the cache", 100 * repeated, "%", at_least=100),
        Figure(
            "Zipf: hit rate below that of one LRU", 100 * (one - ours), "points", at_most=3,
            note=f"ours {ours:.2%}, one LRU of {WORKERS * CACHE:,}: {one:.2%}, {rows:,} rows",
        ),
    ]  # fmt: skip


def zipf(seed: int) -> list[int]:
    """Row numbers drawn by Zipf's law; which row is how common is drawn too."""
    draw = random.Random(seed)
    rows = list(range(ROWS))
    draw.shuffle(rows)
    weights = itertools.accumulate(1 / rank**EXPONENT for rank in range(1, ROWS + 1))
    return draw.choices(rows, cum_weights=list(weights), k=LENGTH)


def lru_hit_rate(sequence: Iterable[int], capacity: int) -> float:
    """The share of look-ups that one LRU of `capacity` entries answers."""
    entries: OrderedDict[int, None] = OrderedDict()
    hits = looked = 0
    for row in sequence:
        looked += 1
        if row in entries:
            hits += 1
            entries.move_to_end(row)
        else:
            entries[row] = None
            if len(entries) > capacity:
                entries.popitem(last=False)
    return hits / max(1, looked)


def _repeats_that_hit(server: Server) -> float:
    """The share of requests after each row's first that say `x-cache: hit`."""
    rows = [[n / 20, 0.25] for n in range(20)]
    with Client(server.port) as client:
        for row in rows:
            client.predict(row)
        answers = [client.predict(rows[n % len(rows)]) for n in range(REPEATS)]
    return sum(answer.is_hit for answer in answers) / len(answers)


def _hits(server: Server) -> tuple[int, int]:
    """(hits, look-ups) of all caches so far."""
    caches = [worker["cache"] for worker in server.status()["workers"]]
    hits = sum(cache["hits"] for cache in caches)
    return hits, hits + sum(cache["misses"] for cache in caches)
