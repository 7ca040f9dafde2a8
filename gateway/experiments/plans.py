"""What an experiment is asked to be, how it is kept, and the states it goes through. Pure.

What it does with requests, and what it counts, is in `experiments`.
"""

from __future__ import annotations

import enum
import re

import msgspec

from common.errors import Conflict, IllegalTransition, InvalidRequest
from gateway.experiments.guard import Guard
from gateway.experiments.split import Run, Split

MAX_ARMS = 32

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_STICKY = re.compile(r"header:([A-Za-z0-9!#$%&'*+.^_`|~-]{1,64})")


class State(str, enum.Enum):
    """Where an experiment is. It takes part in requests while it is running or tripped."""

    RUNNING = "running"
    TRIPPED = "tripped"  # a canary was taken back; the others go on
    PROMOTED = "promoted"
    ENDED = "ended"


class Event(str, enum.Enum):
    """What can happen to an experiment."""

    CHANGE = "changed"
    TRIP = "tripped"
    PROMOTE = "promoted"
    END = "ended"


TRANSITIONS: dict[State, dict[Event, State]] = {
    State.RUNNING: {
        Event.CHANGE: State.RUNNING,
        Event.TRIP: State.TRIPPED,
        Event.PROMOTE: State.PROMOTED,
        Event.END: State.ENDED,
    },
    State.TRIPPED: {
        Event.CHANGE: State.RUNNING,
        Event.TRIP: State.TRIPPED,
        Event.PROMOTE: State.PROMOTED,
        Event.END: State.ENDED,
    },
    State.PROMOTED: {Event.CHANGE: State.RUNNING, Event.END: State.ENDED},
    State.ENDED: {},
}
ACTIVE = (State.RUNNING, State.TRIPPED)


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client asks for. `arms` are versions and their weights, of any sum.

    `sticky` names what keeps a user in an arm, as `header:X-User`; None, or a request without it: every
    request is on its own. `control` is by default the arm of most weight. `guard` None: none is taken back.
    """

    model: str
    arms: dict[str, float]
    sticky: str | None = None
    shadows: tuple[str, ...] = ()
    control: str | None = None
    guard: Guard | None = Guard()

    @property
    def versions(self) -> list[str]:
        """Every version that workers have to hold for it."""
        return sorted({*self.arms, *self.shadows})

    @property
    def header(self) -> bytes | None:
        """The lower-case name of the header that keeps a user in an arm."""
        return None if self.sticky is None else self.sticky.partition(":")[2].lower().encode()


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment as it is kept over a restart. `created` is in unix seconds."""

    name: str
    plan: Plan
    runs: dict[str, tuple[Run, ...]]
    state: State = State.RUNNING
    reason: str = ""  # why it tripped
    winner: str = ""  # what was promoted
    created: float = 0.0


def after(record: Record, event: Event) -> State:
    """The state that `event` leads to; `Conflict` for what a client asked at the wrong time."""
    try:
        return TRANSITIONS[record.state][event]
    except KeyError:
        sentence = f"experiment {record.name} is {record.state.value}: it cannot be {event.value}"
        if event is Event.TRIP:
            raise IllegalTransition(sentence) from None
        raise Conflict(sentence) from None


def control_of(plan: Plan) -> str:
    """The arm that the others are compared with: the named one, else the first of those of most weight."""
    return plan.control or min(plan.arms, key=lambda arm: (-plan.arms[arm], arm))


def check(plan: Plan) -> None:
    """`InvalidRequest`, with a sentence, for a plan that makes no sense by itself."""
    if len(plan.versions) > MAX_ARMS:
        raise InvalidRequest(f"an experiment has at most {MAX_ARMS} arms, not {len(plan.versions)}")
    both = sorted({*plan.arms} & {*plan.shadows})
    if both:
        raise InvalidRequest(f"{both[0]} is among arms and shadows: a shadow takes no requests of its own")
    if len(set(plan.shadows)) < len(plan.shadows):
        raise InvalidRequest("shadows name a version twice")
    if "" in plan.versions:
        raise InvalidRequest("a version has a name: the empty text is none")
    if plan.sticky is not None and not _STICKY.fullmatch(plan.sticky):
        raise InvalidRequest(f"sticky should be null or header: and the header's name, not {plan.sticky!r}")
    if plan.control is not None and plan.control not in plan.arms:
        raise InvalidRequest(
            f"control should be one of the arms ({', '.join(plan.arms)}), not {plan.control}"
        )
    split_of(None, plan)


def split_of(before: Split | None, plan: Plan) -> Split:
    """The split by a plan's weights, as near as can be to the one before; or `InvalidRequest`."""
    try:
        return Split.new(plan.arms) if before is None else before.changed(plan.arms)
    except ValueError as error:
        raise InvalidRequest(f"arms: {error}") from None
