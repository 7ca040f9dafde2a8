"""How many workers there should be. Pure: time comes in, and the same observations make the same decisions.

The order of things, each of which has a rule's name in the decision:

1. `stable`: what the stable window's traffic needs at the target utilization. `trend`: what it will need when
   a worker that is ordered now is ready, if it grows. `queue`: what it takes to answer what waits too long.
   The largest of them counts.
2. `panic`: once the panic window needs `panic_threshold` times what is ready, its need counts, and nothing
   goes down until that is over for a stable window.
3. `idle`: there was nothing to do for `zero_grace` seconds.
4. `cool-down`: what was needed within `scale_down_delay` is kept.
5. `bounds`, and `step`: no more, or no fewer, than so many times as many in `scale_step` seconds.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from gateway.autoscaler.traffic import Capacity, Observation, Traffic, capacity

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
SecondsOrNone = Annotated[float, Meta(ge=0, le=86_400)]
Factor = Annotated[float, Meta(gt=1, le=1000)]


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the policy goes by. Times are in seconds but for `target_queue_ms`. The defaults were chosen with
    `python -m bench.simulate`; docs/autoscaling.md shows what each does."""

    target_concurrency: Annotated[
        Annotated[float, Meta(gt=0, le=1_000_000)] | None,
        Meta(description="requests in progress that one worker holds; null: what it holds is measured"),
    ] = None
    target_utilization: Annotated[
        float, Meta(gt=0, le=1, description="how much of what it holds a worker should have")
    ] = 0.7
    target_queue_ms: Annotated[
        float, Meta(gt=0, le=3_600_000, description="how long requests may wait for a worker")
    ] = 100.0
    catch_up: Annotated[Seconds, Meta(description="in how long what waits beyond that is answered")] = 2.0
    stable_window: Annotated[Seconds, Meta(description="what the need is averaged over")] = 30.0
    panic_window: Annotated[Seconds, Meta(description="the same when it rises fast")] = 0.5
    panic_threshold: Annotated[
        Factor, Meta(description="how many times what is ready the panic window needs in a panic")
    ] = 2.0
    scale_down_delay: Annotated[
        SecondsOrNone, Meta(description="for how long the need has to be lower before workers go")
    ] = 30.0
    scale_up_rate: Annotated[Factor, Meta(description="at most so many times as many in a step")] = 10.0
    scale_down_rate: Annotated[Factor, Meta(description="at most so many times fewer in a step")] = 2.0
    scale_step: Annotated[SecondsOrNone, Meta(description="how long a step is")] = 2.0
    look_ahead: Annotated[
        SecondsOrNone, Meta(description="how far ahead growing traffic is looked at; 0: not at all")
    ] = 2.0
    zero_grace: Annotated[
        SecondsOrNone, Meta(description="for how long there is nothing to do before the last worker goes")
    ] = 60.0


class Bounds(NamedTuple):
    """How few and how many there may be; with `scale_to_zero`, which `min_workers` 0 means too, none while
    there is nothing to do."""

    min_workers: int
    max_workers: int
    scale_to_zero: bool = False

    @property
    def may_be_none(self) -> bool:
        """Whether there may be none while there is nothing to do."""
        return self.scale_to_zero or not self.min_workers


class Decision(NamedTuple):
    """How many workers there should be, the rule that says so, and why, as a sentence."""

    n: int
    rule: str
    reason: str


Need = tuple[float, str]
"""How many workers, not rounded yet, and why."""


