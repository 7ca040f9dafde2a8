"""The text that Prometheus reads (exposition format 0.0.4), a family at a time. Pure.

Written here because a page of thousands of lines has to take milliseconds, and prometheus_client's own
writer takes a hundred: labels are rendered once for each series, not once for each bucket of it.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.metrics.recorder import Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[str, float]  # labels as `labels` writes them, and the value

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


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
        start = f'{name}_bucket{{{each},le="'
        total = 0
        for bound, count in zip(counted.bounds, counted.counts, strict=False):
            total += count
            lines.append(f'{start}{bound:g}"}} {total}\n')
        total += counted.counts[-1]
        lines.append(f'{start}+Inf"}} {total}\n{name}_sum{{{each}}} {counted.sum!r}\n')
        lines.append(f"{name}_count{{{each}}} {total}\n")
    return "".join(lines)


def _family(name: str, kind: str, text: str, samples: Iterable[Sample]) -> str:
    lines = [f"{name}{{{each}}} {value!r}\n" if each else f"{name} {value!r}\n" for each, value in samples]
    return _head(name, kind, text) + "".join(lines)


def _head(name: str, kind: str, text: str) -> str:
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
