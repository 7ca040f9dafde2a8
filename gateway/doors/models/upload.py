"""Weights on their way in: a multipart body, read as it comes, decoded from base64 straight to a blob."""

from __future__ import annotations

import binascii
import re
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing

import trio
from pybase64 import b64decode  # 100 MB in 20 ms, where the standard library takes 300 (measured)
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from common.errors import InvalidRequest, TooLarge
from gateway.state.blobs import Blob, BlobStore, BlobWriter

_NN_ID = re.compile(r"[0-9a-f]{32}\Z")
_WHITESPACE = b" \t\r\n"
MAX_FIELD = 1024


class Upload:
    """One multipart body. `feed` may run in any thread, one call at a time; `finish` says what came.

    Problems are told in the contract's order, whatever order the parts came in.
    """

    def __init__(self, content_type: str, writer: BlobWriter, *, max_bytes: int) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        self._parser = self._make_parser(boundary) if kind == b"multipart/form-data" and boundary else None
        self._end_bytes = len(boundary or b"") + len("\r\n----")
        self._tail = b""  # the last bytes that the parser saw: as many as the end of a part may have
        self._in_weights = False
        self._writer = writer
        self._max_bytes = max_bytes
        self._name = ""
        self._headers: dict[bytes, bytes] = {}
        self._field = self._value = b""
        self._nn_id: bytes | None = None
        self._nn_id_is_file = False
        self._seen_data = self._data_is_file = self._data_is_binary = False
        self._carry = b""
        self._bad_base64 = False
        self._padded = False
        self._ended = False

    def _make_parser(self, boundary: bytes) -> MultipartParser:
        try:
            return MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_finished,
                    "on_part_data": self._data,
                    "on_part_end": self._end,
                    "on_end": self._last,
                },
            )
        except FormParserError as error:
            raise InvalidRequest(f"cannot parse request body: {error}") from None

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the body. `TooLarge` once the decoded weights are over the limit."""
        if self._parser is None:
            return
        if self._in_weights and b"\r" not in chunk and b"\r" not in self._tail:
            # The part's end begins with a CR. The parser need not see what has none: it takes 1.5 s a GB.
            self._decode(chunk)
            return
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise InvalidRequest(f"cannot parse request body: {error}") from None
        self._tail = (self._tail + chunk[-self._end_bytes :])[-self._end_bytes :]

    def finish(self) -> str:
        """The nn_id, when everything is as it should be; `InvalidRequest` in the contract's words."""
        if self._nn_id is None and not self._nn_id_is_file:
            raise InvalidRequest("NN id is required")
        if self._nn_id_is_file:
            raise InvalidRequest("NN id should be a string")
        nn_id = (self._nn_id or b"").decode("latin-1")
        if not _NN_ID.match(nn_id):
            raise InvalidRequest("NN id should contain a lower case UUID string")
        if not self._seen_data:
            raise InvalidRequest("weights data is required")
        if not self._data_is_file:
            raise InvalidRequest("weights data should be a file")
        if not self._data_is_binary:
            raise InvalidRequest("weights data should be a binary file")
        if not self._ended:
            raise InvalidRequest("cannot parse request body: its last boundary is missing")
        if self._bad_base64 or self._carry.strip() or self._writer.size == 0:
            raise InvalidRequest("weights data has wrong format")
        return nn_id

    # --- what the parser tells

    def _begin(self) -> None:
        self._name = ""
        self._headers = {}

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode("latin-1")
        is_file = b"filename" in options
        if self._name == "nn_id":
            self._nn_id, self._nn_id_is_file = b"", is_file
        elif self._name == "data":
            self._bad_base64 |= self._seen_data  # two of them: which would be the weights?
            self._seen_data, self._data_is_file = True, is_file
            kind, _ = parse_options_header(self._headers.get(b"content-type", b""))
            self._data_is_binary = kind == b"application/octet-stream"
            self._in_weights = is_file

    def _end(self) -> None:
        self._in_weights = False

    def _last(self) -> None:
        self._ended = True

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._name == "nn_id" and self._nn_id is not None:
            self._nn_id = (self._nn_id + data[start:end])[:MAX_FIELD]
        elif self._in_weights:
            self._decode(data[start:end])

    def _decode(self, text: bytes) -> None:
        """Decode what is whole quanta of four characters; keep the rest for the next call."""
        if self._bad_base64:
            return
        text = self._carry + text
        try:
            self._take(text)
        except binascii.Error:
            try:  # it may be wrapped into lines, which is looked for only now: most is not
                self._take(text.translate(None, _WHITESPACE))
            except binascii.Error:
                self._bad_base64 = True

    def _take(self, text: bytes) -> None:
        whole = len(text) - len(text) % 4
        if whole:
            if self._padded:
                raise binascii.Error("something follows the padding, which ends base64")
            decoded = b64decode(memoryview(text)[:whole], validate=True)
            self._padded = text[whole - 1 : whole] == b"="
            self._writer.write(decoded)
        self._carry = text[whole:]
        if self._writer.size > self._max_bytes:
            raise TooLarge(f"the weights have more than {self._max_bytes} bytes: see --max_upload")


async def receive_upload(
    chunks: AsyncGenerator[bytes, None], content_type: str, blobs: BlobStore, *, max_bytes: int
) -> tuple[str, Blob]:
    """(nn_id, stored blob) of a multipart body, never held in memory whole."""
    with ExitStack() as stack:
        writer = stack.enter_context(blobs.new())
        upload = Upload(content_type, writer, max_bytes=max_bytes)
        async with aclosing(chunks):
            async for chunk in chunks:
                if len(chunk) < 16_384:
                    upload.feed(chunk)
                else:
                    await trio.to_thread.run_sync(upload.feed, chunk)
        nn_id = upload.finish()
        return nn_id, await trio.to_thread.run_sync(writer.commit)
