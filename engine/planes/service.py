"""A worker process put together: both planes, the engine under them, and an orderly end."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import torch

from common.addresses import link_address, parse_address, service_url
from common.credentials import Credentials
from common.link.worker import Answerer, answer_requests, answer_surveys
from common.log import event
from common.proving import WorkerProver, fleet_key
from common.signatures import TrustedKeys
from common.tracing import Spans
from engine.planes.contact import kept_contact
from engine.planes.control import ControlPlane
from engine.planes.counters import Counters
from engine.planes.data import DataPlane
from engine.planes.identity import Identity
from engine.planes.proving import Guard
from engine.registry import NOTHING_ALLOWED, Registry
from engine.runtimes.options import LoadOptions
from engine.staging import Staging
from engine.trials import Trials

log = logging.getLogger("pipeline.worker")

SLOTS = 2
# The gateway keeps at most SLOTS batches and one chunk in flight; one more is free to see it go away.
DATA_THREADS = SLOTS + 2
DRAIN_GRACE = 30.0
FAREWELL = 1.5  # how long a leaving worker waits for a heartbeat to tell the gateway so
TICK = 0.5  # how soon a signal is noticed at the latest
FAREWELL_TICK = 0.02  # and how soon it notices that there is no gateway to tell


@dataclass(frozen=True)
class Addresses:
    """Where this worker dials, as its host sees the gateway, and what it proves itself by."""

    service: str
    worker: str
    credentials: Credentials | None = None
    token: str | None = None


class WorkerService:
    """`models` are patterns of the models it may hold (none: all), `allowed` what these may do,
    `memory_limit` the bytes that they may take together.

    `run` serves until `stop` is called from anywhere, a signal handler too, and then drains.

    `gateway_timeout` is how many seconds it stays without a gateway (0: for ever); a `spot` worker leaves
    after one batch. Files are `trusted` of who signed them, where that is asked for, and have `trials` before
    they are loaded. `stops` is what `stop` writes to and `run` waits for; given by whoever may want to stop
    it before it is.
    """

    def __init__(
        self,
        identity: Identity,
        addresses: Addresses,
        *,
        device: torch.device,
        cache_size: int,
        allowed: LoadOptions = NOTHING_ALLOWED,
        models: Sequence[str] = (),
        memory_limit: int | None = None,
        gateway_timeout: float = 0.0,
        spot: bool = False,
        stops: SimpleQueue[None] | None = None,
        trusted: TrustedKeys | None = None,
        trials: Trials | None = None,
    ) -> None:
        self.identity = identity
        self._addresses = addresses
        # Not an Event: its lock is not reentrant, and Ctrl-C is two signals at once (the terminal's to the
        # whole group, the gateway's to its worker): the second one's handler would wait for the first one's.
        self._stops: SimpleQueue[None] = SimpleQueue() if stops is None else stops
        self._gateway_timeout = gateway_timeout
        self._closed = False
        self._link: Answerer | None = None
        self._told_over: object = None
        self._silent_over: object = None
        self._link_lock = threading.Lock()
        self._staging = Staging()
        registry = Registry(device=device, cache_size=cache_size, allowed=allowed, memory_limit=memory_limit)
        counters = Counters()
        self._data = DataPlane(registry, self._staging, counters, self.stop if spot else None)
        self._control = ControlPlane(
            identity,
            scheme=parse_address(addresses.worker).scheme,
            slots=1 if spot else SLOTS,
            registry=registry,
            staging=self._staging,
            counters=counters,
            data=self._data,
            on_link=self._open_link,
            on_drain=self.stop,
            models=models,
            trusted=trusted,
            trials=trials,
        )
        self._guard: Guard | None = None  # where there is a token
        if addresses.token is not None:
            url = service_url(parse_address(addresses.service))
            prover = WorkerProver(fleet_key(addresses.token), identity.id, url)
            self._guard = Guard(prover, self._control.handle, self._data.handle)

    def stop(self) -> None:
        """Ask it to finish what it has and leave."""
        self._stops.put(None)

    def run(self, spans: Spans | None = None) -> None:
        """Serve until `stop`; then answer what is in hand, tell the gateway, and close everything."""
        self._data.spans = spans
        url, credentials = service_url(parse_address(self._addresses.service)), self._addresses.credentials
        handle = self._control.handle if self._guard is None else self._guard.survey
        surveys = answer_surveys(url, handle, credentials=credentials)
        event(log, logging.INFO, "looking for the gateway", at=surveys.url, worker=self.identity.name)
        try:
            with kept_contact(
                lambda: self._control.hellos,
                lambda: surveys.connection,
                lambda is_long: self._hang_up(surveys, is_long),
                self._give_up,
                self._gateway_timeout,
            ):
                self._wait_until_told()
            finished = self._data.drain(DRAIN_GRACE)
            self._say_farewell(surveys)
            event(log, logging.INFO, "leaving", worker=self.identity.name, finished=finished)
        finally:
            with self._link_lock:
                self._closed = True
                if self._link is not None:
                    self._link.close()
            surveys.close()
            self._staging.close()

    def _wait_until_told(self) -> None:
        # Not for ever at once: a signal that the system gives to another thread, or that comes as this one
        # falls asleep, wakes nobody, and Python calls its handler when this thread runs again.
        while True:
            with contextlib.suppress(Empty):
                return self._stops.get(timeout=TICK)

    def _give_up(self, seconds: float) -> None:
        event(log, logging.WARNING, "without a gateway", worker=self.identity.name, seconds=seconds)
        self.stop()

    def _hang_up(self, surveys: Answerer, is_long: bool) -> None:
        """Nothing is heard: the connections may be there for this end only. The link's carries requests, and
        a gateway that hears the worker again says if it needs a new one: so that waits longer.

        One that was made this moment is left: over ws NNG 1.11 panics at times, at the other end, when one is
        closed that is in use.
        """
        surveys.hang_up()
        with self._link_lock:
            before, self._silent_over = self._silent_over, self._link and self._link.connection
            if is_long and self._link is not None and before is self._silent_over is not None:
                self._link.hang_up()

    def _say_farewell(self, surveys: Answerer) -> None:
        """Wait until the gateway, while there is one, has heard that this worker leaves."""
        until = time.monotonic() + FAREWELL
        while surveys.is_connected and time.monotonic() < until:
            if self._control.told_draining.wait(FAREWELL_TICK):
                return

    def _open_link(self, endpoint: str) -> None:
        """Dial the link the gateway made for us; NNG keeps dialling it by itself as long as it fails."""
        url = str(link_address(parse_address(self._addresses.worker), endpoint))
        with self._link_lock:
            if self._closed or (self._link is not None and self._link.url == url and not self._is_lost()):
                return
            if self._link is not None:
                self._link.close()
            handle = self._data.handle if self._guard is None else self._guard.request
            self._link = answer_requests(
                url, handle, threads=DATA_THREADS, credentials=self._addresses.credentials
            )

    def _is_lost(self) -> bool:
        """Whether only this end believes in the link's connection: the gateway, which tells nobody whose link
        is up, told us twice over it (once, and it may have come up this moment).

        Seen over ws with NNG 1.11 as a gateway closed the link of a worker given up and made it anew.
        """
        assert self._link is not None
        before, self._told_over = self._told_over, self._link.connection
        return before is not None and before is self._told_over
