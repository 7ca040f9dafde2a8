"""The tables of the page, as Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.figures import number
from bench.peers.catalog import LIMIT, OTHERS, OURS, PEERS, VARIANTS
from bench.peers.earlier import ALONE, ONLY_EARLIER, RATES, SPOILED
from bench.peers.found import Found, Series, usual_workers
from bench.peers.outcomes import Outcome
from bench.peers.targets import Target

MIB = 2**20
_NONE = "–"


def target_table(all_of: Iterable[Target]) -> str:
    """Each with its bound, what the run shows, and whether that reaches it."""
    rows = [
        [each.what, each.bound, each.shown + (f" ({each.note})" if each.note else ""), each.verdict]
        for each in all_of
    ]
    return markdown(["what", "target", "this run", ""], rows)


def load_table(found: Found, workload: str) -> str:
    """Every server under one workload, the fastest first, and what was measured earlier in a column apart."""
    head = [
        "server", "workers", "requests/s", "of rotations", "p50 ms", "p99 ms", "one client p50 ms",
        "CPU s for 1,000", "RSS MiB", "PSS MiB", "start s", "failed", "wrong", "measured earlier, requests/s",
    ]  # fmt: skip
    known = RATES[workload]
    rows = [_load_row(found, each, known) for each in series_of(found, workload)]
    earlier = sorted(ONLY_EARLIER, key=lambda name: list(known).index(name) if name in known else len(known))
    rows += [
        [ONLY_EARLIER[name], *[_NONE] * (len(head) - 2), known[name]] for name in earlier if name in known
    ]
    return markdown(head, rows)


def series_of(found: Found, workload: str) -> list[Series]:
    """What was measured of a workload, the fastest first."""
    own = usual_workers(OURS, workload)
    every = [Series(OURS, workload, variant=variant, workers=own) for variant in VARIANTS]
    every += [Series(OURS, workload, workers=3 - own)]
    every += [Series(name, workload) for name in OTHERS]
    every.append(Series(LIMIT, workload, workers=own))
    known = [(rate, each) for each in every if (rate := found.typical(each, "rate")) is not None]
    return [each for _, each in sorted(known, key=lambda each: -each[0])]


def title(series: Series) -> str:
    """What a line is called."""
    if series.peer == LIMIT:
        return "no server: the program in batches of 32"
    variant = VARIANTS[series.variant]
    return PEERS[series.peer].title + (f", {variant}" if variant else "")


def _load_row(found: Found, series: Series, earlier: dict[str, str]) -> list[str]:
    def told(figure: str, factor: float = 1.0) -> str:
        value = found.typical(series, figure)
        return _NONE if value is None else number(factor * value)

    rates = found.values(series, "rate").values()
    name = title(series)
    is_headline = not series.variant and series.workers in (0, usual_workers(series.peer, series.workload))
    return [
        f"**{name}**" if series.peer == OURS else name,
        str(series.workers or usual_workers(series.peer, series.workload)),
        told("rate"), f"{number(min(rates))}–{number(max(rates))}",
        told("p50", 1000), told("p99", 1000), told("alone_p50", 1000), told("cpu_per_1000"),
        told("rss", 1 / MIB), told("pss", 1 / MIB), told("ready"), _total(found, series, "errors"),
        _total(found, series, "wrong"),
        earlier.get(series.peer, _NONE) if is_headline else _NONE,
    ]  # fmt: skip


def _total(found: Found, series: Series, figure: str) -> str:
    values = found.values(series, figure)
    return number(sum(values.values())) if values else _NONE


def fault_table(found: Found) -> str:
    """Bad clients and a killed worker."""
    rows = []
    for name, peer in PEERS.items():
        bad, killed = Series(name, "mlp784", "neighbours"), Series(name, "transformer", "kill")
        rows.append(
            [
                f"**{peer.title}**" if peer.is_ours else peer.title,
                _pair(found, bad, "spoiled", "good", "of"), SPOILED.get(name, _NONE),
                _pair(found, killed, "failed", "requests", "of"),
                _pair(found, killed, "rate_before", "rate_after", "→"),
            ]
        )  # fmt: skip
    rows += [
        [label, _NONE, SPOILED[name], _NONE, _NONE] for name, label in ONLY_EARLIER.items() if name in SPOILED
    ]
    head = [
        "server", "good requests spoiled", "measured earlier", "a worker killed: failed",
        "answers/s before → at the end",
    ]  # fmt: skip
    return markdown(head, _without_empty(rows))


def crowd_table(found: Found) -> str:
    """Too many clients, and rows that repeat."""
    rows = []
    for name, peer in PEERS.items():
        crowd, repeats = Series(name, "transformer", "overload"), Series(name, "transformer", "zipf")
        cells = [
            _told(found, crowd, "calm_rate"), _told(found, crowd, "crowd_rate"),
            _told(found, crowd, "crowd_p50", 1000), _told(found, crowd, "crowd_p99", 1000),
            _told(found, crowd, "refused"), _told(found, repeats, "rate"),
        ]  # fmt: skip
        rows.append([f"**{peer.title}**" if peer.is_ours else peer.title, *cells])
    head = [
        "server", "answers/s, 32 clients", "256 clients", "their p50 ms", "their p99 ms", "refused at once",
        "Zipf repeats, rows/s",
    ]  # fmt: skip
    return markdown(head, _without_empty(rows))


def alone_table(found: Found) -> str:
    """One client of the tiny model, beside what was measured earlier."""
    rows = [
        [peer.title, *_alone(found, Series(name, "tiny")), ALONE.get(name, _NONE)]
        for name, peer in PEERS.items()
    ]
    rows += [[label, _NONE, _NONE, ALONE[name]] for name, label in ONLY_EARLIER.items() if name in ALONE]
    return markdown(["server", "p50 ms", "p99 ms", "measured earlier, p50 ms"], _without_empty(rows))


def _alone(found: Found, series: Series) -> list[str]:
    return [_told(found, series, f"alone_{each}", 1000) for each in ("p50", "p99")]


def error_lines(outcomes: Iterable[Outcome]) -> str:
    """What could not be measured, and why."""
    lines = [
        f"- {PEERS[each.peer].title if each.peer in PEERS else 'no server'}, {each.workload}, {each.kind}: "
        f"{' '.join(each.error.split())[:300]}"
        for each in outcomes
        if each.error
    ]
    return "\n".join(lines) or "Everything that was to be measured was measured."


def _told(found: Found, series: Series, figure: str, factor: float = 1.0) -> str:
    value = found.typical(series, figure)
    return _NONE if value is None else number(factor * value)


def _pair(found: Found, series: Series, one: str, other: str, word: str) -> str:
    first, second = found.typical(series, one), found.typical(series, other)
    return _NONE if first is None or second is None else f"{number(first)} {word} {number(second)}"


def _without_empty(rows: Iterable[Sequence[str]]) -> list[Sequence[str]]:
    return [row for row in rows if set(row[1:]) != {_NONE}]


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [list(head), ["---"] * len(head), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
