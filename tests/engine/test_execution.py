"""Pure: one part of a batch through engine/execution.py, over a fake runtime; two batches are two threads."""

import struct
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import ModelError
from common.tensor import TensorSpec, vector_spec
from common.wire import Part, PartAnswer, RequestError
from engine import execution as execution_module
from engine.answering import Ran
from engine.cache import PredictionCache
from engine.execution import Execution
from engine.runtimes.fake import VECTOR, FakeRuntime
from engine.runtimes.runtime import check_inputs

SUM = (TensorSpec("sum", "FP32", (1,)),)
BAD = 13.0
Request = list[tuple[float, float]]


def make(runtime: FakeRuntime, *, capacity: int = 100, max_batch: int = 64) -> Execution:
    return Execution(runtime, PredictionCache(capacity), max_batch=max_batch)


def run(execution: Execution, *requests: Request, timeouts: list[float] | None = None) -> Ran:
    part = Part(VECTOR, [len(rows) for rows in requests], timeouts or [30.0] * len(requests))
    buffer = b"".join(struct.pack("<2f", *row) for rows in requests for row in rows)
    return execution.run(part, [memoryview(buffer)], time.monotonic())


def look_up(execution: Execution, *requests: Request, inputs: tuple[TensorSpec, ...] = VECTOR) -> Ran:
    part = Part(inputs, [len(rows) for rows in requests], [30.0] * len(requests))
    buffer = b"".join(struct.pack("<2f", *row) for rows in requests for row in rows)
    return execution.look_up(part, [memoryview(buffer)])


def sums(ran: Ran) -> list[float]:
    return memoryview(ran.buffers[0]).cast("f").tolist()


def test_rows_of_all_requests_go_through_the_model_together_and_come_back_in_order() -> None:
    runtime = FakeRuntime()
    ran = run(make(runtime), [(1, 2)], [(3, 4), (5, 6)])
    assert runtime.calls == [[[1, 2], [3, 4], [5, 6]]]
    assert sums(ran) == [3, 7, 11]
    assert (ran.answer.outputs, ran.answer.errors, ran.answer.hits) == (SUM, [], b"\0\0")
    assert ran.infer > 0


def test_a_known_row_is_not_run_again_and_its_request_is_a_hit() -> None:
    runtime = FakeRuntime()
    execution = make(runtime)
    run(execution, [(1, 2)], [(3, 4)])
    ran = run(execution, [(3, 4)], [(5, 6)], [(1, 2), (3, 4)], [(1, 2), (7, 8)])
    assert runtime.calls[1:] == [[[5, 6], [7, 8]]]
    assert sums(ran) == [7, 11, 3, 7, 3, 15]
    assert ran.answer.hits == b"\1\0\1\0"
    assert run(execution, [(1, 2)]).infer == 0.0


def test_a_lookup_answers_requests_whose_rows_are_all_known_and_runs_nothing() -> None:
    runtime = FakeRuntime()
    execution = make(runtime)
    ran = look_up(execution, [(1, 2)])
    assert [(error.index, error.code) for error in ran.answer.errors] == [(0, "not_cached")]
    assert (ran.answer.hits, ran.buffers) == (b"\0", [])
    run(execution, [(1, 2)], [(3, 4)])
    before = execution.cache.figures()
    ran = look_up(execution, [(3, 4)], [(3, 4), (5, 6)], [(5, 6)], [(1, 2), (3, 4)])
    assert [(error.index, error.code) for error in ran.answer.errors] == [
        (1, "not_cached"),
        (2, "not_cached"),
    ]
    assert (ran.answer.hits, ran.answer.outputs, sums(ran), ran.infer) == (b"\1\0\0\1", SUM, [7, 3, 7], 0.0)
    assert len(runtime.calls) == 1
    after = execution.cache.figures()
    assert (after.hits - before.hits, after.misses - before.misses) == (3, 0)


def test_a_lookup_takes_no_row_for_another_of_the_same_bytes() -> None:
    execution = make(FakeRuntime())
    run(execution, [(1, 2)])
    other = (TensorSpec("vector", "INT64", (1,)),)
    assert look_up(execution, [(1, 2)], inputs=other).answer.errors[0].code == "not_cached"


