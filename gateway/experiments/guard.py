"""What takes a canary back: its answers against the control's, over so many requests of each. Pure."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from common.intervals import chance, percentile_interval
from common.stats import Latency

PROBABLE = 0.025  # a difference that chance alone gives more often than this is none


class Guard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a canary goes back: its error rate or 95th percentile is above `factor` times the control's, over
    `requests` of each at least."""

    factor: Annotated[float, Meta(ge=1, le=1000)] = 2.0
    requests: Annotated[int, Meta(ge=20, le=1_000_000)] = 200


class Window:
    """What one arm did since the last look: how many requests, how many failed, how long the others took."""

    __slots__ = ("errors", "latency", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.latency = Latency()

    def record(self, seconds: float, *, failed: bool) -> None:
        """Count one request that is over. A failure's duration says nothing of the model's speed."""
        self.requests += 1
        if failed:
            self.errors += 1
        else:
            self.latency.record(seconds)


class Watch:
    """One canary and its control, window by window, so that a good past hides no bad present.

    Besides the factor, chance has to be an improbable cause: one error where the control has none would
    otherwise be worse by any factor.
    """

    def __init__(self, guard: Guard, *, canary: str, control: str) -> None:
        self.canary = canary
        self.control = control
        self._guard = guard
        self._windows = {canary: Window(), control: Window()}

    def record(self, arm: str, seconds: float, *, failed: bool) -> str | None:
        """Count a request of either arm; a sentence if the canary has to go back."""
        window = self._windows.get(arm)
        if window is None:
            return None
        window.record(seconds, failed=failed)
        theirs, its = self._windows[self.control], self._windows[self.canary]
        if min(theirs.requests, its.requests) < self._guard.requests:
            return None
        self._windows = {self.canary: Window(), self.control: Window()}
        return self._compare_errors(theirs, its) or self._compare_latencies(theirs, its)

    def _compare_errors(self, theirs: Window, its: Window) -> str | None:
        rate, allowed = its.errors / its.requests, self._guard.factor * theirs.errors / theirs.requests
        control, canary = (theirs.errors, theirs.requests), (its.errors, its.requests)
        if rate <= allowed or chance(control, canary) > PROBABLE:
            return None
        return (
            f"{its.errors} of {its.requests} requests to {self.canary} failed, {theirs.errors} of"
            f" {theirs.requests} to {self.control}: more than {self._guard.factor:g} times the rate"
        )

    def _compare_latencies(self, theirs: Window, its: Window) -> str | None:
        if not theirs.latency.count or not its.latency.count:
            return None
        p95, usual = its.latency.percentile(95), theirs.latency.percentile(95)
        sure = percentile_interval(its.latency, 95)
        if p95 <= self._guard.factor * usual or (sure is not None and sure.low <= usual):
            return None
        return (
            f"the 95th percentile of {self.canary} is {p95 * 1000:.1f} ms over {its.requests} requests, that"
            f" of {self.control} {usual * 1000:.1f} ms: more than {self._guard.factor:g} times as long"
        )
