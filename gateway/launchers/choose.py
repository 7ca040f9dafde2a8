"""The launcher that the settings ask for. Nothing of another one is imported."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import PipelineError
from common.settings import Scale
from gateway.launchers.launcher import Launcher, WorkerSpec
from gateway.launchers.local import open_local

RECORDS = "workers.json"  # in the state folder
# launcher → the module and the function in it that opens one, given `service` and the launcher's options
ELSEWHERE = {
    "ray": ("gateway.launchers.ray.launcher", "open_ray"),
    "kubernetes": ("gateway.launchers.kubernetes.launcher", "open_kubernetes"),
}


@dataclass(frozen=True, kw_only=True)
class Hiring:
    """What workers a gateway has started, and by what. `spec` lacks the addresses where they find it;
    `options` are the launcher's own."""

    launcher: str = "local"
    spec: WorkerSpec
    scale: Scale
    scale_to_zero: bool = False
    worker_timeout: float = 120.0
    spot: bool = False
    keep: bool = False
    stop_workers: bool = False
    advertise: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_local(self) -> bool:
        """Whether its workers are on the gateway's machine."""
        return self.launcher == "local"

    @property
    def leaves_workers(self) -> bool:
        """Whether they serve on when the gateway ends."""
        return self.keep if self.is_local else not self.stop_workers


@asynccontextmanager
async def open_launcher(hiring: Hiring, state: Path | None) -> AsyncIterator[Launcher]:
    """The launcher, for as long as the block takes. `PipelineError` where it lacks a library."""
    service = hiring.spec.service
    if hiring.is_local:
        records = None if state is None else state / RECORDS
        preload = hiring.scale.most > 0
        async with open_local(service, records=records, keep=hiring.keep, preload=preload) as local:
            yield local
    else:
        async with _open_elsewhere(hiring) as launcher:
            yield launcher


def _open_elsewhere(hiring: Hiring) -> AbstractAsyncContextManager[Launcher]:
    module, function = ELSEWHERE[hiring.launcher]
    try:
        opener = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        raise PipelineError(
            f"--launcher {hiring.launcher} needs {error.name}:"
            f" pip install 'pipeline-inference[{hiring.launcher}]'"
        ) from None
    launcher: AbstractAsyncContextManager[Launcher] = opener(service=hiring.spec.service, **hiring.options)
    return launcher
