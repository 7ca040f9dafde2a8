"""Requests that hold files or text, cut into rows: nothing in them is decoded but base64. Pure.

A body is one row as it is, by its `Content-Type`; a form (multipart), of which every file is a row; or JSON
with base64: `{"image": "…"}` is one row, `{"images": ["…", "…"]}` are many. Where the type says nothing of
use, as curl's own does, a body that begins like a JSON object is taken for one.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from pybase64 import b64decode
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from common.errors import InvalidRequest, TooLarge, UnsupportedMedia
from common.media import row_of
from common.models import ModelSettings
from common.tensor import pack_elements
from gateway.doors.json import JsonReader
from gateway.doors.predict.inputs import Input

JSON, LINES, FORM, BINARY = (
    "application/json",
    "application/x-ndjson",
    "multipart/form-data",
    "application/octet-stream",
)
# What one row may be called; it is the worker that looks into it.
RAW: dict[str, tuple[str, ...]] = {
    "image": ("image/jpeg", "image/png", "image/webp", "image/gif"),
    "text": ("text/plain",),
    "audio": (
        "audio/wav",
        "audio/x-wav",
        "audio/wave",
        "audio/vnd.wave",
        "audio/flac",
        "audio/x-flac",
    ),
    "json": (JSON,),
}
_UNSAID = ("", "application/x-www-form-urlencoded")
_UTF8 = (b"", b"utf-8", b"utf8", b"us-ascii", b"ascii")


class Cut(NamedTuple):
    """The rows of a request to a model of `kind`; `many`: it asks for a list of results, even of one."""

    kind: str
    rows: list[bytes]
    many: bool = False

    def input(self, settings: ModelSettings) -> Input:
        """The rows as they travel; `InvalidRequest` if the version that was chosen takes others."""
        if settings.input_type != self.kind:
            raise InvalidRequest(
                f"the version that was chosen takes {settings.input_type}, and the active one {self.kind}"
            )
        return row_of(self.kind), (pack_elements(self.rows),), len(self.rows)


class ImageBody(msgspec.Struct):
    """Images in JSON, one or many: base64 of files."""

    image: str | None = None
    images: list[str] | None = None


class AudioBody(msgspec.Struct):
    """Recordings in JSON, one or many: base64 of files."""

    audio: str | None = None
    audios: list[str] | None = None


class TextBody(msgspec.Struct):
    """Texts in JSON, one or many; lists of two, for a model of pairs."""

    text: str | list[str] | None = None
    texts: list[str | list[str]] | None = None


BODIES: dict[str, type[msgspec.Struct]] = {"image": ImageBody, "audio": AudioBody, "text": TextBody}
_decoders = {kind: msgspec.json.Decoder(body) for kind, body in BODIES.items()}


def allowed(kind: str) -> tuple[str, ...]:
    """The content types that a model of this input type takes."""
    more = (LINES, FORM) if kind == "json" else (BINARY, FORM, JSON)
    return (*RAW[kind], *more)


def cut(
    settings: ModelSettings,
    content_type: bytes | None,
    body: bytes | bytearray,
    max_rows: int,
    json: JsonReader,
) -> Cut:
    """The rows of a body for a model of these settings; `InvalidRequest`, `UnsupportedMedia` and `TooLarge`
    with a sentence."""
    kind = settings.input_type
    found = _cut(kind, content_type or b"", bytes(body), max_rows, json)
    if kind == "json":  # which the worker decodes
        json.check(body, "request body")
    if len(found.rows) > max_rows:
        raise TooLarge(f"{len(found.rows)} rows in one request: at most {max_rows} are allowed")
    if not found.rows:
        raise InvalidRequest(f"there is no row: give at least one {kind}")
    return found


def _cut(kind: str, content_type: bytes, body: bytes, max_rows: int, json: JsonReader) -> Cut:
    name, _, options = content_type.decode("latin-1").partition(";")
    name = name.strip().lower()
    if name in _UNSAID:
        name = JSON if body.lstrip()[:1] == b"{" or kind == "json" else BINARY
    if name == FORM:
        return _cut_form(kind, content_type, body, max_rows)
    if name == LINES and kind == "json":
        return Cut(kind, [line for line in body.splitlines() if line.strip()], many=True)
    if name == JSON and kind != "json":
        return _cut_json(kind, body, json)
    if name not in RAW[kind] and name != BINARY:
        raise UnsupportedMedia(
            f"a model of {kind} takes {', '.join(allowed(kind))}, and the request has {name[:80]}"
        )
    if options and kind == "text":
        _check_charset(content_type)
    if not body and kind != "text":
        raise InvalidRequest(f"the body is empty: it should be one row of {kind}")
    return Cut(kind, [body])


def _check_charset(content_type: bytes) -> None:
    charset = parse_options_header(content_type)[1].get(b"charset", b"").lower()
    if charset not in _UTF8:
        raise UnsupportedMedia(f"text is taken in UTF-8, not in {charset.decode('latin-1')[:80]}")


def _cut_json(kind: str, body: bytes, json: JsonReader) -> Cut:
    found: Any = json.read(body, _decoders[kind], otherwise="cannot parse request body")
    one, many = getattr(found, kind), getattr(found, f"{kind}s")
    if (one is None) == (many is None):
        raise InvalidRequest(f"give one of {kind} and {kind}s")
    if kind == "text":
        texts = [one] if many is None else many
        return Cut(kind, [pack_text(text) for text in texts], many=many is not None)
    if many is None:
        return Cut(kind, [decode_file(one, kind)])
    return Cut(kind, [decode_file(each, f"{kind}s[{at}]") for at, each in enumerate(many)], many=True)


def pack_text(text: str | Sequence[str]) -> bytes:
    """Text as a row; of two texts JSON."""
    return text.encode() if isinstance(text, str) else msgspec.json.encode(text)


def decode_file(text: str, name: str) -> bytes:
    """What base64 stands for, `InvalidRequest` if that is nothing; of a data URL (RFC 2397) what is in it."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"{name} has wrong format: it should be base64 of a file") from None


