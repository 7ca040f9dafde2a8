"""Pure: scheduling/batches.py; a batch goes out as a frame, and a frame's answers go to whom they belong."""

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import wire
from common.errors import DeadlineExceeded, ModelError, PipelineError, WireError
from common.tensor import DATATYPES, TensorSpec, elements, pack_elements, pack_vector, vector_spec
from gateway.scheduling.batches import LARGE, encode_batch, grouped, split_answer
from gateway.scheduling.requests import Answer, Batch, ModelKey, Provenance, Request

KEY = ModelKey("default", "3")
BY = Provenance("bob", "3", batch=0.0, link=0.0, infer=0.0)
DIGEST = TensorSpec("digest", "UINT32", ())
LENGTH = TensorSpec("length", "INT64", (1, 2))  # of the row, and twice that
ONE = TensorSpec("result", "FP32", (1,))

datatypes = st.sampled_from(list(DATATYPES))
shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
specs = st.builds(TensorSpec, st.sampled_from(["x", "ids"]), datatypes, shapes)
signatures = st.lists(specs, min_size=1, max_size=3).map(tuple)


def request(
    signature: tuple[TensorSpec, ...], buffers: tuple[bytes, ...], rows: int, *, deadline: float = 10.0
) -> Request:
    made = Request(
        KEY, signature, buffers, rows, admitted=1.0, deadline=deadline, route=None, reply=lambda answer: None
    )
    made.sent = 1.5
    return made


def vector(*numbers: float, deadline: float = 10.0) -> Request:
    return request(vector_spec(len(numbers)), (pack_vector(numbers),), 1, deadline=deadline)


@st.composite
def requests(draw: st.DrawFn) -> list[Request]:
    """Some requests of a few signatures, each with its own rows."""
    known = draw(st.lists(signatures, min_size=1, max_size=3))
    made = []
    for _ in range(draw(st.integers(1, 6))):
        signature, rows = draw(st.sampled_from(known)), draw(st.integers(1, 4))
        sizes = [spec.row_bytes * rows for spec in signature]
        made.append(request(signature, tuple(draw(st.binary(min_size=n, max_size=n)) for n in sizes), rows))
    return made


def rows_of(signature: tuple[TensorSpec, ...], buffers: Any, count: int) -> Iterator[bytes]:
    """Each row's bytes, all inputs one after the other."""
    for i in range(count):
        yield b"".join(
            b[i * s.row_bytes : (i + 1) * s.row_bytes] for s, b in zip(signature, buffers, strict=True)
        )


def answer_to(row: bytes) -> tuple[bytes, bytes]:
    return struct.pack("<I", zlib.crc32(row)), struct.pack("<2q", len(row), 2 * len(row))


def worker(frame: bytes, failing: set[bytes]) -> bytes:
    """What a worker would say: two outputs a row, and an error where one of a request's rows fails."""
    batch, buffers = wire.expect(wire.Batch, frame)
    parts, outputs = [], []
    for part in batch.parts:
        own, buffers = buffers[: len(part.inputs)], buffers[len(part.inputs) :]
        rows = list(rows_of(part.inputs, own, sum(part.counts)))
        answered: list[tuple[bytes, bytes]] = []
        errors = []
        for index, count in enumerate(part.counts):
            mine, rows = rows[:count], rows[count:]
            if failing.isdisjoint(mine):
                answered += map(answer_to, mine)
            else:
                errors.append(
                    wire.RequestError(index, "model_error", f"row of {len(mine[0])} bytes", "trace")
                )
        hits = bytes(count == 1 for count in part.counts)
        parts.append(wire.PartAnswer((DIGEST, LENGTH), errors, hits))
        outputs += [b"".join(answer[n] for answer in answered) for n in (0, 1)]
    assert buffers == []
    return wire.encode(wire.BatchAnswer(batch.id, 0.0, 0.0, parts), outputs)


# --- out


def test_requests_of_one_signature_share_a_part_in_their_order() -> None:
    a, b, c = vector(1.0, 2.0), vector(3.0), vector(4.0, 5.0)
    assert grouped([a, b, c]) == [[a, c], [b]]
    assert grouped([]) == []


