"""Pictures as SVG inside a page, whose style sheet has their colours. Pure."""

from __future__ import annotations

import base64
import bisect
import json
import math
import struct
import zlib
from xml.etree.ElementTree import Element, SubElement, tostring

from bench.report.pictures import Heat, Line, Picture
from bench.report.scales import Scale

WIDTH, HEIGHT = 760, 340
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 12, 44  # around what is drawn
ACROSS, UP = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
COLOURS = 8  # of the style sheet
HEAT_ROWS = 96


def drawn(picture: Picture) -> str:
    """The picture; its axes stand in the element's data, for the page's script."""
    x, y = picture.scales()
    area = {"left": LEFT, "right": LEFT + ACROSS, "top": TOP, "bottom": TOP + UP}
    root = Element(
        "svg",
        {
            "class": "plot", "viewBox": f"0 0 {WIDTH} {HEIGHT}", "role": "img", "aria-label": picture.title,
            "data-x": " ".join(map(str, x)), "data-y": " ".join(map(str, y)), "data-area": json.dumps(area),
            "data-across": picture.x, "data-up": picture.y,
        },
    )  # fmt: skip
    _axes(root, picture, x, y)
    if picture.heat is not None:
        _heat(root, picture.heat, x, y)
    for line in picture.lines:
        _line(root, line, x, y, has_marks=picture.has_marks)
    return tostring(root, encoding="unicode")


def _axes(root: Element, picture: Picture, x: Scale, y: Scale) -> None:
    group = SubElement(root, "g", {"class": "axes"})
    for tick in y.ticks():
        at = _number(TOP + UP * (1 - y.place(tick.value)))
        SubElement(group, "line", {"x1": str(LEFT), "x2": str(LEFT + ACROSS), "y1": at, "y2": at})
        _text(group, tick.label, str(LEFT - 8), at, "end", dy="0.32em")
    for tick in x.ticks():
        at = _number(LEFT + ACROSS * x.place(tick.value))
        SubElement(group, "line", {"x1": at, "x2": at, "y1": str(TOP), "y2": str(TOP + UP)})
        _text(group, tick.label, at, str(TOP + UP + 18), "middle")
    _text(group, picture.x, str(LEFT + ACROSS), str(HEIGHT - 6), "end")
    _text(group, picture.y, str(LEFT + 6), str(TOP + 12), "start")


def _text(parent: Element, text: str, x: str, y: str, anchor: str, **more: str) -> None:
    SubElement(parent, "text", {"x": x, "y": y, "text-anchor": anchor} | more).text = text


def _line(root: Element, line: Line, x: Scale, y: Scale, *, has_marks: bool) -> None:
    points = [(LEFT + ACROSS * x.place(across), TOP + UP * (1 - y.place(up))) for across, up in line.points]
    dashed = " dashed" if line.is_dashed else ""
    group = SubElement(root, "g", {"class": f"c{line.colour % COLOURS}", "data-group": str(line.colour)})
    joined = " ".join(f"{_number(across)},{_number(up)}" for across, up in points)
    SubElement(group, "polyline", {"class": f"line{dashed}", "points": joined})
    for across, up in points if has_marks else ():
        SubElement(group, "circle", {"class": "fill", "r": "4", "cx": _number(across), "cy": _number(up)})


def _heat(root: Element, heat: Heat, x: Scale, y: Scale) -> None:
    """A picture of one pixel a second, stretched. The style sheet colours it: its alpha masks a rectangle."""
    image = base64.b64encode(png_of_alpha(heat_alpha(heat, y))).decode()
    place = {
        "x": str(LEFT), "y": str(TOP), "height": str(UP),
        "width": _number(ACROSS * x.place(float(len(heat.counts)))), "preserveAspectRatio": "none",
    }  # fmt: skip
    name = f"heat{heat.colour}"
    mask = SubElement(root, "mask", {"id": name, "style": "mask-type:alpha"})
    SubElement(mask, "image", place | {"class": "heat", "href": f"data:image/png;base64,{image}"})
    area = {key: place[key] for key in ("x", "y", "width", "height")}
    SubElement(root, "rect", area | {"class": f"fill c{heat.colour % COLOURS}", "mask": f"url(#{name})"})


def heat_alpha(heat: Heat, y: Scale) -> list[bytes]:
    """Rows from the top, a byte for each second: how dark it is, by the logarithm of the count."""
    highest = math.log1p(max((max(counts, default=0) for counts in heat.counts), default=0)) or 1.0
    low, high = math.log(y.low), math.log(y.high)
    rows = []
    for n in range(HEAT_ROWS):
        value = math.exp(high - (n + 0.5) / HEAT_ROWS * (high - low))
        bucket = bisect.bisect_right(heat.edges, value) - 1
        is_in = bucket >= 0 and value < heat.end
        counts = [each[bucket] if is_in else 0 for each in heat.counts]
        rows.append(bytes(round(255 * math.log1p(count) / highest) for count in counts))
    return rows


def png_of_alpha(rows: list[bytes]) -> bytes:
    """A PNG, black and more or less opaque."""
    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 4, 0, 0, 0)  # grey with alpha
    raw = b"".join(b"\0" + bytes(part for alpha in row for part in (0, alpha)) for row in rows)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(raw, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
