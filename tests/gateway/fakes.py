"""A worker for the gateway's collaboration tests: it speaks the real wire over a network in memory, computes
with a made-up network, and fails in every way that it is asked to. Nothing here is a test.

Weights are text: `b"2"` makes a network that answers twice the sum of a row, `b"bad…"` does not load. They
are kept by version, those of other models than the default one by "model/version".
"""

from __future__ import annotations

import hashlib
import math
import uuid
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from common import wire
from common.errors import InvalidRequest
from common.link.fake import FakeNetwork, FakePeer
from common.models import ModelSettings
from common.tensor import DATATYPES, TensorSpec
from gateway.models.catalog import DEFAULT_MODEL
from gateway.models.rollout import WEIGHTS

SERVICE = "mem://service"
REFUSAL = "Traceback: more than it can take"
RESULT = (TensorSpec("result", "FP32", (1,)),)


class FakeWorker:
    """A worker process. `nursery` is where it runs; it is there until it dies."""

    def __init__(
        self,
        network: FakeNetwork,
        nursery: trio.Nursery,
        name: str,
        *,
        scheme: str = "ws",
        worker_id: str = "",
        slots: int = 2,
        holds: dict[str, bytes] | None = None,
        refuses: set[bytes] | None = None,
        lacks: set[str] | None = None,
        takes: float = 0.0,
        load_takes: float = 0.0,
        finds_link: bool = True,
        models: tuple[str, ...] = (),
        inputs: tuple[TensorSpec, ...] = (),
        room: int = 1000,
        incarnation: int = 0,
        obeys: bool = True,
    ) -> None:
        self.network, self.name, self.scheme, self.slots = network, name, scheme, slots
        self.id = worker_id or uuid.uuid4().hex
        self.weights = dict(holds or {})  # by version
        self.refuses = refuses or set()
        self.lacks = lacks or set()  # devices
        self.settings: dict[str, ModelSettings] = {}  # by which each version was loaded
        self.takes, self.load_takes = takes, load_takes  # seconds for a batch, and to load weights
        self.finds_link = finds_link
        self.models, self.inputs = models, inputs  # patterns; and what it says that every model takes
        self.room = room  # versions that it holds at most: the one that was asked least lately goes
        self.on_end: Callable[[], None] = lambda: None  # it left by itself
        self.cached = 5  # rows that it says it remembers
        self.cache_counts = (7, 8)  # hits and misses that it says it had
        self.incarnation, self.obeys = incarnation, obeys  # and whether it leaves when it is told to
        self.says_draining = self.refuses_batches = False
        self.tells_evicted = True
        self.away = 0.0  # seconds that a survey takes to it, and its answer back
        self.held = trio.Event()  # not set: batches wait in it
        self.held.set()
        self.deadly = -1.0  # a row with this number in it kills the worker, …
        self.refused = -2.0  # … and with this one is more than the model can take
        self.picky: dict[str, str] = {}  # version → the sentence with which it refuses every row
        self.said: list[bytes | wire.Message] = []  # what the next batches are answered instead of an answer
        self.surveyed: list[wire.Message] = []
        self.remembers: set[float] = set()  # numbers of the rows that a look-up finds
        self.lookups: list[list[float]] = []  # numbers of each look-up
        self.batches: list[tuple[str, list[float]]] = []  # (name, numbers) of each batch that it ran
        self.chunks: list[int] = []
        self.in_hand = self.most_in_hand = 0
        self.keys: dict[str, wire.VersionKey] = {}  # what it was asked to load, by version
        self.staged: dict[str, tuple[wire.Load, bytes]] = {}  # loaded beside what serves, until a commit
        self._chunks: dict[str, bytes] = {}
        self._nursery = nursery
        self._control = FakePeer(network, SERVICE, self._survey)
        self._data: FakePeer | None = None
        nursery.start_soon(self._control.run)

    # --- its life

    def die(self) -> None:
        """As by SIGKILL."""
        if self._data is not None:
            self._data.close()
        self._control.close()

    def stop(self, *, dials: bool = False) -> None:
        """As by SIGSTOP; one that `dials` has stuck threads of its own, and NNG's go on."""
        for peer in (self._control, self._data):
            if peer is not None:
                peer.stop(dials=dials)

    def go_on(self) -> None:
        """As by SIGCONT."""
        for peer in (self._control, self._data):
            if peer is not None:
                peer.go_on()

    def break_link(self) -> None:
        """Its link breaks, and it lives on."""
        assert self._data is not None
        self._data.hang_up()

    def hold(self) -> None:
        """Keep the batches that come from now on, until `held` is set."""
        self.held = trio.Event()

    def asked(self, kind: type[wire.Message]) -> list[Any]:
        """Every survey of this kind that was meant for it."""
        heard: list[Any] = [message for message in self.surveyed if isinstance(message, kind)]
        return [message for message in heard if self.id in getattr(message, "workers", [self.id])]

    def tell_to_leave(self) -> None:
        """As by SIGTERM."""
        self._nursery.start_soon(self._leave)

    async def _leave(self) -> None:
        """Finish what it has, say so in a heartbeat, and end."""
        self.says_draining = True
        heard = len(self.surveyed)
        while self.in_hand or not any(isinstance(each, wire.Hello) for each in self.surveyed[heard:]):  # noqa: ASYNC110
            await trio.sleep(0.001)  # what is waited for has no event
        self.die()
        self.on_end()

    # --- surveys

    async def _survey(self, question: memoryview) -> bytes | None:
        message, buffers = wire.decode(question)
        await trio.sleep(self.away)
        self.surveyed.append(message)
        answer = await self._answer(message, buffers)
        return None if answer is None else wire.encode(answer)

    async def _answer(self, message: Any, buffers: list[memoryview]) -> wire.Message | None:
        if isinstance(message, wire.Hello):
            return wire.HelloAnswer(
                self.id, self.name, "host", 1, self.scheme, self.slots, "cpu",
                self.says_draining, True, self._keys(), list(self.models), self.incarnation,
            )  # fmt: skip
        if isinstance(message, wire.Status):
            return wire.StatusAnswer(
                self.id,
                ["10.0.0.1"],
                3,
                4,
                0.25,
                0.125,
                0.5,
                0.75,
                1.0,
                self.cached,
                6,
                *self.cache_counts,
                2**20,
                self._keys(),
            )
        if isinstance(message, wire.LinkUp):
            return self._link(message)
        if self.id not in message.workers:
            return None
        if isinstance(message, wire.Load):
            return await self._load(message, buffers)
        if isinstance(message, wire.Drain) and self.obeys:
            self.tell_to_leave()
        if isinstance(message, wire.Drop):
            self.weights.pop(_name(message.model, message.version), None)
            self.staged.pop(_name(message.model, message.version), None)
        if isinstance(message, wire.Commit):
            staged = self.staged.pop(_name(message.model, message.version), None)
            if staged is not None and staged[0].key.settings == message.settings:
                self._hold(*staged)
        return wire.Done(self.id)

    def _keys(self) -> list[wire.VersionKey]:
        keys = []
        for name, weights in self.weights.items():
            model, _, version = name.rpartition("/")
            sha256 = hashlib.sha256(weights).hexdigest()
            by = "" if model else WEIGHTS.loaded_as
            keys.append(self.keys.get(name) or wire.VersionKey(model or DEFAULT_MODEL, version, sha256, by))
        return keys

    def _link(self, message: wire.LinkUp) -> wire.Done | None:
        url = message.endpoints.get(self.id)
        if url is None or not self.finds_link:
            return None
        if self._data is None or self._data.url != url:
            if self._data is not None:
                self._data.close()
            self._data = FakePeer(self.network, url, self._exchange)
            self._nursery.start_soon(self._data.run)
        return wire.Done(self.id)

    async def _load(self, load: wire.Load, buffers: list[memoryview]) -> wire.LoadAnswer:
        await trio.sleep(self.load_takes)
        if buffers:
            weights = bytes(buffers[0])
        elif load.path:
            weights = Path(load.path).read_bytes()  # noqa: ASYNC240 - a few bytes
        else:
            weights = self._chunks.pop(load.key.sha256, b"")
        if hashlib.sha256(weights).hexdigest() != load.key.sha256:
            return wire.LoadAnswer(self.id, False, "the weights did not arrive whole")
        if weights.startswith(b"bad") or weights in self.refuses or load.settings.device in self.lacks:
            return wire.LoadAnswer(self.id, False, "Traceback\nLoadError: it does not fit")
        name = _name(load.key.model, load.key.version)
        if load.staged:
            self.staged[name] = (load, weights)
        else:
            self._hold(load, weights)
        evicted = self._make_room(name)
        outputs = RESULT if self.inputs else ()
        return wire.LoadAnswer(self.id, True, inputs=self.inputs, outputs=outputs, evicted=evicted)

    def _make_room(self, name: str) -> list[wire.VersionKey]:
        """For a version that has come; where it is staged, what it may replace stays too."""
        before = self._keys()
        while len(self.weights) + len(self.staged) > self.room:
            del self.weights[next(each for each in self.weights if each not in (name, *self.staged))]
        after = self._keys()
        return [key for key in before if key not in after] if self.tells_evicted else []

    def _hold(self, load: wire.Load, weights: bytes) -> None:
        name = _name(load.key.model, load.key.version)
        self.weights[name] = weights
        self.keys[name], self.settings[name] = load.key, load.settings

    # --- its link

    async def _exchange(self, frame: memoryview) -> bytes | None:
        message, buffers = wire.decode(frame)
        if isinstance(message, wire.Chunk):
            return wire.encode(self._store(message, bytes(buffers[0])))
        self.in_hand += 1
        self.most_in_hand = max(self.most_in_hand, self.in_hand)
        try:
            return await self._batch(message, buffers)
        finally:
            self.in_hand -= 1

    def _store(self, chunk: wire.Chunk, data: bytes) -> wire.Message:
        self.chunks.append(len(data))
        if self.said:
            said = self.said.pop(0)
            assert isinstance(said, wire.Message)
            return said
        stored = self._chunks[chunk.sha256] = self._chunks.get(chunk.sha256, b"")[: chunk.offset] + data
        return wire.ChunkStored(chunk.sha256, len(stored))

    async def _batch(self, batch: wire.Batch, buffers: list[memoryview]) -> bytes | None:
        if self.refuses_batches:
            return wire.encode(wire.Refused("draining", "the worker is leaving"))
        name = _name(batch.model, batch.version)
        weights = self.weights.get(name)
        if weights is None:
            return wire.encode(wire.Refused("not_found", f"no version {batch.version}"))
        self.weights[name] = self.weights.pop(name)  # the one used last is the last
        numbers = [
            n for part, buffer in zip(batch.parts, buffers, strict=True) for n in _numbers(part, buffer)
        ]
        if batch.is_lookup:
            self.lookups.append(numbers)
            return _known(batch, buffers, float(weights.split()[0]), self.remembers)
        self.batches.append((name, numbers))
        await trio.sleep(self.takes)
        await self.held.wait()
        if self.deadly in numbers:
            self.die()
            return None
        if self.said:
            said = self.said.pop(0)
            return said if isinstance(said, bytes) else wire.encode(said)
        if batch.version in self.picky:
            return _refusal(batch, self.picky[batch.version])
        return _answer(batch, buffers, factor=float(weights.split()[0]), refused=self.refused)


