"""pure: the line through samples, and what is said of a process that grows."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.soak.findings import Line, lines, table
from tests.soak.footprint import Footprint
from tests.soak.slope import BLOCKS, slope

MIB = 1 << 20


def noise(growth: float, *, seed: int = 0, count: int = 1200) -> list[tuple[float, float]]:
    chance = random.Random(seed)
    return [(float(n), 100 + growth * n + chance.gauss(0, 1)) for n in range(count)]


@given(st.floats(-1e3, 1e3), st.floats(-1e6, 1e6), st.integers(BLOCKS, 500))
def test_a_straight_line_is_found_exactly(growth: float, start: float, count: int):
    found = slope([(float(n), start + growth * n) for n in range(count)])
    assert found.value == pytest.approx(growth, rel=1e-6, abs=1e-6)
    assert found.low == pytest.approx(growth, rel=1e-3, abs=1e-3)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    held = 0
    for seed in range(200):
        found = slope(noise(0.001, seed=seed))
        held += found.low <= 0.001 <= found.high
    assert 180 <= held <= 198


def test_growth_that_is_small_beside_the_noise_is_seen_in_a_long_run():
    assert slope(noise(0.01)).low > 0
    flat = slope(noise(0.0))
    assert flat.low < 0 < flat.high


def test_too_few_samples_say_nothing():
    assert slope(noise(1.0, count=BLOCKS - 1)) == (0.0, -math.inf, math.inf)


def seen(base: float = 50, **grows: float) -> list[tuple[float, Footprint]]:
    """A sample each second for ten minutes; what grows does so by so many in all."""
    plain = {"descriptors": 40, "sockets": 20, "memfds": 0, "threads": 9}
    return [
        (
            float(n),
            Footprint(
                int((base + grows.get("rss", 0) * n / 600) * MIB),
                *(int(value + grows.get(name, 0) * n / 600) for name, value in plain.items()),
            ),
        )
        for n in range(600)
    ]


@pytest.mark.parametrize(
    ("grows", "complaint"),
    [
        ({"rss": 10.0}, "gateway grows by 60.0 MiB an hour at least"),
        ({"descriptors": 20}, "gateway had 46 descriptors and has 58"),
        ({"sockets": 20}, "gateway had 26 sockets and has 38"),
        ({"memfds": 20}, "gateway had 6 memfds and has 18"),
        ({"threads": 20}, "gateway had 15 threads and has 27"),
    ],
)
def test_whatever_grows_is_told(grows: dict[str, float], complaint: str):
    (line,) = lines({"gateway": seen(**grows)})
    (found,) = line.wrong()
    assert found == complaint


def test_what_stays_as_it_is_is_not_told():
    (line,) = lines({"gateway": seen()})
    assert line.wrong() == []
    assert line.counts["threads"] == (9, 9)


def test_what_grows_while_it_warms_up_is_not_told():
    warm = [(at, each._replace(rss=each.rss - (0 if at > 149 else 40 * MIB))) for at, each in seen(100)]
    (line,) = lines({"gateway": warm})
    assert line.wrong() == []


def test_a_line_of_the_table_has_the_interval():
    (line,) = lines({"gateway": seen(descriptors=2)})
    assert isinstance(line, Line)
    assert table([line]).splitlines()[2] == (
        "| gateway | 50 MiB | +0.0 MiB (+0.0 to +0.0) | 40 → 41 | 20 → 20 | 0 → 0 | 9 → 9 |"
    )
