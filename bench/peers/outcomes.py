"""What a run measured: a folder with one JSON file for each measurement and one about the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from bench.results import Machine

FORMAT = 1
ABOUT = "run.json"
_T = TypeVar("_T")


class About(msgspec.Struct, frozen=True, kw_only=True):
    """The run: where, when, of what, and with which settings. `versions` are of each server's own package,
    `torches` of its torch; `absent` says why a server could not be installed."""

    format: int = FORMAT
    started: str
    machine: Machine
    commit: str
    is_dirty: bool
    generator: str
    rotations: int
    seconds: float
    is_quick: bool
    peers: list[str]
    workloads: list[str]
    has_processes: bool
    versions: dict[str, str] = {}
    torches: dict[str, str] = {}
    absent: dict[str, str] = {}

    def joined(self, later: About) -> About:
        """The same run, once it was gone on with, perhaps with other servers."""
        return msgspec.structs.replace(
            self,
            peers=list(dict.fromkeys([*self.peers, *later.peers])),
            workloads=list(dict.fromkeys([*self.workloads, *later.workloads])),
            versions=self.versions | later.versions,
            torches=self.torches | later.torches,
            absent={name: why for name, why in self.absent.items() if name not in later.peers} | later.absent,
        )


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement. Figures are in seconds, bytes and requests; `error` says why there are none."""

    kind: str
    peer: str
    workload: str
    workers: int
    variant: str = ""
    rotation: int = 0
    figures: dict[str, float] = {}
    notes: dict[str, str] = {}
    error: str = ""


def write_about(about: About, folder: Path) -> None:
    """Beside the measurements."""
    (folder / ABOUT).write_bytes(msgspec.json.format(msgspec.json.encode(about), indent=1) + b"\n")


def read_about(folder: Path) -> About | None:
    """None where the folder has no run yet; `ValueError` with a sentence where it has something else."""
    path = folder / ABOUT
    if not path.exists():
        return None
    about = _read(path, About)
    if about.format != FORMAT:
        raise ValueError(f"{path} is of format {about.format}, and this program reads format {FORMAT}")
    return about


def write_outcome(outcome: Outcome, folder: Path, name: str) -> None:
    """Whole or not at all: who stops the run loses no more than what runs."""
    path = folder / f"{name}.json"
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(outcome), indent=1) + b"\n")
    unfinished.replace(path)


def read_outcomes(folder: Path) -> dict[str, Outcome]:
    """All that are there, by their files' names."""
    paths = sorted(path for path in folder.glob("*.json") if path.name != ABOUT)
    return {path.stem: _read(path, Outcome) for path in paths}


def done(outcomes: dict[str, Outcome]) -> Sequence[str]:
    """Those that need not be measured again; what went wrong is tried again."""
    return [name for name, outcome in outcomes.items() if not outcome.error]


def _read(path: Path, of: type[_T]) -> _T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=of)
    except (msgspec.MsgspecError, OSError) as error:
        raise ValueError(f"{path} is no file of a run of peers: {error}") from None
