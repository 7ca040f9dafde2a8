"""end to end: `bench run` and its processes against a server with known delays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench import schedule
from bench.__main__ import main
from bench.executor.execute import share, warm_up
from bench.executor.processes import Processes
from bench.executor.settings import Settings
from bench.results import Result, read_result
from bench.schedule import Made, Row, Schedule
from tests.bench.servers import delayed_server

ROOT = Path(__file__).resolve().parents[2]


def a_schedule(path: Path, rate: float = 50, duration: float = 1.0) -> str:
    times = schedule.times("constant", rate, rate, duration, 1)
    made = Schedule(Made(duration, "constant", 1), [Row(at, "", str(n)) for n, at in enumerate(times)])
    with path.open("w") as file:
        schedule.write(made, file)
    return str(path)


def run(directory: Path, url: str, *flags: str) -> tuple[int, Result]:
    output = directory / "result.json"
    given = a_schedule(directory / "schedule.csv")
    code = main(["run", given, "--url", url, "--door", "litserve", "-o", str(output), *flags])
    return code, read_result(output)


def test_a_run_writes_what_it_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with delayed_server("--delay", "0.05") as (url, pid):
        _, result = run(tmp_path, url, "--warm_up", "0.2", "--deadline", "30")
    assert (result.requests, result.answered, result.errors) == (50, 50, {})
    assert result.schedule.offered_rate == 50
    assert result.latency.count == result.service.count == 50
    assert 0.05 <= result.service.p50 <= result.latency.max
    assert result.goodput == pytest.approx(result.rate)
    assert sum(second.answered for second in result.timeline) == 50
    assert sum(sum(row.counts) for row in result.heat) == 50
    assert result.workers == {"w1": 1.0}
    assert result.cache is not None
    assert result.cache.hits == 50
    assert result.phases["infer"].mean == pytest.approx(0.002)
    (process,) = result.processes  # found by the port
    assert process.pid == pid
    assert process.rss_max > 1 << 20
    assert result.cpu_per_1000 is not None
    assert result.machine.cores == os.cpu_count()
    assert "50 answers in 1." in capsys.readouterr().out


def test_several_processes_carry_one_schedule(tmp_path: Path):
    with delayed_server("--delay", "0.01") as (url, _):
        _, result = run(tmp_path, url, "--warm_up", "0", "--processes", "2")
    assert (result.requests, result.answered) == (50, 50)
    assert sum(second.sent for second in result.timeline) == 50


def test_a_closed_loop_asks_as_fast_as_it_is_answered(tmp_path: Path):
    with delayed_server("--delay", "0.05") as (url, _):
        _, result = run(tmp_path, url, "--warm_up", "0", "--closed", "4")
    assert result.is_closed
    assert result.kept_schedule.is_kept
    assert 4 <= result.answered <= 84  # four clients, each of which waits 50 ms for an answer
    assert result.latency.p50 == pytest.approx(result.service.p50, abs=0.02)


def test_errors_are_in_the_exit_code_and_not_in_the_latency(tmp_path: Path):
    with delayed_server() as (url, _):
        code, result = run(tmp_path, url, "--warm_up", "0", "--path", "/busy")
    assert code == 1
    assert result.errors == {"503": 50}
    assert result.latency.count == 0


def test_ctrl_c_keeps_what_was_measured(tmp_path: Path):
    given, output = a_schedule(tmp_path / "s.csv", duration=60), tmp_path / "result.json"
    with delayed_server() as (url, _):
        command = ["-m", "bench", "run", given, "--url", url, "--door", "litserve", "--warm_up", "0"]
        with subprocess.Popen(
            [sys.executable, *command, "-o", str(output)], cwd=ROOT, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            assert "a second" in process.stderr.readline()  # five seconds are over
            process.send_signal(signal.SIGINT)
            process.communicate()
    result = read_result(output)
    assert result.is_interrupted
    assert 100 < result.answered < 1000
    assert "never sent" not in result.errors


def test_the_warm_up_has_the_schedules_rate_and_rows_of_its_own():
    rows = [Row(n / 10, "m", "1" if n % 2 else "rows.jsonl:3") for n in range(20)]
    found = warm_up(Schedule(Made(2.0), rows), 0.5)
    assert [round(row.at, 6) for row in found] == [-0.5, -0.4, -0.3, -0.2, -0.1]
    assert [row.input for row in found[:2]] == ["rows.jsonl:3", "warm 1"]
    assert {row.model for row in found} == {"m"}


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--connections", "1", "--processes", "2"], "connections at least as many as processes"),
        (["--closed", "9", "--connections", "8"], "needs a connection"),
        (["--timeout", "0"], "the timeout more than 0"),
        (["--deadline", "-1"], "the deadline is more than 0"),
        (["--row", "x"], "is no row"),
        (["--url", "nowhere"], "should be http://HOST:PORT"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], sentence: str
):
    given = a_schedule(tmp_path / "s.csv")
    assert main(["run", given, "--url", "http://127.0.0.1:1", "-o", str(tmp_path / "r.json"), *flags]) == 2
    assert sentence in capsys.readouterr().err


def test_a_row_of_a_file_that_cannot_be_read_is_said_before_anything_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    rows, given = tmp_path / "rows.jsonl", tmp_path / "s.csv"
    rows.write_text("[1, 2, 3]\n")
    given.write_text(f"at,model,input\n0,,{rows}:1\n")
    assert main(["run", str(given), "--url", "http://127.0.0.1:1", "-o", str(tmp_path / "r.json")]) == 2
    assert "has 3 numbers, where the shape is (2,)" in capsys.readouterr().err


def test_processes_share_what_there_is():
    settings = Settings(url="", processes=3)
    assert [settings.share(8, n) for n in range(3)] == [3, 3, 2]
    rows = [Row(n, "", str(n)) for n in range(4)]
    assert [len(share(rows, settings, n)) for n in range(3)] == [2, 1, 1]
    assert share(rows[:1], settings, 2) == []
    assert share(rows[:1], Settings(url="", processes=3, closed=3), 2) == rows[:1]


def test_cpu_is_counted_from_the_start_and_of_a_servers_children_too():
    spin = "import time\nwhile time.process_time() < 0.2: pass\nprint(flush=True)\ninput()"
    start = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {spin!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", start], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        used = Processes([server.pid])
        server.stdout.readline()
        late = Processes([server.pid])
        late.start()
        used.look()
        late.look()
        server.communicate(b"\n")
    assert len(used.used()) == len(late.used()) == 2
    assert sum(each.cpu_s for each in used.used()) >= 0.2
    assert sum(each.cpu_s for each in late.used()) < 0.1
    with pytest.raises(ValueError, match="cannot be looked at"):
        Processes([server.pid])
