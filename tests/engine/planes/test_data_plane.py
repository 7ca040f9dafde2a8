"""Pure: frames into engine/planes/data.py and what comes back; then frames that nobody should send."""

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common import wire
from common.tensor import TensorSpec, vector_spec
from engine.planes.counters import Counters
from engine.planes.data import DataPlane
from engine.registry import Registry
from engine.runtimes import torch_state
from engine.runtimes.fake import FakeRuntime
from engine.staging import Staging

VECTOR = vector_spec(2)
TEXT = TensorSpec("t", "BYTES", (1,))


class Plane(DataPlane):
    """A data plane with what is under it."""

    def __init__(self, on_used: Callable[[], None] | None = None) -> None:
        self.registry = Registry(device=torch.device("cpu"), cache_size=100)
        self.staging = Staging()
        self.counters = Counters()
        super().__init__(self.registry, self.staging, self.counters, on_used)

    def ask(self, frame: bytes) -> tuple[wire.Message, list[memoryview]]:
        return wire.decode(self.handle(memoryview(frame)))


@pytest.fixture
def plane(adding):
    plane = Plane()
    plane.registry.load(adding.key, adding.data)
    yield plane
    plane.staging.close()
    assert plane._busy == 0


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, adding):
    """A plane whose version `adding` is a fake runtime that fails on 13."""
    runtime = FakeRuntime(bad=(13.0,))
    monkeypatch.setattr(torch_state, "load", lambda *_: runtime)
    plane = Plane()
    plane.registry.load(adding.key, b"", kind="torch")
    yield plane, runtime
    plane.staging.close()


def test_a_batch_is_answered_in_order_with_what_it_took(plane, batch, floats) -> None:
    answer, buffers = plane.ask(batch("adding", [0.3, 0.7], [0.1, 0.2], id=77))
    assert isinstance(answer, wire.BatchAnswer)
    assert answer.id == 77
    assert answer.infer > 0
    assert answer.waited > 0
    [part] = answer.parts
    assert (part.outputs, part.errors, part.hits) == ((TensorSpec("result", "FP32", (1,)),), [], b"\0\0")
    assert [call.rows for call in part.calls] == [2]
    assert part.calls[0].infer == answer.infer
    assert min(part.calls[0].input, part.calls[0].output, part.lookup) > 0
    assert floats(buffers[0]) == pytest.approx([1.0, 0.3], abs=0.01)
    again, same = plane.ask(batch("adding", [0.1, 0.2], [0.3, 0.7]))
    assert again.parts[0].hits == b"\1\1"
    assert again.infer == 0.0
    assert floats(same[0]) == floats(buffers[0])[::-1]


def test_what_is_looked_up_in_vain_counts_once_it_is_run(plane, batch) -> None:
    plane.ask(batch("adding", [0.3, 0.7]))
    message, buffers = wire.decode(batch("adding", [0.3, 0.7], [0.1, 0.2]))
    asked = msgspec.structs.replace(message, is_lookup=True)
    answer, found = plane.ask(wire.encode(asked, buffers))
    assert (answer.infer, answer.parts[0].hits, len(found[0])) == (0.0, b"\1\0", 4)
    assert (plane.counters.requests, plane.counters.rows) == (2, 2)


def test_the_answer_to_a_row_depends_neither_on_the_batch_nor_on_the_cache(
    plane, adding, batch, floats
) -> None:
    rows = [[i / 40, 1 - i / 50] for i in range(40)]
    together = floats(plane.ask(batch("adding", *rows))[1][0])
    assert floats(plane.ask(batch("adding", *rows))[1][0]) == together
    plane.registry.drop("default", "adding")
    plane.registry.load(adding.key, adding.data)
    alone = [floats(plane.ask(batch("adding", row))[1][0])[0] for row in rows]
    assert alone == together


