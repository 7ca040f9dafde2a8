"""pure, but for files: schedules that are made, and traces that are read."""

from __future__ import annotations

import io
import statistics
from itertools import pairwise
from pathlib import Path

import pytest

from bench import schedule
from bench.__main__ import main
from bench.traces import read_trace


def gaps(times: list[float]) -> list[float]:
    return [after - before for before, after in pairwise(times)]


def drawn(source: str, count: int, seed: int = 1) -> list[str]:
    draw = schedule.inputs(source, seed, lambda _: 3)
    return [draw() for _ in range(count)]


def test_a_constant_schedule_is_evenly_spaced():
    times = schedule.times("constant", 50, 50, 4, seed=1)
    assert len(times) == 200
    assert gaps(times) == pytest.approx([0.02] * 199)


def test_poisson_gaps_are_exponential_at_the_rate():
    found = sorted(gaps(schedule.times("poisson", 200, 200, 100, seed=1)))
    assert abs(len(found) - 20_000) < 5 * 20_000**0.5
    assert statistics.fmean(found) == pytest.approx(1 / 200, rel=0.04)
    assert statistics.stdev(found) == pytest.approx(1 / 200, rel=0.04)
    for share in (0.1, 0.5, 0.9):  # of an exponential distribution: -ln(1 - share) / rate
        expected = {0.1: 0.10536, 0.5: 0.69315, 0.9: 2.30259}[share] / 200
        assert found[int(share * len(found))] == pytest.approx(expected, rel=0.08)


@pytest.mark.parametrize("pattern", ["burst", "sine", "ramp", "gaussian", "step"])
def test_a_shaped_schedule_goes_from_the_rate_to_the_peak(pattern: str):
    times = schedule.times(pattern, 100, 900, 40, seed=1)
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] < 40
    a_second = [sum(n <= at < n + 1 for at in times) for n in range(40)]
    assert 60 < min(a_second) < 200
    assert 700 < max(a_second) < 1050


@pytest.mark.parametrize("pattern", [each for each in schedule.PATTERNS if each not in ("trace", "constant")])
def test_the_same_seed_makes_the_same_times_and_another_one_others(pattern: str):
    assert schedule.times(pattern, 50, 90, 9, 1) == schedule.times(pattern, 50, 90, 9, 1)
    assert schedule.times(pattern, 50, 90, 9, 1) != schedule.times(pattern, 50, 90, 9, 2)


