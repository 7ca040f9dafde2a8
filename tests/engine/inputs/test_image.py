"""Unit: engine/inputs/image.py, with files that Pillow wrote."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from common.errors import InvalidRequest, LoadError, PipelineError, TooLarge, UnsupportedMedia
from common.media import ImageOptions
from common.tensor import TensorSpec
from engine.inputs.image import ImageDecoder
from tests.engine.inputs.files import coloured, saved

WHOLE = ImageOptions(scale=1.0)
KINDS = ["JPEG", "PNG", "WEBP", "GIF"]


def pixels(data: bytes, options: ImageOptions = WHOLE, *takes: TensorSpec) -> Any:
    """What the model is given, as height, width, channels."""
    (array,) = ImageDecoder(options, takes or None).decode(data).arrays
    return array.transpose(1, 2, 0) if options.layout == "CHW" else array


def refusal(data: bytes, options: ImageOptions = WHOLE) -> PipelineError:
    with pytest.raises(PipelineError) as caught:
        ImageDecoder(options, None).decode(data)
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_is_read(kind: str) -> None:
    image = coloured(64, 48)
    found = pixels(saved(image, kind))
    assert (found.shape, found.dtype) == ((48, 64, 3), np.float32)
    assert np.abs(found - np.asarray(image)).mean() < 4


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_every_kind_of_png_becomes_rgb(mode: str) -> None:
    grey = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    if mode == "I;16":
        image = Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16) * 256)
    else:
        image = grey.convert("RGB").convert(mode)
    found = pixels(saved(image, "PNG"))
    wanted = image.convert("RGB") if mode in ("1", "P") else grey.convert("RGB")
    assert found.shape == (16, 16, 3)
    assert np.abs(found - np.asarray(wanted)).max() <= 3


def test_a_jpeg_in_the_colours_of_printers_is_read() -> None:
    assert pixels(saved(coloured(16, 16).convert("CMYK"), "JPEG")).shape == (16, 16, 3)


def test_of_an_animation_the_first_picture_counts() -> None:
    pictures = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    found = pixels(saved(pictures[0], "GIF", save_all=True, append_images=pictures[1:]))
    assert found[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_its_camera_says(orientation: int) -> None:
    upright = coloured(32, 16)
    back = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
    }[orientation]  # fmt: skip
    held = upright if back is None else upright.transpose(back)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind in ("JPEG", "PNG", "WEBP"):
        found = pixels(saved(held, kind, exif=exif))
        assert found.shape == (16, 32, 3)
        assert np.abs(found - np.asarray(upright)).mean() < 6


def test_exif_that_nobody_can_read_is_no_reason_to_refuse() -> None:
    data = saved(coloured(8, 8), "JPEG", exif=b"Exif\0\0" + b"\xff" * 20)
    assert pixels(data).shape == (8, 8, 3)


# --- what is made of the pixels


def test_channels_are_normalised_each_by_its_own_numbers() -> None:
    options = ImageOptions(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    found = pixels(saved(Image.new("RGB", (4, 4), (255, 0, 51)), "PNG"), options)
    wanted = (np.array([1.0, 0.0, 0.2]) - options.mean) / options.std
    assert found[0, 0] == pytest.approx(wanted, abs=1e-5)


def test_order_layout_and_datatype_are_as_the_model_wants_them() -> None:
    red = saved(Image.new("RGB", (4, 2), (255, 0, 0)), "PNG")
    assert pixels(red, ImageOptions(channels="BGR"))[0, 0].tolist() == [0, 0, 1]
    assert pixels(red, ImageOptions(layout="HWC")).shape == (2, 4, 3)
    assert pixels(red, ImageOptions(channels="L")).shape == (2, 4, 1)
    raw = pixels(red, ImageOptions(datatype="UINT8", mean=(0.5,)))
    assert (raw.dtype, raw[0, 0].tolist()) == (np.uint8, [255, 0, 0])
    assert pixels(red, ImageOptions(), TensorSpec("x", "FP16", (3, -1, -1))).dtype == np.float16


def test_the_size_is_the_model_s_own_where_nobody_says_one() -> None:
    data = saved(coloured(64, 48), "PNG")
    assert pixels(data, WHOLE, TensorSpec("x", "FP32", (3, 10, 20))).shape == (10, 20, 3)
    options = ImageOptions(layout="HWC")
    assert pixels(data, options, TensorSpec("x", "FP32", (-1, -1, 3))).shape == (48, 64, 3)


def test_the_middle_is_what_scaling_all_and_cutting_would_give() -> None:
    image = coloured(640, 480).resize((640, 480))
    noisy = Image.fromarray(np.random.default_rng(1).integers(0, 255, (480, 640, 3), dtype=np.uint8))
    for each in (image, noisy):
        scaled = each.resize((341, 256), Image.Resampling.BILINEAR)
        left, top = round((341 - 224) / 2), round((256 - 224) / 2)
        wanted = np.asarray(scaled.crop((left, top, left + 224, top + 224)), np.float32)
        found = pixels(saved(each, "PNG"), ImageOptions(size=(224, 224), shorter_side=256, scale=1.0))
        assert np.abs(found - wanted).max() <= 1


def test_padding_is_of_the_colour_that_is_said() -> None:
    options = ImageOptions(size=(20, 20), resize="pad", fill=114, scale=1.0)
    found = pixels(saved(Image.new("RGB", (40, 20), "white"), "PNG"), options)
    assert found[0, 0].tolist() == [114] * 3
    assert found[10, 10].tolist() == [255] * 3
    assert (found == 255).all(axis=(1, 2)).sum() == 10


# --- what is refused


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n"])
def test_next_to_nothing_is_a_sentence(data: bytes) -> None:
    error = refusal(data)
    assert type(error) is InvalidRequest
    assert str(error).startswith("the image")


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_was_cut_is_a_sentence_and_no_half_picture(kind: str) -> None:
    image = Image.fromarray(np.random.default_rng(2).integers(0, 255, (40, 40, 3), dtype=np.uint8))
    data = saved(image, kind)
    for part in range(1, 10):
        error = refusal(data[: len(data) * part // 10])
        assert type(error) in (InvalidRequest, UnsupportedMedia)
        assert "\n" not in str(error)


@pytest.mark.parametrize("kind", ["TIFF", "BMP", "PPM", "ICO"])
def test_other_formats_are_not_read_even_if_pillow_could(kind: str) -> None:
    error = refusal(saved(coloured(16, 16), kind))
    assert (type(error), error.status) == (UnsupportedMedia, 415)
    assert str(error) == "the image is none of JPEG, PNG, WebP and GIF, which are what is read"


def test_a_file_that_claims_more_pixels_than_allowed_is_refused_by_its_head() -> None:
    """60,000 × 60,000 pixels in a hundred bytes: decoding them would take 10 GB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    error = refusal(bomb)
    assert (type(error), error.status) == (TooLarge, 413)


