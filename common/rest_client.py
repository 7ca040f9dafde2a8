"""One gateway's REST as its clients on a command line ask it; the standard library alone. Blocks."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from common.errors import LinkError

TIMEOUT = 600.0  # of one answer: a large model takes its workers a while


class Answer(NamedTuple):
    """What came back; the names of headers in lower case."""

    status: int
    value: Any  # of the JSON
    headers: Mapping[str, str]


class RestClient:
    """Raises `LinkError`, with a sentence, where no gateway can be asked. `token` goes with every request;
    `tls` says whom it believes over https, else those that the system does."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout: float = TIMEOUT,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(url if "//" in url else f"//{url}", scheme="http")
        try:
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError
            self._address = parts.hostname, parts.port
        except ValueError:
            raise LinkError(
                f"{url} is no address of a gateway: give one like http://127.0.0.1:54321"
            ) from None
        self._secure = parts.scheme == "https"
        self._path = parts.path.rstrip("/")
        self._token = token
        self._timeout = timeout
        self._tls = tls
        self.url = f"{parts.scheme}://{parts.netloc}{self._path}"

    def ask(
        self, method: str, path: str, body: bytes | Path | None = None, headers: Mapping[str, str] = {}
    ) -> Answer:
        """What is answered, which has to be JSON; a path's file is sent as it is read."""
        connection = self._connection()
        told = dict(headers) if self._token is None else {"Authorization": f"Bearer {self._token}", **headers}
        try:
            if isinstance(body, Path):
                told["Content-Length"] = str(body.stat().st_size)
                with body.open("rb") as file:
                    connection.request(method, self._path + path, file, told)
            else:
                connection.request(method, self._path + path, body, told)
            answer = connection.getresponse()
            raw = answer.read()
        except TimeoutError:
            raise LinkError(f"the gateway at {self.url} did not answer within {self._timeout:g} s") from None
        except ValueError:  # its message has the header's value, which may be a secret
            raise LinkError(
                f"the gateway at {self.url} cannot be asked: a header has strange characters"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise LinkError(f"the gateway at {self.url} cannot be asked: {_why(error)}") from None
        finally:
            connection.close()
        try:
            value = json.loads(raw)
        except (ValueError, RecursionError):
            raise LinkError(f"what answers at {self.url} is no gateway: its answer is not JSON") from None
        return Answer(answer.status, value, {name.lower(): each for name, each in answer.getheaders()})

    def _connection(self) -> http.client.HTTPConnection:
        if self._secure:
            return http.client.HTTPSConnection(*self._address, timeout=self._timeout, context=self._tls)
        return http.client.HTTPConnection(*self._address, timeout=self._timeout)


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