def test_requests_of_the_wrong_width_fail_alone_with_a_stack_trace(plane, batch, floats) -> None:
    answer, buffers = plane.ask(batch("adding", [0.3, 0.7], [1.0, 2.0, 3.0], [0.1, 0.2]))
    good, bad = answer.parts
    assert good.errors == []
    assert floats(buffers[0]) == pytest.approx([1.0, 0.3], abs=0.01)
    (error,) = bad.errors
    assert error.message == "the model takes rows of FP32 [2], the request has FP32 [3]"
    assert error.trace.startswith("Traceback (most recent call last):\n  File ")
    assert (bad.outputs, bad.hits, len(buffers)) == ((), b"\0", 1)


def test_a_row_the_model_fails_on_fails_alone(fake, batch, floats) -> None:
    plane, _ = fake
    answer, buffers = plane.ask(batch("adding", [1, 2], [13, 0], [3, 4]))
    assert [(error.index, error.message) for error in answer.parts[0].errors] == [(1, "cannot run 13.0")]
    assert floats(buffers[0]) == [3, 7]


def test_a_request_past_its_deadline_never_reaches_the_model(fake, batch) -> None:
    plane, runtime = fake
    answer, _ = plane.ask(batch("adding", [1, 2], timeout=0.0))
    assert [error.code for error in answer.parts[0].errors] == ["deadline"]
    assert runtime.calls == []


def test_a_worker_for_one_batch_runs_one_and_says_when_it_has(adding, batch, floats) -> None:
    used: list[int] = []
    plane = Plane(on_used=lambda: used.append(plane.counters.requests))
    plane.registry.load(adding.key, adding.data)
    assert plane.ask(batch("other", [0.3, 0.7]))[0].code == "not_found"
    assert used == []  # that was none
    _, buffers = plane.ask(batch("adding", [0.3, 0.7]))
    assert floats(buffers[0]) == pytest.approx([1.0], abs=0.01)
    assert used == [1]
    refusal = wire.Refused("draining", "the worker is for one batch, and has had it")
    assert plane.ask(batch("adding", [0.3, 0.7])) == (refusal, [])
    assert used == [1]
    plane.staging.close()


def test_counters_count_requests_rows_and_only_batches_that_were_run(plane, batch) -> None:
    for _ in range(2):
        plane.ask(batch("adding", [0.3, 0.7], [0.1, 0.2]))
    part = wire.Part(VECTOR, [3], [30.0])
    plane.ask(wire.encode(wire.Batch(1, "default", "adding", [part]), [bytes(24)]))
    assert (plane.counters.requests, plane.counters.rows) == (5, 7)
    assert (plane.counters.handling.count, plane.counters.infer.count) == (5, 2)


def test_a_version_that_is_not_held_is_refused(plane, batch) -> None:
    refusal = wire.Refused("not_found", "this worker does not hold model 'default' version 'other'")
    assert plane.ask(batch("other", [1, 2])) == (refusal, [])


def test_chunks_are_stored_and_their_end_acknowledged(plane) -> None:
    data = b"weights"
    digest = hashlib.sha256(data).hexdigest()
    for offset, end in ((0, 4), (4, 7), (4, 7)):
        frame = wire.encode(wire.Chunk(digest, 7, offset), [data[offset:end]])
        assert plane.ask(frame) == (wire.ChunkStored(digest, end), [])
    refusal = wire.Refused("load_error", "a digest is 64 hex digits, not 'x'")
    assert plane.ask(wire.encode(wire.Chunk("x", 7, 0), [data])) == (refusal, [])


