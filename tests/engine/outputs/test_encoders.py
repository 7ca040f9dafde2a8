"""Unit: engine/outputs/, a model's arrays as answers."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from common.errors import ModelError
from common.media import OutputOptions
from engine.inputs.decoder import Decoded
from engine.inputs.framing import Frame
from engine.outputs.classification import ClassificationEncoder
from engine.outputs.detections import DetectionsEncoder
from engine.outputs.embedding import EmbeddingEncoder
from engine.outputs.image import ImageEncoder, make_palette
from engine.outputs.text import TextEncoder
from tests.engine.inputs.files import make_tokenizer

ROW = Decoded()


def encoded(encoder: Any, rows: list[Decoded] | None = None, **outputs: Any) -> Any:
    arrays = {name: np.asarray(values) for name, values in outputs.items()}
    count = len(next(iter(arrays.values())))
    ((_, found),) = encoder.encode(arrays, rows or [ROW] * count)
    return found.tolist()


# --- classification


def test_scores_become_probabilities_however_large_they_are() -> None:
    found = encoded(ClassificationEncoder(OutputOptions()), x=np.float32([[1000, 1000, -1000], [0, 0, 0]]))
    assert found[0] == pytest.approx([0.5, 0.5, 0])
    assert found[1] == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize(
    ("activation", "wanted"), [("sigmoid", [0.5, 1.0, 0.0]), ("none", [0.0, 1000.0, -1000.0])]
)
def test_scores_may_be_independent_or_probabilities_already(activation: Any, wanted: list[float]) -> None:
    encoder = ClassificationEncoder(OutputOptions(activation=activation))
    assert encoded(encoder, x=np.float32([[0, 1000, -1000]]))[0] == pytest.approx(wanted)


def test_the_answer_is_the_output_that_is_named_else_the_first() -> None:
    outputs = {"aux": np.float32([[1, 0]]), "out": np.float32([[0, 1]])}
    assert encoded(ClassificationEncoder(OutputOptions(activation="none", name="out")), **outputs) == [[0, 1]]
    assert encoded(ClassificationEncoder(OutputOptions(activation="none")), **outputs) == [[1, 0]]
    with pytest.raises(ModelError, match="the model gives no other: it gives aux, out"):
        encoded(ClassificationEncoder(OutputOptions(name="other")), **outputs)


def test_scores_that_are_no_numbers_are_a_sentence() -> None:
    with pytest.raises(ModelError, match="scores of classes are numbers, and the model gives"):
        encoded(ClassificationEncoder(OutputOptions()), x=np.array([["a"]]))


# --- embeddings


TOKENS = np.float32([[[1, 0], [3, 0], [100, 100]]])
MASKED = [Decoded(mask=np.array([1, 1, 0]))]


@pytest.mark.parametrize(("pooling", "wanted"), [("mean", [2, 0]), ("cls", [1, 0]), ("max", [3, 0])])
def test_tokens_vectors_become_one_by_those_that_count(pooling: Any, wanted: list[float]) -> None:
    encoder = EmbeddingEncoder(OutputOptions(pooling=pooling, normalise=False))
    assert encoded(encoder, MASKED, x=TOKENS) == [wanted]


def test_a_vector_is_given_the_length_one() -> None:
    assert encoded(EmbeddingEncoder(OutputOptions()), x=np.float32([[3, 4], [0, 0]])) == [
        pytest.approx([0.6, 0.8]),
        [0, 0],
    ]


def test_what_is_no_vector_is_a_sentence() -> None:
    with pytest.raises(ModelError, match=r"and the model gives \[2, 2, 2\]"):
        encoded(EmbeddingEncoder(OutputOptions()), x=np.zeros((1, 2, 2, 2)))


# --- images


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_a_map_has_a_class_for_each_pixel_and_colours_for_eyes() -> None:
    scores = np.zeros((1, 3, 2, 2), np.float32)
    scores[0, 2, 0, 0] = scores[0, 1, 1, 1] = 9
    image = opened(encoded(ImageEncoder(OutputOptions()), x=scores)[0])
    assert (image.format, image.mode) == ("PNG", "P")
    assert np.asarray(image).tolist() == [[2, 0], [0, 1]]
    assert image.convert("RGB").getpixel((0, 0)) == make_palette()[2] == (0, 128, 0)


def test_a_palette_may_be_said_and_the_rest_is_the_usual_one() -> None:
    encoder = ImageEncoder(OutputOptions(palette=((1, 2, 3), (4, 5, 6))))
    image = opened(encoded(encoder, x=np.array([[[0, 1, 2]]]))[0]).convert("RGB")
    assert [image.getpixel((x, 0)) for x in range(3)] == [(1, 2, 3), (4, 5, 6), (0, 128, 0)]


def test_a_map_lies_where_the_model_looked() -> None:
    """A model that saw the middle of an image of 8 × 4, at half its size."""
    row = Decoded(frame=Frame(8, 4, 2, 0, 2, 2))
    classes = np.array([[[1, 2], [3, 4]]])
    image = np.asarray(opened(encoded(ImageEncoder(OutputOptions()), [row], x=classes)[0]))
    assert image.tolist() == [[0, 0, 1, 1, 2, 2, 0, 0]] * 2 + [[0, 0, 3, 3, 4, 4, 0, 0]] * 2
    small = encoded(ImageEncoder(OutputOptions(fit=False)), [row], x=classes)[0]
    assert opened(small).size == (2, 2)


@pytest.mark.parametrize("shape", [(3, 2, 4), (2, 4, 3), (1, 2, 4), (2, 4)])
def test_a_picture_is_the_pixels_themselves(shape: tuple[int, ...]) -> None:
    encoder = ImageEncoder(OutputOptions(pixels="values"))
    image = opened(encoded(encoder, x=np.full((1, *shape), 0.5, np.float32))[0])
    assert (image.size, image.mode) == ((4, 2), "RGB" if 3 in shape else "L")
    assert np.unique(np.asarray(image)).tolist() == [128]


@pytest.mark.parametrize(
    ("pixels", "values"),
    [("classes", np.zeros((1, 2, 2, 2, 2))), ("classes", np.full((1, 2, 2), 256)),
     ("classes", np.full((1, 2, 2), -1)), ("values", np.zeros((1, 5, 5, 5)))],
)  # fmt: skip
def test_what_is_no_image_is_a_sentence(pixels: Any, values: Any) -> None:
    with pytest.raises(ModelError):
        encoded(ImageEncoder(OutputOptions(pixels=pixels)), x=values)


# --- detections


FOUND = {
    "boxes": np.float32([[[0, 0, 10, 20], [10, 10, 20, 20], [5, 5, 6, 6]]]),
    "scores": np.float32([[0.6, 0.9, 0.1]]),
    "labels": np.array([[1, 0, 7]]),
}


def found(rows: list[Decoded] | None = None, labels: tuple[str, ...] = (), **options: Any) -> Any:
    return json.loads(encoded(DetectionsEncoder(OutputOptions(**options), labels), rows, **FOUND)[0])


def test_the_most_certain_come_first_and_the_uncertain_are_left_out() -> None:
    assert found(labels=("cat", "dog")) == [
        {"box": [10, 10, 20, 20], "label": "cat", "index": 0, "score": 0.9},
        {"box": [0, 0, 10, 20], "label": "dog", "index": 1, "score": 0.6},
    ]
    assert found(threshold=0.95) == []
    assert [each["index"] for each in found(threshold=0.0, max_detections=2)] == [0, 1]
    assert "label" not in found(labels=("cat",))[1]


def test_boxes_are_those_of_the_image_that_was_sent() -> None:
    row = Decoded(frame=Frame(100, 30, 50, 0, 2, 2))
    assert [each["box"] for each in found([row])] == [[70, 20, 90, 30], [50, 0, 70, 30]]


@pytest.mark.parametrize(("box_format", "box"), [("xywh", [10, 10, 30, 30]), ("cxcywh", [0, 0, 20, 20])])
def test_boxes_may_be_said_by_their_size(box_format: Any, box: list[float]) -> None:
    assert found(box_format=box_format)[0]["box"] == box


def test_boxes_may_be_fractions_of_what_the_model_was_given() -> None:
    row = Decoded((np.zeros((3, 2, 4), np.float32),), frame=Frame(4, 2))
    boxes = {**FOUND, "boxes": np.float32([[[0, 0, 0.5, 1]] * 3])}
    encoder = DetectionsEncoder(OutputOptions(fractions=True), ())
    assert json.loads(encoded(encoder, [row], **boxes)[0])[0]["box"] == [0, 0, 2, 2]
    with pytest.raises(ModelError, match="need an image"):
        encoded(encoder, None, **boxes)


def test_tensors_that_do_not_fit_together_are_a_sentence() -> None:
    with pytest.raises(ModelError, match=r"gives \[1, 3, 4\], \[1, 2\] and \[1, 3\]"):
        encoded(DetectionsEncoder(OutputOptions(), ()), None, **{**FOUND, "scores": np.float32([[1, 1]])})
    with pytest.raises(ModelError, match="the model gives no boxes: it gives x"):
        encoded(DetectionsEncoder(OutputOptions(), ()), None, x=[[1]])


# --- text


def objects(*values: object) -> Any:
    array = np.empty((len(values), 1), np.object_)
    array[:, 0] = values
    return array


def test_text_is_what_the_model_writes() -> None:
    assert encoded(TextEncoder(OutputOptions(), None), x=objects("né", b"b")) == ["né".encode(), b"b"]


def test_token_ids_are_put_into_words() -> None:
    tokenizer = make_tokenizer()
    ids = np.array([tokenizer.encode("cats and dogs").ids])
    said = encoded(TextEncoder(OutputOptions(), tokenizer), x=ids)[0].decode()
    assert said.replace("##", "").replace(" ", "") == "catsanddogs"
    with pytest.raises(ModelError, match="there is no tokenizer beside it"):
        encoded(TextEncoder(OutputOptions(), None), x=ids)


@pytest.mark.parametrize("values", [objects(b"\xff"), objects(3), np.array([["a", "b"]])])
def test_what_is_no_text_is_a_sentence(values: Any) -> None:
    with pytest.raises(ModelError):
        encoded(TextEncoder(OutputOptions(), None), x=values)
