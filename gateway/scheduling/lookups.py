"""Which versions' rows are looked up in the worker's cache before they wait for its model. Pure.

A batch is answered as a whole, so a row that the cache knows would wait for those that the model computes.
Where that takes long and the cache knows many, another way there and back is the smaller price.
"""

from __future__ import annotations

from gateway.scheduling.requests import ModelKey

SLOW = 0.01  # seconds in the model, of the last batch that was in it
WORTH = 0.05  # of the requests, those that the cache knew
LOOKUP_ROWS = 256  # of one look-up: those behind it are not to wait for it either
_FADING = 0.1
_VERSIONS = 1000  # that are remembered; versions come and go


class Lookups:
    """What is known of each version, by the batches that came back."""

    def __init__(self) -> None:
        self._seen: dict[ModelKey, tuple[float, float]] = {}  # (seconds in the model, share of hits)

    def are_wanted(self, key: ModelKey) -> bool:
        """Whether a new request for this version is looked up first."""
        infer, share = self._seen.get(key, (0.0, 0.0))
        return infer >= SLOW and share >= WORTH

    def note(self, key: ModelKey, infer: float, hits: int, answered: int) -> None:
        """A batch came back that spent `infer` seconds in the model (0: it was not needed), with so many
        requests answered, of which so many were hits."""
        if not answered:
            return
        before, share = self._seen.get(key, (0.0, hits / answered))
        if key not in self._seen and len(self._seen) >= _VERSIONS:
            self._seen.clear()
        self._seen[key] = (infer or before, share + _FADING * (hits / answered - share))
