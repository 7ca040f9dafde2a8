"""Frames between gateway and worker: the only thing the two sides share at run time. Pure.

A frame is

    version u8 · zero u8 · buffers u16 · header bytes u32      (little-endian)
    size of each buffer u64 × buffers
    header: one msgpack message, tagged with its kind
    buffers, raw row-major tensors, each starting at a multiple of 8 from the frame's start

Decoding copies nothing: buffers come back as memoryviews of the frame. Whatever does not decode raises
`WireError`, which keeps the bytes, and nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, TypeVar, Union

import msgspec

from common.errors import WireError
from common.models import DEFAULTS, ModelSettings
from common.tensor import Buffer, TensorSpec

VERSION = 1
MAX_BATCH_BYTES = 64 << 20  # of the rows of one request, and of those that share its batch
_FIXED = struct.Struct("<BBHI")
_KEPT_BYTES = 256


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Base of every header; the class name is its tag on the wire."""


# --- data plane: gateway → worker -------------------------------------------------------------------


class Part(msgspec.Struct, frozen=True, array_like=True):
    """Requests of a batch that share one input signature.

    `counts[i]` rows belong to request i, which may take `timeouts[i]` more seconds. A part owns one
    buffer per input, holding the rows of all its requests one after the other.
    """

    inputs: tuple[TensorSpec, ...]
    counts: list[int]
    timeouts: list[float]


class Batch(Message, frozen=True, array_like=True):
    """Rows for one model version; buffers come part by part, input by input. `traces` are the traceparents of
    those of its requests that have one. Of a look-up only what the cache knows is answered, at once; the
    others get the error `not_cached`, and the model is not asked."""

    id: int
    model: str
    version: str
    parts: list[Part]
    traces: list[str] = []
    is_lookup: bool = False


class Chunk(Message, frozen=True, array_like=True):
    """`offset` and one buffer: a piece of the weights `sha256`, `size` bytes in all."""

    sha256: str
    size: int
    offset: int


# --- data plane: worker → gateway -------------------------------------------------------------------


class RequestError(msgspec.Struct, frozen=True, array_like=True):
    """Request `index` of a part has no output; `code` is an error's wire word."""

    index: int
    code: str
    message: str
    trace: str = ""


class Call(msgspec.Struct, frozen=True, array_like=True):
    """One call of the model that gave answers: its rows, and seconds to make arrays of their bytes (`input`),
    in the model (`infer`), and to make bytes of what it answered (`output`)."""

    rows: int
    input: float
    infer: float
    output: float


class PartAnswer(msgspec.Struct, frozen=True, array_like=True):
    """Outputs of a part's requests in their order, those named in `errors` left out.

    `hits[i]` is 1 when every row of request i came from the cache. One buffer per output. `lookup` is seconds
    that finding rows in the cache took.
    """

    outputs: tuple[TensorSpec, ...]
    errors: list[RequestError]
    hits: bytes
    calls: list[Call] = []
    lookup: float = 0.0


class BatchAnswer(Message, frozen=True, array_like=True):
    """What became of batch `id`; `infer` is seconds in the model, `waited` seconds before it."""

    id: int
    waited: float
    infer: float
    parts: list[PartAnswer]


class Refused(Message, frozen=True, array_like=True):
    """Nothing of the frame was run; `code` is an error's wire word."""

    code: str
    message: str


class ChunkStored(Message, frozen=True, array_like=True):
    """The worker has `stored` bytes of the weights, from the start."""

    sha256: str
    stored: int


# --- control plane: surveys and their answers ---------------------------------------------------------


class Hello(Message, frozen=True, array_like=True):
    """Who is there? Also the heartbeat. `gateway` is made anew by each gateway process."""

    gateway: str


class VersionKey(msgspec.Struct, frozen=True, array_like=True):
    """One version of one model, with the digest of its weights, and of the settings it is loaded by."""

    model: str
    version: str
    sha256: str
    settings: str = ""


class HelloAnswer(Message, frozen=True, array_like=True):
    """`worker` is made anew by each worker process; `scheme` says how its link is to be dialled, `models` are
    patterns of the models it may hold (none: all). Of workers that have one name and an `incarnation`, the
    newest counts; 0 is that of one which was started by hand."""

    worker: str
    name: str
    host: str
    pid: int
    scheme: str
    slots: int
    device: str
    draining: bool
    caches: bool
    versions: list[VersionKey]
    models: list[str] = []
    incarnation: int = 0


class LinkUp(Message, frozen=True, array_like=True):
    """Where each worker's own link listens: worker id → what `addresses.link_address` makes an address of."""

    endpoints: dict[str, str]


class Load(Message, frozen=True, array_like=True):
    """Load a version beside what serves.

    Its weights ride along as the one buffer, or came before in chunks, or lie in the file `path` for
    workers on the gateway's own machine. `file` is what the file was called where it came from, which may
    tell its format. `awaited`: requests wait for it. One that is `staged` serves only once a `Commit` says
    so; until then the version serves on as it is held.
    """

    workers: list[str]
    key: VersionKey
    size: int
    path: str = ""
    file: str = ""
    settings: ModelSettings = DEFAULTS
    awaited: bool = False
    staged: bool = False


class LoadAnswer(Message, frozen=True, array_like=True):
    """Whether the version would serve here, and what one row of each input and output is, where its format
    says so; `trace` is the text of the stack trace where not. `evicted` is what made room for it."""

    worker: str
    ok: bool
    trace: str = ""
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    evicted: list[VersionKey] = []


