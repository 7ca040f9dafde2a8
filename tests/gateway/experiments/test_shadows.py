"""Pure: experiments/shadows.py: how far one answer is from another, in whichever order the two come."""

from __future__ import annotations

import math
from array import array

import pytest

from common.errors import DeadlineExceeded
from common.tensor import TensorSpec
from gateway.experiments.experiments import Arm
from gateway.experiments.shadows import MAX_COMPARED, Pair, mean_absolute_difference
from gateway.scheduling.requests import Answer, Provenance

BY = Provenance("w", "1", batch=0.0, link=0.0, infer=0.0)


def answer(*numbers: float, datatype: str = "FP32", code: str = "f", name: str = "result") -> Answer:
    spec = TensorSpec(name, datatype, (len(numbers),))
    return Answer((spec,), (memoryview(array(code, numbers).tobytes()),), False, 0.0, BY)


def both(one: Answer, other: Answer) -> Answer:
    return Answer(one.outputs + other.outputs, one.buffers + other.buffers, False, 0.0, BY)


def test_the_difference_is_the_mean_over_all_numbers_of_all_outputs() -> None:
    assert mean_absolute_difference(answer(1, 2, 3), answer(1, 2, 3)) == 0.0
    assert mean_absolute_difference(answer(1, 2), answer(2, -2)) == 2.5
    one = both(answer(1, 2), answer(5, datatype="INT64", code="q"))
    other = both(answer(1, 5), answer(2, datatype="INT64", code="q", name="other"))
    assert mean_absolute_difference(one, other) == 2.0


@pytest.mark.parametrize(
    "other",
    [
        answer(1),
        answer(1, 2, datatype="FP64", code="d"),
        answer(math.nan, 2),
        answer(math.inf, 2),
        both(answer(1, 2), answer(1)),
        answer(),
    ],
)
def test_what_cannot_be_compared_has_no_difference(other: Answer) -> None:
    assert mean_absolute_difference(answer(1, 2), other) is None


def test_answers_of_nothing_have_no_difference() -> None:
    assert mean_absolute_difference(answer(), answer()) is None


def test_of_a_long_answer_the_beginning_is_compared() -> None:
    long = [0.0] * MAX_COMPARED
    assert mean_absolute_difference(answer(*long, 0.0), answer(*long, 9.0)) == 0.0
    assert mean_absolute_difference(answer(*long[1:], 0.0), answer(*long[1:], 4.0)) == 4.0 / MAX_COMPARED


@pytest.mark.parametrize("shadow_first", [True, False])
def test_a_pair_is_compared_when_both_are_there(shadow_first: bool) -> None:
    shadow = Arm("v3", is_shadow=True)
    pair = Pair(shadow)
    steps = [lambda: pair.shown(answer(1.5)), lambda: pair.given(answer(1.0))]
    for step in steps if shadow_first else reversed(steps):
        assert shadow.differences.count == 0
        step()
    assert (shadow.differences.count, shadow.differences.mean, shadow.left_out) == (1, 0.5, 0)


def test_an_error_on_either_side_leaves_the_pair_out() -> None:
    shadow = Arm("v3", is_shadow=True)
    for one, other in (
        (answer(1), DeadlineExceeded("late")),
        (DeadlineExceeded("late"), answer(1)),
    ):
        pair = Pair(shadow)
        pair.given(one)
        pair.shown(other)
    assert (shadow.differences.count, shadow.left_out) == (0, 2)


def test_an_answer_may_go_before_the_other_comes() -> None:
    shadow = Arm("v3", is_shadow=True)
    pair = Pair(shadow)
    frame = bytearray(array("f", [1.0]).tobytes())
    pair.given(answer(1.0)._replace(buffers=(memoryview(frame),)))
    frame[:] = bytes(len(frame))  # its memory holds something else by now
    pair.shown(answer(1.5))
    assert shadow.differences.mean == 0.5
