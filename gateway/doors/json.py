"""JSON as strangers send it: the one place that knows what its decoder raises, and how deep it may be.
Pure."""

from __future__ import annotations

from itertools import accumulate
from typing import Any, TypeVar

import msgspec

from common.errors import InvalidRequest

MAX_DEPTH = 64
BODY = "request body"
NO_JSON = "cannot parse request body: it should be JSON"
_OPENING = (b"[", b"{")
_OTHERS = bytes(code for code in range(256) if code not in b"[]{}")
_STEPS = bytes.maketrans(b"[]{}", b"\x01\xff\x01\xff")  # as signed bytes: 1 and -1

Text = bytes | bytearray | memoryview | str
T = TypeVar("T")


class JsonReader:
    """Lists and objects within each other are at most `max_depth` deep in what it gives back. `too_deep`
    counts what was deeper."""

    def __init__(self, max_depth: int = MAX_DEPTH) -> None:
        self.max_depth = max_depth
        self.too_deep = 0

    def read(
        self,
        raw: Text,
        decoder: msgspec.json.Decoder[T],
        what: str = BODY,
        otherwise: str = NO_JSON,
        misshapen: str = "",
    ) -> T:
        """What is in a body that a client sent; `InvalidRequest` with a sentence about `what`, or `otherwise`
        for what is no JSON, and `misshapen` for JSON of a wrong shape. In these `{error}` stands for the
        decoder's words."""
        try:
            return self.decode(raw, decoder, what)
        except msgspec.DecodeError as error:
            if not isinstance(error, msgspec.ValidationError):
                sentence = otherwise.replace("{error}", str(error))
            elif misshapen:
                sentence = misshapen.replace("{error}", str(error))
            else:
                sentence = f"{what} has a wrong shape: {error}{_allowed(decoder, error)}"
            raise InvalidRequest(sentence) from None

    def decode(self, raw: Text, decoder: msgspec.json.Decoder[T], what: str) -> T:
        """The same for who has sentences of its own: `msgspec.DecodeError`, and `InvalidRequest` for what is
        too deep."""
        try:
            found = decoder.decode(raw)
        except RecursionError:  # the interpreter's own limit, far above ours
            raise self._refusal(what) from None
        except UnicodeError as error:
            raise msgspec.DecodeError(str(error)) from None
        self.check(raw, what)
        return found

    def check(self, raw: Text, what: str) -> None:
        """`InvalidRequest` for JSON that is too deep, which was decoded before by some other way."""
        if is_deeper(raw, self.max_depth):
            raise self._refusal(what)

    def _refusal(self, what: str) -> InvalidRequest:
        self.too_deep += 1
        return InvalidRequest(
            f"{what} is nested too deeply: lists and objects may be {self.max_depth} deep within each other"
        )


def is_deeper(raw: Text, most: int) -> bool:
    """Whether lists and objects are more than `most` deep in valid JSON. Takes time in proportion to its
    length: a tenth of what decoding takes, and next to nothing where there are few of them.

    1. What opens `most` of them at most is no deeper.
    2. Strings are taken out: between quotation marks, once those that are escaped are gone.
    3. Depth is the running sum of what opens and what closes.
    """
    if isinstance(raw, str):
        raw = raw.encode()
    elif isinstance(raw, memoryview):
        raw = bytes(raw)
    if _has_few(raw, most):
        return False
    if b'"' in raw:
        plain = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
        raw = b"".join(plain.split(b'"')[::2])
    steps = memoryview(raw.translate(_STEPS, _OTHERS)).cast("b")
    return max(accumulate(steps), default=0) > most


def _has_few(raw: bytes | bytearray, most: int) -> bool:
    """Whether at most so many lists and objects begin here. To find the next is faster than to count all."""
    count = 0
    for opening in _OPENING:
        at = raw.find(opening)
        while at >= 0:
            count += 1
            if count > most:
                return False
            at = raw.find(opening, at + 1)
    return True


def _allowed(decoder: msgspec.json.Decoder[Any], error: msgspec.ValidationError) -> str:
    fields = getattr(decoder.type, "__struct_fields__", ())
    is_own = "unknown field" in str(error) and " - at " not in str(error)
    return f" (allowed are {', '.join(fields)})" if fields and is_own else ""
