"""Experiments: the traffic of one model split between versions, what each of them did, and how it ends. Pure.

An arm is a version with a part of the requests, or a shadow: it gets copies, and its answers are compared
and dropped. One arm is the control; the others are canaries, and where there is a guard, one that does worse
than the control goes back to 0 by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from common.errors import Conflict, InvalidRequest, NotFound
from common.intervals import Moments
from common.stats import Latency
from gateway.experiments.guard import Watch
from gateway.experiments.plans import ACTIVE, NAME, Event, Plan, Record, after, check, control_of, split_of
from gateway.experiments.split import Split, bucket_of


class Arm:
    """What one version did in an experiment since the gateway started; durations in seconds."""

    __slots__ = ("differences", "errors", "is_shadow", "latency", "left_out", "name", "requests", "seconds")

    def __init__(self, name: str, *, is_shadow: bool = False) -> None:
        self.name = name
        self.is_shadow = is_shadow
        self.requests = 0
        self.errors = 0
        self.latency = Latency()  # of what did not fail
        self.seconds = Moments()  # the same durations
        self.differences = Moments()  # a shadow's: mean absolute difference of each request's outputs
        self.left_out = 0  # a shadow's: requests that were not copied, or could not be compared

    def record(self, seconds: float, *, failed: bool) -> None:
        """Count one request that is over."""
        self.requests += 1
        if failed:
            self.errors += 1
        else:
            self.latency.record(seconds)
            self.seconds.add(seconds)

    def compare(self, difference: float | None) -> None:
        """Count how far a shadow's answer was from the one that was given; None: they are of unlike shape."""
        if difference is None:
            self.left_out += 1
        else:
            self.differences.add(difference)


class Experiment:
    """Invariant: `arms` and `split` have the same versions; a canary that was taken back has none of it."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.split = Split(record.runs)
        self.arms: dict[str, Arm] = {}
        self.shadows: dict[str, Arm] = {}
        self._watches: list[Watch] = []
        self.adopt(record)

    @property
    def name(self) -> str:
        """What its requests are called by."""
        return self.record.name

    @property
    def plan(self) -> Plan:
        """Its arms and weights now."""
        return self.record.plan

    @property
    def is_active(self) -> bool:
        """Whether requests take part in it."""
        return self.record.state in ACTIVE

    @property
    def control(self) -> str:
        """The arm that the others are compared with."""
        return control_of(self.plan)

    def adopt(self, record: Record) -> None:
        """Become what a record says. Arms that stay keep what they did; the guard begins anew."""
        plan = record.plan
        self.record = record
        self.split = Split(record.runs)
        self.arms = {arm: self.arms.get(arm) or Arm(arm) for arm in sorted(plan.arms)}
        self.shadows = {
            arm: self.shadows.get(arm) or Arm(arm, is_shadow=True) for arm in sorted(plan.shadows)
        }
        self._watches = []
        if plan.guard is not None and self.is_active:
            canaries = [arm for arm in self.arms if arm != self.control and plan.arms[arm]]
            self._watches = [Watch(plan.guard, canary=arm, control=self.control) for arm in canaries]

    def choose(self, key: str) -> Arm:
        """The arm of a user, or of a request that is on its own."""
        return self.arms[self.split.arm(bucket_of(self.name, key))]

    def finished(self, arm: Arm, seconds: float, *, failed: bool) -> Record | None:
        """A request is over: count it. A record if the guard took a canary back; keep it and tell of it."""
        arm.record(seconds, failed=failed)
        if arm.is_shadow or not self.is_active:
            return None
        reasons = {
            watch.canary: reason
            for watch in self._watches
            if (reason := watch.record(arm.name, seconds, failed=failed)) is not None
        }
        if not reasons:
            return None
        self.adopt(self._without(reasons))
        return self.record

    def _without(self, reasons: dict[str, str]) -> Record:
        """The record after canaries were taken back: their parts are the control's."""
        weights = dict(self.plan.arms)
        for canary in reasons:
            weights[self.control] += weights[canary]
            weights[canary] = 0.0
        plan = msgspec.structs.replace(self.plan, arms=weights, control=self.control)
        return msgspec.structs.replace(
            self.record,
            plan=plan,
            runs=self.split.changed(weights).runs,
            state=after(self.record, Event.TRIP),
            reason="; ".join(reasons.values()),
        )

    def changed(self, plan: Plan) -> Record:
        """The record of other arms or weights. `InvalidRequest`, `Conflict` for another model."""
        check(plan)
        if plan.model != self.plan.model:
            raise Conflict(f"experiment {self.name} is of model {self.plan.model}: end it first")
        if plan.control is None and self.control in plan.arms:
            plan = msgspec.structs.replace(plan, control=self.control)
        runs = split_of(self.split, plan).runs
        state = after(self.record, Event.CHANGE)
        return msgspec.structs.replace(self.record, plan=plan, runs=runs, state=state, reason="", winner="")

    def promoted(self, arm: str | None) -> Record:
        """The record in which an arm won (by default the only one beside the control): all requests go to it.

        `InvalidRequest` where it is no arm, or not clear which; `Conflict` when it is over.
        """
        others = sorted({*self.arms, *self.shadows} - {self.control})
        if arm is None:
            if len(others) != 1:
                raise InvalidRequest(f"say which arm to promote: {', '.join([self.control, *others])}")
            (arm,) = others
        if arm not in self.arms and arm not in self.shadows:
            raise InvalidRequest(f"{arm} is no arm of it: {', '.join([self.control, *others])} are")
        weights = {each: float(each == arm) for each in {*self.arms, arm}}
        shadows = tuple(each for each in self.plan.shadows if each != arm)
        return msgspec.structs.replace(
            self.record,
            plan=msgspec.structs.replace(self.plan, arms=weights, shadows=shadows, control=arm),
            runs=self.split.changed(weights).runs,
            state=after(self.record, Event.PROMOTE),
            reason="",
            winner=arm,
        )