def test_a_batch_is_a_frame_of_its_rows_and_the_time_they_have_left() -> None:
    a, b = vector(1.0, 2.0, deadline=10.0), vector(3.0, 4.0, deadline=2.0)
    batch = Batch("w", KEY, [a, b], alone=False)
    message, buffers = wire.decode(encode_batch(batch, [[a, b]], now=4.0))
    part = wire.Part(vector_spec(2), [1, 1], [6.0, 0.0])  # never less than nothing
    assert message == wire.Batch(batch.id, "default", "3", [part])
    assert buffers == [pack_vector([1.0, 2.0, 3.0, 4.0])]


def test_each_input_of_a_part_has_a_buffer_of_all_its_requests() -> None:
    signature = (TensorSpec("x", "FP32", (1,)), TensorSpec("ids", "INT8", ()))
    a = request(signature, (b"aaaa", b"A"), 1)
    b = request(signature, (b"bbbbcccc", b"BC"), 2)
    _, buffers = wire.decode(encode_batch(Batch("w", KEY, [a, b], alone=False), [[a, b]], now=0.0))
    assert buffers == [b"aaaabbbbcccc", b"ABC"]


# --- and back


@settings(deadline=None)
@given(requests(), st.data())
def test_every_request_gets_the_answer_to_its_own_rows_or_its_own_error(
    sent: list[Request], data: st.DataObject
) -> None:
    own = {each: list(rows_of(each.signature, each.buffers, each.rows)) for each in sent}
    failing = set(data.draw(st.lists(st.sampled_from(sorted(row for rows in own.values() for row in rows)))))
    groups = grouped(sent)
    frame = worker(encode_batch(Batch("w", KEY, sent, alone=False), groups, 2.0), failing)
    answer, buffers = wire.expect(wire.BatchAnswer, frame)
    replies = split_answer(answer, buffers, groups, BY)
    assert [each for each, _ in replies] == [each for group in groups for each in group]
    for each, reply in replies:
        if failing.isdisjoint(own[each]):
            assert isinstance(reply, Answer)
            digests, lengths = zip(*map(answer_to, own[each]), strict=True)
            assert reply.buffers == (b"".join(digests), b"".join(lengths))
            assert reply.outputs == (DIGEST, LENGTH)
            assert (reply.hit, reply.queue, reply.by) == (each.rows == 1, 0.5, BY)
            assert all(buffer.obj is frame for buffer in reply.buffers)
        else:
            assert type(reply) is ModelError
            assert (str(reply), reply.trace) == (f"row of {len(own[each][0])} bytes", "trace")


def test_a_request_that_was_late_at_the_worker_is_told_that_its_deadline_passed() -> None:
    error = wire.RequestError(0, "deadline", "Deadline exceeded")
    answer = wire.BatchAnswer(1, 0.0, 0.0, [wire.PartAnswer((), [error], b"\0")])
    ((_, reply),) = split_answer(answer, [], [[vector(1.0)]], BY)
    assert type(reply) is DeadlineExceeded
    assert str(reply) == "Deadline exceeded"


def good(
    outputs: tuple[TensorSpec, ...] = (ONE,), errors: tuple[int, ...] = (), hits: bytes = b"\0\0"
) -> wire.PartAnswer:
    return wire.PartAnswer(outputs, [wire.RequestError(i, "model_error", "no") for i in errors], hits)


def test_an_answer_that_fits_what_was_asked_is_taken() -> None:
    assert len(split_answer(wire.BatchAnswer(1, 0.0, 0.0, [good()]), views(8), [two()], BY)) == 2


def two() -> list[Request]:
    return [vector(1.0), vector(2.0)]


def views(*sizes: int) -> list[memoryview]:
    return [memoryview(bytes(size)) for size in sizes]


