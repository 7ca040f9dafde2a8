"""Who is in the fleet, and in which state of life. Pure: what was heard comes in, what to do goes out."""

from __future__ import annotations

import enum
from collections.abc import Iterator

from common.errors import IllegalTransition
from common.wire import HelloAnswer, StatusAnswer, VersionKey


class State(str, enum.Enum):
    """A worker's state of life. Only a ready worker is sent requests."""

    JOINING = "joining"  # said hello; its link is not up
    SYNCING = "syncing"  # its link is up; it is given the active versions
    READY = "ready"
    SUSPECT = "suspect"  # its link broke, or it fell silent
    DRAINING = "draining"  # finishes what it has
    GONE = "gone"


class Event(str, enum.Enum):
    """What can happen to a worker."""

    LINKED = "linked"
    SYNCED = "synced"
    UNLINKED = "unlinked"
    SILENT = "silent"
    DRAIN = "drain"


TRANSITIONS: dict[State, dict[Event, State]] = {
    State.JOINING: {
        Event.LINKED: State.SYNCING,
        Event.UNLINKED: State.JOINING,
        Event.SILENT: State.GONE,
        Event.DRAIN: State.DRAINING,
    },
    State.SYNCING: {
        Event.LINKED: State.SYNCING,
        Event.SYNCED: State.READY,
        Event.UNLINKED: State.SUSPECT,
        Event.SILENT: State.GONE,  # its network threads may connect it for ever, with its own stuck
        Event.DRAIN: State.DRAINING,
    },
    State.READY: {
        Event.LINKED: State.READY,
        Event.UNLINKED: State.SUSPECT,
        Event.SILENT: State.SUSPECT,
        Event.DRAIN: State.DRAINING,
    },
    State.SUSPECT: {
        Event.LINKED: State.SYNCING,
        Event.SYNCED: State.SUSPECT,  # the answer came, and the link broke before it was looked at
        Event.UNLINKED: State.SUSPECT,
        Event.SILENT: State.GONE,
        Event.DRAIN: State.GONE,
    },
    State.DRAINING: {
        Event.LINKED: State.DRAINING,
        Event.SYNCED: State.DRAINING,
        Event.UNLINKED: State.GONE,
        Event.SILENT: State.GONE,
        Event.DRAIN: State.DRAINING,
    },
    State.GONE: {},
}


class Worker:
    """What the gateway knows of one worker process. Its id is made anew by each process."""

    def __init__(self, hello: HelloAnswer, now: float) -> None:
        self.id = hello.worker
        self.hello = hello
        self.state = State.JOINING
        self.heard = now
        self.patience = 0.0  # seconds that its silence may be longer, until it is heard
        self.status: StatusAnswer | None = None
        self.trouble = ""  # why it is not ready, where somebody should know

    @property
    def name(self) -> str:
        """What people call it."""
        return self.hello.name

    @property
    def versions(self) -> list[VersionKey]:
        """The versions it said it holds."""
        return self.hello.versions

    def happen(self, event: Event) -> State:
        """Move to the state that `event` leads to; `IllegalTransition` where the table has none."""
        try:
            self.state = TRANSITIONS[self.state][event]
        except KeyError:
            raise IllegalTransition(
                f"{self.name}: nothing is {event.value} when {self.state.value}"
            ) from None
        return self.state


class Roster:
    """Every worker known now, by id. A worker that is gone is forgotten at once."""

    def __init__(self, *, silence: float) -> None:
        self.silence = silence  # seconds without an answer that make a worker silent
        self._workers: dict[str, Worker] = {}

    def __iter__(self) -> Iterator[Worker]:
        return iter(list(self._workers.values()))

    def __len__(self) -> int:
        return len(self._workers)

    def get(self, worker_id: str) -> Worker | None:
        """The worker of that id, if it is known."""
        return self._workers.get(worker_id)

    def hear(self, answer: HelloAnswer, now: float) -> tuple[Worker, bool]:
        """A worker answered hello: (the worker, whether it is new)."""
        worker = self._workers.get(answer.worker)
        if worker is None:
            worker = self._workers[answer.worker] = Worker(answer, now)
            return worker, True
        worker.hello = answer
        worker.heard, worker.patience = now, 0.0
        return worker, False

    def happen(self, worker: Worker, event: Event) -> State:
        """Let `event` happen to a worker, and forget it if it is gone."""
        state = worker.happen(event)
        if state is State.GONE:
            self._workers.pop(worker.id, None)
        return state

    def silent(self, now: float) -> list[Worker]:
        """The workers that have not been heard for too long."""
        return [
            worker for worker in self._workers.values() if now - worker.heard > self.silence + worker.patience
        ]

    def in_state(self, *states: State) -> list[Worker]:
        """The workers in any of these states."""
        return [worker for worker in self._workers.values() if worker.state in states]