class Experiments:
    """Every experiment by name. Invariant: a model has at most one that is active."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._known: dict[str, Experiment] = {}
        self.active: dict[str, Experiment] = {}  # by model; empty where nobody experiments
        for record in records:
            self.adopt(record)

    def get(self, name: str) -> Experiment:
        """The experiment of that name, or `NotFound`."""
        try:
            return self._known[name]
        except KeyError:
            raise NotFound(f"there is no experiment {name}") from None

    def all(self) -> Sequence[Experiment]:
        """Every experiment, in the order of their names."""
        return [self._known[name] for name in sorted(self._known)]

    def planned(self, name: str, plan: Plan, now: float) -> Record:
        """The record of an experiment that begins or changes; nothing happens until it is adopted.

        `InvalidRequest` for a plan that makes no sense; `Conflict` if the model has another experiment.
        """
        if not NAME.fullmatch(name):
            raise InvalidRequest(
                "an experiment's name has up to 64 of a-z, 0-9 and . _ - and begins with a letter or digit,"
                f" not {name!r}"
            )
        check(plan)
        other = self.active.get(plan.model)
        if other is not None and other.name != name:
            raise Conflict(f"model {plan.model} has experiment {other.name}: end it first")
        known = self._known.get(name)
        if known is not None:
            return known.changed(plan)
        return Record(name=name, plan=plan, runs=split_of(None, plan).runs, created=now)

    def adopt(self, record: Record) -> Experiment:
        """Make a record, which is kept by now, what is."""
        experiment = self._known.get(record.name)
        if experiment is None:
            experiment = self._known[record.name] = Experiment(record)
        else:
            experiment.adopt(record)
        self._place(experiment)
        return experiment

    def remove(self, name: str) -> Experiment:
        """Forget an experiment; requests that take part in it end as they would. `NotFound`."""
        experiment = self.get(name)
        state = after(experiment.record, Event.END)
        experiment.adopt(msgspec.structs.replace(experiment.record, state=state))
        del self._known[name]
        self._place(experiment)
        return experiment

    def _place(self, experiment: Experiment) -> None:
        model = experiment.plan.model
        if experiment.is_active:
            self.active[model] = experiment
        elif self.active.get(model) is experiment:
            del self.active[model]
