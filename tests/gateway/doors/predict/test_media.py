"""Pure: gateway/doors/predict/media.py, requests cut into the rows that they hold."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from common.errors import InvalidRequest, PipelineError, TooLarge, UnsupportedMedia
from common.models import ModelSettings
from common.tensor import TensorSpec, pack_elements
from gateway.doors.json import JsonReader
from gateway.doors.predict.media import RAW, cut

B64 = base64.b64encode(b"one").decode()


def rows(
    kind: Any, content_type: bytes | None, body: bytes | Any, most: int = 10
) -> tuple[list[bytes], bool]:
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = cut(ModelSettings(input_type=kind), content_type, body, most, JsonReader())
    return found.rows, found.many


def refusal(kind: Any, content_type: bytes | None, body: Any, most: int = 10) -> PipelineError:
    with pytest.raises(PipelineError) as caught:
        rows(kind, content_type, body, most)
    return caught.value


@pytest.mark.parametrize("kind", RAW)
def test_a_body_of_each_type_s_own_kind_is_one_row_as_it_is(kind: str) -> None:
    for name in (*RAW[kind], "application/octet-stream"):
        assert rows(kind, name.encode(), b"\x00\xffrow") == ([b"\x00\xffrow"], False)
        assert rows(kind, f" {name.upper()} ; version=1".encode(), b"row") == ([b"row"], False)


def test_what_says_nothing_of_its_type_is_json_if_it_looks_so() -> None:
    for said in (None, b"", b"application/x-www-form-urlencoded"):
        assert rows("image", said, b"\xff\xd8jpeg") == ([b"\xff\xd8jpeg"], False)
        assert rows("image", said, {"image": B64}) == ([b"one"], False)
        assert rows("text", said, b"plain words") == ([b"plain words"], False)
        assert rows("json", said, b'{"a":1}') == ([b'{"a":1}'], False)


def test_json_holds_one_row_or_many_in_base64() -> None:
    for kind in ("image", "audio"):
        assert rows(kind, b"application/json", {kind: B64}) == ([b"one"], False)
        assert rows(kind, b"application/json", {f"{kind}s": [B64, B64]}) == ([b"one", b"one"], True)
        assert rows(kind, b"application/json", {f"{kind}s": [B64]}) == ([b"one"], True)
    assert rows("image", b"application/json", {"image": f"data:image/png;base64,{B64}"}) == ([b"one"], False)


def test_text_stands_in_json_as_it_is_and_pairs_as_lists_of_two() -> None:
    assert rows("text", b"application/json", {"text": "né"}) == (["né".encode()], False)
    assert rows("text", b"application/json", {"texts": ["a", ""]}) == ([b"a", b""], True)
    assert rows("text", b"application/json", {"text": ["a", "b"]}) == ([b'["a","b"]'], False)
    assert rows("text", b"application/json", {"texts": [["a", "b"]]}) == ([b'["a","b"]'], True)


def test_a_model_of_json_is_given_the_body_or_each_of_its_lines() -> None:
    assert rows("json", b"application/json", b'{"jsons":[]}') == ([b'{"jsons":[]}'], False)
    assert rows("json", b"application/x-ndjson", b"[1]\n\n[2]\r\n") == ([b"[1]", b"[2]"], True)


# --- forms


def form(*parts: tuple[str, str | None, bytes]) -> tuple[bytes, bytes]:
    """(content type, body) of name, file name and content."""
    body = b""
    for name, file, data in parts:
        of_file = f'; filename="{file}"' if file is not None else ""
        body += f'--frontier\r\nContent-Disposition: form-data; name="{name}"{of_file}\r\n'.encode()
        body += b"Content-Type: image/jpeg\r\n\r\n" + data + b"\r\n"
    return b"multipart/form-data; boundary=frontier", body + b"--frontier--\r\n"


def test_every_file_of_a_form_is_a_row() -> None:
    assert rows("image", *form(("file", "a.jpg", b"\r\n--one"))) == ([b"\r\n--one"], False)
    assert rows("image", *form(("a", "a.jpg", b"one"), ("b", "b.jpg", b"two"))) == ([b"one", b"two"], True)
    assert rows("image", *form(("images", "a.jpg", b"one"))) == ([b"one"], True)
    assert rows("text", *form(("text", None, b"words"), ("text", None, b"more"))) == (
        [b"words", b"more"],
        True,
    )


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (
            form(("colour", None, b"red")),
            "a form has files, or fields called image or images, and this one has",
        ),
        (form(), "there is no row: give at least one image"),
        (
            (b"multipart/form-data", b"x"),
            "cannot parse request body: the form's Content-Type has no boundary",
        ),
        ((b"multipart/form-data; boundary=a", b"x"), "cannot parse request body: "),
        ((form()[0], form(("a", "a", b"one"))[1][:-12]), "cannot parse request body: its last boundary is"),
    ],
)
def test_a_form_that_holds_something_else_is_a_sentence(sent: tuple[bytes, bytes], said: str) -> None:
    error = refusal("image", *sent)
    assert type(error) is InvalidRequest
    assert str(error).startswith(said)


def test_a_form_of_too_many_files_is_not_read_to_its_end() -> None:
    error = refusal("image", *form(*[("a", "a", b"")] * 20), most=3)
    assert (type(error), str(error)) == (
        TooLarge,
        "the form has more than 3 rows, which are the most allowed",
    )


# --- refusals


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        ("image", b"{", "cannot parse request body"),
        ("image", {}, "give one of image and images"),
        ("image", {"image": B64, "images": [B64]}, "give one of image and images"),
        ("image", {"image": 3}, "request body has a wrong shape: Expected `str | null`, got `int`"),
        ("image", {"image": "***"}, "image has wrong format: it should be base64 of a file"),
        ("audio", {"audios": [B64, "*"]}, "audios[1] has wrong format: it should be base64 of a file"),
        ("image", {"images": []}, "there is no row: give at least one image"),
        ("text", {"texts": [3]}, "request body has a wrong shape: "),
    ],
)
def test_json_that_holds_something_else_is_a_sentence(kind: str, body: Any, said: str) -> None:
    error = refusal(kind, b"application/json", body)
    assert type(error) is InvalidRequest
    assert str(error).startswith(said)


@pytest.mark.parametrize("kind", RAW)
def test_another_content_type_is_415_with_those_that_are_taken(kind: str) -> None:
    error = refusal(kind, b"application/pdf", b"%PDF")
    assert (type(error), error.status) == (UnsupportedMedia, 415)
    assert str(error).startswith(f"a model of {kind} takes {RAW[kind][0]}, ")
    assert str(error).endswith(", and the request has application/pdf")


def test_text_is_taken_in_utf_8_only() -> None:
    assert rows("text", b"text/plain; charset=UTF-8", b"a") == ([b"a"], False)
    error = refusal("text", b"text/plain; charset=latin-1", b"a")
    assert (type(error), str(error)) == (UnsupportedMedia, "text is taken in UTF-8, not in latin-1")


def test_an_empty_body_is_a_text_and_nothing_else() -> None:
    assert rows("text", b"text/plain", b"") == ([b""], False)
    assert str(refusal("image", b"image/png", b"")) == "the body is empty: it should be one row of image"


def test_more_rows_than_allowed_are_413() -> None:
    assert type(refusal("image", b"application/json", {"images": [B64] * 11})) is TooLarge


def test_rows_travel_as_elements_of_bytes() -> None:
    found = cut(ModelSettings(input_type="image"), b"image/png", b"png", 10, JsonReader())
    signature = (TensorSpec("image", "BYTES", ()),)
    assert found.input(ModelSettings(input_type="image")) == (signature, (pack_elements([b"png"]),), 1)
    with pytest.raises(
        InvalidRequest, match="the version that was chosen takes text, and the active one image"
    ):
        found.input(ModelSettings(input_type="text"))
