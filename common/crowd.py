"""How many connections there are, and how many each address has. Pure."""

from __future__ import annotations

from collections import Counter

from common.addresses import network_of


class Crowd:
    """At most `most` for one address, or for one network of an IPv6 host. `count` is how many there are."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0
        self._counts: Counter[str] = Counter()

    def enter(self, address: str) -> int:
        """One more is there; by how many that is too many, 0 for none. It has to `leave` in any case."""
        name = network_of(address)
        self.count += 1
        self._counts[name] += 1
        return max(0, self._counts[name] - self.most)

    def leave(self, address: str) -> None:
        """One has gone."""
        name = network_of(address)
        self.count -= 1
        self._counts[name] -= 1
        if not self._counts[name]:
            del self._counts[name]

    def __len__(self) -> int:
        return len(self._counts)
