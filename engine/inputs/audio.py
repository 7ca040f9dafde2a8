"""Recordings, WAV or FLAC, as float32 samples of the model's rate; read piece by piece, so that one of a few
bytes that stand for hours costs nobody's memory."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import soundfile
import soxr

from common.errors import InvalidRequest, LoadError, TooLarge, UnsupportedMedia
from common.media import AudioOptions
from common.models import ModelSettings
from engine.inputs.decoder import Decoded, Files
from engine.rows import Array
from engine.runtimes.runtime import Specs, first_line

_FRAMES = 65_536
_MOST_CHANNELS = 8
_RATES = (1000, 768_000)
_UNKNOWN = 0xFFFFFFFF  # what streams write where they do not know how long they will be


class AudioDecoder:
    """For a model of one input of FP32; `LoadError` where it `takes` another."""

    def __init__(self, options: AudioOptions, takes: Specs | None) -> None:
        self._options = options
        self._dimensions = 1 if options.mono else 2
        self._samples = None if options.length is None else round(options.length * options.sample_rate)
        if takes is None:
            return
        if len(takes) != 1 or takes[0].datatype != "FP32" or len(takes[0].row_shape) != self._dimensions:
            said = ", ".join(f"{spec.datatype} {list(spec.row_shape)}" for spec in takes)
            raise LoadError(
                f"sound is given as one input of FP32 of {self._dimensions} dimensions, and the model takes"
                f" {said}"
            )
        fixed = takes[0].row_shape[-1]
        if fixed != -1 and self._samples not in (None, fixed):
            raise LoadError(f"audio.length makes {self._samples} samples, and the model takes {fixed}")
        self._samples = fixed if fixed != -1 else self._samples

    def decode(self, data: bytes) -> Decoded:
        """One row, as `Decoder` says; `TooLarge` where it lasts too long, `UnsupportedMedia` for another
        format."""
        _check_head(data)
        try:
            # A WAV of floats may hold whatever floats may: that is looked for at last.
            with np.errstate(all="ignore"), soundfile.SoundFile(io.BytesIO(data)) as file:
                self._check(file)
                samples = np.concatenate([*self._pieces(file)])
        except soundfile.LibsndfileError as error:
            raise InvalidRequest(f"the recording cannot be decoded: {first_line(error)}") from error
        if not len(samples):
            raise InvalidRequest("the recording is empty")
        if not np.isfinite(samples).all():
            raise InvalidRequest("the recording holds samples that are not finite")
        return Decoded((self._shaped(samples),))

    def example(self) -> Decoded:
        """Silence, of a second where the model takes any length."""
        channels = 1 if self._options.mono else 2
        return Decoded((self._shaped(np.zeros((self._options.sample_rate, channels), np.float32)),))

    # --- inside

    def _check(self, file: Any) -> None:
        low, high = _RATES
        if not low <= file.samplerate <= high or file.channels > _MOST_CHANNELS:
            raise InvalidRequest(
                f"the recording has {file.channels} channels of {file.samplerate} samples a second: at most"
                f" {_MOST_CHANNELS} of {low} to {high} are read"
            )

    def _pieces(self, file: Any) -> Iterator[Array]:
        """All of it, of the model's rate, of shape (samples, channels)."""
        most = self._options.max_seconds * file.samplerate
        read = 0
        channels = 1 if self._options.mono else file.channels
        rates = file.samplerate, self._options.sample_rate
        resampler = None if rates[0] == rates[1] else soxr.ResampleStream(*rates, channels, dtype="float32")
        yield np.zeros((0, channels), np.float32)
        while len(block := file.read(_FRAMES, dtype="float32", always_2d=True)):
            read += len(block)
            if read > most:
                raise TooLarge(
                    f"the recording is longer than {self._options.max_seconds:g} seconds, which is the limit"
                )
            if self._options.mono:
                block = block.mean(axis=1, keepdims=True, dtype=np.float32)
            yield block if resampler is None else resampler.resample_chunk(block)
        if read < file.frames:
            raise InvalidRequest(f"the recording ends after {read} of its {file.frames} samples")
        if resampler is not None:
            yield resampler.resample_chunk(np.zeros((0, channels), np.float32), last=True)

    def _shaped(self, samples: Array) -> Array:
        """Of shape (samples,) or (channels, samples), as long as the model wants it."""
        if self._samples is not None:
            samples = samples[: self._samples]
            silence = np.zeros((self._samples - len(samples), samples.shape[1]), np.float32)
            samples = np.concatenate([samples, silence])
        return np.ascontiguousarray(samples[:, 0] if self._options.mono else samples.T)


def _check_head(data: bytes) -> None:
    """By its first bytes; what libsndfile would take beside these is not offered."""
    if not data:
        raise InvalidRequest("the recording is empty")
    is_wav = data[:4] in (b"RIFF", b"RF64") and data[8:12] == b"WAVE"
    if not is_wav and data[:4] != b"fLaC":
        raise UnsupportedMedia("the recording is none of WAV and FLAC, which are what is read")
    size = int.from_bytes(data[4:8], "little")
    if data[:4] == b"RIFF" and size != _UNKNOWN and size + 8 > len(data) + 1:  # an odd chunk may lack its pad
        raise InvalidRequest(f"the recording ends after {len(data)} of its {size + 8} bytes")


def make(settings: ModelSettings, files: Files, takes: Specs | None) -> AudioDecoder:
    """The decoder of a model's settings."""
    return AudioDecoder(settings.audio, takes)
