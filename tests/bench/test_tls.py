"""pure, and at the end contract: a protocol within TLS, against OpenSSL and a server of asyncio's."""

from __future__ import annotations

import contextlib
import ssl
import time
from pathlib import Path

import pytest

from bench.executor.codecs.codec import Answer, Broken
from bench.executor.codecs.http import Http
from bench.executor.codecs.tls import Tls, trust
from bench.executor.doors import open_door
from bench.executor.load import Limits, Load
from bench.executor.payloads import VECTOR
from bench.executor.records import Records
from bench.schedule import Row
from tests.bench.servers import delayed_server
from tests.services.certificates import Authority

OK = b"HTTP/1.1 200 OK\r\nX-Worker: w1\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """An authority's certificate, and a server's with its key."""
    folder, authority = tmp_path_factory.mktemp("tls"), Authority()
    signed = authority.sign("server")
    (folder / "ca.pem").write_bytes(authority.certificate)
    (folder / "server.pem").write_bytes(signed.certificate + signed.key)
    return str(folder / "ca.pem"), str(folder / "server.pem")


class Server:
    """The other side, in memory."""

    def __init__(self, file: str) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        self._came, self._goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._came, self._goes, server_side=True)

    def shakes_hands(self, data: bytes) -> bytes:
        self._came.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self._goes.read()

    def asked(self, data: bytes) -> bytes:
        self._came.write(data)
        return self.tls.read()

    def answers(self, data: bytes) -> bytes:
        self.tls.write(data)
        return self._goes.read()

    def says_goodbye(self) -> bytes:
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self._goes.read()


def connected(files: tuple[str, str]) -> tuple[Tls, Server]:
    codec, server = Tls(Http(), trust(files[0], insecure=False), "127.0.0.1"), Server(files[1])
    said = codec.hello()
    assert codec.capacity == 0
    while said:
        assert codec.feed(server.shakes_hands(said)) == []
        said = codec.replies()
    assert codec.capacity == 1
    return codec, server


def test_requests_and_answers_go_through_however_the_bytes_come(files: tuple[str, str]):
    codec, server = connected(files)
    assert server.asked(codec.request(7, b"asked")) == b"asked"
    encrypted = server.answers(OK)
    assert OK not in encrypted
    found = [answer for byte in encrypted for answer in codec.feed(bytes([byte]))]
    assert found == [Answer(7, "", b"w1", body=b"{}")]
    assert not codec.is_over


def test_a_server_that_says_goodbye_takes_no_more_requests(files: tuple[str, str]):
    codec, server = connected(files)
    assert codec.feed(server.says_goodbye()) == []
    assert codec.is_over


def test_damaged_bytes_break_the_connection(files: tuple[str, str]):
    codec, server = connected(files)
    codec.request(1, b"asked")
    encrypted = bytearray(server.answers(OK))
    encrypted[-1] ^= 1
    with pytest.raises(Broken, match="no TLS: "):
        codec.feed(bytes(encrypted))


def test_a_server_without_tls_is_said_to_be_one(files: tuple[str, str]):
    codec = Tls(Http(), trust(files[0], insecure=False), "127.0.0.1")
    codec.hello()
    with pytest.raises(Broken, match="no TLS: WRONG_VERSION_NUMBER"):
        codec.feed(OK)


def run(url: str, *, cacert: str | None = None, insecure: bool = False) -> Records:
    start = time.monotonic()
    door = open_door("starlette", url, VECTOR, cacert=cacert, insecure=insecure)
    load = Load(door, Limits(4, 10.0), lambda: time.monotonic() - start)
    load.run([Row(n / 100, "", str(n)) for n in range(20)], 0.2)
    return load.records


def test_a_server_is_asked_whose_certificate_is_trusted_and_no_other(files: tuple[str, str]):
    with delayed_server("--tls", files[1]) as (plain, _):
        url = plain.replace("http:", "https:")
        trusted, anybody, unknown = run(url, cacert=files[0]), run(url, insecure=True), run(url)
    assert (trusted.workers, anybody.workers) == ({b"w1": 20}, {b"w1": 20})
    assert unknown.workers == {}
    assert all("certificate" in kind for kind in unknown.kinds[1:])
    assert len(unknown) == 20


def test_what_cannot_be_trusted_is_refused(tmp_path: Path):
    empty = tmp_path / "empty.pem"
    empty.touch()
    for url, door, cacert, sentence in (
        ("https://a:1", "v1", str(empty), "is no file of certificates"),
        ("https://a:1", "v1", str(tmp_path / "none.pem"), "No such file"),
        ("https://a:1", "grpc", None, "not spoken over TLS"),
        ("http://a:1", "v1", str(empty), "is for https"),
    ):
        with pytest.raises(ValueError, match=sentence):
            open_door(door, url, VECTOR, cacert=cacert)
