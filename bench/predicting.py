"""`/predict` under load: one row a request beside the bare reference, one client alone, thousands of rows."""

from __future__ import annotations

from statistics import median

from bench.figures import Figure
from bench.programs import Server, gateway, reference
from bench.run import Run, upload_sample
from bench.wrk import Load, drive

CLIENTS = 32
ROWS = 1000
VECTORS_CLIENTS = 4
POOL_OF_MISSES = 200  # of 1,000 rows each, where the cache holds 10,000
POOL_OF_HITS = 4


def predict(run: Run) -> list[Figure]:
    """32 clients, every request another pair; each run beside one of the reference."""
    ours: list[Load] = []
    bare: list[Load] = []
    cpu: list[tuple[float, float]] = []
    with gateway(run.directory) as server, reference(run.directory) as other:
        upload_sample(server)
        _pairs(run, server, seconds=1)
        _pairs(run, other, seconds=1)
        for n in range(run.repeats):
            run.say(f"predict: run {n + 1} of {run.repeats}, then the reference")
            before = server.cpu()
            load = _pairs(run, server, seconds=run.seconds)
            after = server.cpu()
            ours.append(load)
            cpu.append(((after[0] - before[0]) / load.requests, (after[1] - before[1]) / load.requests))
            bare.append(_pairs(run, other, seconds=run.seconds))
    run.details["predict"] = {"ours": [each._asdict() for each in ours], "bare": [b._asdict() for b in bare]}
    rate, reference_rate = median(each.rate for each in ours), median(each.rate for each in bare)
    at_gateway, at_worker = (1000 * median(each[side] for each in cpu) for side in (0, 1))
    return [
        Figure("predict, 32 clients", rate, "requests/s", at_least=6000, note=_runs(ours)),
        Figure("  beside bare Starlette", rate / reference_rate, "", at_least=0.6, note=_runs(bare)),
        Figure("  p50", median(each.p50 for each in ours) * 1000, "ms"),
        Figure("  p99", median(each.p99 for each in ours) * 1000, "ms", at_most=10),
        Figure("  failed", sum(each.errors for each in ours), "requests", at_most=0),
        Figure(
            "  server CPU per 1,000 requests", at_gateway + at_worker, "s",
            note=f"gateway {at_gateway:.3f}, worker {at_worker:.3f}",
        ),
    ]  # fmt: skip


def single(run: Run) -> list[Figure]:
    """One client, one request at a time."""
    with gateway(run.directory) as server:
        upload_sample(server)
        _pairs(run, server, seconds=1, clients=1)
        loads = []
        for n in range(run.repeats):
            run.say(f"single: run {n + 1} of {run.repeats}")
            loads.append(_pairs(run, server, seconds=run.seconds / 2, clients=1))
    run.details["single"] = [each._asdict() for each in loads]
    p50, p99 = (
        median(values) * 1000 for values in zip(*((each.p50, each.p99) for each in loads), strict=True)
    )
    return [Figure("one client, p50", p50, "ms", at_most=1.2), Figure("  p99", p99, "ms")]


def vectors(run: Run) -> list[Figure]:
    """1,000 rows a request: rows the cache has not, and rows that it has."""
    with gateway(run.directory) as server:
        upload_sample(server)
        fresh = _vectors(run, server, "misses", POOL_OF_MISSES)
        known = _vectors(run, server, "hits", POOL_OF_HITS)
    return [
        Figure("vectors of 1,000 rows", fresh[0], "rows/s", at_least=400_000, note=fresh[1]),
        Figure("  all from the cache", known[0], "rows/s", note=known[1]),
    ]


def _pairs(run: Run, server: Server, *, seconds: float, clients: int = CLIENTS) -> Load:
    return drive(server, "pairs.lua", clients=clients, seconds=seconds, seed=run.seed())


def _vectors(run: Run, server: Server, kind: str, pool: int) -> tuple[float, str]:
    """(median rows/s, how many of the rows were hits and what the servers' CPU did)."""
    loads: list[Load] = []
    seed = run.seed()  # the same for all runs of a kind: what is to hit was there before
    before, cpu = _counts(server), server.cpu()
    for n in range(run.repeats):
        run.say(f"vectors: {kind}, run {n + 1} of {run.repeats}")
        told = {"seed": seed, "rows": ROWS, "pool": pool}
        loads.append(drive(server, "vectors.lua", clients=VECTORS_CLIENTS, seconds=run.seconds / 2, **told))
    hits, misses = (after - then for after, then in zip(_counts(server), before, strict=True))
    spent = [after - then for after, then in zip(server.cpu(), cpu, strict=True)]
    run.details[f"vectors {kind}"] = [each._asdict() for each in loads]
    million = (hits + misses) / 1e6
    note = f"{hits / max(1, hits + misses):.1%} hits; CPU s per 10⁶ rows: gateway {spent[0] / million:.2f}"
    return median(each.rate for each in loads) * ROWS, f"{note}, worker {spent[1] / million:.2f}"


def _counts(server: Server) -> tuple[int, int]:
    caches = [worker["cache"] for worker in server.status()["workers"]]
    return sum(cache["hits"] for cache in caches), sum(cache["misses"] for cache in caches)


def _runs(loads: list[Load]) -> str:
    return "runs: " + ", ".join(f"{each.rate:,.0f}" for each in loads)
