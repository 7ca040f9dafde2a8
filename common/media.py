"""What a model takes and gives beside tensors: the tables of `model.toml` on images, text, sound and answers.

Pure. Decoding and encoding are the engine's (`engine.inputs`, `engine.outputs`), in the worker alone; doors
read here what a model's clients send.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from common.tensor import BYTES, TensorSpec

INPUT_TYPES = ("tensor", "vector", "image", "text", "audio", "json")
OUTPUT_TYPES = ("raw", "classification", "image", "detections", "text", "embedding")
# Rows of these are files or text, which the worker decodes one by one.
DECODED_TYPES = ("image", "text", "audio", "json")

InputType = Literal["tensor", "vector", "image", "text", "audio", "json"]
OutputType = Literal["raw", "classification", "image", "detections", "text", "embedding"]

MAX_SIDE = 16_384
MAX_PIXELS = 50_000_000
MAX_COLOURS = 256

# Of a file that travels beside the model's own; not what the model itself may be called.
_FILE = r"\A((?!model\.)[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?\Z"
_NAME = r"\A([A-Za-z_][A-Za-z0-9_.:/-]{0,127})?\Z"

_Side = Annotated[int, Meta(ge=1, le=MAX_SIDE)]
_NUMBERS = "a list of 1 or 3 numbers from -1e9 to 1e9"
_Number = Annotated[float, Meta(ge=-1e9, le=1e9)]  # which neither NaN nor infinity is
_Byte = Annotated[int, Meta(ge=0, le=255)]
_Channels = Annotated[
    tuple[_Number, ...], Meta(max_length=3, description="a list of 1 or 3 numbers from -1e9 to 1e9")
]
_Name = Annotated[str, Meta(pattern=_NAME, description="a name, or nothing")]
_Flag = Annotated[bool, Meta(description="true or false")]


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of the tables."""


