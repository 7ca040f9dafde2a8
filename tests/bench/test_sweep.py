"""pure, and at the end against a real server: the highest rate that keeps p99 under a limit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.results import Kept, Result, read_result
from bench.search import Search, Verdict
from bench.sweep import cases, filled, judged, main, sweep
from tests.bench.runs import made_run

SERVER = Path(__file__).resolve().parents[1] / "services" / "paced_server.py"
FAST = made_run(1, duration=5)
SLOW = made_run(1, duration=5, median=1.0)
BUSY = Kept(late_p99=1.0, is_kept=False)
FULL = Kept(waited=9, is_kept=False)


@pytest.mark.parametrize(
    ("result", "verdict"),
    [
        (FAST, Verdict.BORNE),
        (SLOW, Verdict.OVER),
        (made_run(1, duration=5, errors={"503": 1}, requests=FAST.requests + 1), Verdict.OVER),
        (made_run(1, duration=5, kept_schedule=BUSY), Verdict.BORNE),
        (made_run(1, duration=5, latency=SLOW.latency, kept_schedule=BUSY), Verdict.NOT_KEPT),
        (made_run(1, duration=5, kept_schedule=Kept(missed=9, is_kept=False)), Verdict.NOT_KEPT),
        (made_run(1, duration=5, latency=SLOW.latency), Verdict.OVER),
        (made_run(1, duration=5, latency=SLOW.latency, kept_schedule=FULL), Verdict.OVER),
    ],
)  # fmt: skip
def test_a_trial_shows_whether_the_rate_was_borne_and_whose_fault_it_was_if_not(result, verdict):
    assert judged(result, limit=0.1) is verdict


def test_a_share_of_errors_may_be_allowed():
    some = made_run(1, duration=5, errors={"503": 5}, requests=FAST.requests + 5)
    assert judged(some, limit=0.1, errors=0.01) is Verdict.BORNE
    assert judged(some, limit=0.1, errors=0.001) is Verdict.OVER


def test_the_best_is_the_last_trial_at_the_highest_rate():
    def trial(rate: float) -> Result:
        return made_run(round(rate), duration=5, rate=rate, median=0.01 if rate <= 220 else 1.0)

    found = sweep("x", Search(50, tolerance=0.2), trial, limit=0.1)
    assert found.best is not None
    assert found.best.schedule.offered_rate == found.search.low
    name, highest, _, further, why = found.row()
    assert (name, highest, further, why) == ("x", "200/s", "237.8/s", "over the limit")


def test_a_trial_that_was_ended_early_ends_the_search():
    with pytest.raises(KeyboardInterrupt):
        sweep("x", Search(50), lambda _: made_run(1, duration=5, is_interrupted=True), limit=0.1)


def test_what_is_varied_is_varied_in_every_combination():
    assert list(cases([])) == [{}]
    assert [" ".join(case.values()) for case in cases(["door=v1,v2", "n=1,2"])] == [
        "v1 1",
        "v1 2",
        "v2 1",
        "v2 2",
    ]
    assert filled("--door {door}", {"door": "v1"}) == "--door v1"


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--vary", "door"], "--vary is NAME=A,B,…, and not 'door'"),
        (
            ["--vary", "n=1"],
            "'--url x --door {door}' asks for a setting that is not varied ('door'): there are n",
        ),
        (["--vary", "door=v9"], "could not be done"),
        (["--vary", "door=v1", "--start", "0"], "the first rate is more than 0"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_with_a_sentence(flags, problem, tmp_path, capsys):
    words = ["--limit", "1", "--run", "--url x --door {door}", "-o", str(tmp_path), *flags]
    assert main(words) == 2
    assert problem in capsys.readouterr().err


def test_a_server_that_does_not_start_is_said_so_with_its_last_words(tmp_path, capsys):
    command = f"{sys.executable} -c 'raise SystemExit(\"out of luck\")'"
    assert main(["--limit", "1", "--run", "", "--server", command, "-o", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"bench sweep: the server did not come up: {command}\nout of luck\n"


@pytest.mark.apart  # loads of seconds each
def test_it_finds_the_rate_of_a_server_that_it_starts_for_each_setting(tmp_path, capsys):
    flags = {
        "--limit": "0.6", "--start": "40", "--duration": "1.6", "--repeats": "1", "--tolerance": "1",
        "--server": f"{sys.executable} {SERVER} {{port}} {{rate}}", "--ready": "http://127.0.0.1:{port}/",
        "--make": "--pattern constant", "--vary": "rate=50,150", "-o": str(tmp_path / "sweep"),
        "--run": "--url http://127.0.0.1:{port} --door litserve --warm_up 0",
    }  # fmt: skip
    assert main([word for pair in flags.items() for word in pair]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split("  ")[-1] == "which was"
    for line, name, rate in zip(lines, ("rate=50", "rate=150"), (50, 150), strict=True):
        assert line.startswith(name)
        assert line.endswith("over the limit")
        highest, beyond = (float(word.removesuffix("/s")) for word in line.split() if word.endswith("/s"))
        assert rate / 2 <= highest < beyond <= 3 * rate
    results = [read_result(path) for path in sorted((tmp_path / "sweep").glob("*.json"))]
    assert {result.name for result in results} == {"rate=50", "rate=150"}
    assert {round(result.schedule.offered_rate) for result in results} >= {40, 80, 160}
