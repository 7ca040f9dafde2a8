"""How often an address may show what is no token. Pure."""

from __future__ import annotations

from collections import OrderedDict

from common.addresses import network_of
from common.errors import RateLimited
from gateway.auth.clients import Rate

PER_SECOND = 0.5  # failures of one address, after a few at once
AT_ONCE = 10
ADDRESSES = 4096  # that are kept; the one that failed longest ago makes room


class Guesses:
    """Who has failed too often is refused before anything is computed for it; who is known passes by."""

    def __init__(self) -> None:
        self._rates: OrderedDict[str, Rate] = OrderedDict()

    def guess(self, address: str, now: float) -> None:
        """Somebody there shows what may be a token, which counts as a failure until it is `right`;
        `RateLimited` after too many."""
        name = network_of(address)
        rate = self._rates.pop(name, None) or Rate(PER_SECOND, AT_ONCE / PER_SECOND)
        self._rates[name] = rate
        if len(self._rates) > ADDRESSES:
            self._rates.popitem(last=False)
        if wait := rate.wait(now):
            raise RateLimited("too many wrong tokens came from this address", wait)
        rate.take(1, now)

    def right(self, address: str) -> None:
        """It was one: what failed there before is forgiven."""
        self._rates.pop(network_of(address), None)