def test_a_lookup_is_answered_while_the_model_computes() -> None:
    entered, go_on = threading.Event(), threading.Event()

    class Slow(FakeRuntime):
        def run(self, arrays):
            if self.calls:
                entered.set()
                assert go_on.wait(10)
            return super().run(arrays)

    execution = make(Slow())
    run(execution, [(1, 2)])
    with ThreadPoolExecutor(1) as pool:
        computing = pool.submit(run, execution, [(5, 6)])
        assert entered.wait(10)
        ran = look_up(execution, [(1, 2)], [(5, 6)])
        assert (sums(ran), ran.answer.hits) == ([3], b"\1\0")
        go_on.set()
        assert sums(computing.result(10)) == [11]


def test_equal_rows_of_a_batch_are_run_once_for_the_first_that_has_them() -> None:
    runtime = FakeRuntime()
    ran = run(make(runtime), [(1, 2)], [(1, 2), (1, 2)], [(1, 2)])
    assert runtime.ran == [[1, 2]]
    assert sums(ran) == [3, 3, 3, 3]
    assert ran.answer.hits == b"\0\1\1"


def test_without_a_cache_every_batch_is_run_and_equal_rows_still_once() -> None:
    runtime = FakeRuntime()
    execution = make(runtime, capacity=0)
    assert run(execution, [(1, 2)], [(1, 2)]).answer.hits == b"\0\1"
    assert run(execution, [(1, 2)]).answer.hits == b"\0"
    assert runtime.ran == [[1, 2], [1, 2]]


def test_rows_beyond_max_batch_are_run_in_further_calls() -> None:
    runtime = FakeRuntime()
    ran = run(make(runtime, max_batch=2), [(i, 0) for i in range(5)])
    assert [len(call) for call in runtime.calls] == [2, 2, 1]
    assert sums(ran) == [0, 1, 2, 3, 4]


def test_a_part_of_no_requests_and_a_request_of_no_rows_run_nothing() -> None:
    runtime = FakeRuntime()
    execution = make(runtime)
    nothing = run(execution)
    assert nothing == Ran(PartAnswer((), [], b"", [], nothing.answer.lookup), [], 0.0)
    ran = run(execution, [], [(1, 2)], [])
    assert (sums(ran), ran.answer.hits) == ([3], b"\1\0\1")
    assert runtime.ran == [[1, 2]]


# --- failures


def test_a_row_that_fails_fails_alone_with_its_own_stack_trace() -> None:
    runtime = FakeRuntime(bad=(BAD,))
    ran = run(make(runtime), *[[(i, 0)] for i in range(12)], [(BAD, 0)], [(20, 0)])
    assert sums(ran) == [*range(12), 20]
    (error,) = ran.answer.errors
    assert (error.index, error.code, error.message) == (12, "model_error", "cannot run 13.0")
    assert error.trace.startswith("Traceback (most recent call last):\n")
    assert error.trace.endswith("ValueError: cannot run 13.0\n")
    assert error.trace.count("Traceback") == 1


def test_finding_one_bad_row_among_many_takes_a_few_calls_not_one_a_row() -> None:
    runtime = FakeRuntime(bad=(BAD,))
    ran = run(
        make(runtime, max_batch=1024, capacity=2000),
        *[[(BAD if i == 700 else 100 + i, 0)] for i in range(1024)],
    )
    assert [error.index for error in ran.answer.errors] == [700]
    assert len(sums(ran)) == 1023
    assert len(runtime.calls) == 21


def test_a_request_with_one_bad_row_among_good_ones_fails_and_its_good_rows_are_known() -> None:
    runtime = FakeRuntime(bad=(BAD,))
    execution = make(runtime)
    ran = run(execution, [(1, 2), (BAD, 0)], [(1, 2)])
    assert [error.index for error in ran.answer.errors] == [0]
    assert (sums(ran), ran.answer.hits) == ([3], b"\0\0")
    runtime.calls.clear()
    assert run(execution, [(1, 2)]).answer.hits == b"\1"
    assert run(execution, [(BAD, 0)]).answer.errors[0].message == "cannot run 13.0"
    assert runtime.ran == [[BAD, 0]]


def test_requests_with_equal_bad_rows_all_get_the_error() -> None:
    ran = run(make(FakeRuntime(bad=(BAD,))), [(BAD, 0)], [(1, 1)], [(BAD, 0)])
    assert [(error.index, error.message) for error in ran.answer.errors] == [
        (0, "cannot run 13.0"),
        (2, "cannot run 13.0"),
    ]
    assert sums(ran) == [2]


