"""How often clients went beyond a limit of a door, or showed a token that would not do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from common.errors import Forbidden, RateLimited, Unauthenticated
from common.grpc.limits import REFUSALS as OF_GRPC
from gateway.doors.json import JsonReader
from gateway.http1.limits import REFUSALS as OF_HTTP
from gateway.metrics.text import counter, labels

OF_TOKENS = (Unauthenticated.code, Forbidden.code, RateLimited.code)


class Limited:
    """Doors count in `http` and `grpc`, by the limits' names; `tokens` counts by the errors' words."""

    def __init__(self, tokens: Mapping[str, int], json: JsonReader) -> None:
        self.http: Counter[str] = Counter(dict.fromkeys(OF_HTTP, 0))
        self.grpc: Counter[str] = Counter(dict.fromkeys(OF_GRPC, 0))
        self._tokens = tokens
        self._json = json

    def lines(self) -> Iterator[str]:
        """For `/metrics`."""
        yield counter(
            "pipeline_limited_total", "Clients that went beyond a limit of a door.",
            [
                (labels(protocol=protocol, limit=limit), count)
                for protocol, counts in (("http", self.http), ("grpc", self.grpc))
                for limit, count in counts.items()
            ]
            + [(labels(protocol="json", limit="depth"), self._json.too_deep)],
        )  # fmt: skip
        yield counter(
            "pipeline_token_refusals_total", "Requests refused for their token, or the lack of one.",
            [(labels(code=code), self._tokens.get(code, 0)) for code in OF_TOKENS],
        )  # fmt: skip