@pytest.mark.parametrize(
    ("parts", "sizes", "sentence"),
    [
        ([], [], "0 parts answered of 1"),
        ([good(), good()], [8, 8], "2 parts answered of 1"),
        ([good(hits=b"\0")], [8], "an answer for 1 requests of 2"),
        ([good(hits=b"\0\0\0")], [8], "an answer for 3 requests of 2"),
        ([good()], [], "an answer for 2 requests of 2"),
        ([good()], [8, 8], "2 buffers for 1 outputs"),
        ([good()], [7], "an output that does not fit: 7 bytes where 2 rows take 4 each"),
        ([good()], [12], "an output that does not fit: 12 bytes where 2 rows take 4 each"),
        ([good(errors=(0,))], [8], "an output that does not fit: 8 bytes where 1 rows take 4 each"),
        ([good(errors=(2,))], [8], "errors of requests [2] of 2"),
        ([good(errors=(-1,))], [8], "errors of requests [-1] of 2"),
        ([good(errors=(1, 1))], [4], "errors of requests [1, 1] of 2"),
        ([good((TensorSpec("x", "TEXT", (1,)),))], [8], "an output that does not fit: datatype 'TEXT'"),
        ([good((TensorSpec("x", "BYTES", (1,)),))], [7], "an output that does not fit: 3 bytes are left"),
        ([good((TensorSpec("x", "BYTES", (1,)),))], [4], "an output that does not fit: 2 rows of 1 elements"),
        ([good((TensorSpec("x", "BYTES", (-1,)),))], [8], "an output that does not fit: a row of shape [-1]"),
        ([good((TensorSpec("x", "FP32", (-1,)),))], [8], "an output that does not fit: a row of shape [-1]"),
        ([good((ONE, ONE))], [8, 4], "an output that does not fit: 4 bytes where 2 rows take 4 each"),
    ],
)  # fmt: skip
def test_an_answer_that_does_not_fit_what_was_asked_is_a_wire_error(
    parts: list[wire.PartAnswer], sizes: list[int], sentence: str
) -> None:
    with pytest.raises(WireError) as caught:
        split_answer(wire.BatchAnswer(1, 0.0, 0.0, parts), views(*sizes), [two()], BY)
    assert str(caught.value).startswith(sentence)


any_specs = st.builds(
    TensorSpec,
    st.text(max_size=3),
    datatypes | st.text(max_size=3),
    st.lists(st.integers(-2, 3) | st.integers(-(2**63), 2**64 - 1), max_size=3).map(tuple),
)
any_errors = st.builds(
    wire.RequestError, st.integers(-2, 4), st.sampled_from(["deadline", "model_error", "what"]), st.text()
)
any_parts = st.builds(
    wire.PartAnswer,
    st.lists(any_specs, max_size=2).map(tuple),
    st.lists(any_errors, max_size=3),
    st.binary(min_size=2, max_size=2) | st.binary(max_size=4),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(any_parts, min_size=1, max_size=2), st.lists(st.sampled_from([0, 4, 8, 16]), max_size=3))
def test_any_answer_is_one_reply_for_each_request_or_a_wire_error(
    parts: list[wire.PartAnswer], sizes: list[int]
) -> None:
    groups = [two()] * len(parts)
    try:
        replies = split_answer(wire.BatchAnswer(1, 0.0, 0.0, parts), views(*sizes), groups, BY)
    except WireError:
        return
    assert [each for each, _ in replies] == [each for group in groups for each in group]
    for _, reply in replies:
        if not isinstance(reply, PipelineError):
            assert [b.nbytes for b in reply.buffers] == [spec.row_bytes for spec in reply.outputs]


def test_rows_of_bytes_go_to_whom_they_belong() -> None:
    words = TensorSpec("t", "BYTES", (2,))
    data = memoryview(pack_elements([b"a", b"bc", b"", b"def"]))
    answer = wire.BatchAnswer(1, 0.0, 0.0, [good((words,))])
    replies = split_answer(answer, [data], [two()], BY)
    assert [bytes(each.buffers[0]) for _, each in replies if isinstance(each, Answer)] == [
        pack_elements([b"a", b"bc"]),
        pack_elements([b"", b"def"]),
    ]


def test_a_request_that_travels_alone_is_not_copied_before_its_frame() -> None:
    request = vector(1.0)
    batch = Batch("w", request.key, [request], alone=False)
    _, buffers = wire.decode(encode_batch(batch, [[request]], 0.0))
    assert [bytes(buffer) for buffer in buffers] == [bytes(request.buffers[0])]


def test_rows_that_are_large_travel_as_those_that_are_small() -> None:
    photos = [bytes([n]) * (LARGE + n) for n in range(3)]
    signature = (TensorSpec("image", "BYTES", ()),)
    sent = [request(signature, (pack_elements([photo]),), 1) for photo in photos]
    batch = Batch("w", KEY, sent, alone=False)
    message, (buffer,) = wire.expect(wire.Batch, encode_batch(batch, grouped(sent), 2.0))
    assert message.parts == [wire.Part(signature, [1, 1, 1], [8.0] * 3)]
    assert elements(buffer) == photos
