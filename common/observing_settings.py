"""What a gateway tells those who watch it; docs/metrics.md and docs/logs.md say more."""

from __future__ import annotations

from dataclasses import dataclass

from common.flags import FLAG, RATE, option

_GROUP = "observing"


@dataclass(frozen=True, kw_only=True)
class ObservingSettings:
    """What costs something, or not everybody wants."""

    access_log: float = option(0.0, RATE, _GROUP, "share of the HTTP requests that are logged, 0 to 1")
    metrics_triton: bool = option(False, FLAG, _GROUP, "/metrics by the names of Triton, too")
