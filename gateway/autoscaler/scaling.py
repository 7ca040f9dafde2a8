"""What the autoscaler is told: bounds, policy, pause; as the gateway was started, and what was changed since.
Pure."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from common.errors import InvalidRequest
from gateway.autoscaler.policy import Bounds, Parameters

Values = dict[str, Any]


class Scaling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many workers there may be, how many of them are decided on by which policy, and whether."""

    min_workers: Annotated[int, Meta(ge=0, le=100_000)] = 1
    max_workers: Annotated[int, Meta(ge=1, le=100_000)] = 1
    scale_to_zero: Annotated[
        bool,
        Meta(description="whether there are none while there is nothing to do, as min_workers 0 says too"),
    ] = False
    paused: Annotated[bool, Meta(description="decisions are made, and not followed")] = False
    policy: Parameters = Parameters()

    @property
    def bounds(self) -> Bounds:
        """For the policy."""
        return Bounds(self.min_workers, self.max_workers, self.scale_to_zero)


class Changes:
    """What differs from how the gateway was started, and what that makes of it.

    What is changed is a JSON merge patch (RFC 7396): null is as the gateway was started.
    """

    def __init__(self, started: Scaling) -> None:
        self.started = started
        self.values: Values = {}
        self.scaling = started

    def merged(self, patch: Values) -> Values:
        """What would differ after a patch; `InvalidRequest` with a sentence if that makes no sense."""
        values = _merged(self.values, patch)
        self._made(values)
        return values

    def adopt(self, values: Values) -> None:
        """Nothing but this differs; `InvalidRequest`, and nothing is changed."""
        self.scaling = self._made(values)
        self.values = values

    def _made(self, values: Values) -> Scaling:
        policy = values.get("policy")
        _refuse_unknown(values, Scaling, "")
        _refuse_unknown(policy if isinstance(policy, dict) else {}, Parameters, "policy.")
        try:
            made = msgspec.convert(_merged(msgspec.to_builtins(self.started), values), Scaling)
        except msgspec.ValidationError as error:
            raise InvalidRequest(f"request body has a wrong shape: {error}") from None
        if made.min_workers > made.max_workers:
            many, few = made.min_workers, made.max_workers
            raise InvalidRequest(f"min_workers cannot be more than max_workers: {many} and {few}")
        if made.max_workers > self.started.max_workers:
            raise InvalidRequest(
                f"max_workers can be {self.started.max_workers} at most, as the gateway was started,"
                f" not {made.max_workers}"
            )
        return made


def _merged(values: Values, patch: Values) -> Values:
    """`patch` over `values`, two levels deep; null takes a name away."""
    made = {**values, **patch}
    before, policy = values.get("policy"), patch.get("policy")
    if isinstance(before, dict) and isinstance(policy, dict):
        policy = before | policy
    if isinstance(policy, dict):
        made["policy"] = {name: value for name, value in policy.items() if value is not None}
    return {name: value for name, value in made.items() if value is not None}


def _refuse_unknown(values: Values, kind: type[msgspec.Struct], where: str) -> None:
    for name in values:
        if name not in kind.__struct_fields__:
            allowed = ", ".join(kind.__struct_fields__)
            raise InvalidRequest(f"there is no {where}{name} (allowed are {allowed})")
