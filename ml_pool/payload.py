"""Objects as bytes that another process of the pool can read: pickle 5, large buffers out of band.

A packed object is a short body, and, where it is large, a segment of shared memory with everything else.
Buffers of NumPy arrays and torch tensors are copied once, by the sender; the receiver's arrays lie over the
mapping. They are writable there, and what is written stays there.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import sys
from typing import Any, NamedTuple

from ml_pool.segments import ALIGNMENT, Buffer, offsets, segments

INLINE = 64 << 10  # so much always fits into an empty socket's buffer at once
_SMALL = 4 << 10  # a buffer below this is copied into the pickle
_HEAD = struct.Struct("<IQ")  # how many parts there are beside the table of their lengths; the size of all
_HEAD_SIZE = _HEAD.size + -_HEAD.size % ALIGNMENT


class Encoded(NamedTuple):
    """A table of lengths, a pickle, and its buffers, not copied yet: `pack` it before the object changes."""

    parts: list[Buffer]
    size: int  # of all of them, aligned

    @property
    def is_large(self) -> bool:
        """Whether it goes by shared memory."""
        return self.size > INLINE - _HEAD_SIZE

    def pack(self) -> Packed:
        """The same, copied."""
        head = _HEAD.pack(len(self.parts) - 1, self.size)
        if self.is_large:
            return Packed(head, segments.write(self.parts, self.size))
        body = bytearray(head)
        for part in self.parts:
            body += bytes(-len(body) % ALIGNMENT)
            body += part
        return Packed(bytes(body), None)


class Packed(NamedTuple):
    """What is sent: a body, and a descriptor of a segment, which is whoever's that holds this."""

    body: bytes
    fd: int | None

    @property
    def fds(self) -> list[int]:
        """None or one."""
        return [] if self.fd is None else [self.fd]

    def close(self) -> None:
        """Let the segment go."""
        if self.fd is not None:
            os.close(self.fd)


def encode(value: Any) -> Encoded:
    """Pickle; whatever pickling raises comes through."""
    stream = io.BytesIO()
    buffers: list[memoryview] = []

    def is_inside(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if len(raw) >= _SMALL:
            buffers.append(raw)
        return len(raw) < _SMALL

    _Pickler(stream, protocol=5, buffer_callback=is_inside).dump(value)
    contents: list[Buffer] = [stream.getbuffer(), *buffers]
    lengths = [len(part) for part in contents]
    table = struct.pack(f"<{len(lengths)}Q", *lengths)
    return Encoded([table, *contents], offsets([len(table), *lengths])[-1])


def decode(body: bytes | memoryview, fd: int | None) -> tuple[Any, memoryview]:
    """The object again, and the memory that it lies in: as long as that is held, nobody else gets it. Takes
    the descriptor over; whatever unpickling raises comes through."""
    count, size = _HEAD.unpack_from(body)
    memory = memoryview(body)[_HEAD_SIZE:] if fd is None else memoryview(segments.map(fd, size))
    lengths = struct.unpack_from(f"<{count}Q", memory)
    at = offsets([8 * count, *lengths])
    parts: list[Any] = [memory[at[i + 1] : at[i + 1] + length] for i, length in enumerate(lengths)]
    if fd is None:
        # Copies, so that arrays may be written to, and begin where malloc aligned them.
        parts[1:] = map(bytearray, parts[1:])
    return pickle.loads(parts[0], buffers=parts[1:]), memory  # nosec B301  # our own process wrote it


class _Pickler(pickle.Pickler):
    """Takes the memory of torch tensors out of band, which torch itself would copy several times."""

    def reducer_override(self, value: Any) -> Any:
        torch = sys.modules.get("torch")
        if torch is not None and type(value) is getattr(torch, "Tensor", None) and _is_plain(torch, value):
            return _reduce(torch, value)
        return NotImplemented


def _is_plain(torch: Any, tensor: Any) -> bool:
    return bool(tensor.device.type == "cpu" and tensor.layout is torch.strided and not tensor.is_quantized)


def _reduce(torch: Any, tensor: Any) -> Any:
    """A tensor that was computed comes over without the graph behind it."""
    data = tensor.detach().resolve_conj().resolve_neg().contiguous()
    memory = pickle.PickleBuffer(data.reshape(-1).view(torch.uint8).numpy()) if data.numel() else None
    return _rebuild, (memory, data.dtype, tuple(data.shape), tensor.requires_grad and tensor.is_leaf)


def _rebuild(memory: Any, dtype: Any, shape: tuple[int, ...], requires_grad: bool) -> Any:
    import torch

    if memory is None:
        tensor = torch.empty(shape, dtype=dtype)
    else:
        tensor = torch.frombuffer(memory, dtype=dtype).reshape(shape)
    return tensor.requires_grad_() if requires_grad else tensor