# --- forms


def _cut_form(kind: str, content_type: bytes, body: bytes, max_rows: int) -> Cut:
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise InvalidRequest("cannot parse request body: the form's Content-Type has no boundary")
    form = _Form(kind, max_rows)
    try:
        parser = MultipartParser(boundary, form.callbacks())
        parser.write(body)
    except FormParserError as error:
        raise InvalidRequest(f"cannot parse request body: {error}") from None
    if not form.is_whole:
        raise InvalidRequest("cannot parse request body: its last boundary is missing")
    return Cut(kind, [bytes(row) for row in form.rows], many=form.many)


class _Form:
    """Gathers the files of a form, and the fields that are called like its kind."""

    def __init__(self, kind: str, max_rows: int) -> None:
        self.rows: list[bytearray] = []
        self.many = False
        self.is_whole = False
        self._kind = kind
        self._max_rows = max_rows
        self._header = self._value = self._disposition = b""

    def callbacks(self) -> Any:
        """What the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._add_header,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._start_row,
            "on_part_data": self._add,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._disposition = b""

    def _add_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _start_row(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("latin-1")
        if b"filename" not in options and name not in (self._kind, f"{self._kind}s"):
            raise InvalidRequest(
                f"a form has files, or fields called {self._kind} or {self._kind}s, and this one has"
                f" {name[:80] or 'one without a name'}"
            )
        if len(self.rows) == self._max_rows:
            raise TooLarge(f"the form has more than {self._max_rows} rows, which are the most allowed")
        self.rows.append(bytearray())
        self.many = self.many or len(self.rows) > 1 or name == f"{self._kind}s"

    def _add(self, data: bytes, start: int, end: int) -> None:
        self.rows[-1] += data[start:end]

    def _end(self) -> None:
        self.is_whole = True
