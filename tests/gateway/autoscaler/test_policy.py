"""pure: what the policy decides, rule by rule, and what holds of every decision."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.autoscaler.policy import Bounds, Decision, Parameters, Policy
from gateway.autoscaler.traffic import Batches, Observation

TICK = 0.2
BOUNDS = Bounds(1, 100)
QUICK = Parameters(stable_window=10.0, scale_down_delay=5.0)


class Fleet:
    """A policy that is shown made-up traffic: one worker answers 50 rows a second, in batches of one, and
    whoever is wanted is ready at once."""

    def __init__(self, parameters: Parameters = QUICK, bounds: Bounds = BOUNDS, n: int = 1) -> None:
        self.policy = Policy(parameters)
        self.policy.note(0.0, n)
        self.bounds = bounds
        self.now = 0.0
        self.n = n
        self.decisions: list[Decision] = []

    def see(self, seconds: float, rate: float, *, waiting: int = 0, **fields: int) -> Decision:
        """So many rows a second for so long; the last decision."""
        for _ in range(round(seconds / TICK)):
            self.now += TICK
            arrived = round(rate * self.now) - round(rate * (self.now - TICK))
            batches = Batches()
            for _ in range(arrived):
                batches.add(1, 0.02, 1)
            told = {"ready": self.n, "in_hand": waiting + arrived} | fields
            seen = Observation(self.now, TICK, waiting=waiting, arrived=arrived, batches=batches, **told)
            self.decisions.append(self.policy.desired(self.now, [seen], self.bounds))
            self.n = self.decisions[-1].n
        return self.decisions[-1]

    def until(self, condition: Callable[[Decision], bool], rate: float) -> float:
        """For how long this traffic has to go on."""
        began = self.now
        while not condition(self.see(TICK, rate)):
            assert self.now - began < 1000
        return self.now - began


def test_a_steady_rate_has_the_workers_that_hold_it_at_the_target_utilization():
    for rate, n in ((0.0, 1), (30, 1), (40, 2), (100, 3), (350, 10)):
        assert Fleet().see(60, rate).n == n


def test_the_reason_says_what_came_and_what_one_worker_answers():
    decision = Fleet().see(60, 100)
    assert decision == (3, "stable", "100 rows/s came, and one worker answers 50")


def test_a_step_is_answered_within_the_panic_window():
    fleet = Fleet(Parameters(panic_window=1.0))
    fleet.see(60, 30)
    assert fleet.until(lambda decision: decision.n >= 7, 240) < 1.1


def test_a_panic_says_so_and_nothing_goes_down_until_it_is_over():
    fleet = Fleet()
    fleet.see(60, 30)
    assert fleet.see(1, 350, ready=1) == (10, "panic", "350 rows/s came, and one worker answers 50")
    assert fleet.see(9, 30) == (10, "panic", "the most that was needed since traffic rose")
    assert fleet.see(20, 30).n == 1


def test_a_rise_below_the_threshold_is_none():
    fleet = Fleet(Parameters(panic_threshold=2.0), n=4)
    fleet.see(60, 130)
    assert fleet.see(5, 240).rule != "panic"
    assert fleet.see(60, 240).n == 7


def test_what_waits_beyond_the_target_is_answered_within_the_time_to_catch_up():
    fleet = Fleet(Parameters(target_queue_ms=100, catch_up=2.0), n=4)
    fleet.see(60, 100)
    # 10 rows may wait at 100 a second; the 100 beyond take 50 a second more
    decision = fleet.see(2, 100, waiting=110)
    assert decision == (5, "queue", "110 rows wait, 10 may, one worker answers 50 a second")


def test_what_waits_within_the_target_is_nothing_to_answer():
    fleet = Fleet(Parameters(target_queue_ms=100), n=3)
    fleet.see(60, 100)
    assert fleet.see(5, 100, waiting=10).n == 3


def test_growing_traffic_has_the_workers_it_will_need_when_they_are_ready():
    with_lead, without = Fleet(Parameters(look_ahead=5.0), n=4), Fleet(Parameters(look_ahead=0.0), n=4)
    for fleet in (with_lead, without):
        for second in range(60):
            fleet.see(1, 100 + 2 * second)
    assert with_lead.decisions[-1].rule == "trend"
    assert with_lead.n == 7  # 230 rows a second, five seconds on
    assert without.n == 6  # 190, on average of the window


def test_fewer_workers_wait_for_the_delay():
    fleet = Fleet(Parameters(stable_window=1.0, scale_down_delay=20.0, scale_down_rate=100.0))
    fleet.see(60, 300)
    assert 20 <= fleet.until(lambda decision: decision.n == 1, 10) <= 22
    assert (9, "cool-down", "as many were needed within scale_down_delay; now 1") in fleet.decisions


def test_going_down_takes_steps():
    rate = Parameters(stable_window=1.0, scale_down_delay=0.0, scale_down_rate=2.0, scale_step=2.0)
    fleet = Fleet(rate)
    assert fleet.see(60, 560).n == 16
    assert [fleet.see(2, 0).n for _ in range(4)] == [8, 4, 2, 1]


def test_going_up_takes_steps():
    fleet = Fleet(Parameters(scale_up_rate=2.0, scale_step=2.0))
    fleet.see(20, 30)
    assert [fleet.see(2, 1000).n for _ in range(4)] == [2, 4, 8, 16]
    assert fleet.decisions[-1].rule == "step"
    assert fleet.decisions[-1].reason.startswith("29 are wanted, and this is the next step: ")


def test_bounds_hold_and_say_which():
    fleet = Fleet(bounds=Bounds(2, 4))
    assert fleet.see(60, 0) == (2, "bounds", "min_workers is more than is needed")
    decision = fleet.see(60, 500)
    assert decision.n == 4
    assert decision.reason.startswith("15 are wanted, and max_workers is fewer: ")


def test_bounds_that_move_are_followed_whatever_the_steps():
    fleet = Fleet(Parameters(scale_down_rate=1.1, scale_up_rate=1.1, scale_step=100.0), n=1)
    fleet.bounds = Bounds(20, 30)
    assert fleet.see(TICK, 0).n == 20
    fleet.bounds = Bounds(1, 3)
    assert fleet.see(TICK, 0).n == 3


def test_the_last_worker_goes_when_there_was_nothing_to_do_for_the_grace():
    fleet = Fleet(Parameters(stable_window=1.0, scale_down_delay=0.0, zero_grace=30.0), Bounds(0, 4))
    fleet.see(10, 40)
    assert fleet.see(29, 0).n == 1
    assert fleet.decisions[-1].reason == "the last worker goes when there was nothing to do for zero_grace"
    assert fleet.see(2, 0) == (0, "idle", "there was nothing to do for zero_grace")


def test_scale_to_zero_goes_below_the_minimum_and_back_to_it():
    fleet = Fleet(
        Parameters(stable_window=1.0, scale_down_delay=0.0, zero_grace=5.0), Bounds(2, 4, scale_to_zero=True)
    )
    assert fleet.see(4, 0).n == 2
    assert fleet.see(8, 0).n == 0
    assert fleet.see(TICK, 0, in_hand=1).n == 2


def test_without_scale_to_zero_the_minimum_stays():
    assert Fleet(bounds=Bounds(1, 4)).see(500, 0).n == 1


def test_the_first_request_after_nothing_has_a_worker_at_once():
    fleet = Fleet(Parameters(zero_grace=5.0), Bounds(0, 4), n=0)
    assert all(fleet.see(1, 0).n == 0 for _ in range(20))
    assert fleet.see(TICK, 0, in_hand=1, ready=0).n == 1


def test_what_a_worker_held_is_remembered_while_there_is_none():
    fleet = Fleet(Parameters(zero_grace=5.0), Bounds(0, 20))
    fleet.see(20, 40)
    fleet.see(100, 0)
    assert fleet.n == 0
    batchless = Observation(fleet.now + TICK, TICK, 0, 60, 60, 60, Batches())
    assert fleet.policy.desired(fleet.now + TICK, [batchless], fleet.bounds).n > 1


def test_a_job_keeps_the_last_worker():
    fleet = Fleet(Parameters(zero_grace=5.0), Bounds(0, 4))
    assert fleet.see(60, 0, is_needed=True).n == 1


def test_with_a_target_concurrency_requests_in_progress_are_what_counts():
    fleet = Fleet(Parameters(target_concurrency=10.0, target_utilization=0.5, stable_window=10.0), n=6)
    decision = fleet.see(60, 1000, in_hand=30)
    assert decision == (6, "stable", "30 requests in progress, 10 for each worker")


def test_other_parameters_count_from_the_next_decision_on():
    fleet = Fleet()
    assert fleet.see(60, 100).n == 3
    fleet.policy.parameters = Parameters(target_utilization=0.4)
    assert fleet.see(1, 100).n == 5


def test_what_somebody_else_decides_counts_as_needed():
    fleet = Fleet(Parameters(scale_down_delay=10.0))
    fleet.see(5, 10)
    fleet.policy.note(fleet.now, 7)
    assert fleet.see(9, 10).n == 7
    assert fleet.see(15, 10).n == 1


looks = st.tuples(st.integers(0, 500), st.integers(0, 200), st.integers(0, 10), st.integers(1, 64))
parameters = st.builds(
    Parameters,
    target_concurrency=st.none() | st.floats(0.1, 100),
    target_utilization=st.floats(0.1, 1),
    stable_window=st.floats(0.5, 20),
    panic_window=st.floats(0.2, 5),
    scale_down_delay=st.floats(0, 10),
    scale_up_rate=st.floats(1.1, 20),
    scale_down_rate=st.floats(1.1, 20),
    scale_step=st.floats(0, 5),
    zero_grace=st.floats(0, 5),
)


def decide(looked: list[tuple[int, int, int, int]], given_: Parameters, bounds: Bounds) -> list[Decision]:
    policy = Policy(given_)
    policy.note(0.0, bounds.min_workers)
    made = []
    for n, (arrived, waiting, ready, rows) in enumerate(looked):
        batches = Batches()
        if ready:
            batches.add(rows, 0.01 * rows, 64)
        seen = Observation(n * TICK, TICK, ready, waiting, waiting, arrived, batches)
        made.append(policy.desired(n * TICK, [seen], bounds))
    return made


@settings(max_examples=200)
@given(
    st.lists(looks, min_size=1, max_size=60), parameters, st.integers(0, 5), st.integers(0, 20), st.booleans()
)
def test_every_decision_is_within_the_bounds_has_a_reason_and_leaves_nobody_alone(
    looked, given_, least, more, to_zero
):
    bounds = Bounds(least, least + max(1, more), to_zero)
    made = decide(looked, given_, bounds)
    for decision, (arrived, waiting, _, _) in zip(made, looked, strict=True):
        assert decision.n <= bounds.max_workers
        assert decision.n >= (1 if arrived or waiting else 0)
        assert decision.n >= least or (to_zero and decision.n == 0)
        assert decision.reason


@settings(max_examples=50)
@given(st.lists(looks, min_size=1, max_size=40), parameters)
def test_the_same_observations_make_the_same_decisions(looked, given_):
    assert decide(looked, given_, BOUNDS) == decide(looked, given_, BOUNDS)


@settings(max_examples=100)
@given(st.lists(looks, min_size=2, max_size=60), st.floats(1.5, 5), st.integers(1, 10))
def test_no_step_is_larger_than_allowed(looked, rate, ticks):
    given_ = Parameters(scale_up_rate=rate, scale_down_rate=rate, scale_step=ticks * TICK, scale_down_delay=0)
    wanted = [decision.n for decision in decide(looked, given_, Bounds(1, 1000))]
    for n, each in enumerate(wanted):
        before = wanted[max(0, n - ticks) : n] or [1]
        assert each <= max(min(before) + 1, min(before) * rate + 1)
        assert each >= min(max(before) - 1, max(before) / rate - 1)