def test_rows_of_the_wrong_width_fail_with_a_sentence_and_never_reach_the_model() -> None:
    runtime = FakeRuntime()
    part = Part(vector_spec(3), [1, 1], [30.0, 30.0])
    ran = make(runtime).run(part, [memoryview(bytes(24))], time.monotonic())
    sentence = "the model takes rows of FP32 [2], the request has FP32 [3]"
    assert [(e.index, e.code, e.message) for e in ran.answer.errors] == [
        (0, "model_error", sentence),
        (1, "model_error", sentence),
    ]
    assert ran.answer.errors[0].trace.splitlines()[-1] == f"common.errors.ModelError: {sentence}"
    assert (ran.answer.hits, ran.buffers, runtime.calls) == (b"\0\0", [], [])


class WrongRuntime(FakeRuntime):
    """Answers with other rows than it says."""

    def __init__(self, shape: tuple[int, ...], dtype: str = "float32") -> None:
        super().__init__()
        self.output = np.zeros(shape, dtype)

    def run(self, arrays):
        super().run(arrays)
        return SUM, [self.output]


@pytest.mark.parametrize(
    ("shape", "dtype", "what"),
    [
        ((), "float32", "float32 []"),
        ((2, 1), "float32", "float32 [2, 1]"),
        ((1, 1), "float64", "float64 [1, 1]"),
    ],
)
def test_a_model_that_is_wrong_about_its_outputs_fails_and_mixes_nothing_up(shape, dtype, what) -> None:
    ran = run(make(WrongRuntime(shape, dtype)), [(1, 2)])
    assert [error.message for error in ran.answer.errors] == [
        f"the model answered 1 rows with {what}, not FP32 [1, 1]"
    ]


# --- deadlines


def test_a_request_past_its_deadline_is_not_run_unless_another_needs_the_row() -> None:
    runtime = FakeRuntime()
    ran = run(make(runtime), [(1, 2)], [(3, 4)], [(5, 6)], [(3, 4)], timeouts=[30.0, 0.0, 0.0, 30.0])
    assert runtime.ran == [[1, 2], [3, 4]]
    assert sums(ran) == [3, 7]
    late = [RequestError(i, "deadline", "Deadline exceeded") for i in (1, 2)]
    assert (ran.answer.errors, ran.answer.hits) == (late, b"\0\0\0\0")


def test_rows_given_up_as_late_are_free_for_the_next_batch() -> None:
    runtime = FakeRuntime()
    execution = make(runtime)
    run(execution, [(1, 2)], timeouts=[0.0])
    assert runtime.calls == []
    assert sums(run(execution, [(1, 2)])) == [3]


def test_a_request_whose_deadline_passes_while_another_batch_has_the_model_is_not_run() -> None:
    runtime = FakeRuntime()
    execution = make(runtime)
    runtime.gate.clear()
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(run, execution, [(1, 2)])
        assert runtime.entered.wait(10)
        received = time.monotonic() - 29.0  # long ago: the second batch has a second left of its 30, or none
        part = Part(VECTOR, [1, 1], [30.0, 29.0])
        buffer = memoryview(struct.pack("<4f", 3, 4, 5, 6))
        second = threads.submit(execution.run, part, [buffer], received)
        runtime.gate.set()
        assert sums(first.result(10)) == [3]
        assert [error.index for error in second.result(10).answer.errors] == [1]
    assert runtime.ran == [[1, 2], [3, 4]]


# --- two batches at once


