"""Any other protocol within TLS, for which OpenSSL turns bytes into bytes. Pure, but for reading a file."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from bench.executor.codecs.codec import Answer, Broken, Codec

_READ = 1 << 18


class Tls:
    """Invariant: nothing of the other protocol is sent before the server has shown who it is."""

    def __init__(self, codec: Codec, context: ssl.SSLContext, host: str) -> None:
        self._codec = codec
        self._came, self._goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._came, self._goes, server_hostname=host)
        self._is_open = False
        self._is_closed = False

    @property
    def capacity(self) -> int:
        """The other protocol's, after the handshake."""
        return self._codec.capacity if self._is_open else 0

    @property
    def is_over(self) -> bool:
        """Whether either protocol is."""
        return self._is_closed or self._codec.is_over

    def hello(self) -> bytes:
        """The handshake's first part."""
        self._shake_hands()
        return self._goes.read()

    def request(self, number: int, payload: bytes) -> bytes:
        """The other protocol's, encrypted."""
        self._tls.write(self._codec.request(number, payload))
        return self._goes.read()

    def replies(self) -> bytes:
        """The handshake's next part, and what the other protocol has to say."""
        if self._is_open and (replies := self._codec.replies()):
            self._tls.write(replies)
        return self._goes.read()

    def feed(self, data: bytes) -> list[Answer]:
        """The answers that these bytes complete; `Broken`, also where the server is not who it should be."""
        self._came.write(data)
        if not self._is_open:
            self._shake_hands()
        return [answer for part in self._decrypted() for answer in self._codec.feed(part)]

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            raise Broken(f"no TLS: {getattr(error, 'verify_message', '') or error.reason}") from None
        self._is_open = True
        if hello := self._codec.hello():
            self._tls.write(hello)

    def _decrypted(self) -> Iterator[bytes]:
        while self._is_open:
            try:
                part = self._tls.read(_READ)
            except ssl.SSLWantReadError:
                return
            except ssl.SSLError as error:
                raise Broken(f"no TLS: {error.reason}") from None
            if not part:  # the server says that nothing follows
                self._is_closed = True
                return
            yield part


def trust(cacert: str | None, *, insecure: bool) -> ssl.SSLContext:
    """What a server has to show: a certificate of an authority in this file, or of those that the system
    knows, or (`insecure`) of anybody. `ValueError` where the file holds none."""
    try:
        context = ssl.create_default_context(cafile=cacert)
    except OSError as error:
        raise ValueError(f"{cacert} is no file of certificates in PEM: {error.strerror or error}") from None
    if insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context