class Commit(Message, frozen=True, array_like=True):
    """The version serves from now on, loaded by settings of this digest: what is staged takes the place of
    what is held if it was loaded so, and is forgotten if not."""

    workers: list[str]
    model: str
    version: str
    settings: str = ""


class Drop(Message, frozen=True, array_like=True):
    """Nothing will be asked of the version any more."""

    workers: list[str]
    model: str
    version: str


class Status(Message, frozen=True, array_like=True):
    """How are you?"""


class StatusAnswer(Message, frozen=True, array_like=True):
    """A worker's counters since it started; latencies in seconds. `memory` is what its models take, in bytes,
    where there is a limit to it: 0 is none. Of the hits `cache_coalesced` waited for an equal row that was
    being computed; `cache_evicted` entries made room, `cache_forgotten` ones went with their weights.
    `cpu` is how many cores it keeps busy."""

    worker: str
    addresses: list[str]
    requests: int
    rows: int
    handling_mean: float
    infer_mean: float
    p50: float
    p95: float
    p99: float
    cache_size: int
    cache_capacity: int
    cache_hits: int
    cache_misses: int
    rss: int
    versions: list[VersionKey]
    memory: int = 0
    memory_limit: int = 0
    cache_bytes: int = 0
    cache_coalesced: int = 0
    cache_evicted: int = 0
    cache_forgotten: int = 0
    cpu: float = 0.0


class Drain(Message, frozen=True, array_like=True):
    """Finish what you have and leave."""

    workers: list[str]


class Done(Message, frozen=True, array_like=True):
    """The plain yes to a survey that asks for nothing back."""

    worker: str


# --- where there is a fleet token: see common/proving.py ------------------------------------------------


class Veiled(Message, frozen=True, array_like=True):
    """A survey for who holds the token; its one buffer is masked, and is a frame of `Proofs`."""

    gateway: str
    nonce: bytes
    number: int
    mac: bytes


class Proofs(Message, frozen=True, array_like=True):
    """The question as its one buffer, and by worker the gateway's proof for it; an empty one asks it to
    introduce itself again."""

    of: dict[str, bytes]


class Introduction(Message, frozen=True, array_like=True):
    """A worker's proof to the gateway whose survey it answers; `address` is what it dialled."""

    worker: str
    address: str
    nonce: bytes
    proof: bytes


class Sealed(Message, frozen=True, array_like=True):
    """A frame as its one buffer, of or for a worker; an answer has the number of what it answers."""

    worker: str
    number: int
    mac: bytes


AnyMessage = Union[  # noqa: UP007 - msgspec reads it at run time on 3.10 too
    Batch, Chunk, BatchAnswer, Refused, ChunkStored,
    Hello, HelloAnswer, LinkUp, Load, LoadAnswer, Commit, Drop, Status, StatusAnswer, Drain, Done,
    Veiled, Proofs, Introduction, Sealed,
]  # fmt: skip

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(AnyMessage)

M = TypeVar("M", bound=Message)


def encode(message: Message, buffers: Sequence[Buffer | list[Buffer]] = ()) -> bytes:
    """One frame; a list is one buffer in pieces. The single copy of each on its way out happens here."""
    header = _encoder.encode(message)
    if not buffers:
        return _FIXED.pack(VERSION, 0, 0, len(header)) + header
    sizes = [_size(buffer) for buffer in buffers]
    at = _FIXED.size + 8 * len(sizes) + len(header)
    pieces: list[Buffer] = [
        _FIXED.pack(VERSION, 0, len(sizes), len(header)),
        struct.pack(f"<{len(sizes)}Q", *sizes),
        header,
    ]
    for buffer, size in zip(buffers, sizes, strict=True):
        padding = -at % 8
        pieces.append(bytes(padding))
        pieces += buffer if isinstance(buffer, list) else (buffer,)
        at += padding + size
    return b"".join(pieces)


def _size(buffer: Buffer | list[Buffer]) -> int:
    if isinstance(buffer, list):
        return sum([memoryview(piece).nbytes for piece in buffer])
    return memoryview(buffer).nbytes


def decode(frame: Buffer) -> tuple[Any, list[memoryview]]:
    """(message, buffers) of a frame; `WireError` for anything that is not exactly one."""
    view = memoryview(frame).cast("B")
    try:
        version, zero, count, header_bytes = _FIXED.unpack_from(view)
        if version != VERSION or zero != 0:
            raise WireError(f"frame version {version}.{zero} is not {VERSION}.0", _kept(view))
        start = _FIXED.size + 8 * count
        sizes = struct.unpack_from(f"<{count}Q", view, _FIXED.size)
        at = start + header_bytes
        message = _decoder.decode(view[start:at])
    except (struct.error, msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise WireError(f"not a frame: {error}", _kept(view)) from None
    buffers = []
    for size in sizes:
        at += -at % 8
        buffers.append(view[at : at + size])
        at += size
    if at != len(view):
        raise WireError(f"a frame of {len(view)} bytes says it has {at}", _kept(view))
    return message, buffers


def expect(kind: type[M], frame: Buffer) -> tuple[M, list[memoryview]]:
    """`decode`, and `WireError` when the message is of another kind than `kind`."""
    message, buffers = decode(frame)
    if not isinstance(message, kind):
        raise WireError(f"expected {kind.__name__}, got {type(message).__name__}", _kept(memoryview(frame)))
    return message, buffers


def _kept(view: memoryview) -> bytes:
    return bytes(view[:_KEPT_BYTES])