class Waits:
    """Tells when somebody waits for another's computation: wraps `Claim.wait`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.someone = threading.Event()
        wait = execution_module.Claim.wait

        def told(claim, timeout):
            self.someone.set()
            return wait(claim, timeout)

        monkeypatch.setattr(execution_module.Claim, "wait", told)


@pytest.fixture
def waits(monkeypatch) -> Waits:
    return Waits(monkeypatch)


def two_batches(
    runtime: FakeRuntime, execution: Execution, waits: Waits, first, second, **options
) -> list[Ran]:
    """Run `second` while `first` is in the model, and let the model go on once `second` waits for it."""
    runtime.gate.clear()
    with ThreadPoolExecutor(2) as threads:
        one: Future[Ran] = threads.submit(run, execution, *first)
        assert runtime.entered.wait(10)
        two = threads.submit(run, execution, *second, **options)
        assert waits.someone.wait(10)
        runtime.gate.set()
        return [one.result(10), two.result(10)]


def test_equal_rows_of_two_batches_at_once_are_run_once(waits: Waits) -> None:
    runtime = FakeRuntime()
    execution = make(runtime)
    first, second = two_batches(runtime, execution, waits, [[(1, 2)]], [[(1, 2)], [(1, 2)]])
    assert runtime.ran == [[1, 2]]
    assert (sums(first), sums(second)) == ([3], [3, 3])
    assert (first.answer.hits, second.answer.hits) == (b"\0", b"\1\1")
    assert second.answer.outputs == SUM
    assert (execution.cache.hits, execution.cache.misses) == (2, 1)


def test_a_row_that_failed_for_the_other_batch_gets_its_own_try_and_is_no_hit(waits: Waits) -> None:
    runtime = FakeRuntime()
    execution = make(runtime)
    failures = [ValueError("once")]

    def fail_once() -> None:
        if failures:
            raise failures.pop()

    runtime.on_call = fail_once
    first, second = two_batches(runtime, execution, waits, [[(1, 2)]], [[(1, 2)]])
    assert [error.message for error in first.answer.errors] == ["once"]
    assert (sums(second), second.answer.hits) == ([3], b"\0")
    assert (execution.cache.hits, execution.cache.misses) == (0, 2)
    assert execution.cache._flying == []


def test_what_the_other_batch_left_undone_is_not_run_for_who_is_late_by_then(waits: Waits) -> None:
    runtime = FakeRuntime()
    execution = make(runtime)
    runtime.gate.clear()
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(run, execution, [(1, 2)])
        assert runtime.entered.wait(10)
        # The model is held: this returns because its deadline passes, not because of the other batch.
        second = run(execution, [(1, 2)], timeouts=[0.001])
        runtime.gate.set()
        assert sums(first.result(10)) == [3]
    assert second.answer.errors == [RequestError(0, "deadline", "Deadline exceeded")]
    assert runtime.ran == [[1, 2]]


def test_two_batches_that_wait_for_each_others_rows_both_end() -> None:
    runtime = FakeRuntime()
    execution = make(runtime, capacity=0)
    together = threading.Barrier(2)

    def ask(rows: Request) -> list[float]:
        together.wait(10)
        return sums(run(execution, rows))

    with ThreadPoolExecutor(2) as threads:
        for _ in range(300):
            answers = list(threads.map(ask, [[(1, 0), (2, 0), (3, 0)], [(3, 0), (1, 0), (4, 0)]]))
            assert answers == [[1, 2, 3], [3, 1, 4]]
    assert execution.cache._flying == []


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, BAD, 14.0]), max_size=4), st.booleans()),
            max_size=6,
        ),
        max_size=5,
    ),
    st.integers(0, 4),
    st.integers(1, 4),
)
def test_whatever_the_batches_each_request_gets_its_own_rows_or_an_error(
    batches, capacity, max_batch
) -> None:
    runtime = FakeRuntime(bad=(BAD, 14.0))
    execution = make(runtime, capacity=capacity, max_batch=max_batch)
    for batch in batches:
        requests = [[(value, 1.0) for value in rows] for rows, _ in batch]
        ran = run(execution, *requests, timeouts=[0.0 if late else 30.0 for _, late in batch])
        errors = {error.index: error.code for error in ran.answer.errors}
        expected: list[float] = []
        for index, (rows, late) in enumerate(batch):
            if late:
                assert errors.pop(index) == "deadline"
            elif BAD in rows or 14.0 in rows:
                assert errors.pop(index) == "model_error"
            else:
                expected += [value + 1.0 for value in rows]
        assert errors == {}
        assert len(ran.answer.hits) == len(batch)
        assert (sums(ran) if ran.buffers else []) == expected
        assert execution.cache._flying == []
    late_only = {value for batch in batches for rows, late in batch if late for value in rows} - {
        value for batch in batches for rows, late in batch if not late for value in rows
    }
    assert late_only.isdisjoint(row[0] for row in runtime.ran)


# --- models of free shapes and of several inputs

FREE = (TensorSpec("vector", "FP32", (-1,)),)


class DoublingRuntime(FakeRuntime):
    """Rows of any length; answers each with twice its numbers, and with how many there are."""

    def run(self, arrays):
        super().run(arrays)
        (rows,) = arrays
        lengths = np.full((len(rows), 1), rows.shape[1], np.int64)
        outputs = (TensorSpec("twice", "FP32", rows.shape[1:]), TensorSpec("length", "INT64", (1,)))
        return outputs, [rows * 2, lengths]


def run_free(execution: Execution, *rows: list[float]) -> list[object]:
    (width,) = {len(row) for row in rows}
    part = Part(vector_spec(width), [len(rows)], [30.0])
    data = np.array(rows, np.float32).tobytes()
    ran = execution.run(part, [memoryview(data)], time.monotonic())
    assert ran.answer.outputs == (TensorSpec("twice", "FP32", (width,)), TensorSpec("length", "INT64", (1,)))
    return [memoryview(ran.buffers[0]).cast("f").tolist(), memoryview(ran.buffers[1]).cast("q").tolist()]


def test_rows_of_other_shapes_never_share_answers_or_their_outputs_shape() -> None:
    runtime = DoublingRuntime(FREE)
    execution = make(runtime)
    for _ in range(2):
        assert run_free(execution, [0, 0]) == [[0, 0], [2]]
        assert run_free(execution, [0], [1]) == [[0, 2], [1, 1]]
    assert len(runtime.calls) == 2


def test_shapes_beyond_so_many_are_run_and_not_remembered(monkeypatch) -> None:
    monkeypatch.setattr(execution_module, "MAX_SHAPES", 2)
    runtime = DoublingRuntime(FREE)
    execution = make(runtime)
    for width in (1, 2, 3, 3, 1):
        assert run_free(execution, [1.0] * width) == [[2.0] * width, [width]]
    assert [len(call[0]) for call in runtime.calls] == [1, 2, 3, 3]
    assert len(execution._layouts) == 2


def test_a_model_whose_outputs_change_shape_between_calls_fails_rather_than_mixing_them() -> None:
    class Fickle(FakeRuntime):
        def run(self, arrays):
            super().run(arrays)
            width = len(self.calls)
            return (TensorSpec("x", "FP32", (width,)),), [np.zeros((1, width), np.float32)]

    execution = make(Fickle())
    assert run(execution, [(1, 2)]).answer.errors == []
    (error,) = run(execution, [(3, 4)]).answer.errors
    assert error.message.startswith(
        "the model's outputs are (TensorSpec(name='x', datatype='FP32', row_shape=(2,))"
    )


def test_where_nobody_knows_the_inputs_they_are_the_models_business_and_types_make_keys_of_their_own() -> (
    None
):
    runtime = FakeRuntime(None)
    execution = make(runtime)
    for datatype, expected in (("INT32", [2.0]), ("UINT32", [2.0]), ("INT32", [2.0])):
        part = Part((TensorSpec("a", datatype, (2,)),), [1], [30.0])
        assert sums(execution.run(part, [memoryview(struct.pack("<2i", 1, 1))], time.monotonic())) == expected
    assert len(runtime.calls) == 2


def test_several_inputs_of_one_row_go_together_and_make_one_key() -> None:
    inputs = (TensorSpec("a", "FP32", (1,)), TensorSpec("b", "FP64", (2,)))
    runtime = FakeRuntime(inputs)
    execution = make(runtime)
    part = Part(inputs, [1, 1], [30.0, 30.0])
    buffers = [memoryview(struct.pack("<2f", 1, 2)), memoryview(struct.pack("<4d", 3, 4, 3, 4))]
    assert sums(execution.run(part, buffers, time.monotonic())) == [8, 9]
    assert execution.run(part, buffers, time.monotonic()).answer.hits == b"\1\1"
    assert runtime.ran == [[1, 3, 4], [2, 3, 4]]


A, B = TensorSpec("a", "FP32", (2,)), TensorSpec("b", "INT64", (-1,))


@pytest.mark.parametrize(
    ("expected", "given_", "sentence"),
    [
        ((A,), (A, A), "the model takes 1 inputs, the request has 2"),
        ((A,), (TensorSpec("a", "FP32", ()),), "the model takes rows of FP32 [2], the request has FP32 []"),
        (
            (A,),
            (TensorSpec("a", "FP64", (2,)),),
            "the model takes rows of FP32 [2], the request has FP64 [2]",
        ),
        (
            (B,),
            (TensorSpec("b", "INT64", (0,)),),
            "the model takes rows of INT64 [-1], the request has INT64 [0]",
        ),
        ((B,), (B,), "the model takes rows of INT64 [-1], the request has INT64 [-1]"),
        ((A, A), (A, TensorSpec("x", "FP32", (2,))), "the model takes inputs a, a, the request has a, x"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_in_words(expected, given_, sentence) -> None:
    with pytest.raises(ModelError) as raised:
        check_inputs(expected, given_)
    assert str(raised.value) == sentence


def test_a_single_input_may_have_any_name_and_a_free_dimension_any_length() -> None:
    check_inputs((B,), (TensorSpec("whatever", "INT64", (7,)),))
