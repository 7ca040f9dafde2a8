"""Pure: what a worker counts of its own work."""

from __future__ import annotations

from engine.planes.counters import CpuUse


def test_cores_are_processor_time_over_time():
    use = CpuUse()
    assert use.cores(100.0, 7.0) == 0.0  # nothing is known of what was before
    assert use.cores(102.0, 10.0) == 1.5
    assert use.cores(104.0, 10.0) == 0.0


def test_who_asks_more_often_is_told_the_same_again():
    use = CpuUse(at_least=1.0)
    use.cores(100.0, 0.0)
    assert use.cores(101.0, 0.5) == 0.5
    assert use.cores(101.9, 1.4) == 0.5
    assert use.cores(102.0, 1.5) == 1.0
