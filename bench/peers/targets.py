"""What the project has set itself beside other servers, and whether a run shows that it is reached. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from bench.figures import Figure, number
from bench.peers.catalog import LIMIT, OTHERS, OURS, PEERS, WITH_WORKERS
from bench.peers.found import Found, Series

STRETCH = 1.3  # times Mosec's, for the tiny model
PYTHON_SERVERS = ("mlserver", "litserve", "bentoml", "rayserve")


class Target(NamedTuple):
    """One line: `value` is None where the run has not measured it."""

    what: str
    unit: str
    value: float | None
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """In a word or two."""
        if self.value is None:
            return "not measured"
        figure = Figure(self.what, self.value, self.unit, self.at_least, self.at_most)
        return {"missed": "not reached"}.get(figure.verdict, figure.verdict)

    @property
    def bound(self) -> str:
        """As text."""
        return f"{Figure(self.what, 0, '', self.at_least, self.at_most).bound}{self.unit and ' '}{self.unit}"

    @property
    def shown(self) -> str:
        """The value as text, a ratio with two digits behind the point."""
        if self.value is None:
            return "–"
        value = f"{self.value:.2f}" if self.unit == "×" else number(self.value)
        return f"{value} {self.unit}".strip()


def targets(found: Found, *, has_processes: bool) -> list[Target]:
    """All of them, in the order of the page."""
    return [
        *_tiny(found), *_perceptron(found), *_transformer(found), *_faults(found),
        _gateways(found, has_processes),
    ]  # fmt: skip


def _tiny(found: Found) -> Iterator[Target]:
    ours, mosec = Series(OURS, "tiny"), Series("mosec", "tiny")
    rate = found.ratio(ours, mosec, "rate")
    stretch = "" if rate is None else f"{STRETCH} × is {'' if rate >= STRETCH else 'not '}reached"
    yield Target("tiny model, 32 clients: requests/s, beside Mosec", "×", rate, at_least=1.0, note=stretch)
    yield Target("its p99, beside Mosec's", "×", found.ratio(ours, mosec, "p99"), at_most=1.0)
    slower = found.best((Series(name, "tiny") for name in PYTHON_SERVERS), "rate")
    yield _beside(
        found, "tiny model: beside the best of MLServer, LitServe, BentoML and Ray Serve", ours, slower,
        "rate", at_least=4.0,
    )  # fmt: skip
    alone = found.typical(ours, "alone_p50")
    yield Target("one client, tiny model: p50", "ms", alone and 1000 * alone, at_most=1.0)
    quickest = found.best((Series(name, "tiny") for name in WITH_WORKERS), "alone_p50", is_lowest=True)
    what = "one client's p50, beside the best peer that has worker processes"
    yield _beside(found, what, ours, quickest, "alone_p50", at_most=0.4)
    yield Target("start to first answer", "s", found.typical(ours, "ready"), at_most=3.0)
    soonest = found.best((Series(name, "tiny") for name in OTHERS), "ready", is_lowest=True)
    yield _beside(
        found, "start to first answer, beside the fastest peer", ours, soonest, "ready", at_most=1.0
    )
    cpu = found.ratio(ours, mosec, "cpu_per_1000")
    yield Target("CPU for 1,000 tiny requests, beside Mosec's", "×", cpu, at_most=1.0)


def _perceptron(found: Found) -> Iterator[Target]:
    ours, mosec = Series(OURS, "mlp784"), Series("mosec", "mlp784")
    rate = found.ratio(ours, mosec, "rate")
    yield Target("784 floats in JSON: requests/s, beside Mosec", "×", rate, at_least=1.5)
    binary = found.ratio(Series(OURS, "mlp784", variant="binary"), ours, "rate")
    yield Target("784 floats in V2's binary, beside our JSON", "×", binary, at_least=1.3)


def _transformer(found: Found) -> Iterator[Target]:
    ours = Series(OURS, "transformer")
    best = found.best((Series(name, "transformer") for name in OTHERS), "rate")
    yield _beside(
        found, "transformer, 32 clients: rows/s, beside the best peer", ours, best, "rate", at_least=1.05
    )
    limit = found.ratio(ours, Series(LIMIT, "transformer"), "rate")
    yield Target("transformer: beside the same program without a server", "×", limit, at_least=0.95)


def _faults(found: Found) -> Iterator[Target]:
    bad = Series(OURS, "mlp784", "neighbours")
    spoiled = found.typical(bad, "spoiled")
    yield Target(
        "one client of wrong-size rows beside 12 good ones: good requests spoiled", "", spoiled, at_most=0,
        note=_of(found, bad, "good"),
    )  # fmt: skip
    ours = Series(OURS, "transformer", "zipf")
    best = found.best((Series(name, "transformer", "zipf") for name in OTHERS), "rate")
    yield _beside(
        found, "Zipf(1.1) repeats, 4 workers, transformer: rows/s, beside the best peer", ours, best, "rate",
        at_least=5.0,
    )  # fmt: skip
    killed = Series(OURS, "transformer", "kill")
    failed = found.typical(killed, "failed")
    yield Target(
        "a worker killed under load: requests failed", "", failed, at_most=0,
        note=_of(found, killed, "requests"),
    )  # fmt: skip
    crowd = Series(OURS, "transformer", "overload")
    calm, much = found.typical(crowd, "calm_rate"), found.typical(crowd, "crowd_rate")
    kept = much / calm if calm and much is not None else None
    yield Target("256 clients: answers/s, beside 32 clients", "×", kept, at_least=0.95)


def _gateways(found: Found, has_processes: bool) -> Target:
    series = Series(OURS, "tiny", variant="gateways")
    note = "" if has_processes else "gw.py has no such flag yet"
    errors = found.typical(series, "errors")
    return Target("two gateway processes on one port: requests failed", "", errors, at_most=0, note=note)


def _beside(
    found: Found, what: str, ours: Series, other: Series | None, figure: str,
    *, at_least: float | None = None, at_most: float | None = None,
) -> Target:  # fmt: skip
    """A ratio to whichever of the others was best, which is named."""
    ratio = other and found.ratio(ours, other, figure)
    title = f"that is {PEERS[other.peer].title}" if other and ratio is not None else ""
    return Target(what, "×", ratio, at_least, at_most, title)


def _of(found: Found, series: Series, figure: str) -> str:
    many = found.typical(series, figure)
    return "" if many is None else f"of {many:,.0f}"


def missed(all_of: Iterable[Target]) -> list[Target]:
    """Those that were measured and not reached."""
    return [each for each in all_of if each.verdict == "not reached"]
