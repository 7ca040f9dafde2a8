"""What a command is given: its arguments, the gateway to ask, and where its answer goes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from cli.failure import EXIT_LATER, EXIT_NO_GATEWAY, EXIT_USAGE, Failure, refusal
from cli.output import Output
from common.errors import LinkError
from common.rest_client import Answer, RestClient

DEFAULT_URL = "http://127.0.0.1:54321"
DEFAULT_TIMEOUT = 60.0


class Asked:
    """One call of the command line."""

    def __init__(self, arguments: argparse.Namespace, environ: Mapping[str, str], output: Output) -> None:
        self.arguments = arguments
        self.environ = environ
        self.output = output

    @property
    def url(self) -> str:
        """Where the gateway is."""
        return getattr(self.arguments, "url", None) or self.environ.get("PIPELINE_URL") or DEFAULT_URL

    def ask(
        self,
        method: str,
        *path: str,
        query: Mapping[str, Any] = {},
        body: bytes | Path | None = None,
        value: Any = None,
        headers: Mapping[str, str] = {},
        patience: float = 0.0,
    ) -> Answer:
        """What the gateway answers, refusals too; `value` is sent as JSON. It may take `patience` seconds
        more than others. `Failure` where no gateway answers."""
        if value is not None:
            body, headers = json.dumps(value).encode(), {"Content-Type": "application/json", **headers}
        where = "/" + "/".join(quote(part, safe="") for part in path)
        told = {name: each for name, each in query.items() if each is not None}
        if told:
            where += "?" + urlencode({name: _plain(each) for name, each in told.items()})
        timeout = getattr(self.arguments, "timeout", DEFAULT_TIMEOUT) + patience
        try:
            client = RestClient(self.url, token=self._token(), timeout=timeout)
        except LinkError as error:
            raise Failure(str(error), EXIT_USAGE) from None
        try:
            return client.ask(method, where, body, headers)
        except LinkError as error:
            raise _unreachable(str(error)) from None

    def _token(self) -> str | None:
        token: str = getattr(self.arguments, "token", None) or self.environ.get("PIPELINE_TOKEN") or ""
        if not (token.isascii() and token.isprintable()):
            raise Failure("a token is one line of printable ASCII, and this one is not", EXIT_USAGE)
        return token or None

    def do(self, method: str, *path: str, **told: Any) -> Any:
        """The JSON of an answer that refuses nothing; `Failure` with its sentence otherwise."""
        answer = self.ask(method, *path, **told)
        failure = refusal(answer.status, answer.value)
        if failure is not None:
            raise failure
        if not isinstance(answer.value, dict) or "status" not in answer.value:
            raise Failure(
                f"what answers at {self.url} is no gateway: look at --url and PIPELINE_URL", EXIT_NO_GATEWAY
            )
        return answer.value


def _unreachable(sentence: str) -> Failure:
    if "did not answer within" in sentence:
        return Failure(f"{sentence}: it may be busy, or give it longer by --timeout", EXIT_LATER)
    return Failure(
        f"{sentence}. Start one (python gw.py), or say where it is by --url or PIPELINE_URL", EXIT_NO_GATEWAY
    )


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
