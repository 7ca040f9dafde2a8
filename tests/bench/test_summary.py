"""pure, but for one file: figures of known records, and how they are told."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from bench import results
from bench.executor import display, summary
from bench.executor.codecs.codec import Answer
from bench.executor.command import text
from bench.executor.connection import Request
from bench.executor.progress import Moment, Progress, Tick
from bench.executor.records import Records
from bench.results import Kept, Planned, Result, Second, Times, read_result, write_result


def records(*requests: tuple[float, float], error: str = "", late: float = 0.0, sent: float = 0.0) -> Records:
    """Each was due then and took so long, was taken up `late` and sent `sent` after that."""
    found = Records()
    for due, took in requests:
        found.add(Request(due, due + late, "", ""), due + late + sent, due + took, Answer(0, error))
    return found


def a_result(**fields: object) -> Result:
    plain: dict[str, object] = {
        "name": "a", "started": "2026-01-01T00:00:00+00:00", "schedule": Planned(100, 10.0, 10.0),
        "door": "v1", "url": "http://127.0.0.1:1", "duration": 10.0, "requests": 100, "answered": 100,
    }  # fmt: skip
    return Result(**(plain | fields))  # type: ignore[arg-type]


def test_percentiles_are_those_of_the_sorted_durations():
    found = summary.columns(records(*((n / 100, n / 1000) for n in range(1, 10_001))))
    times = summary.times(found.latency)
    assert times.count == 10_000
    assert times.mean == pytest.approx(5.0005)
    assert (times.p50, times.p90, times.p99, times.p999, times.p9999, times.max) == pytest.approx(
        (5.0, 9.0, 9.9, 9.99, 9.999, 10.0)
    )


def test_the_histogram_says_the_same_within_its_digits():
    durations = summary.columns(records(*((0, n / 1000) for n in range(1, 1001)))).latency
    histogram = summary.times(durations).histogram()
    assert histogram.get_total_count() == 1000
    for percent in (1, 50, 99, 100):
        assert histogram.get_value_at_percentile(percent) == pytest.approx(percent * 10_000, rel=0.002)


def test_latency_begins_when_a_request_was_due_and_service_when_it_was_sent():
    found = summary.columns(records((1.0, 0.5), late=0.1, sent=0.2))
    assert list(found.latency) == pytest.approx([0.5])
    assert list(found.service) == pytest.approx([0.2])


def test_errors_are_no_latencies():
    found = records((0, 0.001), (0.1, 0.003))
    found.extend(records((0.2, 9.0), error="503"))
    found.missed = 2
    assert list(summary.columns(found).latency) == pytest.approx([0.001, 0.003])
    assert summary.errors(found) == {"never sent": 2, "503": 1}
    assert summary.goodput(summary.columns(found), 0.002, 2.0) == 0.5


def test_a_second_has_what_was_due_in_it_and_what_came_in_it():
    found = records((0.1, 0.1), (0.5, 0.2), (0.9, 1.2))
    found.extend(records((1.0, 0.5), error="503"))
    assert summary.timeline(summary.columns(found)) == [
        Second(0, 3, 2, 0, pytest.approx(0.1), pytest.approx(0.2), pytest.approx(0.2), 1),
        Second(1, 1, 0, 1, 0.0, 0.0, 0.0, 1),
        Second(2, 0, 1, 0, pytest.approx(1.2), pytest.approx(1.2), pytest.approx(1.2), 0),
    ]


def test_the_heat_map_counts_every_answer_once_where_it_belongs():
    edges, rows = summary.heat(summary.columns(records((0.1, 0.0101), (0.2, 0.0102), (1.5, 0.2))))
    assert edges[0] == pytest.approx(0.01)
    assert [sum(row.counts) for row in rows] == [2, 1]
    assert rows[0].counts[0] == 2
    assert edges[rows[1].counts.index(1)] <= 0.2 < edges[-1] * 10 ** (1 / 8)


def test_a_schedule_is_kept_where_requests_leave_in_time():
    kept = summary.kept(records((0, 1), (0, 1), late=0.001), 8)
    assert kept == Kept(0.001, 0.001, 0.001)


@pytest.mark.parametrize(
    ("late", "waited", "missed", "sentence"),
    [
        (0.02, 0, 0, "left more than 20.0 ms late .* give it more --processes"),
        (0.0, 1, 0, "1 requests waited, as all 8 connections were taken"),
        (0.0, 0, 3, "3 requests were never sent"),
    ],
)
def test_a_schedule_that_was_not_kept_is_said_not_to_be(late: float, waited: int, missed: int, sentence: str):
    found = records((0, 1), late=late)
    found.waited, found.missed = waited, missed
    kept = summary.kept(found, 8)
    assert not kept.is_kept
    shown = text(a_result(kept_schedule=kept, latency=summary.times(summary.columns(found).latency)))
    assert "the schedule was not kept" in shown
    assert "latency in ms" not in shown
    assert re.search(sentence, shown)


def test_no_records_have_no_figures():
    found = summary.columns(Records())
    assert summary.times(found.latency) == Times()
    assert summary.timeline(found) == []
    assert summary.heat(found) == ([], [])
    assert summary.kept(Records(), 8).is_kept
    assert Times().histogram().get_total_count() == 0


def test_what_servers_say_becomes_shares_and_phases():
    found = Records()
    for n in range(4):
        worker, cache = (b"a", b"hit") if n else (b"b", b"miss")
        timing = b"queue;dur=1, infer;dur=%d, else;dur=9, link" % n
        found.add(Request(0, 0, "", ""), 0, 1, Answer(n, "", worker, cache, timing))
    assert summary.workers(found) == {"a": 0.75, "b": 0.25}
    assert summary.cache(found) == results.Cache(3, 1)
    phases = summary.phases(found)
    assert list(phases) == ["queue", "infer"]
    assert phases["infer"].mean == pytest.approx(0.0015)


def test_figures_are_told_in_lines():
    times = summary.times(summary.columns(records((0, 0.25))).latency)
    shown = text(a_result(latency=times, errors={"503": 2}, goodput=9.5, deadline=0.1, cpu_per_1000=0.125))
    assert shown.splitlines() == [
        "100 answers in 10.0 s: 10.0 a second of 10.0 offered",
        "errors: 2 503",
        "latency in ms: p50 250.00, p90 250.00, p99 250.00, p999 250.00, p9999 250.00, max 250.00",
        "goodput: 9.5 a second within 100 ms",
        "server: 0.125 s of CPU for 1,000 answers, 0 MiB resident",
    ]


def test_a_moment_has_the_last_second_of_every_process():
    progress = Progress()
    progress.add(0, Tick([0.1] * 10, 1, 3, Counter({b"a": 10})), 0.5)
    progress.add(1, Tick([0.2] * 10, 0, 4, Counter({b"b": 30})), 1.2)
    both = Moment(1.4, 20.0, 0.2, 0.2, 1, 1, 7, {"b": 0.75, "a": 0.25})
    assert progress.at(1.4) == both
    assert progress.at(1.6) == both._replace(at=1.6, rate=10.0, errors=0)
    assert "12 of 30 s: 20 a second, p50 200.00 ms" in display.text(both._replace(at=12), 30)
    assert display.text(both._replace(at=-1.2), 30) == "warm-up, 1 s left"


def test_a_result_reads_back_as_it_was_written(tmp_path: Path):
    times = summary.times(summary.columns(records((0, 0.25), (1, 0.5))).latency)
    first = a_result(
        latency=times, timeline=[Second(0, 1, 1, 0, 0.1, 0.1, 0.1, 0)], cache=results.Cache(1, 2)
    )
    write_result(first, tmp_path / "a.json")
    assert read_result(tmp_path / "a.json") == first
    assert first.rate == 10.0


@pytest.mark.parametrize(
    ("content", "sentence"),
    [("{}", "is no result of a run"), ("no", "is no result of a run"), (None, "is of format 2")],
)
def test_what_is_no_result_is_refused(tmp_path: Path, content: str | None, sentence: str):
    path = tmp_path / "a.json"
    if content is None:
        write_result(a_result(format=2), path)
    else:
        path.write_text(content)
    with pytest.raises(ValueError, match=sentence):
        read_result(path)
