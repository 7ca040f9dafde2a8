"""property: whatever is wrong with an image or a recording, it is refused or becomes what a model takes."""

from __future__ import annotations

import resource

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from PIL import Image

from common.errors import CallerError
from common.media import AudioOptions, ImageOptions
from engine.inputs.audio import AudioDecoder
from engine.inputs.decoder import Decoder
from engine.inputs.image import ImageDecoder
from tests.engine.fuzz.damages import File, raw
from tests.engine.inputs.files import coloured, recorded, saved, tone

SIDE, SECONDS, RATE = 24, 0.5, 16_000
MOST_MEMORY = 512 << 10  # KiB that a file of a few KiB may make this process grow by
EXAMPLES = 60


def noisy(width: int = 16, height: int = 12, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(3).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def moving() -> bytes:
    pictures = [noisy(mode="P") for _ in range(3)]
    return saved(pictures[0], "GIF", save_all=True, append_images=pictures[1:])


def photographed() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(noisy(), "JPEG", exif=exif, progressive=True)


IMAGES = {
    "JPEG": lambda: saved(coloured(16, 12), "JPEG"),
    "JPEG with EXIF": photographed,
    "PNG": lambda: saved(noisy(), "PNG"),
    "PNG of 16 bits": lambda: saved(Image.fromarray(np.arange(192, dtype=np.uint16).reshape(12, 16)), "PNG"),
    "PNG with a palette": lambda: saved(noisy(mode="P"), "PNG"),
    "WebP": lambda: saved(noisy(), "WEBP", lossless=True),
    "GIF": moving,
}
SOUND = {
    "WAV": lambda: recorded(tone(0.02, 8000), 8000),
    "WAV of floats": lambda: recorded(tone(0.02, 8000), 8000, "WAV", "FLOAT"),
    "WAV of deltas": lambda: recorded(tone(0.1, 8000), 8000, "WAV", "MS_ADPCM"),
    "RF64": lambda: recorded(tone(0.02, 8000), 8000, "RF64"),
    "FLAC": lambda: recorded(np.stack([tone(0.1, 8000)] * 2, axis=1), 8000, "FLAC"),
}


def explore(decoder: Decoder, file: File, shape: tuple[int, ...], examples: int) -> None:
    """Decode it whole, and then damaged in many ways."""

    @settings(max_examples=examples, database=None)
    @given(damages(file))
    def each(data: bytes) -> None:
        note(repr(data))
        try:
            (array,) = decoder.decode(data).arrays
        except CallerError as error:
            sentence = str(error)
            assert sentence.startswith(("the image ", "an image ", "the recording ")), sentence
            assert "\n" not in sentence
            assert len(sentence) < 400
        else:
            assert (array.shape, array.dtype) == (shape, np.float32)
            assert np.isfinite(array).all()

    (array,) = decoder.decode(file.data).arrays
    assert array.shape == shape
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    each()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MEMORY


@st.composite
def damages(draw: st.DrawFn, file: File) -> bytes:
    data = file.data
    for _ in range(draw(st.integers(1, 3))):
        data = draw(raw(data, file.other))
    return data


def explore_image(name: str, examples: int) -> None:
    options = ImageOptions(size=(SIDE, SIDE), max_pixels=1_000_000)
    explore(
        ImageDecoder(options, None), File(name, IMAGES[name](), IMAGES["GIF"]()), (3, SIDE, SIDE), examples
    )


def explore_sound(name: str, examples: int) -> None:
    options = AudioOptions(length=SECONDS, sample_rate=RATE, max_seconds=10)
    explore(
        AudioDecoder(options, None),
        File(name, SOUND[name](), SOUND["FLAC"]()),
        (int(SECONDS * RATE),),
        examples,
    )


@pytest.mark.parametrize("name", IMAGES)
def test_a_damaged_image_is_refused_in_a_sentence_or_decoded(name: str) -> None:
    explore_image(name, EXAMPLES)


@pytest.mark.parametrize("name", SOUND)
def test_a_damaged_recording_is_refused_in_a_sentence_or_decoded(name: str) -> None:
    explore_sound(name, EXAMPLES)


@pytest.mark.apart
@pytest.mark.parametrize("name", [*IMAGES, *SOUND])
def test_thousands_of_damaged_files_are_refused_in_a_sentence_or_decoded(name: str) -> None:
    (explore_image if name in IMAGES else explore_sound)(name, 50 * EXAMPLES)
