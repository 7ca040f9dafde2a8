"""Pure, but for the disk: what of an upload reaches the blob, and the contract's sentences for the rest."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import CallerError, InvalidRequest, TooLarge
from gateway.doors.models.upload import Upload, receive_upload
from gateway.state.blobs import BlobStore

BOUNDARY = "--==boundary-7"
CONTENT_TYPE = f'multipart/form-data; boundary="{BOUNDARY}"'
NN = "0123456789abcdef0123456789abcdef"
WEIGHTS = bytes(range(256)) * 3 + b"!"
BASE64 = base64.b64encode(WEIGHTS)
BINARY = 'filename="weights.b64"\r\nContent-Type: application/octet-stream'
LIMIT = 1 << 20


class Kept:
    """A writer that keeps what it is given in memory."""

    def __init__(self) -> None:
        self.data = b""

    @property
    def size(self) -> int:
        return len(self.data)

    def write(self, data: bytes) -> None:
        self.data += data


def part(name: str, value: bytes, more: str = "") -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"' + (f"; {more}" if more else "")
    return f"--{BOUNDARY}\r\n{disposition}\r\n\r\n".encode() + value + b"\r\n"


def nn_id(value: bytes = NN.encode()) -> bytes:
    return part("nn_id", value)


def data(value: bytes = BASE64, more: str = BINARY) -> bytes:
    return part("data", value, more)


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def receive(
    chunks: Iterable[bytes], *, content_type: str = CONTENT_TYPE, max_bytes: int = LIMIT
) -> tuple[str, bytes]:
    """(nn_id, weights) of a body that comes in these pieces."""
    kept = Kept()
    upload = Upload(content_type, kept, max_bytes=max_bytes)  # type: ignore[arg-type]
    for chunk in chunks:
        upload.feed(chunk)
    return upload.finish(), kept.data


def outcome(chunks: Iterable[bytes]) -> tuple[str, bytes] | tuple[type, str]:
    try:
        return receive(chunks, max_bytes=2000)
    except CallerError as error:
        return type(error), str(error)


# --- what is accepted


@pytest.mark.parametrize(
    "body",
    [
        form(nn_id(), data()),
        form(data(), nn_id()),
        form(part("comment", b"anything"), nn_id(), part("more", b"\xff" * 5000, BINARY), data()),
        form(nn_id(), data()) + b"what follows is nobody's",
    ],
    ids=["in order", "the other way round", "with others between", "epilogue"],
)
def test_the_two_parts_are_found_wherever_they_are(body):
    assert receive([body]) == (NN, WEIGHTS)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b" \t\r\n\r\n"])
@pytest.mark.parametrize("width", [1, 3, 64, 76])
def test_base64_may_be_wrapped_into_lines(end, width):
    lines = b"".join(BASE64[i : i + width] + end for i in range(0, len(BASE64), width))
    assert receive([form(nn_id(), data(lines))]) == (NN, WEIGHTS)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 1000])
def test_weights_of_any_size_come_out_as_they_went_in(size):
    encoded = base64.b64encode(WEIGHTS[:size])
    assert receive([form(nn_id(), data(encoded))]) == (NN, WEIGHTS[:size])


@pytest.mark.parametrize("value", ["form-data; name=data; filename=x", 'form-data; name="data"; filename=""'])
def test_a_part_is_a_file_if_it_has_a_file_name_quoted_or_not_or_empty(value):
    head = f"--{BOUNDARY}\r\nCONTENT-disposition: {value}\r\ncontent-TYPE: Application/Octet-Stream\r\n\r\n"
    assert receive([form(nn_id(), head.encode() + BASE64 + b"\r\n")]) == (NN, WEIGHTS)


# --- any split


BODIES = {
    "plain": form(nn_id(), data()),
    "wrapped": form(nn_id(), data(base64.encodebytes(WEIGHTS).replace(b"\n", b"\r\n"))),
    "almost a boundary": form(nn_id(), data(BASE64[:40] + f"\r\n--{BOUNDARY[:-1]}".encode() + BASE64[40:])),
    "padding in the middle": form(nn_id(), data(b"QQ==" + BASE64)),
    "padding in pieces": form(nn_id(), data(b"QUJD\r\nQQ=\r\n=\r\n\r\n")),
    "cut short": form(nn_id(), data())[:-10],
    "too large": form(nn_id(), data(base64.b64encode(bytes(2001)))),
    "large enough": form(nn_id(), data(base64.b64encode(bytes(2000)))),
    "no parts": form(),
    "bad": form(nn_id(), data(BASE64[:100] + b"*" + BASE64[100:])),
    "a quantum short": form(nn_id(), data(BASE64[:-1])),
}


@pytest.mark.parametrize("name", BODIES)
@settings(max_examples=60, deadline=None)
@given(choices=st.data())
def test_a_body_means_the_same_however_it_is_cut_into_pieces(name, choices):
    body = BODIES[name]
    cuts = sorted(choices.draw(st.sets(st.integers(1, len(body) - 1), max_size=12)))
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert outcome(pieces) == outcome([body])


@pytest.mark.parametrize("name", BODIES)
def test_a_body_means_the_same_byte_by_byte(name):
    body = BODIES[name]
    assert outcome(body[i : i + 1] for i in range(len(body))) == outcome([body])


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=1, max_size=300), st.integers(1, 80), st.integers(1, 700))
def test_any_weights_wrapped_at_any_width_come_out_as_they_went_in(weights, width, piece):
    encoded = base64.b64encode(weights)
    lines = b"\r\n".join(encoded[i : i + width] for i in range(0, len(encoded), width))
    body = form(nn_id(), data(lines))
    assert receive(body[i : i + piece] for i in range(0, len(body), piece)) == (NN, weights)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.integers(1, 50))
def test_whatever_the_weights_are_said_to_be_only_callers_are_blamed(junk, piece):
    body = form(nn_id(), data(junk))
    outcome(body[i : i + piece] for i in range(0, len(body), piece))  # raises nothing else


# --- the contract's sentences, in its order

FORMAT = "weights data has wrong format"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (form(data()), "NN id is required"),
        (form(), "NN id is required"),
        (form(part("nn_id", NN.encode(), 'filename="id.txt"'), data()), "NN id should be a string"),
        (form(nn_id(b""), data()), "NN id should contain a lower case UUID string"),
        (form(nn_id(NN.upper().encode()), data()), "NN id should contain a lower case UUID string"),
        (form(nn_id(NN.encode() + b"\n"), data()), "NN id should contain a lower case UUID string"),
        (form(nn_id(NN[:-1].encode()), data()), "NN id should contain a lower case UUID string"),
        (form(nn_id(NN.encode() * 1000), data()), "NN id should contain a lower case UUID string"),
        (form(nn_id(b"\xff" * 32), data()), "NN id should contain a lower case UUID string"),
        (form(nn_id()), "weights data is required"),
        (form(nn_id(), data(BASE64, "")), "weights data should be a file"),
        (form(nn_id(), data(BASE64, 'filename="w"')), "weights data should be a binary file"),
        (
            form(nn_id(), data(BASE64, 'filename="w"\r\nContent-Type: text/plain')),
            "weights data should be a binary file",
        ),
        (form(nn_id(), data(b"")), FORMAT),
        (form(nn_id(), data(b" \r\n ")), FORMAT),
        (form(nn_id(), data(b"not base64!")), FORMAT),
        (form(nn_id(), data(WEIGHTS)), FORMAT),
        (form(nn_id(), data(b"QUJ")), FORMAT),
        (form(nn_id(), data(b"QQ==QUJD")), FORMAT),
        (form(nn_id(), data(b"QQ=\n=\nQUJD")), FORMAT),
        (form(nn_id(), data(b"=QQQ")), FORMAT),
        (form(nn_id(), data(b"QUJD====")), FORMAT),
        (form(nn_id(), data(b"-_-_")), FORMAT),
        (form(nn_id(), data(b"QUJD"), data(b"QUJD")), FORMAT),
        (form(nn_id(), data())[:-6], "cannot parse request body: its last boundary is missing"),
    ],
)
def test_what_is_wrong_with_an_upload_is_told_in_the_contracts_words(body, sentence):
    with pytest.raises(InvalidRequest) as refusal:
        receive([body])
    assert str(refusal.value) == sentence
    assert outcome(body[i : i + 7] for i in range(0, len(body), 7)) == (InvalidRequest, sentence)


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/json",
        "multipart/form-data",
        "multipart/mixed; boundary=x",
        "multipart/form-data; boundary=",
    ],
)
def test_a_body_that_is_no_form_has_no_nn_id(content_type):
    with pytest.raises(InvalidRequest, match=r"^NN id is required$"):
        receive([form(nn_id(), data())], content_type=content_type)


def test_a_form_that_does_not_parse_is_told_why():
    with pytest.raises(InvalidRequest, match=r"^cannot parse request body: "):
        receive([b"--" + BOUNDARY.encode() + b"\r\nno header at all\r\n\r\n"])


def test_a_boundary_that_is_none_is_told_why():
    with pytest.raises(InvalidRequest, match=r"^cannot parse request body: "):
        receive([b""], content_type=f"multipart/form-data; boundary={'x' * 300}")


# --- limits


def test_weights_of_just_the_limit_are_taken_and_one_byte_more_is_too_large():
    for size, wrap in ((3000, False), (3000, True)):
        encoded = base64.b64encode(bytes(size))
        body = form(nn_id(), data(base64.encodebytes(bytes(size)) if wrap else encoded))
        assert receive([body], max_bytes=size) == (NN, bytes(size))
        with pytest.raises(TooLarge, match=r"the weights have more than 2999 bytes: see --max_upload"):
            receive([body], max_bytes=size - 1)


def test_an_upload_over_the_limit_is_refused_before_it_is_over():
    upload = Upload(CONTENT_TYPE, Kept(), max_bytes=1000)  # type: ignore[arg-type]
    upload.feed(form(nn_id(), data())[:100])
    upload.feed(data(b"")[:-2])
    with pytest.raises(TooLarge):
        upload.feed(base64.b64encode(bytes(1001 + 2)))


def test_a_part_that_is_nobodys_is_not_kept_however_large():
    kept = Kept()
    upload = Upload(CONTENT_TYPE, kept, max_bytes=100)  # type: ignore[arg-type]
    upload.feed(part("other", b"", BINARY)[:-2])
    for _ in range(100):
        upload.feed(b"x" * 10_000)
    upload.feed(b"\r\n" + form(nn_id(), data(b"QUJD")))
    assert (upload.finish(), kept.data) == (NN, b"ABC")


# --- the blob


async def in_pieces(body: bytes, size: int) -> AsyncGenerator[bytes, None]:
    for i in range(0, len(body), size):
        yield body[i : i + size]


@pytest.mark.parametrize("size", [1000, 100_000])
async def test_an_upload_becomes_a_blob(tmp_path, size):
    blobs = BlobStore(tmp_path)
    weights = WEIGHTS * 300
    body = form(nn_id(), data(base64.b64encode(weights)))
    name, blob = await receive_upload(in_pieces(body, size), CONTENT_TYPE, blobs, max_bytes=LIMIT)
    assert (name, blob.size, blobs.read(blob.sha256)) == (NN, len(weights), weights)


async def broken_off(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
    raise ConnectionError("the client has gone")


async def test_an_upload_that_is_refused_or_broken_off_leaves_no_file(tmp_path):
    blobs = BlobStore(tmp_path)
    body = form(nn_id(), data())
    with pytest.raises(InvalidRequest):
        await receive_upload(in_pieces(body[:-10], 100), CONTENT_TYPE, blobs, max_bytes=LIMIT)
    with pytest.raises(TooLarge):
        await receive_upload(in_pieces(body, 100), CONTENT_TYPE, blobs, max_bytes=10)
    with pytest.raises(ConnectionError):
        await receive_upload(broken_off(body[:500]), CONTENT_TYPE, blobs, max_bytes=LIMIT)
    assert list(tmp_path.rglob("*")) == []