class ImageOptions(Options, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How an image becomes an array: (value × scale − mean) / std of each channel, once it has its size."""

    # Height and width that the model is given; None: those of its own input, or each image's own.
    size: Annotated[
        tuple[_Side, _Side] | None,
        Meta(description=f"a list of height and width, whole numbers from 1 to {MAX_SIDE}"),
    ] = None
    # stretch: to the size, whatever becomes of the proportions. crop: until it covers the size, or as large
    # as shorter_side says, and its middle is taken. pad: until it fits in, and the rest is filled.
    resize: Annotated[Literal["stretch", "crop", "pad"], Meta(description="one of stretch, crop, pad")] = (
        "crop"
    )
    # The length that the image's shorter side is given before the middle is taken.
    shorter_side: Annotated[_Side | None, Meta(description=f"a whole number from 1 to {MAX_SIDE}")] = None
    filter: Annotated[
        Literal["nearest", "bilinear", "bicubic", "lanczos"],
        Meta(description="one of nearest, bilinear, bicubic, lanczos"),
    ] = "bilinear"
    # What fills the rest, of a padded image.
    fill: Annotated[_Byte, Meta(description="a whole number from 0 to 255")] = 0
    channels: Annotated[Literal["RGB", "BGR", "L"], Meta(description="one of RGB, BGR, L")] = "RGB"
    layout: Annotated[Literal["CHW", "HWC"], Meta(description="one of CHW, HWC")] = "CHW"
    scale: Annotated[_Number, Meta(description="a number from -1e9 to 1e9")] = 1 / 255
    mean: _Channels = ()
    std: _Channels = ()
    # UINT8: the pixels as they are, neither scaled nor normalised; empty: the model's own, else FP32.
    datatype: Annotated[
        Literal["", "FP32", "FP16", "FP64", "UINT8"], Meta(description="one of FP32, FP16, FP64, UINT8")
    ] = ""
    # More are refused by what the file's head says, before any is decoded.
    max_pixels: Annotated[int, Meta(ge=1, le=10**9, description="a whole number from 1 to 1000000000")] = (
        MAX_PIXELS
    )


class TextOptions(Options, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How text becomes token ids. Without a tokenizer the model is given the text itself."""

    # A file of the `tokenizers` library that travels with the model.
    tokenizer: Annotated[
        str, Meta(pattern=_FILE, description="the name of a file beside the model, or nothing")
    ] = "tokenizer.json"
    # Tokens of a text; longer ones are cut, or refused where truncate is false.
    max_length: Annotated[int, Meta(ge=1, le=1_000_000, description="a whole number from 1 to 1000000")] = 512
    truncate: _Flag = True
    # What a text's tokens are filled up to: the next multiple, max_length, or nothing.
    padding: Annotated[
        Literal["multiple", "max_length", "none"], Meta(description="one of multiple, max_length, none")
    ] = "multiple"
    multiple: Annotated[int, Meta(ge=1, le=65_536, description="a whole number from 1 to 65536")] = 16
    # The token that fills; None: the one that the tokenizer says, else 0.
    pad_id: Annotated[
        Annotated[int, Meta(ge=0, le=2**31 - 1)] | None, Meta(description="a whole number of 0 or more")
    ] = None
    special_tokens: _Flag = True
    # A row is two texts.
    pair: _Flag = False
    # What the model calls its inputs; one that it does not have is left out.
    ids: _Name = "input_ids"
    mask: _Name = "attention_mask"
    type_ids: _Name = "token_type_ids"
    max_bytes: Annotated[int, Meta(ge=1, le=64 << 20, description=f"a whole number from 1 to {64 << 20}")] = (
        1 << 20
    )


class AudioOptions(Options, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a recording becomes FP32 samples from −1 to 1, of shape (samples,), or (channels, samples) where it
    is not mixed into one."""

    sample_rate: Annotated[
        int, Meta(ge=1000, le=384_000, description="a whole number from 1000 to 384000")
    ] = 16_000
    mono: _Flag = True
    # Seconds that each recording is cut or filled up to; None: as long as it is.
    length: Annotated[
        Annotated[float, Meta(gt=0, le=3600)] | None,
        Meta(description="a number of seconds above 0, at most 3600"),
    ] = None
    # Longer recordings are refused.
    max_seconds: Annotated[
        float, Meta(gt=0, le=3600, description="a number of seconds above 0, at most 3600")
    ] = 600.0


class OutputOptions(Options, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a model's tensors become its answer; which of these count depends on the output type."""

    # The tensor that is the answer; empty: the first one.
    name: _Name = ""
    # classification: what makes probabilities of its elements.
    activation: Annotated[
        Literal["softmax", "sigmoid", "none"], Meta(description="one of softmax, sigmoid, none")
    ] = "softmax"
    top_n: Annotated[int, Meta(ge=1, le=32_768, description="a whole number from 1 to 32768")] = 5
    # image: classes of each pixel (scores of each class, or their numbers), which make a map with a colour
    # for each, or values: the pixels themselves, times scale.
    pixels: Annotated[Literal["classes", "values"], Meta(description="one of classes, values")] = "classes"
    palette: Annotated[
        tuple[tuple[_Byte, _Byte, _Byte], ...],
        Meta(
            max_length=MAX_COLOURS,
            description=f"a list of up to {MAX_COLOURS} colours: lists of red, green and blue from 0 to 255",
        ),
    ] = ()
    scale: Annotated[_Number, Meta(description="a number from -1e9 to 1e9")] = 255.0
    # Whether a map has the size of the image that was sent, not of what the model was given.
    fit: _Flag = True
    # detections: what the model calls these tensors, and which are left out.
    boxes: _Name = "boxes"
    labels: _Name = "labels"
    scores: _Name = "scores"
    box_format: Annotated[
        Literal["xyxy", "xywh", "cxcywh"], Meta(description="one of xyxy, xywh, cxcywh")
    ] = "xyxy"
    # Whether boxes are fractions of the model's image, not its pixels.
    fractions: _Flag = False
    threshold: Annotated[float, Meta(ge=0, le=1, description="a number from 0 to 1")] = 0.5
    max_detections: Annotated[int, Meta(ge=1, le=10_000, description="a whole number from 1 to 10000")] = 100
    # embedding: what becomes of the tokens' vectors, and whether the result has the length 1.
    pooling: Annotated[Literal["mean", "cls", "max"], Meta(description="one of mean, cls, max")] = "mean"
    normalise: _Flag = True


def row_of(input_type: str) -> tuple[TensorSpec, ...]:
    """What one row is that a client sends to a model of a decoded type."""
    return (TensorSpec(input_type, BYTES, ()),)