def test_uniform_inputs_are_all_as_likely():
    found = drawn("uniform(10)", 20_000)
    assert {found.count(str(n)) // 100 for n in range(10)} <= {18, 19, 20, 21}


def test_zipf_inputs_are_as_likely_as_their_rank_says():
    found = drawn("zipf(1.1,1000)", 50_000)
    whole = sum(k**-1.1 for k in range(1, 1001))
    for k in (1, 2, 10):
        assert found.count(str(k - 1)) == pytest.approx(50_000 * k**-1.1 / whole, rel=0.12)
    assert found == drawn("zipf(1.1,1000)", 50_000)
    assert found != drawn("zipf(1.1,1000)", 50_000, seed=2)


def test_rows_of_a_file_are_taken_in_turn():
    assert drawn("rows.jsonl", 4) == ["rows.jsonl:1", "rows.jsonl:2", "rows.jsonl:3", "rows.jsonl:1"]


@pytest.mark.parametrize(
    "source", ["zipf", "zipf(1.1)", "uniform(x)", "uniform(1,2)", "uniform(0)", "zipf(a,b)"]
)
def test_inputs_that_make_no_sense_are_refused_with_what_is_allowed(source: str):
    with pytest.raises(ValueError, match=r"neither uniform, uniform\(n\), zipf\(s,n\) nor a file"):
        schedule.inputs(source, 1, lambda _: 1)


def test_models_come_by_their_weights():
    draw = schedule.models(["a=3", "b"], seed=1)
    found = [draw() for _ in range(4000)]
    assert found.count("a") == pytest.approx(3000, rel=0.05)
    assert set(found) == {"a", "b"}


def test_a_written_schedule_reads_back_as_it_was():
    made = schedule.Made(2.0, "poisson", 7, "uniform")
    first = schedule.Schedule(made, [schedule.Row(0.25, "", "17"), schedule.Row(1.5, "mlp", "rows.jsonl:2")])
    file = io.StringIO()
    schedule.write(first, file)
    assert file.getvalue().splitlines()[1:] == ["at,model,input", "0.250000,,17", "1.500000,mlp,rows.jsonl:2"]
    file.seek(0)
    assert schedule.read(file) == first
    assert first.rate == 1.0


def test_a_schedule_of_times_alone_asks_the_default_model_for_another_row_each_time():
    found = schedule.read(["at", "0", "2.5"])
    assert found.rows == [schedule.Row(0, "", "0"), schedule.Row(2.5, "", "1")]
    assert found.made.duration == 5.0
    assert schedule.read(["at", "0"]).made.duration == 1.0


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([], "begins with the line at,model,input"),
        (["at,colour", "1,red"], "begins with the line at,model,input"),
        (["at", "x"], "cannot be read"),
        (["at", "2", "1"], "not in order"),
        (["at"], "there are none"),
        (["at", "nan"], "not in order"),
        (["at", "1", "inf"], "not in order"),
        (["# {", "at", "1"], "how the schedule was made"),
    ],
)
def test_what_is_no_schedule_is_refused_with_a_sentence(lines: list[str], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        schedule.read(lines)


def test_a_trace_of_timestamps_begins_at_zero():
    assert read_trace(["timestamp", "100.5", "99.5"], 1) == [(0, ""), (1.0, "")]
    lines = ["TIMESTAMP,ContextTokens", "2023-11-16 18:15:46.6805900,374", "2023-11-16 18:15:47.1805900,396"]
    assert [at for at, _ in read_trace(lines, 1)] == pytest.approx([0, 0.5], abs=1e-6)
    lines = ["time", "2026-03-29T01:00:00+01:00", "2026-03-29T01:00:00.5Z", "2026-03-29 01:00:01"]
    assert [at for at, _ in read_trace(lines, 1)] == pytest.approx([0, 3600.5, 3601])


def test_a_trace_of_calls_a_minute_has_so_many_in_each():
    lines = ["HashOwner,HashApp,HashFunction,Trigger,1,2,3", "o,a,f,http,2,0,30", "o,a,g,timer,1,0,0"]
    calls = read_trace(lines, 1)
    assert [name for _, name in calls].count("f") == 32
    assert sum(at < 60 for at, _ in calls) == 3
    assert sum(at >= 60 for at, _ in calls) == 30
    assert calls == read_trace(lines, 1)


def test_a_trace_of_ends_and_durations_has_a_call_where_each_began():
    lines = ["app,func,end_timestamp,duration", "a,f,10,4", "a,g,8,1"]
    assert read_trace(lines, 1) == [(0, "f"), (1.0, "g")]


@pytest.mark.parametrize(
    "lines", [[], ["timestamp"], ["colour", "red"], ["timestamp", "noon"], ["at", "nan"]]
)
def test_what_is_no_trace_is_refused(lines: list[str]):
    with pytest.raises(ValueError, match="trace"):
        read_trace(lines, 1)


def test_make_writes_a_schedule(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    output = tmp_path / "s.csv"
    arguments = ["--pattern", "constant", "--rate", "10", "--duration", "3", "--inputs", "zipf(1,9)"]
    assert main(["make", *arguments, "-o", str(output)]) == 0
    assert capsys.readouterr().out == "30 requests in 3 s, 10.0 a second\n"
    with output.open() as file:
        found = schedule.read(file)
    assert found.made == schedule.Made(3.0, "constant", 1, "zipf(1,9)")
    assert len(found.rows) == 30


def test_make_scales_a_trace_to_a_rate_and_gives_the_most_called_the_first_model(tmp_path: Path):
    trace, output = tmp_path / "t.csv", tmp_path / "s.csv"
    trace.write_text("app,func,end_timestamp,duration\na,f,0,0\na,g,5,0\na,g,10,0\n")
    arguments = ["--pattern", "trace", "--trace", str(trace), "--rate", "1", "--model", "x", "--model", "y"]
    assert main(["make", *arguments, "-o", str(output)]) == 0
    with output.open() as file:
        rows = schedule.read(file).rows
    assert [(row.at, row.model) for row in rows] == [(0, "y"), (1, "x"), (2, "x")]


def test_a_command_that_is_none_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]):
    assert main(["measure"]) == 2
    assert "there is no command 'measure'" in capsys.readouterr().err
    assert main(["make", "--pattern", "trace", "-o", "x"]) == 2
    assert capsys.readouterr().err == "bench make: trace needs --trace FILE\n"
