"""What `/ws` is told and says, as bytes and as values: JSON in text messages, MessagePack in binary ones, the
same fields in both. Nothing here waits or remembers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from common.errors import InvalidRequest, PipelineError
from gateway.doors.json import JsonReader
from gateway.doors.predict.predict import Body
from gateway.doors.predict.results import show_many, show_one, show_tensors
from gateway.doors.shape import show_failure
from gateway.models.catalog import DEFAULT_MODEL
from gateway.observing.access import FORM
from gateway.scheduling.requests import Answer

Id = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | Annotated[str, Meta(min_length=1, max_length=128)]
User = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]
RequestId = Annotated[str, Meta(pattern=f"^{FORM}$")]
Raw = str | bytes
"""A whole message: the text of a text message, the bytes of a binary one."""


class Message(Body):
    """A prediction that is asked for, under an `id` that its answer will carry; or, with `cancel`, an earlier
    one that nobody wants any more. `user`, `request_id` and `traceparent` are what HTTP has as headers."""

    id: Id | None = None
    cancel: Id | None = None
    model: str = DEFAULT_MODEL
    version: str | None = None
    timeout_ms: float | None = None
    user: User | None = None
    request_id: RequestId | None = None
    traceparent: str | None = None


class _Named(msgspec.Struct):
    id: Id | None = None


_json, _pack = msgspec.json.Decoder(Message), msgspec.msgpack.Decoder(Message)
_json_id, _pack_id = msgspec.json.Decoder(_Named), msgspec.msgpack.Decoder(_Named)
_to_json, _to_pack = msgspec.json.Encoder(), msgspec.msgpack.Encoder()


def read_message(raw: Raw, json: JsonReader) -> Message:
    """The message; `InvalidRequest` for what is none."""
    if isinstance(raw, str):
        message = json.read(raw, _json, "message", "cannot parse message as JSON")
    else:
        message = _unpack(raw)
    if message.id is None and message.cancel is None:
        raise InvalidRequest("id is required: a string or a whole number, which the answer will carry")
    if message.id is not None and message.cancel is not None:
        raise InvalidRequest("give one of id and cancel, not both")
    return message


def _unpack(raw: bytes) -> Message:
    try:
        return _pack.decode(raw)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"message has a wrong shape: {error}") from None
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise InvalidRequest("cannot parse message as MessagePack") from None


def read_id(raw: Raw) -> Id | None:
    """The id of a message that is otherwise wrong, if it has one that can be read."""
    try:
        return (_json_id.decode(raw) if isinstance(raw, str) else _pack_id.decode(raw)).id
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return None


def write(value: object, *, like: Raw) -> Raw:
    """A value as a message of the kind that it answers."""
    return _to_json.encode(value).decode() if isinstance(like, str) else _to_pack.encode(value)


def shower(message: Message) -> Callable[[Answer, str], dict[str, Any]]:
    """What shows the answer to a message as v1 does."""
    if message.inputs is not None:
        return show_tensors
    return show_one if message.vectors is None else show_many


def answered(name: Id, shown: dict[str, Any], answer: Answer) -> dict[str, Any]:
    """An answer: v1's body, and what HTTP says in headers. Timings are in milliseconds."""
    by = answer.by
    seconds = {"queue": answer.queue, "batch": by.batch, "link": by.link, "infer": by.infer}
    return {
        "id": name,
        **shown,
        "worker": by.worker,
        "version": by.version,
        "cache": "hit" if answer.hit else "miss",
        "timings": {phase: round(took * 1000, 3) for phase, took in seconds.items()},
    }


def refused(name: Id | None, error: PipelineError, *, many: bool = False) -> dict[str, Any]:
    """A refusal: v1's body, the error's word, and the status that HTTP would have."""
    shown = show_failure(error, many=many)
    return {"id": name, **shown, "code": error.code, "http_status": error.status}
