"""Pure: engine/inputs/framing.py, what part of an image a model sees."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.media import ImageOptions
from engine.inputs.framing import Frame, plan

SIDES = st.integers(1, 5000)


def test_an_image_of_any_size_is_left_as_it_is() -> None:
    planned = plan(ImageOptions(), None, (640, 480))
    assert (planned.size, planned.canvas, planned.frame) == ((640, 480), (640, 480), Frame(640, 480))


def test_the_shorter_side_is_made_as_long_as_is_said_and_the_longer_one_follows() -> None:
    assert plan(ImageOptions(shorter_side=240), None, (640, 480)).size == (320, 240)
    assert plan(ImageOptions(shorter_side=240), None, (480, 641)).size == (240, 320)


def test_stretching_forgets_the_proportions() -> None:
    planned = plan(ImageOptions(resize="stretch"), (100, 100), (400, 200))
    assert (planned.box, planned.size) == ((0, 0, 400, 200), (100, 100))
    assert planned.frame == Frame(400, 200, 0, 0, 4, 2)


def test_the_middle_is_cut_out_of_what_covers_the_size() -> None:
    planned = plan(ImageOptions(), (100, 100), (400, 200))
    assert (planned.box, planned.size) == ((100, 0, 300, 200), (100, 100))
    assert planned.frame == Frame(400, 200, 100, 0, 2, 2)


def test_the_usual_256_then_224() -> None:
    planned = plan(ImageOptions(shorter_side=256), (224, 224), (512, 512))
    assert (planned.box, planned.size) == ((32, 32, 480, 480), (224, 224))


def test_padding_shows_all_of_an_image_in_the_middle() -> None:
    planned = plan(ImageOptions(resize="pad"), (100, 100), (400, 200))
    assert (planned.size, planned.canvas, planned.at) == ((100, 50), (100, 100), (0, 25))
    assert planned.frame == Frame(400, 200, 0, -100, 4, 4)


def test_a_crop_that_is_larger_than_the_image_is_filled_up() -> None:
    planned = plan(ImageOptions(shorter_side=50), (100, 100), (400, 200))
    assert (planned.size, planned.canvas, planned.at) == ((100, 50), (100, 100), (0, 25))


@pytest.mark.parametrize("options", [{"resize": "stretch"}, {"resize": "pad"}, {}, {"shorter_side": 64}])
@given(SIDES, SIDES, SIDES, SIDES)
def test_what_the_model_sees_lies_in_the_image_and_in_the_canvas(
    options: dict[str, Any], width: int, height: int, to_width: int, to_height: int
) -> None:
    planned = plan(ImageOptions(**options), (to_width, to_height), (width, height))
    left, top, right, bottom = planned.box
    assert planned.canvas == (to_width, to_height)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert all(1 <= own <= most for own, most in zip(planned.size, planned.canvas, strict=True))
    # The corner of the box is where the frame says that the first pixel of it lies.
    frame = planned.frame
    assert frame.left + planned.at[0] * frame.step_x == pytest.approx(left, abs=1e-6 * width)
    assert frame.top + planned.at[1] * frame.step_y == pytest.approx(top, abs=1e-6 * height)
