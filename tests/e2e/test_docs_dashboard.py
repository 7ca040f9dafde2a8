"""End to end: what docs/dashboard.md shows works, and its figures are those of the programs."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

from gateway.doors.monitoring import events, live
from gateway.doors.pages.dashboard import FOLDER
from gateway.observing.history import LENGTH, STEP

PATH = Path(__file__).parents[2] / "docs" / "dashboard.md"
PAGE = PATH.read_text()


def test_its_figures_are_those_of_the_programs():
    assert (STEP, STEP * LENGTH) == (5.0, 3600.0)
    assert f"the last {live.LATEST} events" in PAGE
    assert f"{events.MAX_WATCHERS} clients watch already" in PAGE
    assert (live.PERIOD, live.WORKERS_PER_PERIOD) == (1.0, 50)
    packed = sum(len(gzip.compress(path.read_bytes(), 9)) for path in FOLDER.iterdir())
    assert "less than 60 KB compressed" in " ".join(PAGE.split())
    assert packed < 60_000


def test_every_section_of_the_page_is_told_of():
    titles = re.findall(r'<h2 id="[^"]+">([^<]+)</h2>', (FOLDER / "dashboard.html").read_text())
    rows = re.findall(r"^\| ([A-Z][a-z]+(?: it)?) \|", PAGE, re.MULTILINE)
    assert titles == rows


def test_its_picture_is_there():
    for name in re.findall(r"\]\((img/[^)]+)\)", PAGE):
        assert (PATH.parent / name).stat().st_size > 10_000