def test_a_fault_of_ours_is_answered_and_logged_once(plane, batch, monkeypatch, caplog) -> None:
    def fail(**_: object) -> None:
        raise OSError("out of something")

    monkeypatch.setattr(plane.counters, "count", fail)
    for _ in range(3):
        assert plane.ask(batch("adding", [1, 2])) == (
            wire.Refused("internal", "OSError: out of something"),
            [],
        )
    assert [record.getMessage() for record in caplog.records] == [
        'a frame could not be answered error="OSError: out of something" more=0'
    ]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 1. GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"),
        torch.OutOfMemoryError("CUDA out of memory"),
    ],
)
def test_a_worker_without_memory_says_that_it_is_lost_and_blames_no_row(
    fake, batch, floats, monkeypatch, error: Exception
) -> None:
    plane, runtime = fake

    def fail(_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(runtime, "run", fail)
        (refusal, buffers) = plane.ask(batch("adding", [1, 2], [3, 4]))
    assert (refusal.code, buffers) == ("worker_lost", [])
    assert refusal.message == f"the worker is out of memory: {error}"
    _, buffers = plane.ask(batch("adding", [1, 2], [3, 4]))  # and when there is some again, all is well
    assert floats(buffers[0]) == [3.0, 7.0]


# --- draining


def test_a_draining_plane_finishes_what_it_has_and_refuses_what_comes(fake, batch, floats) -> None:
    plane, runtime = fake
    runtime.gate.clear()
    with ThreadPoolExecutor(2) as threads:
        in_hand = threads.submit(plane.ask, batch("adding", [1, 2]))
        assert runtime.entered.wait(10)
        assert plane.drain(0.0) is False
        drained = threads.submit(plane.drain, 30.0)
        refusal = wire.Refused("draining", "the worker is leaving")
        assert plane.ask(batch("adding", [3, 4])) == (refusal, [])
        runtime.gate.set()
        assert floats(in_hand.result(10)[1][0]) == [3]
        assert drained.result(10) is True


def test_from_several_threads_at_once_every_frame_gets_its_own_answer(plane, batch, floats) -> None:
    together = threading.Barrier(4)
    expected = {(a, b): floats(plane.ask(batch("adding", [a, b]))[1][0]) for a in range(6) for b in range(6)}

    def ask(seed: int) -> None:
        together.wait(10)
        for round in range(60):
            rows = [[float((seed + round * i) % 6), float((round + i) % 6)] for i in range(5)]
            answer, buffers = plane.ask(batch("adding", *rows, id=seed * 1000 + round))
            assert answer.id == seed * 1000 + round
            assert floats(buffers[0]) == [value for row in rows for value in expected[tuple(row)]]

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ask, range(4)))


# --- frames that nobody should send


def frame_of(inputs, counts, timeouts, *buffers: bytes) -> bytes:
    return wire.encode(wire.Batch(1, "default", "adding", [wire.Part(inputs, counts, timeouts)]), buffers)


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        (b"", "not a frame: "),
        (b"random bytes", "frame version 114.97 is not 1.0"),
        (wire.encode(wire.Hello("gateway")), "a link carries batches and chunks, not Hello"),
        (wire.encode(wire.Chunk("x", 1, 0)), "a chunk has one buffer, not 0"),
        (frame_of(VECTOR, [2], [1.0], bytes(8)), "a buffer of 8 bytes where the header says 16"),
        (
            frame_of((TEXT,), [1], [1.0], b"\5\0\0\0four"),
            "an element of 5 bytes ends at 9, beyond the 8 that",
        ),
        (frame_of((TEXT,), [2], [1.0], b"\0\0\0\0"), "2 rows of 1 elements are 2, and there are 1"),
        (
            frame_of((TensorSpec("t", "BYTES", (0,)),), [10**15], [1.0], b""),
            "a row of BYTES has at least one",
        ),
        (frame_of(VECTOR, [1], [1.0]), "0 buffers for 1 inputs"),
        (frame_of(VECTOR, [2, -1], [1.0, 1.0], bytes(8)), "rows of shape [2] in counts of [2, -1]"),
        (frame_of(VECTOR, [1], [], bytes(8)), "0 timeouts for 1 requests"),
        (frame_of(VECTOR, [1], [float("nan")], bytes(8)), "a timeout is not a number"),
        (frame_of((TensorSpec("a", "FP33", (2,)),), [1], [1.0], bytes(8)), "datatype 'FP33' is not known"),
        (frame_of((TensorSpec("a", "FP32", (-2, -1)),), [1], [1.0], bytes(8)), "rows of shape [-2, -1]"),
        (frame_of((TensorSpec("a", "FP32", (2**62,) * 9999),), [1], [1.0], bytes(8)), "rows of shape [46116"),
        (frame_of((TensorSpec("a", "FP32", (-1,)),), [], [], b""), "rows of shape [-1] in counts of []"),
    ],
)
def test_a_frame_that_does_not_hold_what_it_says_is_refused_whole(plane, frame: bytes, sentence: str) -> None:
    refusal, _ = plane.ask(frame)
    assert isinstance(refusal, wire.Refused)
    assert refusal.code == "wire"
    assert refusal.message.startswith(sentence)


