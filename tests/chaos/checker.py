"""What a history has to be like, whatever the faults were. Pure.

1. Every answer is what that version of the model makes of the row: computed here, not asked.
2. Every answer is of a version that was active at a moment between sending and answer. A model's changes come
   one after the other, so a version may be read while its change is under way, and from then on until a later
   change has been acknowledged (a register that is read and written concurrently: Herlihy and Wing, 1990).
3. A request fails only in a way, and at a time, that a fault allows: see `ALLOWED`.
4. Every job that was acknowledged is there, no other is, and it is done, with each of its rows answered once
   and rightly, by one version that was active while it was submitted.
5. No process ends that nobody killed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence

from tests.chaos.history import Asked, Change, History, Job, Row, Trouble

Expected = Callable[[str, str, Row], float]
"""What a version of a model makes of a row."""

TOLERANCE = 2e-6  # relative; what float32 can say

CONNECTION, UNAVAILABLE, LATE, REFUSED, OTHER = "connection", "unavailable", "late", "refused", "other"
_CAUSES = {
    CONNECTION: ("connection", "refused by", "reset", "broken pipe", "the websocket was refused"),
    UNAVAILABLE: ("503", "unavailable", "no_worker", "overloaded", "draining", "queue_full"),
    LATE: ("504", "deadline", "timeout"),
}

# What of a prediction a fault may cost. Of all other kinds: nothing, as there are other workers.
ALLOWED: dict[str, set[str]] = {
    "kill gateway": {CONNECTION, UNAVAILABLE},
    "cut gateway off": {UNAVAILABLE, LATE},  # for longer than the deadline: nobody is left
}
# And what kinds may cost a change or a job's submission: a change is all or nothing, so any of the fleet.
QUIET = {"clock jumps", "slow worker"}


def cause(error: str) -> str:
    """What kind of failure an error's text tells of."""
    said = error.lower()
    return next((name for name, words in _CAUSES.items() if any(word in said for word in words)), OTHER)


def violations(history: History, expected: Expected) -> list[str]:
    """A sentence for everything that should not be so; the run was good if there is none."""
    changes = _by_model(history.changes)
    found = [*_failures(history), *_refusals(history)]
    found += [f"job {job} is there, and nobody was told of it" for job in history.strays]
    found += [f"ended by itself: {process}" for process in history.deaths]
    for asked in history.asked:
        if not asked.error:
            found += _answer(asked, changes[asked.model], expected)
    for job in history.jobs:
        found += _job(job, changes[job.model], expected)
    return found


def was_active(version: str, begun: float, ended: float, changes: Sequence[Change]) -> bool:
    """Whether a version may have been the active one at some moment from `begun` to `ended`; the changes are
    those of its model."""
    real = [change for change in changes if change.outcome != "refused"]
    over = [change for change in real if change.outcome == "done" and change.ended < begun]
    return any(
        change.version == version
        and change.begun < ended
        and not any(other.begun > change.ended and other.version != version for other in over)
        for change in real
    )


def allowed(begun: float, ended: float, why: str, troubles: Sequence[Trouble]) -> bool:
    """Whether a prediction of that time may fail so."""
    return any(
        why in ALLOWED.get(trouble.kind, ()) and begun <= trouble.whole and ended >= trouble.begun
        for trouble in troubles
    )


def _failures(history: History) -> Iterator[str]:
    for asked in history.asked:
        why = cause(asked.error)
        if asked.error and not allowed(asked.sent, asked.done, why, history.troubles):
            yield f"failed without a fault that explains it ({asked.error}): {_told(asked)}"


def _refusals(history: History) -> Iterator[str]:
    """Changes and submissions fail only while something is out of order."""
    loud = [trouble for trouble in history.troubles if trouble.kind not in QUIET]
    tried = [
        (change.begun, change.ended, f"{change.model} {change.version}: {change.why}")
        for change in history.changes
        if change.outcome != "done"
    ]
    tried += [(at, at, f"job {job.key}: {why}") for job in history.jobs for at, why in job.refused]
    for begun, ended, what in tried:
        if not any(begun <= trouble.whole and ended >= trouble.begun for trouble in loud):
            yield f"refused without a fault that explains it, at {begun:.3f}: {what}"


def _answer(asked: Asked, changes: Sequence[Change], expected: Expected) -> Iterator[str]:
    if not any(change.version == asked.version for change in changes):
        yield f"answered by a version that nobody uploaded: {_told(asked)}"
        return
    right = expected(asked.model, asked.version, asked.row)
    if not is_near(asked.result, right):
        yield f"wrong, as {right!r} is right: {_told(asked)}"
    if not was_active(asked.version, asked.sent, asked.done, changes):
        yield f"the version was not active at that time: {_told(asked)}"


def _job(job: Job, changes: Sequence[Change], expected: Expected) -> Iterator[str]:
    name = f"job {job.key} ({job.id})"
    if job.acknowledged is None:
        return
    if job.state != "done":
        yield f"{name} was acknowledged and is {job.state or 'lost'}"
        return
    if not was_active(job.version, job.submitted, job.acknowledged, changes):
        yield f"{name} was answered by {job.version}, which was not active when it was submitted"
    times = Counter(number for number, _ in job.results)
    for number in range(1, len(job.rows) + 1):
        if times[number] != 1:
            yield f"{name}: row {number} was answered {times[number]} times"
    for number, result in job.results:
        if not 1 <= number <= len(job.rows):
            yield f"{name}: row {number} was never asked"
        elif not is_near(result, expected(job.model, job.version, job.rows[number - 1])):
            yield f"{name}: row {number} is wrong: {result!r}"


def is_near(result: float, right: float) -> bool:
    """Whether they are equal as far as float32 can say; a result that is no number is not."""
    return abs(result - right) <= TOLERANCE * max(1.0, abs(right))


def _by_model(changes: Sequence[Change]) -> defaultdict[str, list[Change]]:
    found = defaultdict(list)
    for change in changes:
        found[change.model].append(change)
    return found


def _told(asked: Asked) -> str:
    said = f"{asked.version} says {asked.result!r}, " if not asked.error else ""
    return f"{asked.door} {asked.model or 'default'} {asked.row}: {said}{asked.sent:.3f} to {asked.done:.3f}"
