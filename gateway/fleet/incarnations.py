"""Which of the workers that launchers started still count: of those with one name, the newest. Pure.

A worker that its engine gave up, or that the gateway replaced as it was silent, may come back when a network
heals: then two processes have one name. Those started by hand have no incarnation, and always count.
"""

from __future__ import annotations


class Incarnations:
    """Invariant: the least incarnation of a name that counts never becomes smaller."""

    def __init__(self) -> None:
        self._least: dict[str, int] = {}  # by name: the least incarnation that is welcome

    def hear(self, name: str, incarnation: int) -> bool:
        """A worker says who it is; whether it counts. From then on none before it does."""
        if incarnation and self.counts(name, incarnation):
            self._least[name] = incarnation
        return self.counts(name, incarnation)

    def counts(self, name: str, incarnation: int) -> bool:
        """Whether this worker is neither outdated nor retired."""
        return incarnation == 0 or incarnation >= self._least.get(name, 0)

    def retire(self, name: str, incarnation: int) -> None:
        """This incarnation counts no more, nor does any before it."""
        self._least[name] = max(self._least.get(name, 0), incarnation + 1)
