"""pure, but for files: the autoscaler's simulator, whose runs are the same every time."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from bench.arrivals import Arrival, made, read_schedule, shapes
from bench.simulate import main
from bench.simulation import Run, Service, Simulation
from gateway.autoscaler.policy import Bounds, Parameters

ONE_EACH = Service(fixed=0.02, max_batch=1, start=0.5, jitter=0.0)  # 50 rows a second


def simulate(
    shape: str, base: float, peak: float, seconds: float = 120.0, service: Service = ONE_EACH, **how: float
) -> Run:
    arrivals = made(shapes(base, peak, seconds)[shape], seconds, seed=1)
    simulation = Simulation(service, Parameters(**how), Bounds(1, 16), first=1, seed=1)
    return simulation.go(arrivals, seconds + 60)


def test_the_same_seed_makes_the_same_run_and_another_one_another():
    assert simulate("sine", 30, 240) == simulate("sine", 30, 240)
    rate = shapes(30, 240, 60)["burst"]
    assert list(made(rate, 60, 1)) != list(made(rate, 60, 2))


def test_made_traffic_comes_at_its_rate_and_in_order():
    arrivals = list(made(shapes(100, 500, 100)["step"], 100, seed=3))
    assert all(before.at <= after.at for before, after in pairwise(arrivals))
    high = sum(25 <= each.at < 75 for each in arrivals)
    assert abs(high - 25_000) < 5 * 25_000**0.5
    assert abs(len(arrivals) - high - 5_000) < 5 * 5_000**0.5


def test_every_request_is_answered_once_and_none_before_its_batch_is_done():
    run = simulate("step", 30, 240)
    arrivals = list(made(shapes(30, 240, 120)["step"], 120, seed=1))
    assert sorted(at for at, _ in run.latencies) == [each.at for each in arrivals]
    assert min(latency for _, latency in run.latencies) == pytest.approx(0.02)


def test_a_step_to_eight_times_has_enough_workers_within_two_seconds_and_they_go_again():
    run = simulate("step", 30, 240)
    ready = {round(each.at, 1): each.ready for each in run.samples}
    assert ready[29.8] == 1
    assert ready[32.0] >= 5  # 240 rows a second are 4.8 workers' work
    assert ready[180.0] == 1
    assert run.percentile(100) < 2.0


def test_batches_grow_before_there_are_more_workers():
    service = Service(fixed=0.02, max_batch=64, start=0.5, jitter=0.0)
    assert simulate("ramp", 30, 1500, service=service).most == 1  # one holds 3,200 a second


def test_a_schedule_of_requests_is_what_it_says():
    assert read_schedule(["at,rows", "0.5,1", "2,3"], seed=1) == [Arrival(0.5, 1), Arrival(2.0, 3)]
    assert read_schedule(["at", "0.5"], seed=1) == [Arrival(0.5, 1)]


def test_a_schedule_of_rates_holds_each_until_the_next():
    arrivals = read_schedule(["at,rate", "0,100", "10,0", "20,50", "30,0"], seed=1)
    assert not [each for each in arrivals if 10 <= each.at < 20]
    assert abs(sum(each.at < 10 for each in arrivals) - 1000) < 160
    assert 20 <= arrivals[-1].at < 30


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([], "a schedule begins with the line at,rows or at,rate"),
        (["when,rows"], "a schedule begins with the line at,rows or at,rate"),
        (["at"], "its times are not in order, or there are none"),
        (["at", "2", "1"], "its times are not in order, or there are none"),
        (["at", "soon"], "could not convert string to float: 'soon'"),
        (["at,rows", "1,"], "invalid literal for int() with base 10: ''"),
    ],
)
def test_what_is_no_schedule_is_refused_with_a_sentence(lines, problem):
    with pytest.raises(ValueError, match="schedule") as refused:
        read_schedule(lines, seed=1)
    assert problem in str(refused.value)


def test_the_program_compares_policies_and_says_why(tmp_path, capsys):
    schedule = tmp_path / "schedule.csv"
    schedule.write_text("at,rate\n0,30\n20,240\n30,30\n40,0\n")
    policies = ["--policy", "", "--policy", "scale_down_delay=5,stable_window=5"]
    assert main([str(schedule), *policies, "--decisions"]) == 0
    table = capsys.readouterr().out
    assert table.splitlines()[1].endswith("  defaults")
    assert table.splitlines()[2].endswith("  scale_down_delay=5,stable_window=5")
    assert "rows wait, " in table
    assert main([str(schedule), *policies, "--decisions"]) == 0
    assert capsys.readouterr().out == table


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_a_plot_is_the_same_every_time(tmp_path, kind, capsys):
    pytest.importorskip("matplotlib", reason="it comes with the extra bench")
    plots = [tmp_path / f"{n}.{kind}" for n in range(2)]
    for plot in plots:
        assert main(["--make", "burst", "--seconds", "30", "--plot", str(plot)]) == 0
    assert plots[0].read_bytes() == plots[1].read_bytes()
    assert plots[0].stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            ["--policy", "window=3"],
            "there is no window: allowed are target_concurrency, target_utilization, ",
        ),
        (["--policy", "look_ahead=-1"], "Expected `float` >= 0.0 - at `$.look_ahead`"),
        (["--service", "fixed=fast"], "Expected `float`, got `str` - at `$.fixed`"),
        (["--base", "0", "--peak", "0"], "nothing comes at all in this traffic"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_with_a_sentence(arguments, problem, capsys):
    assert main(["--make", "poisson", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"bench.simulate: {problem}")


def test_a_schedule_that_is_not_there_is_said_so(capsys):
    missing = Path("no-such-schedule.csv")
    assert main([str(missing)]) == 2
    assert "no-such-schedule.csv" in capsys.readouterr().err