def _name(model: str, version: str) -> str:
    return version if model == DEFAULT_MODEL else f"{model}/{version}"


def _numbers(part: wire.Part, buffer: memoryview) -> list[float]:
    code: Any = DATATYPES[part.inputs[0].datatype].code
    return buffer.cast(code).tolist()


def _answer(batch: wire.Batch, buffers: list[memoryview], *, factor: float, refused: float) -> bytes:
    """What the made-up network makes of a batch; it refuses requests that hold the number `refused`."""
    parts, outputs = [], []
    for part, buffer in zip(batch.parts, buffers, strict=True):
        width, flat = math.prod(part.inputs[0].row_shape), _numbers(part, buffer)
        rows = [flat[i : i + width] for i in range(0, len(flat), width)]
        errors, sums = [], []
        for index, count in enumerate(part.counts):
            own, rows = rows[:count], rows[count:]
            if any(refused in row for row in own):
                errors.append(wire.RequestError(index, "model_error", "it failed", REFUSAL))
            else:
                sums += [factor * sum(row) for row in own]
        parts.append(wire.PartAnswer(RESULT, errors, bytes(len(part.counts))))
        outputs.append(array("f", sums).tobytes())
    return wire.encode(wire.BatchAnswer(batch.id, 0.001, 0.002, parts), outputs)


def _known(batch: wire.Batch, buffers: list[memoryview], factor: float, remembered: set[float]) -> bytes:
    """What it remembers of rows of one number each."""
    parts, outputs = [], []
    for part, buffer in zip(batch.parts, buffers, strict=True):
        numbers = _numbers(part, buffer)
        hits = bytes(number in remembered for number in numbers)
        errors = [wire.RequestError(i, "not_cached", "unknown") for i, hit in enumerate(hits) if not hit]
        parts.append(wire.PartAnswer(RESULT, errors, hits))
        outputs.append(array("f", [factor * n for n in numbers if n in remembered]).tobytes())
    return wire.encode(wire.BatchAnswer(batch.id, 0.0, 0.0, parts), outputs)


def _refusal(batch: wire.Batch, sentence: str) -> bytes:
    parts = []
    for part in batch.parts:
        errors = [wire.RequestError(i, InvalidRequest.code, sentence) for i in range(len(part.counts))]
        parts.append(wire.PartAnswer((), errors, bytes(len(errors))))
    return wire.encode(wire.BatchAnswer(batch.id, 0.001, 0.0, parts))
