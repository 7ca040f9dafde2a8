"""Unit: engine/inputs/audio.py, with recordings that libsndfile wrote."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from common.errors import InvalidRequest, LoadError, PipelineError, TooLarge, UnsupportedMedia
from common.media import AudioOptions
from common.tensor import TensorSpec
from engine.inputs.audio import AudioDecoder
from tests.engine.inputs.files import recorded, tone


def samples(data: bytes, takes: tuple[TensorSpec, ...] | None = None, **options: Any) -> Any:
    (array,) = AudioDecoder(AudioOptions(**options), takes).decode(data).arrays
    return array


def refusal(data: bytes, **options: Any) -> PipelineError:
    with pytest.raises(PipelineError) as caught:
        samples(data, **options)
    return caught.value


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        ("WAV", "PCM_U8"),
        ("WAV", "PCM_16"),
        ("WAV", "PCM_24"),
        ("WAV", "FLOAT"),
        ("FLAC", "PCM_16"),
        ("RF64", "PCM_16"),
    ],
)
def test_every_format_is_read(kind: str, subtype: str) -> None:
    wave = tone(0.25, 16_000)
    found = samples(recorded(wave, 16_000, kind, subtype))
    assert (found.shape, found.dtype) == ((4000,), np.float32)
    assert np.abs(found - wave).max() < 0.01


@pytest.mark.parametrize("rate", [8000, 11_025, 44_100, 48_000])
def test_a_recording_of_another_rate_sounds_the_same_at_the_model_s(rate: int) -> None:
    found = samples(recorded(tone(1.0, rate), rate))
    assert len(found) == 16_000
    assert np.abs(found[500:-500] - tone(1.0, 16_000)[500:-500]).max() < 0.01


def test_a_long_recording_has_no_seams_where_it_was_read_piece_by_piece() -> None:
    found = samples(recorded(tone(5.0, 44_100), 44_100))
    assert np.abs(found[500:-500] - tone(5.0, 16_000)[500:-500]).max() < 0.01


def test_channels_are_mixed_or_kept() -> None:
    left, right = tone(0.1, 16_000), tone(0.1, 16_000, 880)
    data = recorded(np.stack([left, right], axis=1), 16_000)
    assert np.abs(samples(data) - (left + right) / 2).max() < 1e-3
    both = samples(data, mono=False)
    assert both.shape == (2, 1600)
    assert np.abs(both[1] - right).max() < 1e-3


def test_a_recording_is_cut_or_filled_up_to_the_length_that_is_said_or_the_model_s() -> None:
    data = recorded(tone(1.0, 16_000), 16_000)
    assert samples(data, length=0.5).shape == (8000,)
    longer = samples(data, length=1.5)
    assert longer.shape == (24_000,)
    assert not longer[16_000:].any()
    assert samples(data, (TensorSpec("x", "FP32", (100,)),)).shape == (100,)


# --- what is refused


def test_what_lasts_longer_than_allowed_is_refused_before_it_is_in_memory() -> None:
    """Ten minutes of silence: FLAC makes a few kilobytes of them."""
    data = recorded(np.zeros(600 * 8000, np.int16), 8000, "FLAC")
    assert len(data) < 100_000
    error = refusal(data, max_seconds=1.0)
    assert (type(error), error.status) == (TooLarge, 413)
    assert str(error) == "the recording is longer than 1 seconds, which is the limit"


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_a_file_that_was_cut_is_a_sentence(kind: str) -> None:
    noise = np.random.default_rng(1).normal(0, 0.2, 30_000).astype(np.float32)
    data = recorded(noise, 16_000, kind)
    for part in range(10):
        error = refusal(data[: len(data) * part // 10])
        assert type(error) is InvalidRequest
        assert str(error).startswith("the recording ")


@pytest.mark.parametrize("kind", ["OGG", "AIFF", "AU"])
def test_other_formats_are_not_read_even_if_libsndfile_could(kind: str) -> None:
    error = refusal(recorded(tone(0.1, 8000), 8000, kind))
    assert (type(error), error.status) == (UnsupportedMedia, 415)


def test_more_channels_than_anybody_records_are_refused() -> None:
    error = refusal(recorded(np.zeros((10, 9), np.float32), 8000))
    assert str(error).startswith("the recording has 9 channels of 8000 samples a second: at most 8 of")


@pytest.mark.parametrize("pair", [(np.nan, 0.0), (np.inf, 0.0), (np.inf, -np.inf), (3e38, 3e38)])
def test_a_recording_with_samples_that_are_no_numbers_is_refused(pair: tuple[float, float]) -> None:
    data = recorded(np.array([pair] * 100, np.float32), 8000, "WAV", "FLOAT")
    assert str(refusal(data)) == "the recording holds samples that are not finite"


def test_an_empty_recording_is_refused() -> None:
    assert str(refusal(recorded(np.zeros(0, np.float32), 8000))) == "the recording is empty"


@pytest.mark.parametrize(
    ("takes", "options", "said"),
    [
        ((TensorSpec("x", "FP64", (-1,)),), {}, "and the model takes FP64 [-1]"),
        ((TensorSpec("x", "FP32", (1, -1)),), {}, "of 1 dimensions, and the model takes FP32 [1, -1]"),
        ((TensorSpec("x", "FP32", (100,)),), {"length": 1.0}, "makes 16000 samples, and the model takes 100"),
    ],
)
def test_a_model_of_other_inputs_is_a_load_error(takes: Any, options: Any, said: str) -> None:
    with pytest.raises(LoadError) as caught:
        AudioDecoder(AudioOptions(**options), takes)
    assert said in str(caught.value)