def test_rows_of_no_bytes_however_many_fail_at_no_cost(plane) -> None:
    answer, _ = plane.ask(frame_of((TensorSpec("a", "FP32", (0,)),), [10**15], [1.0], b""))
    assert [error.message for error in answer.parts[0].errors] == [
        "the model takes rows of FP32 [2], the request has FP32 [0]"
    ]


def test_a_deadline_of_any_number_is_one(plane, floats) -> None:
    for timeout in (1e300, float("inf")):
        assert len(floats(plane.ask(frame_of(VECTOR, [1], [timeout], bytes(8)))[1][0])) == 1
    answer, _ = plane.ask(frame_of(VECTOR, [1], [-float("inf")], bytes(8)))
    assert answer.parts[0].errors[0].code == "deadline"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused(frame: bytes) -> None:
    plane = Plane()
    refusal, buffers = plane.ask(frame)
    assert (type(refusal), refusal.code, buffers) == (wire.Refused, "wire", [])
    plane.staging.close()


@pytest.fixture(scope="module")
def shared_plane(adding):
    """One plane for all of a property's examples."""
    plane = Plane()
    plane.registry.load(adding.key, adding.data)
    yield plane
    plane.staging.close()


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from(["batch", "chunk"]),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6),
    st.integers(0, 12),
)
def test_whatever_becomes_of_a_frame_on_its_way_there_is_an_answer(
    shared_plane, batch, kind, changes, cut
) -> None:
    frames = {
        "batch": batch("adding", [0.3, 0.7], [1.0, 2.0, 3.0], [0.1, 0.2]),
        "chunk": wire.encode(wire.Chunk("0" * 64, 9, 0), [b"weights"]),
    }
    frame = bytearray(frames[kind])
    for at, value in changes:
        frame[at % len(frame)] = value
    answer, _ = shared_plane.ask(bytes(frame[: len(frame) - cut]))
    assert isinstance(answer, wire.Refused | wire.BatchAnswer | wire.ChunkStored)
    assert shared_plane._busy == 0


numbers = st.one_of(st.integers(-3, 5), st.sampled_from([2**31, 2**62, -(2**62)]))
specs = st.builds(
    TensorSpec,
    st.text(max_size=3),
    st.sampled_from(["FP32", "INT64", "BOOL", "", "x"]),
    st.lists(numbers, max_size=4).map(tuple),
)
parts = st.builds(
    wire.Part,
    st.lists(specs, max_size=3).map(tuple),
    st.lists(numbers, max_size=4),
    st.lists(st.floats(), max_size=4),
)


@settings(max_examples=500, deadline=None)
@given(st.lists(parts, max_size=3), st.lists(st.binary(max_size=40), max_size=4))
def test_whatever_a_header_says_there_is_an_answer(shared_plane, parts, buffers) -> None:
    answer, _ = shared_plane.ask(wire.encode(wire.Batch(1, "default", "adding", parts), buffers))
    assert isinstance(answer, wire.Refused | wire.BatchAnswer)
