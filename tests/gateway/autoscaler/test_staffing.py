"""Pure: whom to start, to drain and to stop; time is an argument."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.autoscaler.staffing import AGAIN, BACKOFF_MAX, STEADY, Counts, Ending, Member, Plan, Staffing
from gateway.fleet.roster import State as Life
from gateway.launchers.launcher import Launched, LaunchState

PENDING, RUNNING = Launched(LaunchState.PENDING), Launched(LaunchState.RUNNING)
GONE = Launched(LaunchState.GONE, "exit code 3")
READY = Member(Life.READY)


class Scene:
    """Staffing, and what its launcher and the fleet would say."""

    def __init__(self, **how: object) -> None:
        self.staffing = Staffing(**{"start_time": 60.0, "drain_time": 40.0, **how})  # type: ignore[arg-type]
        self.alive: dict[str, Launched] = {}
        self.fleet: dict[str, Member] = {}
        self.now = 1000.0

    def plan(self, wanted: int, after: float = 0.0) -> Plan:
        self.now += after
        return self.staffing.plan(wanted, self.alive, self.fleet, self.now)

    def order(self, *ids: str, launched: Launched = PENDING) -> None:
        self.staffing.ordered(ids, self.now)
        self.alive |= dict.fromkeys(ids, launched)

    def serve(self, *ids: str, member: Member = READY) -> None:
        self.alive |= dict.fromkeys(ids, RUNNING)
        self.fleet |= dict.fromkeys(ids, member)

    def lose(self, id: str, how: Launched = GONE) -> None:
        self.alive[id] = how
        self.fleet.pop(id, None)

    def counts(self, wanted: int) -> Counts:
        return self.staffing.counts(wanted, self.now)


def nothing(plan: Plan) -> bool:
    return plan == Plan(0, [], [], [])


# --- starting


def test_as_many_are_started_as_are_wanted_and_there_are_not():
    scene = Scene()
    assert scene.plan(2).start == 2
    scene.order("w-0.1", "w-1.1")
    assert nothing(scene.plan(2))
    assert scene.counts(2) == Counts(2, 0, 2, 0, 0)
    scene.serve("w-0.1", "w-1.1")
    assert nothing(scene.plan(2))
    assert scene.counts(2) == Counts(2, 2, 0, 0, 0)
    assert scene.plan(5).start == 3


def test_a_worker_that_was_ordered_counts_before_its_launcher_lists_it():
    scene = Scene()
    scene.staffing.ordered(["w-0.1"], scene.now)
    assert nothing(scene.plan(1, after=59))
    late = scene.plan(1, after=2)
    assert late.endings == [Ending("w-0.1", "nobody knows of it", pytest.approx(0.1))]
    assert late.stop == ["w-0.1"]


def test_workers_whose_order_was_not_answered_are_found_and_no_more_are_ordered():
    scene = Scene()
    scene.alive = {"w-0.1": PENDING, "w-1.1": RUNNING}
    assert nothing(scene.plan(2))


def test_workers_of_before_a_restart_are_found_in_the_fleet_alone():
    scene = Scene()
    scene.fleet = {"w-0.1": READY}  # their engine has forgotten them, and they serve
    assert nothing(scene.plan(1))
    assert nothing(scene.plan(1, after=10_000))


def test_one_that_is_not_started_in_time_is_given_up_with_what_it_waited_for():
    scene = Scene()
    scene.order("w-0.1", launched=Launched(LaunchState.PENDING, "no node has a GPU left"))
    assert nothing(scene.plan(1, after=59))
    plan = scene.plan(1, after=2)
    how = "it was not started within 60 s: no node has a GPU left"
    assert (plan.endings, plan.stop) == ([Ending("w-0.1", how, pytest.approx(0.1))], ["w-0.1"])


def test_one_that_runs_and_never_comes_to_the_gateway_is_given_up():
    scene = Scene()
    scene.order("w-0.1", launched=RUNNING)
    plan = scene.plan(1, after=61)
    assert [(each.id, each.how) for each in plan.endings] == [("w-0.1", "it did not come within 60 s")]


def test_one_that_fell_silent_is_replaced_and_stopped_whatever_its_engine_says():
    scene = Scene(silence=15.0)
    scene.order("w-0.1", "w-1.1")
    scene.serve("w-0.1", "w-1.1")
    assert nothing(scene.plan(2))
    scene.fleet["w-0.1"] = Member(Life.SUSPECT)
    assert nothing(scene.plan(2, after=10))
    del scene.fleet["w-0.1"]
    assert nothing(scene.plan(2, after=5))
    plan = scene.plan(2, after=1)
    assert plan.stop == ["w-0.1"]
    assert [each.how for each in plan.endings] == ["it was silent for 15 s"]
    assert scene.plan(2, after=0.2).start == 1


def test_one_that_comes_back_in_time_is_kept():
    scene = Scene()
    scene.order("w-0.1")
    scene.serve("w-0.1")
    scene.plan(1)
    del scene.fleet["w-0.1"]
    scene.plan(1, after=14)
    scene.serve("w-0.1")
    assert nothing(scene.plan(1))
    assert nothing(scene.plan(1, after=14))


# --- ending


def test_a_worker_that_ended_is_forgotten_by_its_launcher_and_replaced():
    scene = Scene()
    scene.order("w-0.1")
    scene.serve("w-0.1")
    scene.plan(1, after=STEADY)
    scene.lose("w-0.1", Launched(LaunchState.GONE, "killed by SIGKILL"))
    plan = scene.plan(1)
    assert plan == Plan(0, [], ["w-0.1"], [Ending("w-0.1", "killed by SIGKILL", pytest.approx(0.1))])
    del scene.alive["w-0.1"]
    assert scene.counts(1) == Counts(1, 0, 0, 0, 1)
    assert scene.plan(1, after=0.1).start == 1
    assert scene.staffing.orders == {}


def test_workers_that_end_together_are_one_failure_and_all_replaced_at_once():
    scene = Scene()
    ids = [f"w-{n}.1" for n in range(8)]
    scene.order(*ids)
    scene.serve(*ids)
    scene.plan(8)
    for id in ids:
        scene.lose(id)
        assert scene.plan(8, after=0.001).start == 0
    scene.alive = {}
    assert scene.plan(8, after=0.1).start == 8


def crash(scene: Scene, n: int) -> list[float]:
    """Start one worker after the other, which all end at once; the pauses before them."""
    pauses = []
    for incarnation in range(n):
        id = f"w-0.{incarnation + 1}"
        scene.order(id)
        scene.now += 0.01
        scene.lose(id)
        [ending] = scene.plan(1).endings
        pauses.append(ending.again_in)
        del scene.alive[id]
        assert scene.plan(1, after=ending.again_in * 0.9).start == 0
        assert scene.counts(1).failing == 1
        assert scene.plan(1, after=ending.again_in * 0.2).start == 1
    return pauses


def test_a_crash_loop_backs_off_to_a_limit():
    scene = Scene()
    assert crash(scene, 9) == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, BACKOFF_MAX, BACKOFF_MAX])
    assert scene.staffing.is_looping


def test_after_one_that_stayed_the_back_off_begins_anew():
    scene = Scene()
    crash(scene, 5)
    scene.staffing.trouble = "w-0 ended"
    scene.order("w-0.77")
    scene.serve("w-0.77")
    scene.plan(1)
    assert nothing(scene.plan(1, after=STEADY - 1))
    assert scene.staffing.is_looping
    scene.plan(1, after=1)
    assert (scene.staffing.is_looping, scene.staffing.trouble) == (False, "")
    scene.lose("w-0.77")
    assert [each.again_in for each in scene.plan(1).endings] == pytest.approx([0.1])


def test_a_launcher_that_refuses_is_asked_ever_more_slowly():
    scene = Scene()
    pauses = []
    for _ in range(3):
        assert scene.plan(1).start == 1
        pauses.append(scene.staffing.refused("the cluster is away", scene.now))
        assert scene.plan(1).start == 0
        scene.now += pauses[-1]
    assert pauses == pytest.approx([0.1, 0.2, 0.4])
    assert scene.staffing.trouble == "the cluster is away"


def test_a_worker_that_leaves_by_itself_is_replaced_at_once_and_has_not_failed():
    scene = Scene()
    scene.order("w-0.1")
    scene.serve("w-0.1")
    scene.plan(1)
    scene.serve("w-0.1", member=Member(Life.DRAINING))
    assert scene.plan(1) == Plan(1, [], [], [])
    scene.order("w-1.1")
    assert scene.counts(1) == Counts(1, 0, 1, 1, 0)
    scene.lose("w-0.1", Launched(LaunchState.GONE, "exit code 0"))
    assert scene.plan(1) == Plan(0, [], ["w-0.1"], [Ending("w-0.1", "exit code 0", None)])


def test_a_worker_that_said_it_leaves_has_not_failed_though_it_is_gone_at_the_next_look():
    scene = Scene()
    for n in range(5):
        scene.order(f"w-0.{n}")
        scene.serve(f"w-0.{n}")
        scene.plan(1)
        scene.staffing.leaves(f"w-0.{n}", scene.now)
        scene.lose(f"w-0.{n}")
        plan = scene.plan(1)
        assert (plan.start, plan.endings) == (1, [Ending(f"w-0.{n}", "exit code 3", None)])
        del scene.alive[f"w-0.{n}"]


def test_a_worker_that_is_forgotten_is_not_waited_for_because_it_leaves():
    scene = Scene()
    scene.staffing.leaves("w-0.1", scene.now)
    assert scene.counts(0) == Counts(0, 0, 0, 0, 0)
    assert nothing(scene.plan(0, after=1000))


def test_a_worker_for_one_use_that_has_served_does_not_fail_by_ending():
    scene = Scene(one_use=True)
    for n in range(20):
        scene.order(f"w-0.{n}")
        scene.serve(f"w-0.{n}")
        scene.plan(1)
        scene.lose(f"w-0.{n}")
        plan = scene.plan(1)
        assert (plan.start, plan.endings) == (1, [Ending(f"w-0.{n}", "exit code 3", None)])
        del scene.alive[f"w-0.{n}"]
    scene.order("w-0.99")
    scene.lose("w-0.99")
    assert [each.again_in for each in scene.plan(1).endings] == pytest.approx([0.1])


def test_what_was_stopped_and_stays_is_stopped_again():
    scene = Scene()
    scene.order("w-0.1", launched=RUNNING)
    assert scene.plan(0).stop == ["w-0.1"]
    assert nothing(scene.plan(0, after=AGAIN))
    assert scene.plan(0, after=1).stop == ["w-0.1"]
    scene.lose("w-0.1")
    assert scene.plan(0).stop == ["w-0.1"]  # so that it is forgotten
    scene.alive = {}
    assert nothing(scene.plan(0))
    assert scene.staffing.orders == {}


# --- scaling down


def test_those_who_do_not_serve_yet_go_first_then_the_coldest_cache_then_the_youngest():
    scene = Scene()
    scene.order("w-0.1", "w-1.1", "w-2.5", "w-3.7", "w-4.8", "w-5.9")
    scene.serve("w-0.1", member=Member(Life.READY, 100))
    scene.serve("w-1.1", member=Member(Life.READY, 5))
    scene.serve("w-2.5", member=Member(Life.READY, 5))
    scene.serve("w-3.7", member=Member(Life.SYNCING, 0))
    going = []
    for wanted in range(5, -1, -1):
        plan = scene.plan(wanted)
        assert plan.start == 0
        going += [("stop", id) for id in plan.stop] + [("drain", id) for id in plan.drain]
    assert going == [
        ("stop", "w-5.9"),  # neither of these two has anything to finish
        ("stop", "w-4.8"),
        ("drain", "w-3.7"),
        ("drain", "w-2.5"),
        ("drain", "w-1.1"),
        ("drain", "w-0.1"),
    ]
    assert scene.counts(0) == Counts(0, 0, 0, 4, 0)


def test_one_that_drains_is_stopped_when_its_time_is_over():
    scene = Scene(drain_time=40.0)
    scene.order("w-0.1")
    scene.serve("w-0.1")
    assert scene.plan(0).drain == ["w-0.1"]
    assert nothing(scene.plan(0, after=39))
    plan = scene.plan(0, after=2)
    assert (plan.stop, plan.endings) == (["w-0.1"], [Ending("w-0.1", "it did not leave in time", None)])


def test_one_that_drains_is_not_called_back_when_more_are_wanted():
    scene = Scene()
    scene.order("w-0.1", "w-1.1")
    scene.serve("w-0.1", "w-1.1")
    assert len(scene.plan(1).drain) == 1
    assert scene.plan(2).start == 1


steps = st.tuples(
    st.sampled_from(["come", "die", "vanish", "silence", "drain", "wait", "want"]),
    st.integers(0, 7),
)


@given(st.lists(steps, max_size=60))
def test_whatever_happens_there_are_soon_as_many_as_are_wanted(happenings):
    """A launcher that obeys at once, and a world that does not."""
    scene = Scene()
    wanted, made = 2, 0

    def obey() -> None:
        nonlocal made
        plan = scene.plan(wanted)
        assert not {*plan.drain} & {*plan.stop}
        for id in plan.stop:
            scene.alive.pop(id, None)
            scene.fleet.pop(id, None)
        for id in plan.drain:
            scene.fleet[id] = Member(Life.DRAINING)
        ids = [f"w-{n}.{made + n + 1}" for n in range(plan.start)]
        made += plan.start
        scene.order(*ids, launched=RUNNING)

    for what, n in happenings:
        ids = sorted(scene.alive)
        id = ids[n % len(ids)] if ids else None
        if what == "want":
            wanted = n
        elif what == "wait":
            scene.now += n
        elif id is not None:
            if what == "come":
                scene.fleet[id] = READY
            elif what == "die":
                scene.lose(id)
            elif what == "vanish":
                del scene.alive[id]
                scene.fleet.pop(id, None)
            elif what == "silence":
                scene.fleet.pop(id, None)
            else:
                scene.fleet[id] = Member(Life.DRAINING)
        obey()
    for _ in range(20):
        scene.now += 20
        for id in list(scene.fleet):
            if scene.fleet[id].state is Life.DRAINING:
                scene.lose(id)
        obey()
        scene.fleet |= {id: READY for id in scene.alive if scene.staffing.orders[id].is_present}
    obey()
    assert scene.counts(wanted) == Counts(wanted, wanted, 0, 0, 0)
    assert len(scene.alive) == wanted
