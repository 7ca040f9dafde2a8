"""Runs beside other runs, figure by figure: the ratio, its interval, and what that shows. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.intervals import (
    FEWEST_BLOCKS,
    Floats,
    Known,
    Ratio,
    blurred,
    known,
    known_by_runs,
    quantiles,
    ratio,
    ratio_of_pairs,
    seconds_drawn,
)
from bench.results import Result

SEED = 1  # the same files make the same intervals
Groups = dict[str, list[Result]]


class Quantity(NamedTuple):
    """What a run is judged by. `share` is of the latencies, where it is one of their quantiles."""

    name: str
    unit: str
    written: Callable[[Result], float | None]
    more_is_better: bool = False
    share: float | None = None

    def of(self, run: Result) -> float | None:
        """What the run says; no time of no answer, and none that a late executor cannot vouch for."""
        if self.share is not None and not run.latency.count:
            return None
        is_timed = self.share is not None or self.name == "goodput"
        return self.written(run) if run.kept_schedule.is_kept or not is_timed else None


QUANTITIES = (
    Quantity("answered", "/s", lambda run: run.rate, more_is_better=True),
    Quantity("goodput", "/s", lambda run: run.goodput, more_is_better=True),
    Quantity("p50", "s", lambda run: run.latency.p50, share=0.5),
    Quantity("p90", "s", lambda run: run.latency.p90, share=0.9),
    Quantity("p99", "s", lambda run: run.latency.p99, share=0.99),
    Quantity("p99.9", "s", lambda run: run.latency.p999, share=0.999),
    Quantity("errors", "share", lambda run: sum(run.errors.values()) / max(1, run.requests)),
    Quantity("CPU per 1,000", "s", lambda run: run.cpu_per_1000),
)


class Compared(NamedTuple):
    """One quantity of both sides; `ratio` is the second's over the first's, `None` where there is none."""

    quantity: Quantity
    first: float
    second: float
    ratio: Ratio | None

    @property
    def verdict(self) -> str:
        """What may be said of the second, against the first."""
        if 0 in (self.first, self.second):
            return f"none in {'either' if self.first == self.second else 'one'}"
        if self.ratio is None:
            return "too little to say"
        if not self.ratio.is_difference_shown:
            return "no difference shown"
        return "better" if (self.ratio.low > 1) == self.quantity.more_is_better else "worse"


def grouped(runs: Sequence[tuple[Path, Result]]) -> Groups:
    """Runs by their names and, where one has several, the rates; where all have the same, by their files'."""
    rates: dict[str, set[str]] = {}
    for _, run in runs:
        rates.setdefault(run.name, set()).add(_rate(run))
    names = [run.name + (f" at {_rate(run)}" if len(rates[run.name]) > 1 else "") for _, run in runs]
    if len(set(names)) < 2:
        names = [path.stem for path, _ in runs]
    if len(set(names)) < 2:
        names = [str(path) for path, _ in runs]
    groups: Groups = {}
    for name, (_, run) in zip(names, runs, strict=True):
        groups.setdefault(name, []).append(run)
    return groups


def thing(name: str, runs: Sequence[Result]) -> str:
    """What a group is of, whatever the rate."""
    return runs[0].name if name == f"{runs[0].name} at {_rate(runs[0])}" else name


def compare(first: Sequence[Result], second: Sequence[Result], *, are_paired: bool = False) -> list[Compared]:
    """Every quantity that both sides have. Pairs are the first run of each, the second of each, and so on."""
    return [
        Compared(quantity, *each, _ratio(quantity, first, second, are_paired))
        for quantity in QUANTITIES
        if (each := (typical(quantity, first), typical(quantity, second))) and not np.isnan(each).any()
    ]


def typical(quantity: Quantity, runs: Sequence[Result]) -> float:
    """The geometric mean of the runs, which is what ratios are of; nan where a run lacks the quantity."""
    values = np.array([quantity.of(run) for run in runs], dtype=float)
    return float(np.exp(np.log(values).mean())) if (values > 0).all() else float(values.mean())


def _ratio(
    quantity: Quantity, first: Sequence[Result], second: Sequence[Result], are_paired: bool
) -> Ratio | None:
    source = np.random.default_rng(SEED)
    if are_paired:
        pairs = zip(map(quantity.of, second), map(quantity.of, first), strict=True)
        return ratio_of_pairs([(one or 0.0, other or 0.0) for one, other in pairs], source)
    one, other = (_known(quantity, side, source) for side in (second, first))
    return None if one is None or other is None else ratio(one, other)


