"""Pure: gateway/doors/predict/typed_results.py, what the output types are answered as."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest

from common.errors import InvalidRequest, ModelError
from common.media import OutputOptions
from common.models import ModelSettings
from common.tensor import TensorSpec, pack_elements
from gateway.doors.predict.typed_results import read_top_n, render_png, renderer, wants_png
from gateway.scheduling.requests import Answer, Provenance

BY = Provenance("w", "1", batch=0.0, link=0.0, infer=0.0)
CLASSES = ModelSettings(output_type="classification", labels=("cat", "dog"))


def floats(*rows: list[float], name: str = "probabilities") -> Answer:
    data = b"".join(struct.pack(f"<{len(row)}f", *row) for row in rows)
    return Answer((TensorSpec(name, "FP32", (len(rows[0]),)),), (memoryview(data),), False, 0.0, BY)


def texts(*rows: bytes) -> Answer:
    return Answer((TensorSpec("x", "BYTES", ()),), (memoryview(pack_elements(rows)),), False, 0.0, BY)


def shown(answer: Answer, settings: ModelSettings, top_n: int = 5, *, many: bool = False) -> Any:
    said = json.loads(renderer(settings, top_n, many=many)(answer, "name"))
    assert said.pop("status") is True
    assert said.pop("message") == "name"
    return said["results" if many else "result"]


def test_the_most_probable_classes_come_first_with_their_labels() -> None:
    assert shown(floats([0.25, 0.5, 0.25]), CLASSES, 2) == [
        {"label": "dog", "index": 1, "probability": 0.5},
        {"label": "cat", "index": 0, "probability": 0.25},
    ]
    assert len(shown(floats([0.25, 0.75]), CLASSES, 100)) == 2


def test_a_class_without_a_label_is_called_by_its_number() -> None:
    assert shown(floats([0.0, 0.0, 1.0]), CLASSES, 1)[0]["label"] == "2"


def test_of_many_rows_each_has_its_own_classes() -> None:
    found = shown(floats([1.0, 0.0], [0.0, 1.0]), CLASSES, 1, many=True)
    assert [row[0]["label"] for row in found] == ["cat", "dog"]


def test_a_probability_that_is_no_number_is_an_error() -> None:
    with pytest.raises(ModelError, match="NaN or infinity"):
        shown(floats([float("nan")]), CLASSES)


def test_an_image_is_base64_in_json_or_the_file_itself() -> None:
    settings = ModelSettings(output_type="image")
    assert shown(texts(b"\x89PNG"), settings) == base64.b64encode(b"\x89PNG").decode()
    assert render_png(texts(b"\x89PNG"), "name") == b"\x89PNG"
    accepts = [b"image/png", b"text/html, image/*;q=0.8", b"application/json", b"*/*", None]
    assert [wants_png(settings, accept) for accept in accepts] == [True, True, False, False, False]
    assert not wants_png(CLASSES, b"image/png")


def test_detections_text_and_embeddings_are_what_the_worker_said() -> None:
    found = [{"box": [1, 2, 3, 4], "index": 1, "score": 0.5}]
    answer = texts(json.dumps(found).encode(), b"[]")
    assert shown(answer, ModelSettings(output_type="detections"), many=True) == [found, []]
    assert shown(texts("né".encode()), ModelSettings(output_type="text")) == "né"
    assert shown(floats([0.5, 0.25]), ModelSettings(output_type="embedding")) == [0.5, 0.25]


def test_raw_answers_are_the_numbers_and_of_several_outputs_an_object_of_them() -> None:
    assert shown(floats([0.5]), ModelSettings()) == 0.5
    one, two = floats([0.5, 0.25], [1.0, 2.0], name="a"), floats([3.0], [4.0], name="b")
    both = Answer(one.outputs + two.outputs, one.buffers + two.buffers, False, 0.0, BY)
    assert shown(both, ModelSettings(), many=True) == [
        {"a": [0.5, 0.25], "b": 3.0},
        {"a": [1.0, 2.0], "b": 4.0},
    ]


@pytest.mark.parametrize("kind", ["classification", "image", "detections"])
def test_an_answer_of_another_type_is_an_error_and_not_nonsense(kind: Any) -> None:
    answer = texts(b"x") if kind == "classification" else floats([1.0])
    with pytest.raises(ModelError, match="not of its output type"):
        shown(answer, ModelSettings(output_type=kind))


# --- top_n


@pytest.mark.parametrize(
    ("query", "wanted"), [(b"", 5), (b"a=1", 5), (b"top_n=3", 3), (b"a=1&top_n=007", 7), (b"not_top_n=3", 5)]
)
def test_how_many_classes_there_are_is_the_client_s_to_say(query: bytes, wanted: int) -> None:
    assert read_top_n(query, CLASSES) == wanted


def test_the_settings_say_it_for_who_does_not() -> None:
    assert read_top_n(b"", ModelSettings(output_type="classification", output=OutputOptions(top_n=1))) == 1


@pytest.mark.parametrize("said", ["0", "-1", "1.5", "", "x", "32769", "9" * 10_000, "²"])
def test_a_top_n_that_is_no_number_is_a_sentence(said: str) -> None:
    with pytest.raises(InvalidRequest, match="top_n should be a whole number from 1 to 32768, not"):
        read_top_n(f"top_n={said}".encode(), CLASSES)


def test_a_top_n_of_what_has_no_classes_is_a_sentence() -> None:
    with pytest.raises(InvalidRequest, match="top_n is for models that classify, and this one answers raw"):
        read_top_n(b"top_n=3", ModelSettings())
