"""A flame graph as one SVG file, which loads nothing. Pure.

Each frame is as wide as its share of the samples and stands on the one that called it. A click on a frame
widens it, another outside of all shows the whole again.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple
from xml.etree.ElementTree import Element, SubElement, tostring

from bench.profile.stacks import Stacks

WIDTH, LINE, TITLE = 1200, 17, 28
LEAST = 0.0005  # of the whole; what is narrower is not seen

_STYLE = """
svg { font: 12px sans-serif; }
.frame { cursor: pointer; }
.frame rect { stroke: #fff; stroke-width: 0.5; }
.frame:hover rect { stroke: #000; }
.frame text { pointer-events: none; }
"""

_SCRIPT = """
const frames = [...document.querySelectorAll("svg.frame")];
function show(from, width, level) {
  for (const frame of frames) {
    const at = +frame.dataset.at, share = +frame.dataset.share;
    const isBelow = +frame.dataset.level < level && at <= from && at + share >= from + width;
    const left = isBelow ? 0 : (at - from) / width, wide = isBelow ? 1 : share / width;
    frame.setAttribute("x", left * 100 + "%");
    frame.setAttribute("width", Math.max(0, wide * 100) + "%");
    frame.style.display = left >= -1e-9 && left + wide <= 1 + 1e-9 ? "" : "none";
  }
}
document.addEventListener("click", event => {
  const data = event.target.closest("svg.frame")?.dataset;
  show(+(data?.at ?? 0), +(data?.share ?? 1), +(data?.level ?? 0));
});
"""


class Bar(NamedTuple):
    """One frame of the graph: its place and width as shares of the whole."""

    name: str
    level: int
    at: float
    share: float


def bars(stacks: Stacks) -> Iterator[Bar]:
    """The frames that are wide enough to be seen, callers before who they called."""
    whole = stacks.total()

    def within(part: Stacks, level: int, at: int) -> Iterator[Bar]:
        callees: dict[str, Stacks] = {}
        for stack, count in part.items():
            if len(stack) > level:
                callees.setdefault(stack[level], Counter())[stack] += count
        for name in sorted(callees):
            samples = callees[name].total()
            if samples >= LEAST * whole:
                yield Bar(name, level, at / whole, samples / whole)
                yield from within(callees[name], level + 1, at)
            at += samples

    return within(stacks, 0, 0)


def drawn(stacks: Stacks, title: str) -> str:
    """The file."""
    found = list(bars(stacks))
    depth = 1 + max((bar.level for bar in found), default=0)
    height = TITLE + LINE * depth + 4
    root = Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg", "width": "100%", "height": str(height),
            "style": f"min-width: {WIDTH // 2}px", "role": "img", "aria-label": title,
        },
    )  # fmt: skip
    SubElement(root, "style").text = _STYLE
    SubElement(root, "rect", {"width": "100%", "height": "100%", "fill": "#fff"})
    SubElement(root, "text", {"x": "6", "y": "18", "font-weight": "bold"}).text = title
    for bar in found:
        _draw(root, bar, stacks.total(), height)
    SubElement(root, "script").text = _SCRIPT
    return tostring(root, encoding="unicode") + "\n"


def _draw(root: Element, bar: Bar, whole: int, height: int) -> None:
    place = {
        "class": "frame", "x": f"{bar.at * 100:.4f}%", "width": f"{bar.share * 100:.4f}%",
        "y": str(height - LINE * (bar.level + 1)), "height": str(LINE),
        "data-at": f"{bar.at:.6f}", "data-share": f"{bar.share:.6f}", "data-level": str(bar.level),
    }  # fmt: skip
    frame = SubElement(root, "svg", place)
    samples = round(bar.share * whole)
    SubElement(frame, "title").text = f"{bar.name}: {samples:,} samples, {bar.share:.1%}"
    SubElement(frame, "rect", {"width": "100%", "height": "100%", "fill": _colour(bar.name)})
    SubElement(frame, "text", {"x": "3", "y": "13"}).text = bar.name


def _colour(name: str) -> str:
    """The same for all functions of one file; native code, whose files are libraries, is blue."""
    file = name.rpartition(" (")[2].rstrip(")").partition(":")[0]
    is_native = ".so" in file or file.startswith("[")
    hue = (200 if is_native else 10) + zlib.crc32(file.encode()) % 50
    return f"hsl({hue} {70 if file else 10}% 72%)"
