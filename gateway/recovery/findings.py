"""What is wrong with a state directory, as sentences and as values. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """One thing that was found: a word for programs, the file that it is about, and a sentence.

    Damage keeps a gateway from starting, or some of what it remembers from being used; anything else is only
    worth knowing.
    """

    what: str
    file: str
    sentence: str
    is_damage: bool = True


class Report(NamedTuple):
    """What a check found. `schema` is None where the database cannot say it."""

    directory: str
    schema: int | None
    versions: int
    jobs: int
    blobs: int
    findings: list[Finding]

    @property
    def damage(self) -> list[Finding]:
        """Those of the findings that have to be repaired."""
        return [each for each in self.findings if each.is_damage]