@pytest.mark.parametrize("kind", KINDS)
def test_the_limit_is_the_model_s_own(kind: str) -> None:
    data = saved(coloured(20, 10), kind)
    assert pixels(data, ImageOptions(max_pixels=200)).shape == (10, 20, 3)
    error = refusal(data, ImageOptions(max_pixels=199))
    assert str(error) == "the image has 20 × 10 pixels: at most 199 are allowed"


def test_an_image_that_would_become_too_large_is_refused_before_it_does() -> None:
    options = ImageOptions(shorter_side=1000, max_pixels=100_000)
    error = refusal(saved(coloured(100, 2), "PNG"), options)
    assert type(error) is TooLarge
    assert "would become one of 50000 × 1000" in str(error)


def test_a_thread_of_pixels_is_scaled_to_the_size_without_ado() -> None:
    assert pixels(saved(coloured(3000, 1), "PNG"), ImageOptions(size=(8, 8))).shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("options", "takes", "said"),
    [
        ({}, [TensorSpec("x", "FP32", (8,))], "takes one input of three dimensions, not FP32 [8]"),
        ({}, [TensorSpec("x", "FP32", (1, 8, 8))], "the model takes CHW of [1, 8, 8]"),
        ({"size": (9, 9)}, [TensorSpec("x", "FP32", (3, 8, 8))], "images are made 3 channels of 9 × 9"),
        ({}, [TensorSpec("x", "INT64", (3, 8, 8))], "and the model takes INT64"),
        ({"mean": (0.1, 0.2)}, [], "image.mean has 2 numbers, and images have 3 channels"),
        ({"std": (0.0,)}, [], "image.std holds a 0"),
    ],
)
def test_what_does_not_fit_the_model_is_a_load_error(options: Any, takes: Any, said: str) -> None:
    with pytest.raises(LoadError) as caught:
        ImageDecoder(ImageOptions(**options), tuple(takes) or None)
    assert said in str(caught.value)
