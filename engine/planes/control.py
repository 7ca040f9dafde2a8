"""The worker's control plane: answers to the gateway's surveys."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Sequence

import psutil

from common import wire
from common.errors import LoadError, WireError
from common.log import OncePer, event
from common.signatures import TrustedKeys
from engine.planes.counters import Counters, CpuUse
from engine.planes.data import DataPlane
from engine.planes.identity import Identity, host_addresses
from engine.receiving import Receiving
from engine.registry import Registry
from engine.staging import Staging
from engine.trials import Trials

log = logging.getLogger("pipeline.worker")

ADDRESSES_MAX_AGE = 30.0


class ControlPlane:
    """Called from several threads at once; a load in one never delays a heartbeat in another."""

    def __init__(
        self,
        identity: Identity,
        *,
        scheme: str,
        slots: int,
        registry: Registry,
        staging: Staging,
        counters: Counters,
        data: DataPlane,
        on_link: Callable[[str], None],
        on_drain: Callable[[], None],
        models: Sequence[str] = (),
        trusted: TrustedKeys | None = None,
        trials: Trials | None = None,
    ) -> None:
        self._identity = identity
        self._scheme = scheme
        self._slots = slots
        self._registry = registry
        self._receiving = Receiving(staging, trusted)
        self._trials = trials
        self._counters = counters
        self._data = data
        self._on_link = on_link
        self._on_drain = on_drain
        self._models = list(models)
        self._noted = OncePer(10.0)
        self._addresses: tuple[float, list[str]] | None = None
        self._process = psutil.Process()
        self._cpu = CpuUse()
        self._gateway = ""  # the process that asked last
        self.hellos = 0
        self.told_draining = threading.Event()

    def handle(self, frame: memoryview) -> bytes | None:
        """One survey's answer; None where it is not for this worker or has none. Raises nothing."""
        try:
            message, buffers = wire.decode(frame)
            answer = self._answer(message, buffers)
            return None if answer is None else wire.encode(answer)
        except WireError as error:
            self._note(logging.WARNING, "bad frame in a survey", error)
        except Exception as error:
            self._note(logging.ERROR, "a survey could not be answered", error)
        return None

    def _note(self, level: int, text: str, error: Exception) -> None:
        suppressed = self._noted.allow(text, time.monotonic())
        if suppressed is not None:
            event(log, level, text, error=error, more=suppressed)
            log.debug("where it happened", exc_info=error)

    def _answer(self, message: object, buffers: list[memoryview]) -> wire.Message | None:
        me = self._identity.id
        if isinstance(message, wire.Hello):
            self.hellos += 1
            if message.gateway != self._gateway:
                self._gateway = message.gateway
                self._registry.forget_staged()
            return self._hello()
        if isinstance(message, wire.Status):
            return self._status()
        if isinstance(message, wire.LinkUp):
            if me in message.endpoints:
                self._on_link(message.endpoints[me])
                return wire.Done(me)
            return None
        if isinstance(message, wire.Load | wire.Commit | wire.Drop | wire.Drain):
            if me not in message.workers:
                return None
            return self._change(message, buffers)
        if isinstance(message, wire.Veiled):
            raise WireError("the gateway asks who holds its fleet token: give --fleet_token_file")
        raise WireError(f"a survey does not ask {type(message).__name__}")

    def _change(
        self, message: wire.Load | wire.Commit | wire.Drop | wire.Drain, buffers: list[memoryview]
    ) -> wire.Message:
        me = self._identity.id
        if isinstance(message, wire.Load):
            return self._load(message, buffers)
        if isinstance(message, wire.Drop):
            self._registry.drop(message.model, message.version)
            event(log, logging.INFO, "version dropped", model=message.model, version=message.version)
        elif isinstance(message, wire.Commit):
            self._registry.commit(message.model, message.version, message.settings)
            event(log, logging.INFO, "version serves", model=message.model, version=message.version)
        else:
            self._on_drain()
        return wire.Done(me)

    def _load(self, load: wire.Load, buffers: list[memoryview]) -> wire.LoadAnswer:
        began = time.monotonic()
        named = {"model": load.key.model, "version": load.key.version}
        try:
            with self._receiving.take(load, buffers) as source:
                if self._trials is not None:
                    self._trials.check(load, source)
                execution = self._registry.load_version(load, source)
        except LoadError as error:
            event(log, logging.WARNING, "weights refused", **named, reason=error)
            return wire.LoadAnswer(
                self._identity.id, False, _trace(error), evicted=self._registry.take_evicted()
            )
        except Exception as error:  # whatever a file makes torch raise: the worker goes on
            log.exception("weights could not be loaded")
            return wire.LoadAnswer(
                self._identity.id, False, _trace(error), evicted=self._registry.take_evicted()
            )
        took = round(time.monotonic() - began, 3)
        event(log, logging.INFO, "weights loaded", **named, bytes=load.size, seconds=took)
        if load.awaited:
            self._registry.keep(load.key.model, load.key.version)
        return wire.LoadAnswer(
            self._identity.id,
            True,
            inputs=execution.inputs or (),
            outputs=execution.outputs or (),
            evicted=self._registry.take_evicted(),
        )

    def _hello(self) -> wire.HelloAnswer:
        draining = self._data.draining
        answer = wire.HelloAnswer(
            worker=self._identity.id,
            name=self._identity.name,
            host=self._identity.host,
            pid=self._identity.pid,
            scheme=self._scheme,
            slots=self._slots,
            device=str(self._registry.device),
            draining=draining,
            caches=self._registry.cache_size > 0,
            versions=self._registry.versions(),
            models=self._models,
            incarnation=self._identity.incarnation,
        )
        if draining:
            self.told_draining.set()
        return answer

    def _status(self) -> wire.StatusAnswer:
        caches = self._registry.cache_figures()
        return wire.StatusAnswer(
            worker=self._identity.id,
            addresses=self._host_addresses(),
            requests=self._counters.requests,
            rows=self._counters.rows,
            cache_size=caches.size,
            cache_capacity=caches.capacity,
            cache_hits=caches.hits,
            cache_misses=caches.misses,
            rss=self._process.memory_info().rss,
            versions=self._registry.versions(),
            memory=self._registry.room.used,
            memory_limit=self._registry.room.limit or 0,
            cache_bytes=caches.bytes,
            cache_coalesced=caches.coalesced,
            cache_evicted=caches.evicted,
            cache_forgotten=caches.forgotten,
            cpu=self._cpu.cores(time.monotonic(), time.process_time()),
            **self._counters.figures(),
        )

    def _host_addresses(self) -> list[str]:
        now = time.monotonic()
        if self._addresses is None or now - self._addresses[0] > ADDRESSES_MAX_AGE:
            self._addresses = (now, host_addresses())
        return self._addresses[1]


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))
