"""Pure: experiments/experiments.py and experiments/plans.py: who goes where, what is counted, how it ends."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest

from common.errors import Conflict, IllegalTransition, InvalidRequest, NotFound
from gateway.experiments.experiments import Arm, Experiment, Experiments
from gateway.experiments.guard import Guard
from gateway.experiments.plans import TRANSITIONS, Event, Plan, Record, State, after, check
from gateway.experiments.split import BUCKETS, bucket_of


def plan(**how: Any) -> Plan:
    return msgspec.structs.replace(Plan(model="iris", arms={"v1": 90.0, "v2": 10.0}, guard=None), **how)


def begin(**how: Any) -> Experiment:
    experiments = Experiments()
    return experiments.adopt(experiments.planned("trial", plan(**how), 5.0))


def finish(experiment: Experiment, arm: Arm, count: int, *, failing: int = 0) -> list[Record]:
    told = [experiment.finished(arm, 0.01, failed=number < failing) for number in range(count)]
    return [each for each in told if each is not None]


def test_a_user_has_the_arm_that_the_bucket_has() -> None:
    experiment = begin()
    for user in ("alice", "bob", "carol"):
        assert experiment.choose(user).name == experiment.split.arm(bucket_of("trial", user))
        assert experiment.choose(user) is experiment.choose(user)


def test_requests_go_to_arms_by_their_weights() -> None:
    experiment = begin()
    counts = Counter(experiment.choose(str(number)).name for number in range(10_000))
    assert counts["v2"] == pytest.approx(1000, abs=150)
    assert counts["v1"] + counts["v2"] == 10_000


def test_an_arm_counts_what_it_did() -> None:
    experiment = begin()
    arm = experiment.arms["v1"]
    for seconds in (0.01, 0.03):
        experiment.finished(arm, seconds, failed=False)
    experiment.finished(arm, 9.0, failed=True)
    assert (arm.requests, arm.errors, arm.latency.count) == (3, 1, 2)
    assert arm.seconds.mean == pytest.approx(0.02)


def test_a_shadow_counts_how_far_it_was_off() -> None:
    experiment = begin(shadows=("v3",))
    shadow = experiment.shadows["v3"]
    for difference in (0.5, 1.5, None):
        shadow.compare(difference)
    experiment.finished(shadow, 0.02, failed=False)
    assert (shadow.is_shadow, shadow.requests, shadow.left_out) == (True, 1, 1)
    assert (shadow.differences.count, shadow.differences.mean) == (2, 1.0)


def test_a_change_keeps_what_arms_did_and_who_is_in_them() -> None:
    experiments = Experiments()
    experiment = experiments.adopt(experiments.planned("trial", plan(), 5.0))
    finish(experiment, experiment.arms["v1"], 3)
    before = [experiment.choose(str(number)).name for number in range(2000)]
    record = experiments.planned("trial", plan(arms={"v2": 20.0, "v1": 80.0}), 9.0)
    assert experiment.plan.arms == {"v1": 90.0, "v2": 10.0}  # nothing happens until it is adopted
    assert experiments.adopt(record) is experiment
    after_it = [experiment.choose(str(number)).name for number in range(2000)]
    assert {*zip(before, after_it, strict=True)} == {("v1", "v1"), ("v1", "v2"), ("v2", "v2")}
    assert (experiment.arms["v1"].requests, experiment.record.created) == (3, 5.0)


def test_a_canary_that_is_worse_goes_back_to_0_by_itself() -> None:
    experiment = begin(arms={"v1": 60.0, "v2": 10.0, "v3": 30.0}, guard=Guard(requests=100))
    stays = [user for user in map(str, range(3000)) if experiment.choose(user).name != "v2"]
    before = [experiment.choose(user).name for user in stays]
    finish(experiment, experiment.arms["v1"], 100)
    (record,) = finish(experiment, experiment.arms["v2"], 100, failing=50)
    assert record is experiment.record
    assert (record.state, record.plan.arms) == (State.TRIPPED, {"v1": 70.0, "v2": 0.0, "v3": 30.0})
    assert record.reason == "50 of 100 requests to v2 failed, 0 of 100 to v1: more than 2 times the rate"
    assert experiment.is_active
    assert experiment.split.count("v2") == 0
    assert [experiment.choose(user).name for user in stays] == before
    assert finish(experiment, experiment.arms["v2"], 1000, failing=1000) == []  # those that were on their way


def test_the_next_canary_can_go_back_too_and_a_change_begins_anew() -> None:
    experiments = Experiments()
    three = plan(arms={"v1": 60.0, "v2": 20.0, "v3": 20.0}, guard=Guard(requests=20))
    experiment = experiments.adopt(experiments.planned("trial", three, 5.0))
    for canary in ("v2", "v3"):
        finish(experiment, experiment.arms["v1"], 20)
        assert len(finish(experiment, experiment.arms[canary], 20, failing=20)) == 1
    assert experiment.plan.arms == {"v1": 100.0, "v2": 0.0, "v3": 0.0}
    assert experiment.record.state is State.TRIPPED
    experiments.adopt(experiments.planned("trial", three, 6.0))
    assert (experiment.record.state, experiment.record.reason) == (State.RUNNING, "")


def test_the_control_stays_the_control_while_weights_change() -> None:
    experiments = Experiments()
    experiment = experiments.adopt(experiments.planned("trial", plan(), 5.0))
    assert experiment.control == "v1"
    experiments.adopt(experiments.planned("trial", plan(arms={"v1": 10.0, "v2": 90.0}), 5.0))
    assert experiment.control == "v1"
    experiments.adopt(experiments.planned("trial", plan(arms={"v3": 10.0, "v2": 90.0}), 5.0))
    assert experiment.control == "v2"


def test_who_is_promoted_gets_every_request() -> None:
    experiments = Experiments()
    experiment = experiments.adopt(experiments.planned("trial", plan(), 5.0))
    record = experiment.promoted(None)
    assert experiment.record.state is State.RUNNING
    experiments.adopt(record)
    assert (record.state, record.winner) == (State.PROMOTED, "v2")
    assert experiment.split.count("v2") == BUCKETS
    assert experiments.active == {}
    with pytest.raises(Conflict, match=r"^experiment trial is promoted: it cannot be promoted$"):
        experiment.promoted("v1")


def test_a_shadow_can_be_promoted() -> None:
    experiment = begin(shadows=("v3",))
    experiment.adopt(experiment.promoted("v3"))
    assert (set(experiment.arms), experiment.shadows) == ({"v1", "v2", "v3"}, {})
    assert experiment.choose("anybody").name == "v3"


def test_whom_to_promote_has_to_be_clear() -> None:
    experiment = begin(shadows=("v3",))
    with pytest.raises(InvalidRequest, match=r"^say which arm to promote: v1, v2, v3$"):
        experiment.promoted(None)
    with pytest.raises(InvalidRequest, match=r"^v9 is no arm of it: v1, v2, v3 are$"):
        experiment.promoted("v9")


def test_a_model_has_one_experiment_at_a_time() -> None:
    experiments = Experiments()
    first = experiments.adopt(experiments.planned("trial", plan(), 5.0))
    with pytest.raises(Conflict, match=r"^model iris has experiment trial: end it first$"):
        experiments.planned("other", plan(), 5.0)
    with pytest.raises(Conflict, match=r"^experiment trial is of model iris: end it first$"):
        experiments.planned("trial", plan(model="wine"), 5.0)
    assert experiments.active == {"iris": first}
    assert experiments.remove("trial").record.state is State.ENDED
    assert (experiments.active, list(experiments.all())) == ({}, [])
    experiments.adopt(experiments.planned("other", plan(), 5.0))
    assert [each.name for each in experiments.all()] == ["other"]


def test_what_is_not_there_is_not_found() -> None:
    for act in (Experiments().get, Experiments().remove):
        with pytest.raises(NotFound, match=r"^there is no experiment trial$"):
            act("trial")


def test_a_record_comes_back_as_it_was_with_every_user_in_place() -> None:
    experiments = Experiments()
    experiments.adopt(experiments.planned("trial", plan(sticky="header:X-User", shadows=("v3",)), 5.0))
    changed = plan(arms={"v1": 50.0, "v2": 30.0, "v4": 20.0}, guard=Guard())
    experiment = experiments.adopt(experiments.planned("trial", changed, 5.0))
    kept = msgspec.json.decode(msgspec.json.encode(experiment.record), type=Record)
    assert kept == experiment.record
    again = Experiments([kept]).get("trial")
    users = [f"user {number}" for number in range(1000)]
    assert [again.choose(user).name for user in users] == [experiment.choose(user).name for user in users]


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"arms": {}}, "arms: one arm at least should have a weight above 0"),
        ({"arms": {"v1": -1.0}}, "arms: the weight of v1 should be a number of 0 or more, not -1.0"),
        ({"shadows": ("v1",)}, "v1 is among arms and shadows: a shadow takes no requests of its own"),
        ({"shadows": ("v3", "v3")}, "shadows name a version twice"),
        ({"arms": {"": 1.0}}, "a version has a name: the empty text is none"),
        ({"control": "v3"}, "control should be one of the arms (v1, v2), not v3"),
        ({"sticky": "X-User"}, "sticky should be null or header: and the header's name, not 'X-User'"),
        ({"sticky": "header:"}, "sticky should be null or header: and the header's name, not 'header:'"),
        ({"arms": {str(n): 1.0 for n in range(33)}}, "an experiment has at most 32 arms, not 33"),
    ],
)  # fmt: skip
def test_a_plan_that_makes_no_sense_is_refused_with_a_sentence(how: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check(plan(**how))
    assert str(caught.value) == sentence


@pytest.mark.parametrize("name", ["", "Trial", ".trial", "a/b", "a" * 65, "trial\n"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="an experiment's name has up to 64 of a-z, 0-9 and"):
        Experiments().planned(name, plan(), 0.0)


def test_the_header_that_keeps_a_user_is_read_off_the_plan() -> None:
    assert (plan().header, plan(sticky="header:X-User").header) == (None, b"x-user")


def test_the_table_of_transitions_has_every_state_and_no_way_out_of_the_end() -> None:
    assert set(TRANSITIONS) == set(State)
    assert TRANSITIONS[State.ENDED] == {}
    reached = {state for events in TRANSITIONS.values() for state in events.values()}
    assert reached == set(State)
    over = msgspec.structs.replace(begin().record, state=State.ENDED)
    for event in Event:
        with pytest.raises(IllegalTransition if event is Event.TRIP else Conflict) as caught:
            after(over, event)
        assert str(caught.value) == f"experiment trial is ended: it cannot be {event.value}"