class Policy:
    """Decides, and remembers the window and what it decided. It begins with a `note`."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.capacity: Capacity | None = None  # what one worker held when there was traffic last
        self.traffic = Traffic()
        self._panic: tuple[float, int] | None = None  # (until when, how many)
        self._needs: deque[tuple[float, int]] = deque()
        self._decided: deque[tuple[float, int]] = deque()

    def note(self, now: float, n: int) -> None:
        """There are to be n, by whoever's decision: it counts as if it was needed now."""
        if not self._decided or self._decided[-1][1] != n:
            self.traffic.active_at = now if n else self.traffic.active_at
            self._needs.append((now, n))
            self._decided.append((now, n))

    def desired(self, now: float, observations: Sequence[Observation], bounds: Bounds) -> Decision:
        """What there should be, after what was observed since the last time; `now` never goes back."""
        p = self.parameters
        self.traffic.add(observations, keep=max(p.stable_window, p.panic_window))
        batches, reach = self.traffic.batches(p.stable_window), self.traffic.reach(p.stable_window)
        self.capacity = capacity(batches, reach, p.target_queue_ms / 1000) or self.capacity
        needed = self._idle(now, bounds) or self._panicking(now, self._calm())
        decision = self._stepped(now, self._bounded(self._cooled(now, needed), bounds), bounds)
        self._decided.append((now, decision.n))
        return decision

    # --- what the traffic needs, in workers at the target utilization

    def _calm(self) -> Decision:
        need, reason = self._need(self.parameters.stable_window)
        decision = Decision(_whole(need), "stable", reason)
        for rule, (need, reason) in (("trend", self._trend()), ("queue", self._queue())):
            if _whole(need) > decision.n:
                decision = Decision(_whole(need), rule, reason)
        return decision

    def _need(self, window: float) -> Need:
        """What the arrivals of a window need."""
        p, held, newest = self.parameters, self.capacity, self.traffic.newest
        if p.target_concurrency is not None:
            in_hand = self.traffic.in_hand(window)
            need = in_hand / p.target_concurrency / p.target_utilization
            return need, f"{_number(in_hand)} requests in progress, {p.target_concurrency:g} for each worker"
        if held is None:
            is_waiting = newest is not None and newest.in_hand > 0
            return float(is_waiting), "no request has been answered yet"
        rate = self.traffic.rate(window)
        need = rate / held.rate / p.target_utilization
        return need, f"{_number(rate)} rows/s came, and one worker answers {_number(held.rate)}"

    def _trend(self) -> Need:
        """What will be needed when a worker ordered now is ready, if traffic grows; else 0."""
        p, held = self.parameters, self.capacity
        if not p.look_ahead or held is None or p.target_concurrency is not None:
            return 0.0, ""
        slope = self.traffic.slope(p.stable_window)
        if not slope:
            return 0.0, ""
        coming = self.traffic.rate(p.panic_window) + slope * (p.panic_window / 2 + p.look_ahead)
        reason = f"{_number(coming)} rows/s are to be expected, and one worker answers {_number(held.rate)}"
        return coming / held.rate / p.target_utilization, reason

    def _queue(self) -> Need:
        """What it takes to answer what waits too long, beside what comes; 0 where nothing does."""
        p, held = self.parameters, self.capacity
        waiting = self.traffic.waiting(p.panic_window)
        if held is None or not waiting:
            return 0.0, ""
        rate = self.traffic.rate(p.panic_window)
        # A batch's time is waited for even in the best of fleets: whoever comes meanwhile is in the next.
        allowed = rate * max(p.target_queue_ms / 1000, held.batch_time)
        if waiting <= allowed:
            return 0.0, ""
        need = (rate + (waiting - allowed) / p.catch_up) / held.rate / p.target_utilization
        reason = f"{_number(waiting)} rows wait, {_number(allowed)} may, one worker answers"
        return need, f"{reason} {_number(held.rate)} a second"

    # --- the rules

    def _idle(self, now: float, bounds: Bounds) -> Decision | None:
        quiet = now - self.traffic.active_at
        if not bounds.may_be_none or not quiet or quiet < self.parameters.zero_grace:
            return None
        return Decision(0, "idle", "there was nothing to do for zero_grace")

    def _panicking(self, now: float, calm: Decision) -> Decision:
        p, newest = self.parameters, self.traffic.newest
        ready = max(1, newest.ready if newest is not None else 0)
        need, reason = max(self._need(p.panic_window), self._queue())
        n = _whole(need)
        if need >= p.panic_threshold * ready:
            self._panic = now + p.stable_window, max(n, self._panic[1] if self._panic else 0)
        if self._panic is not None and now >= self._panic[0]:
            self._panic = None
        if self._panic is None or calm.n >= self._panic[1]:
            return calm
        if n < self._panic[1]:
            reason = "the most that was needed since traffic rose"
        return Decision(self._panic[1], "panic", reason)

    def _cooled(self, now: float, needed: Decision) -> Decision:
        self._needs.append((now, needed.n))
        most = _within(self._needs, now - self.parameters.scale_down_delay, max)
        if most <= needed.n:
            return needed
        return Decision(most, "cool-down", f"as many were needed within scale_down_delay; now {needed.n}")

    def _bounded(self, wanted: Decision, bounds: Bounds) -> Decision:
        if wanted.n > bounds.max_workers:
            reason = f"{wanted.n} are wanted, and max_workers is fewer: {wanted.reason}"
            return Decision(bounds.max_workers, "bounds", reason)
        if wanted.n >= max(1, bounds.min_workers) or wanted.rule == "idle":
            return wanted
        if bounds.min_workers:
            return Decision(bounds.min_workers, "bounds", "min_workers is more than is needed")
        return Decision(1, "bounds", "the last worker goes when there was nothing to do for zero_grace")

    def _stepped(self, now: float, wanted: Decision, bounds: Bounds) -> Decision:
        p = self.parameters
        last = self._decided[-1][1]
        fewest = _within(self._decided, now - p.scale_step, min)
        most = _within(self._decided, now - p.scale_step, max)
        ceiling = max(last, fewest + 1, math.ceil(max(1, fewest) * p.scale_up_rate), bounds.min_workers)
        floor = min(last, most - 1, math.floor(most / p.scale_down_rate), bounds.max_workers)
        n = min(max(wanted.n, floor), ceiling)
        if n == wanted.n:
            return wanted
        return Decision(n, "step", f"{wanted.n} are wanted, and this is the next step: {wanted.reason}")


def _whole(need: float) -> int:
    return math.ceil(need - 1e-9)


def _within(past: deque[tuple[float, int]], since: float, best: Callable[[list[int]], int]) -> int:
    """The most or the fewest of what was noted since then, and what was so at that time; what is older is
    forgotten."""
    while len(past) > 1 and past[1][0] <= since:
        past.popleft()
    return best([n for _, n in past])


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
