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

INLINE = 64 << 10  # a message of at most this always fits into an empty socket's buffer at once
_COUNT = struct.Struct("<I")


class Encoded(NamedTuple):
    """A pickle and its buffers, not copied yet: `pack` it before the object may change."""

    parts: list[Buffer]
    size: int  # in a segment

    @property
    def is_large(self) -> bool:
        """Whether packing it takes shared memory."""
        return self.size > INLINE - 4096

    def pack(self) -> Packed:
        """The same, copied."""
        lengths = [len(part) for part in self.parts]
        head = _COUNT.pack(len(lengths)) + struct.pack(f"<{len(lengths)}Q", *lengths)
        if self.is_large or len(head) > 2048:
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
    buffers: list[pickle.PickleBuffer] = []
    _Pickler(stream, protocol=5, buffer_callback=buffers.append).dump(value)
    parts: list[Buffer] = [stream.getbuffer(), *(buffer.raw() for buffer in buffers)]
    return Encoded(parts, offsets(len(part) for part in parts)[-1])


def decode(body: bytes | memoryview, fd: int | None) -> tuple[Any, memoryview]:
    """The object again, and the memory that it lies in: as long as that is held, nobody else gets it. Takes
    the descriptor over; whatever unpickling raises comes through."""
    (count,) = _COUNT.unpack_from(body)
    lengths = struct.unpack_from(f"<{count}Q", body, _COUNT.size)
    at = offsets(lengths)
    if fd is None:
        begin = _COUNT.size + 8 * count
        begin += -begin % ALIGNMENT
        view = memoryview(body)[begin:]
        # Copies, so that arrays may be written to, and begin where malloc aligned them.
        slices: list[Any] = [bytearray(view[at[i] : at[i] + lengths[i]]) for i in range(1, count)]
    else:
        view = memoryview(segments.map(fd, max(1, at[-1])))
        slices = [view[at[i] : at[i] + lengths[i]] for i in range(1, count)]
    return pickle.loads(view[: lengths[0]], buffers=slices), view


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