def _known(quantity: Quantity, runs: Sequence[Result], source: np.random.Generator) -> Known | None:
    if len(runs) > 1:
        return known_by_runs([quantity.of(run) or 0.0 for run in runs], source)
    return _known_by_seconds(quantity, runs[0], source)


def _known_by_seconds(quantity: Quantity, run: Result, source: np.random.Generator) -> Known | None:
    """What the seconds of one run tell of it; the last one is left out, unless it was a whole one."""
    whole = [second for second in run.timeline if second.t + 1 <= run.duration]
    if not whole:
        return None
    drawn, blocks = seconds_drawn(len(whole), source)
    seconds = [second.t for second in whole]
    all_of_it, draws = (_drawn(quantity, run, each, seconds) for each in (np.ones((1, len(whole))), drawn))
    figure = quantity.of(run)
    if all_of_it is None or draws is None or figure is None or blocks < FEWEST_BLOCKS:
        return None
    if quantity.share is not None:  # no difference is shown that is finer than what was counted
        draws = blurred(draws, _limits(run.heat_edges)[1] - _limits(run.heat_edges)[0], source)
    return known(figure, draws, blocks, whole=float(all_of_it[0]))


def _drawn(quantity: Quantity, run: Result, drawn: Floats, seconds: Sequence[int]) -> Floats | None:
    by_second = {second.t: second for second in run.timeline}
    if quantity.name == "answered":
        return np.asarray(drawn @ np.array([by_second[t].answered for t in seconds], dtype=float))
    if quantity.name == "errors":
        failed = drawn @ np.array([by_second[t].errors for t in seconds], dtype=float)
        return np.asarray(failed / np.maximum(1, drawn @ np.array([by_second[t].sent for t in seconds])))
    if len(run.heat_edges) < 2:
        return None
    limits = _limits(run.heat_edges)
    by_latency = {heat.t: heat.counts for heat in run.heat}
    counts = drawn @ np.array([by_latency.get(t, [0] * len(run.heat_edges)) for t in seconds], dtype=float)
    if quantity.share is not None:
        return quantiles(counts, limits, quantity.share)
    if quantity.name == "goodput" and run.deadline:
        inside = (np.log(run.deadline) - limits[:-1]) / np.diff(limits)
        return np.asarray(counts @ np.clip(inside, 0, 1))
    return None


def _limits(edges: Sequence[float]) -> Floats:
    """The logarithms of where buckets begin and end; the last is as wide as the one before."""
    starts = np.log(edges)
    return np.append(starts, 2 * starts[-1] - starts[-2])


def reservations(groups: Groups) -> Iterator[str]:
    """What a reader has to know before believing a comparison, a sentence each."""
    alone = []
    for name, runs in groups.items():
        for run in runs:
            if not run.kept_schedule.is_kept:
                sentence = run.kept_schedule.sentence or "the schedule was not kept"
                yield f"{name}: {sentence}. Latencies are left out."
            if run.is_interrupted:
                yield f"{name}: the run was interrupted after {run.duration:.0f} s."
        if len(runs) == 1 and len(groups) > 1:
            alone.append(name)
    if alone:
        yield f"One run of {', '.join(alone)}: intervals are of its seconds, another run may differ by more."
    everybody = [run for runs in groups.values() for run in runs]
    for what, values in _circumstances(everybody):
        if len(set(values)) > 1:
            yield f"These runs differ in {what}: {', '.join(dict.fromkeys(values))}."


def _rate(run: Result) -> str:
    return "any rate" if run.is_closed else f"{run.schedule.offered_rate:.3g}/s"


def _circumstances(runs: Sequence[Result]) -> Iterator[tuple[str, list[str]]]:
    """What should be the same for all that is compared."""
    of: dict[str, Callable[[Result], Any]] = {
        "machine": lambda run: f"{run.machine.cpu} × {run.machine.cores}",
        "loop": lambda run: "closed" if run.is_closed else "open",
        "offered rate": _rate,
        "pattern": lambda run: run.schedule.pattern,
        "deadline": lambda run: run.deadline,
    }
    for what, value in of.items():
        yield what, [str(value(run)) for run in runs]
