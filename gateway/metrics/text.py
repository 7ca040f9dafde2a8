"""The text that Prometheus reads (exposition format 0.0.4), a family at a time. Pure.

Written here because a page of thousands of lines has to take milliseconds, and prometheus_client's own
writer takes a hundred: labels are rendered once for each series, not once for each bucket of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import accumulate

from gateway.metrics.recorder import Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[str, float]  # labels as `labels` writes them, and the value

# Series whose names are kept between two pages; more than there are where the page takes time at all.
_KEPT = 8192
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@lru_cache(_KEPT)
def labels(**values: str) -> str:
    """`model="m",version="1"`."""
    return ",".join([f'{name}="{value.translate(_ESCAPES)}"' for name, value in values.items()])


def counter(name: str, text: str, samples: Iterable[Sample]) -> str:
    """A family of values that only grow."""
    return _family(name, "counter", text, samples)


def gauge(name: str, text: str, samples: Iterable[Sample]) -> str:
    """A family of values as they are now."""
    return _family(name, "gauge", text, samples)


def histogram(name: str, text: str, series: Iterable[tuple[str, Histogram]]) -> str:
    """A family of histograms. Its labels may not be empty."""
    lines = [_head(name, "histogram", text)]
    for each, counted in series:
        totals = tuple(accumulate(counted.counts))
        lines.append(_histogram(name, each, counted.bounds) % (*totals, counted.sum, totals[-1]))
    return "".join(lines)


@lru_cache(_KEPT)
def _histogram(name: str, each: str, bounds: tuple[float, ...]) -> str:
    """The lines of one histogram, with places for its numbers."""
    each = each.replace("%", "%%")
    shown = [*(f"{bound:g}" for bound in bounds), "+Inf"]
    buckets = [f'{name}_bucket{{{each},le="{bound}"}} %d\n' for bound in shown]
    return "".join([*buckets, f"{name}_sum{{{each}}} %r\n", f"{name}_count{{{each}}} %d\n"])


def _family(name: str, kind: str, text: str, samples: Iterable[Sample]) -> str:
    lines = [f"{name}{{{each}}} {value!r}\n" if each else f"{name} {value!r}\n" for each, value in samples]
    return _head(name, kind, text) + "".join(lines)


def _head(name: str, kind: str, text: str) -> str:
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
